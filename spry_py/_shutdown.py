"""Stopping children: ask, abort when their time is over, and name who does not end.

One appointment with the tree's alarm watches over all children of a supervisor that have been
asked: stopping a hundred thousand of them makes no more than one timer at a time.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import trio

from ._incarnation import living_below
from ._run_child import is_own

if TYPE_CHECKING:
    from ._incarnation import Incarnation
    from ._keeper import Keeper
    from ._nursery import Member

STUCK_AFTER: Final = 1.0


class Shutdowns:
    """The children of one supervisor that have been asked to end and have not ended yet."""

    __slots__ = (
        "_after",
        "_asked",
        "_guarded",
        "_intervals",
        "_loop",
        "_row",
        "_watch_at",
        "turn",
    )

    def __init__(self, loop: Keeper) -> None:
        self._loop = loop
        # those to be stopped one after the other, what to do after each, and whose turn it is
        self._row: Iterator[Member] = iter(())
        self._after: Callable[[Member], object] = id
        self.turn: Member | None = None
        # when to look at each again
        self._asked: dict[Incarnation, float] = {}
        # how long to wait before the next look at those found stuck
        self._intervals: dict[Incarnation, float] = {}
        self._guarded: set[Incarnation] = set()
        self._watch_at = math.inf

    def ask(self, member: Member, incarnation: Incarnation) -> None:
        """Begin to stop a living child; its end comes to whoever waits for it, not to the loop."""
        incarnation.awaited = True
        if incarnation.burden == "none":
            self._loop.teller.child_asked(member, incarnation)
        may_settle = incarnation.is_listening and incarnation.burden != "aborted"
        if may_settle and member.child.shutdown > 0:
            self._settle(member, incarnation)
        else:
            self._abort(incarnation)

    def watch(self, incarnation: Incarnation) -> None:
        """A child has been cancelled by something else: report it if it does not end."""
        if incarnation not in self._asked:
            self._watch(incarnation, trio.current_time() + STUCK_AFTER)

    def guard(self, incarnation: Incarnation) -> None:
        """A child has a deadline: look after it when that has struck."""
        if incarnation not in self._guarded:
            self._guarded.add(incarnation)
            self._guard_again(incarnation)

    def _guard_again(self, incarnation: Incarnation) -> None:
        when = incarnation.scope.deadline + STUCK_AFTER
        self._loop.tree.alarm.at(when, lambda: self._after_deadline(incarnation))

    def _after_deadline(self, incarnation: Incarnation) -> None:
        if incarnation.ended or incarnation.scope.deadline == math.inf:
            self._guarded.discard(incarnation)
        elif incarnation.scope.deadline + STUCK_AFTER > trio.current_time():
            self._guard_again(incarnation)
        else:
            self._guarded.discard(incarnation)
            if incarnation not in self._asked:
                self._watch(incarnation, trio.current_time())

    def clear(self) -> None:
        """Look after nobody any more."""
        self._asked.clear()
        self._guarded.clear()

    def forget(self, incarnation: Incarnation) -> None:
        """It has ended."""
        self._asked.pop(incarnation, None)
        if self._guarded:
            self._guarded.discard(incarnation)
        if self._intervals:
            self._intervals.pop(incarnation, None)

    async def one(self, member: Member) -> None:
        """Stop a child, whatever it is doing, and wait until nothing of it is alive."""
        loop = self._loop
        incarnation = member.incarnation
        if incarnation is not None and incarnation.member is not None:
            self.ask(member, incarnation)
            while incarnation.member is not None:
                await loop.pause()
        while member in loop.hooks:
            loop.hooks[member].cancel()
            await loop.pause()

    async def each(self, members: Iterable[Member], after: Callable[[Member], object]) -> None:
        """Stop children one after the other, in the order given; ``after(member)`` each."""
        self._row, self._after = iter(members), after
        try:
            self.advance()
            while self.turn is not None:
                await self._loop.pause()
                self.advance()
        finally:
            self._row, self.turn = iter(()), None

    def advance(self, in_loop: bool = True) -> None:
        """If the one whose turn it is has ended, ask the next.

        The end of a child calls this in its own task, on behalf of the loop that waits for the
        whole row: to wake the loop for each of them would cost as much as the stop itself.
        """
        loop = self._loop
        while True:
            member = self.turn
            if member is not None:
                if member.is_alive:
                    return
                if member in loop.hooks:
                    loop.hooks[member].cancel()
                    return
                self._after(member)
            member = self.turn = next(self._row, None)
            incarnation = member.incarnation if member is not None else None
            if member is not None and incarnation is not None and not incarnation.ended:
                self.ask(member, incarnation)
            elif member is None or not in_loop:
                # a decision about one that has ended by itself belongs to the loop
                loop.ring()
                return

    def _settle(self, member: Member, incarnation: Incarnation) -> None:
        if incarnation.burden == "none":
            incarnation.settle()
            self._watch(incarnation, trio.current_time() + member.child.shutdown)

    def _abort(self, incarnation: Incarnation) -> None:
        if incarnation.burden != "aborted":
            incarnation.abort()
            self._watch(incarnation, trio.current_time() + STUCK_AFTER)

    def _watch(self, incarnation: Incarnation, due: float) -> None:
        self._asked[incarnation] = due
        if due < self._watch_at:
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
        for incarnation, due in list(self._asked.items()):
            if due <= now:
                self._overdue(incarnation, now)
            self._arm(self._asked[incarnation])

    def _overdue(self, incarnation: Incarnation, now: float) -> None:
        member = incarnation.member
        assert member is not None
        if incarnation.burden == "settling":
            self._loop.teller.child_overdue(member, incarnation)
            self._abort(incarnation)
            return
        self._loop.teller.child_stuck(member, incarnation, stuck_below(incarnation))
        self._intervals[incarnation] = 2 * self._intervals.get(incarnation, STUCK_AFTER)
        self._asked[incarnation] = now + self._intervals[incarnation]


def stuck_below(incarnation: Incarnation) -> list[tuple[str, str]]:
    """The path and the stack of each child that keeps ``incarnation`` from ending."""
    inner = incarnation.inner
    suspects = [incarnation] if inner is None else [incarnation, *living_below(inner)]
    return [
        (item.path, stack_of(item))
        for item in suspects
        if item.task is not None and not _has_living_children(item)
    ]


def _has_living_children(incarnation: Incarnation) -> bool:
    inner = incarnation.inner
    return inner is not None and any(member.is_alive for member in inner.members)


def stack_of(incarnation: Incarnation) -> str:
    """Where a child stands, as traceback text, the innermost frame last; nested tasks follow."""
    assert incarnation.task is not None
    parts = _lines(chain(incarnation.task.iter_await_frames(), _frames_of(incarnation.steps)))
    pending = [incarnation.task]
    while pending:
        for nursery in pending.pop().child_nurseries:
            for task in nursery.child_tasks:
                parts.append(f"  in its nested task {task.name}:\n")
                parts.extend(_lines(task.iter_await_frames()))
                pending.append(task)
    parts.extend(tell() for tell in incarnation.more_stacks)
    return "".join(parts)


def _lines(frames: Iterable[tuple[FrameType, int]]) -> list[str]:
    theirs = [pair for pair in frames if not is_own(pair[0].f_code)]
    return traceback.StackSummary.extract(theirs).format()


def _frames_of(steps: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine and of what it awaits, as far as Python shows them."""
    while steps is not None:
        frame = getattr(steps, "cr_frame", None) or getattr(steps, "gi_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        steps = getattr(steps, "cr_await", None) or getattr(steps, "gi_yieldfrom", None)
