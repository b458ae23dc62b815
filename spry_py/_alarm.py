"""One clock for a whole tree: calls a function at a point in time, from a single task."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

import trio


class Timer:
    """One appointment; `cancel` keeps it from being called and lets go of what it would call."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class Alarm:
    """The appointments of a tree, soonest first. Times are seconds on trio's clock."""

    __slots__ = ("_closed", "_heap", "_order", "_sleep")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._sleep: trio.CancelScope | None = None
        self._closed = False

    def at(self, when: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` at ``when``; never, if that is ``inf``."""
        timer = Timer(call)
        if when < math.inf:
            heappush(self._heap, (when, next(self._order), timer))
            if self._sleep is not None and when < self._sleep.deadline:
                self._sleep.deadline = when
        return timer

    def close(self) -> None:
        """End `run`; nothing is called any more."""
        self._closed = True
        self._heap.clear()
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

    def _ring(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            timer = heappop(self._heap)[2]
            if timer.call is not None:
                timer.call()
