"""Stopping children: ask, abort when their time is over, and name who does not end.

One appointment with the tree's alarm watches over all children of a supervisor that have been
asked: stopping a hundred thousand of them makes no more than one timer at a time.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import trio

from .context import incarnation_of
from .incarnation import living_below, note_limit_above
from .life import HOOK_SECONDS, Hook, is_own
from .mailbox import MOST_IN_A_ROW
from .phases import Phase, Then

if TYPE_CHECKING:
    from spry_py._spec.termination import Occasion

    from .facts import Cause
    from .incarnation import Incarnation
    from .loop import Loop
    from .member import Member
    from .timers import Timer

STUCK_AFTER: Final = 1.0


class Shutdowns:
    """The children of one supervisor that have been asked to end and have not ended yet."""

    __slots__ = (
        "_after",
        "_closed",
        "_intervals",
        "_loop",
        "_occasion",
        "_row",
        "_timer",
        "_watch_at",
        "asked",
        "guarded",
        "turn",
    )

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # those to be stopped one after the other, what to do after each, and whose turn it is
        self._row: Iterator[Member] = iter(())
        self._after: Callable[[Member], object] = id
        self._occasion: Occasion = "stop"
        self.turn: Member | None = None
        # when to look at each again
        self.asked: dict[Incarnation | Hook, float] = {}
        # how long to wait before the next look at those found stuck
        self._intervals: dict[Incarnation | Hook, float] = {}
        # those with a deadline, and when to look whether it has struck
        self.guarded: dict[Incarnation, Timer] = {}
        self._watch_at = math.inf
        self._timer: Timer | None = None
        # a supervisor above watches now, or no child is left to be watched
        self._closed = False

    def ask(
        self,
        member: Member,
        incarnation: Incarnation,
        occasion: Occasion,
        part_of: Cause | None = None,
    ) -> None:
        """Begin to stop a living child. Its end wakes what waits for it; no loop decides then.

        It is a part of what is under way in the loop, unless of something else.
        """
        incarnation.follow(Then.AWAITED)
        loop = self._loop
        if incarnation.burden == "none" and loop.heard_by:
            loop.teller.child_asked(member, incarnation, part_of or loop.part_of)
        if incarnation.burden == "aborted":
            return
        if incarnation.is_listening and member.child.shutdown > 0:
            self._settle(member, incarnation, occasion)
        else:
            incarnation.abort(occasion)
            self._watch(incarnation, loop.tree.now() + STUCK_AFTER)

    def over_at(self, incarnation: Incarnation) -> float | None:
        """When a child that was asked to finish will be aborted. May be called from any thread."""
        when = self.asked.get(incarnation, math.inf)
        return when if incarnation.burden == "settling" and when < math.inf else None

    def watch(self, incarnation: Incarnation) -> None:
        """A child has been cancelled by something else: report it if it does not end."""
        if incarnation not in self.asked:
            self._watch(incarnation, self._loop.tree.now() + STUCK_AFTER)

    def guard(self, incarnation: Incarnation) -> None:
        """A child has a deadline: look after it when that has struck."""
        if incarnation not in self.guarded and not self._closed:
            self._guard_again(incarnation)

    def _guard_again(self, incarnation: Incarnation) -> None:
        when = incarnation.scope.deadline + STUCK_AFTER
        alarm = self._loop.tree.alarm
        self.guarded[incarnation] = alarm.at(when, lambda: self._after_deadline(incarnation))

    def _after_deadline(self, incarnation: Incarnation) -> None:
        now, deadline = trio.current_time(), incarnation.scope.deadline
        if now < deadline + STUCK_AFTER < math.inf:
            self._guard_again(incarnation)
            return
        del self.guarded[incarnation]
        if deadline < math.inf and incarnation not in self.asked:
            if incarnation.inner is not None:
                note_limit_above(incarnation.inner)
            self._watch(incarnation, now)

    def watch_hook(self, hook: Hook) -> None:
        """An ``on_termination`` has begun: report it if its time limit does not end it."""
        self._watch(hook, trio.current_time() + HOOK_SECONDS + STUCK_AFTER)

    def cancel_hook(self, hook: Hook) -> None:
        """End an ``on_termination`` before its time."""
        if not hook.scope.cancel_called:
            hook.scope.cancel()
            self._watch(hook, trio.current_time() + STUCK_AFTER)

    def close(self) -> None:
        """Watch no child any more: the supervisor has ended, or is cancelled from above.

        The supervisor that has cancelled it watches over all that lives below it.
        """
        self._closed = True
        self.asked.clear()
        self._intervals.clear()
        for timer in self.guarded.values():
            timer.cancel()
        self.guarded.clear()
        if self._timer is not None:
            self._timer.cancel()

    def forget(self, ended: Incarnation | Hook) -> None:
        """It has ended."""
        self.asked.pop(ended, None)
        if self.guarded and not isinstance(ended, Hook) and ended in self.guarded:
            self.guarded.pop(ended).cancel()
        if self._intervals:
            self._intervals.pop(ended, None)

    async def one(self, member: Member, occasion: Occasion) -> None:
        """Stop a child, whatever it is doing, and wait until nothing of it is alive."""
        loop = self._loop
        incarnation = member.incarnation
        if incarnation is not None and not incarnation.ended:
            self.ask(member, incarnation, occasion)
            while not incarnation.ended:
                await loop.pause()
        while member.phase is Phase.PARTING:
            self.cancel_hook(loop.hooks[member])
            await loop.pause()

    async def each(
        self, members: Iterable[Member], after: Callable[[Member], object], occasion: Occasion
    ) -> None:
        """Stop children one after the other, in the order given; ``after(member)`` each."""
        self._row, self._after, self._occasion = iter(members), after, occasion
        try:
            has_to_wait = self.advance()
            while self.turn is not None:
                if has_to_wait:
                    await self._loop.pause()
                else:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                # not if it was the last one, and its own task has seen to what comes after it
                is_left = self.turn is not None  # pyright: ignore[reportUnnecessaryComparison]
                has_to_wait = is_left and self.advance()
        finally:
            # the last of them is often a method of what is over now
            self._row, self.turn, self._after = iter(()), None, id

    def advance(self, in_loop: bool = True) -> bool:
        """If the one whose turn it is has ended, ask the next. Returns whether its end comes next.

        The end of a child calls this in its own task, on behalf of the loop that waits for the
        whole row: to wake the loop for each of them would cost as much as the stop itself.
        """
        loop = self._loop
        for _ in range(MOST_IN_A_ROW):
            member = self.turn
            if member is not None:
                if member.phase.is_alive:
                    return True
                if member.phase is Phase.PARTING:
                    self.cancel_hook(loop.hooks[member])
                    return True
                self._after(member)
            member = self.turn = next(self._row, None)
            if member is not None and member.phase.is_alive:
                assert member.incarnation is not None
                self.ask(member, member.incarnation, self._occasion)
            elif member is None or not in_loop:
                # a decision about one that has ended by itself belongs to the loop
                loop.ring()
                return False
        return False

    def _settle(self, member: Member, incarnation: Incarnation, occasion: Occasion) -> None:
        if incarnation.burden == "none":
            # it cannot settle any more if something else has cancelled it already
            patience = STUCK_AFTER if incarnation.is_cut else member.child.shutdown
            incarnation.stop(occasion)
            if incarnation not in self.asked:
                self._watch(incarnation, self._loop.tree.now() + patience)

    def _watch(self, one: Incarnation | Hook, due: float) -> None:
        if self._closed:
            return
        self.asked[one] = due
        if due < self._watch_at:
            if self._timer is not None:
                self._timer.cancel()
            self._watch_at = due
            self._timer = self._loop.tree.alarm.at(due, self._look)

    def _look(self) -> None:
        now = trio.current_time()
        self._watch_at = math.inf
        for one, due in list(self.asked.items()):
            if due <= now:
                self._overdue(one, now)
        if self.asked:
            self._watch(*min(self.asked.items(), key=itemgetter(1)))

    def _overdue(self, one: Incarnation | Hook, now: float) -> None:
        teller, guard = self._loop.teller, self._loop.tree.guard
        if isinstance(one, Hook):
            stuck = guard(_hook_stack, one) or (one.path, "")
            teller.stuck(self._loop, None, [stuck])
        elif one.burden == "settling" and not one.scope.cancel_called:
            assert one.member is not None
            teller.child_overdue(one.member, one)
            one.abort(one.occasion)
            self._watch(one, now + STUCK_AFTER)
            return
        else:
            here = [(one.path, "")]
            teller.stuck(self._loop, one, guard(stuck_below, one) or here)
        self._intervals[one] = 2 * self._intervals.get(one, STUCK_AFTER)
        self.asked[one] = now + self._intervals[one]


def stuck_below(incarnation: Incarnation) -> list[tuple[str, str]]:
    """The path and the stack of each child that keeps ``incarnation`` from ending."""
    inner = incarnation.inner
    suspects = [incarnation] if inner is None else [incarnation, *living_below(inner)]
    stuck: list[tuple[str, str]] = []
    for item in suspects:
        hooks = item.inner.hooks.values() if item.inner is not None else ()
        stuck.extend(map(_hook_stack, hooks))
        if item.task is not None and not hooks and not _has_living_children(item):
            stuck.append((item.path, stack_of(item)))
    return stuck


def _has_living_children(incarnation: Incarnation) -> bool:
    inner = incarnation.inner
    return inner is not None and any(member.phase.is_alive for member in inner.members)


def _hook_stack(hook: Hook) -> tuple[str, str]:
    parts = ["  in its on_termination:\n", *_lines(_frames_of_task(hook.task))]
    return hook.path, "".join([*parts, *_lines_of_each(_nested_in(hook.task))])


def stack_of(incarnation: Incarnation, whole: bool = True) -> str:
    """Where a child stands, as traceback text, the innermost frame last; nested tasks follow.

    Unless ``whole``, those tasks are left out that are children themselves. Empty for one that has
    ended, which it may do in between if another thread asks.
    """
    task, member, steps = incarnation.task, incarnation.member, incarnation.steps
    if task is None or member is None:
        return ""
    parts = _lines(chain(_frames_of_task(task), _frames_of(steps)))
    nested = _nested_in(task)
    parts.extend(_lines_of_each(task for task in nested if whole or _runs(task, incarnation)))
    guard = member.loop.tree.guard
    parts.extend(guard(_text_of, stack) or "" for stack in incarnation.more_stacks)
    return "".join(parts)


def own_tasks(incarnation: Incarnation) -> Iterator[trio.lowlevel.Task]:
    """The tasks that run a child's own code: its main one, and those nested in that."""
    assert incarnation.task is not None
    yield incarnation.task
    yield from (task for task in _nested_in(incarnation.task) if _runs(task, incarnation))


