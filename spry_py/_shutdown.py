"""Stopping children: ask, abort when their time is over, and name who does not end.

One appointment with the tree's alarm watches over all children of a supervisor that have been asked:
stopping a hundred thousand of them makes no more than one timer at a time.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import trio

from ._nursery import living_below

if TYPE_CHECKING:
    from ._loop import Loop
    from ._nursery import Incarnation, Member

STUCK_AFTER: Final = 1.0


class _Asked:
    """A child that has been asked: when to look at it again, and the interval after that."""

    __slots__ = ("due", "interval")

    def __init__(self, due: float) -> None:
        self.due = due
        self.interval = STUCK_AFTER


class Shutdowns:
    """The children of one supervisor that have been asked to end and have not ended yet."""

    __slots__ = ("_asked", "_loop", "_watch_at")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._asked: dict[Incarnation, _Asked] = {}
        self._watch_at = math.inf

    def ask(self, member: Member) -> None:
        """Begin to stop a living child; its end comes to whoever waits for it, not to the loop."""
        incarnation = member.incarnation
        assert incarnation is not None
        incarnation.awaited = True
        if incarnation.burden == "none":
            self._loop.teller.child_asked(member, incarnation)
        if member.child.shutdown > 0 and incarnation.is_listening:
            self._settle(member, incarnation)
        else:
            self._abort(member, incarnation)

    def forget(self, incarnation: Incarnation) -> None:
        """It has ended."""
        self._asked.pop(incarnation, None)

    async def one(self, member: Member) -> None:
        """Stop a child, whatever it is doing, and wait until nothing of it is alive."""
        loop = self._loop
        if member.is_alive:
            incarnation = member.incarnation
            self.ask(member)
            assert incarnation is not None
            while not incarnation.ended:
                await loop.pause()
        while member in loop.hooks:
            loop.hooks[member].cancel()
            await loop.pause()

    async def each(self, members: Iterable[Member], after: Callable[[Member], object]) -> None:
        """Stop children one after the other, in the order given; ``after(member)`` each."""
        for member in members:
            await self.one(member)
            after(member)

    def _settle(self, member: Member, incarnation: Incarnation) -> None:
        if incarnation.burden == "none":
            self._loop.teller.child_settling(member, incarnation)
            incarnation.settle()
            self._watch(incarnation, trio.current_time() + member.child.shutdown)

    def _abort(self, member: Member, incarnation: Incarnation) -> None:
        if incarnation.burden != "aborted":
            self._loop.teller.child_aborted(member, incarnation)
            incarnation.abort()
            self._watch(incarnation, trio.current_time() + STUCK_AFTER)

    def _watch(self, incarnation: Incarnation, due: float) -> None:
        self._asked[incarnation] = _Asked(due)
        self._arm(due)

    def _arm(self, due: float) -> None:
        if due < self._watch_at:
            self._watch_at = due
            self._loop.tree.alarm.at(due, self._look)

    def _look(self) -> None:
        now = trio.current_time()
        if now < self._watch_at:
            return  # an appointment that an earlier one has replaced
        self._watch_at = math.inf
        for incarnation, asked in list(self._asked.items()):
            if asked.due <= now:
                self._overdue(incarnation, asked, now)
            self._arm(self._asked[incarnation].due)

    def _overdue(self, incarnation: Incarnation, asked: _Asked, now: float) -> None:
        member = incarnation.member
        assert member is not None
        if incarnation.burden == "settling":
            self._loop.teller.child_overdue(member, incarnation)
            self._abort(member, incarnation)
            return
        self._loop.teller.child_stuck(member, incarnation, stuck_below(incarnation))
        asked.interval *= 2
        asked.due = now + asked.interval


def stuck_below(incarnation: Incarnation) -> list[tuple[str, str]]:
    """The path and the stack of each child that keeps ``incarnation`` from ending."""
    inner = incarnation.inner
    suspects = [incarnation] if inner is None else [incarnation, *living_below(inner)]
    return [
        (item.path, stack_of(item.task))
        for item in suspects
        if item.task is not None and not _has_living_children(item)
    ]


def _has_living_children(incarnation: Incarnation) -> bool:
    inner = incarnation.inner
    return inner is not None and any(member.is_alive for member in inner.members)


def stack_of(task: trio.lowlevel.Task) -> str:
    """Where a task stands, as traceback text, the innermost frame last; nested tasks included."""
    parts = []
    pending = [task]
    while pending:
        item = pending.pop()
        parts.extend(traceback.StackSummary.extract(item.iter_await_frames()).format())
        for nursery in item.child_nurseries:
            pending.extend(nursery.child_tasks)
    return "".join(parts)
