"""One clock for a whole tree: calls a function at a point in time, from a single task."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

import trio


class Timer:
    """One appointment; `cancel` keeps it from being called and lets go of what it would call."""

    __slots__ = ("_alarm", "call", "when")

    def __init__(self, alarm: Alarm, when: float, call: Callable[[], object] | None) -> None:
        self._alarm = alarm
        self.when = when
        # None once it has been called or cancelled, and if it never will be
        self.call = call

    def cancel(self) -> None:
        if self.call is not None:
            self.call = None
            self._alarm.has_cancelled()


class Alarm:
    """The appointments of a tree, soonest first. Times are seconds on trio's clock."""

    __slots__ = ("_cancelled", "_closed", "_heap", "_order", "_sleep")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        # how many in the heap have been cancelled
        self._cancelled = 0
        self._order = count()
        self._sleep: trio.CancelScope | None = None
        self._closed = False

    def at(self, when: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` at ``when``; never, if that is ``inf``, or after `close`."""
        if when == math.inf or self._closed:
            return Timer(self, when, None)
        timer = Timer(self, when, call)
        heappush(self._heap, (when, next(self._order), timer))
        if self._sleep is not None and when < self._sleep.deadline:
            self._sleep.deadline = when
        return timer

    def has_cancelled(self) -> None:
        """A timer in the heap has been cancelled.

        They are dropped once they are half of the heap: so there are never more of them than of
        the others, and each has cost no more than a constant.
        """
        self._cancelled += 1
        if 2 * self._cancelled >= len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """End `run`; nothing is called any more."""
        self._closed = True
        self._heap.clear()
        self._cancelled = 0
        if self._sleep is not None:
            self._sleep.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Keep the appointments until `close`; shielded, for they matter most during a teardown."""
        while not self._closed:
            self._forget_cancelled()
            due = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=due, shield=True) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None
            self._ring(trio.current_time())

    def _forget_cancelled(self) -> None:
        while self._heap and self._heap[0][2].call is None:
            heappop(self._heap)
            self._cancelled -= 1

    def _ring(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            timer = heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                call()