def _runs(task: trio.lowlevel.Task, incarnation: Incarnation) -> bool:
    return incarnation_of(task) is incarnation


def _lines_of_each(tasks: Iterable[trio.lowlevel.Task]) -> Iterator[str]:
    for task in tasks:
        yield f"  in its nested task {task.name}:\n"
        yield from _lines(_frames_of_task(task))


def _nested_in(outermost: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    pending = [outermost]
    while pending:
        for nursery in pending.pop().child_nurseries:
            for task in nursery.child_tasks:
                yield task
                pending.append(task)


def _text_of(stack: Callable[[], object]) -> str:
    text = stack()
    if not isinstance(text, str):
        raise TypeError(f"add_stack: {stack!r} must return the lines of a traceback, not {text!r}")
    return text


def _lines(frames: Iterable[tuple[FrameType, int]]) -> list[str]:
    """The user's frames, and in one line the call of trio that they wait in."""
    theirs = [pair for pair in frames if not is_own(pair[0].f_code)]
    users = [pair for pair in theirs if not _is_trios(pair[0])]
    waits = theirs[theirs.index(users[-1]) + 1 :] if users else theirs
    lines = traceback.StackSummary.extract(users).format()
    return [*lines, *(f"  waiting in {_name_of(frame)}\n" for frame, _ in waits[:1])]


def _is_trios(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "trio"


def _name_of(frame: FrameType) -> str:
    """What a user knows a function of trio by."""
    name = frame.f_code.co_qualname
    return f"trio.{name}" if hasattr(trio, name.partition(".")[0]) else f"trio: {name}"


def _frames_of_task(task: trio.lowlevel.Task) -> Iterator[tuple[FrameType, int]]:
    """The frames of a task and of what it awaits, outermost first; fewer if it ends meanwhile."""
    # trio looks at each frame twice; if another thread asks, the task may end in between
    with suppress(AttributeError):
        yield from task.iter_await_frames()


def _frames_of(steps: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine and of what it awaits, as far as Python shows them."""
    while steps is not None:
        frame = getattr(steps, "cr_frame", None) or getattr(steps, "gi_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        steps = getattr(steps, "cr_await", None) or getattr(steps, "gi_yieldfrom", None)
