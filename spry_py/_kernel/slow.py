"""Starts that take long: named with the stack they stand on, as stops that do not end are.

One appointment for a whole tree is kept, for its oldest start. Only those that it finds to be slow
get one of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeAlias

from .calls import Call
from .incarnation import Incarnation
from .shutdown import own_tasks, stack_of

if TYPE_CHECKING:
    from spry_py._spec.child import Child

    from .startup import Startup
    from .timers import Alarm, Timer

SLOW_AFTER: Final = 10.0

Start: TypeAlias = "Incarnation | Startup"
"""A worker that is starting, or a system function that is running.

A supervisor's own start is none: it is whatever its system function does.
"""


class SlowStarts:
    """The starts of a tree that have not come to their end yet."""

    __slots__ = ("_alarm", "_armed", "_now", "_slow", "_young")

    def __init__(self, alarm: Alarm, now: Callable[[], float]) -> None:
        self._alarm = alarm
        self._now = now
        # when each was begun, the oldest first
        self._young: dict[Start, float] = {}
        # whether an appointment is made for the oldest
        self._armed = False
        # those that have grown old, and when each is to be looked at again
        self._slow: dict[Start, Timer] = {}

    def begin(self, start: Start) -> None:
        """Look after a start from now on."""
        self._young[start] = now = self._now()
        if not self._armed:
            self._arm(now)

    def end(self, start: Start) -> None:
        """It has come to its end, in whatever way."""
        if self._young.pop(start, None) is None and start in self._slow:
            self._slow.pop(start).cancel()

    def _arm(self, begun: float) -> None:
        self._armed = True
        self._alarm.at(begun + SLOW_AFTER, self._look)

    def _look(self) -> None:
        now = self._now()
        self._armed = False
        old = takewhile(lambda item: item[1] + SLOW_AFTER <= now, self._young.items())
        for start, begun in list(old):
            del self._young[start]
            patience = _patience(_spec_of(start))
            self._wait(start, begun, begun + patience, patience)
        if self._young:
            self._arm(next(iter(self._young.values())))

    def _wait(self, start: Start, begun: float, due: float, interval: float) -> None:
        self._slow[start] = self._alarm.at(due, lambda: self._overdue(start, begun, interval))

    def _overdue(self, start: Start, begun: float, interval: float) -> None:
        now = self._now()
        self._wait(start, begun, now + 2 * interval, 2 * interval)
        if isinstance(start, Incarnation):
            _report_child(start, now - begun)
        else:
            _report_system(start, now - begun)


def _patience(spec: Child[object] | None) -> float:
    """Seconds to the first report; one that has a long time anyway is given half of that."""
    timeout = spec.start_timeout if spec is not None else math.inf
    return timeout / 2 if 2 * SLOW_AFTER < timeout < math.inf else SLOW_AFTER


def _spec_of(start: Start) -> Child[object] | None:
    """The `Child` that limits its time; a system function that runs again has no limit."""
    incarnation = start if isinstance(start, Incarnation) else start.loop.own
    member = incarnation.member
    return member.child if member is not None and incarnation.started_at is None else None


def _report_child(incarnation: Incarnation, seconds: float) -> None:
    member = incarnation.member
    assert member is not None, "a start has ended, and is still looked after"
    if not _is_cancelled(incarnation) and incarnation.burden == "none" and _is_inner(incarnation):
        stack = member.loop.tree.guard(stack_of, incarnation, False) or ""
        member.loop.teller.start_slow(member, incarnation, stack, seconds)


def _report_system(startup: Startup, seconds: float) -> None:
    own = startup.loop.own
    if not startup.is_waiting and not _is_cancelled(own) and _is_inner(own):
        loop = startup.loop
        stack = loop.tree.guard(stack_of, own, False) or ""
        loop.teller.system_slow(loop, startup, stack, seconds)


def _is_cancelled(incarnation: Incarnation) -> bool:
    """Whether it is reported as one that does not end, if it does not."""
    return incarnation.burden == "aborted" or incarnation.scope.cancel_called


def _is_inner(incarnation: Incarnation) -> bool:
    """Whether it waits for no other start: of a tree of its own, or of a call that it makes."""
    roots = incarnation.listener.roots if incarnation.listener is not None else []
    return not any(root.started_at is None for root in roots) and not any(
        isinstance(task.custom_sleep_data, Call) and task.custom_sleep_data.member is not None
        for task in own_tasks(incarnation)
    )
