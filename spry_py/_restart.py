"""What a supervisor does about an end: the three strategies.

`OneForOne` begins a restart and goes on. `GroupRestart` shuts down the siblings that go along, waits
out the backoff, and replays the system; a failed attempt is tried again through the mailbox, so that
stops and other ends are served in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from . import _policy as policy
from ._errors import ChildFailure, Ignore, Interrupted, StartupFailure, sole_leaf_of
from ._policy import Verdict

if TYPE_CHECKING:
    from ._alarm import Timer
    from ._nursery import Member
    from ._supervisor import SystemLoop


class OneForOne:
    """Each child is restarted alone."""

    __slots__ = ("_loop",)

    def __init__(self, loop: SystemLoop) -> None:
        self._loop = loop

    async def decide(self, member: Member) -> None:
        """Act on the end of a child, or on a restart that has failed to start it."""
        loop = self._loop
        report = member.last_report
        assert report is not None
        was_started = report.started_at is not None
        if not was_started:
            if was_ignored(member):
                loop.teller.restart_succeeded(member)
                loop.leave_out(member)
                return
            loop.teller.restart_failed(member, report.exception)
        verdict = loop.judge(member)
        if was_started:
            loop.teller.terminated(member, verdict)
        if verdict is Verdict.RESTART:
            self._restart(member, at_once=was_started)
        else:
            loop.conclude(member, verdict)

    def _restart(self, member: Member, at_once: bool) -> None:
        loop = self._loop
        member.undecided = False
        member.state = "restarting"
        report = member.last_report
        assert report is not None
        now = trio.current_time()
        delay = next_delay(member)
        allowed = loop.breaker.may_restart(member.key, now)
        loop.teller.restart_decided(loop, member, allowed, delay)
        if not allowed:
            loop.refuse(member, report.exception)
        elif delay > 0:
            due = now + delay
            loop.waits[member] = loop.tree.alarm.at(due, lambda: loop.post(self._over, member))
        elif at_once:
            self._begin(member)
        else:
            loop.post(self._again, member)
        member.tell_watchers()

    async def _over(self, member: Member) -> None:
        if self._loop.waits.pop(member, None) is not None:
            self._begin(member)

    async def _again(self, member: Member) -> None:
        if member.state == "restarting" and not member.is_alive:
            self._begin(member)

    def _begin(self, member: Member) -> None:
        member.restarts += 1
        member.spawn(self._loop.nursery)


class _Pending:
    """A replay to come: from which child on, not before when, and whose incident it cures."""

    __slots__ = ("due", "pivot", "teller_member", "timer")

    def __init__(self, pivot: Member, due: float) -> None:
        self.pivot = pivot
        self.due = due
        self.timer: Timer | None = None
        # the child whose spans tell this restart
        self.teller_member = pivot


class GroupRestart:
    """A child is restarted together with its siblings: the later ones, or all."""

    __slots__ = ("_all", "_loop", "_pending")

    def __init__(self, loop: SystemLoop) -> None:
        self._loop = loop
        self._all = loop.strategy == "one_for_all"
        self._pending: _Pending | None = None

    async def decide(self, member: Member) -> None:
        """Act on an end, and on all others that have been seen with it."""
        loop = self._loop
        down = self._judge_all([member, *self._others_undecided(member)])
        if not down or loop.is_stopping:
            return
        first = down[0]
        report = first.last_report
        assert report is not None
        now = trio.current_time()
        delay = max(next_delay(other) for other in down)
        allowed = loop.breaker.may_restart(first.key, now)
        loop.teller.restart_decided(loop, first, allowed, delay)
        if not allowed:
            loop.refuse(first, report.exception)
            return
        pending = self._join(first, self._earliest(down), now + delay)
        await self._sweep(pending)
        self._schedule(pending)

    # Who is down

    def _others_undecided(self, member: Member) -> list[Member]:
        loop = self._loop
        others = [
            other
            for handler, other in loop.messages
            if handler == loop.on_undecided and other.undecided and other not in loop.hooks
        ]
        return [other for other in dict.fromkeys(others) if other is not member]

    def _judge_all(self, members: Iterable[Member]) -> list[Member]:
        """Classify each by its own restart type; answers those that want to be restarted."""
        return [member for member in members if self._wants_restart(member)]

    def _wants_restart(self, member: Member) -> bool:
        loop = self._loop
        verdict = loop.judge(member)
        loop.teller.terminated(member, verdict)
        if verdict is not Verdict.RESTART:
            loop.conclude(member, verdict)
            return False
        member.undecided = False
        member.state = "restarting"
        member.tell_watchers()
        return True

    def _earliest(self, members: Iterable[Member]) -> Member:
        wanted = set(members)
        return next(member for member in self._loop.members if member in wanted)

    # Shutting down who goes along

    def _join(self, first: Member, pivot: Member, due: float) -> _Pending:
        """One replay cures all that is down: from the earliest, after the longest wait."""
        pending = self._pending
        if pending is None:
            self._pending = pending = _Pending(pivot, due)
            pending.teller_member = first
            return pending
        if pending.timer is not None:
            pending.timer.cancel()
        pending.pivot = self._earliest([pivot, pending.pivot])
        pending.due = max(due, pending.due)
        return pending

    async def _sweep(self, pending: _Pending) -> None:
        """Shut down in reverse all that goes along, and all that proves to go along meanwhile."""
        loop = self._loop
        while True:
            targets = [member for member in self._after(pending.pivot) if is_up(member)]
            if targets:
                loop.teller.sweep_began(loop, pending.teller_member)
                await loop.shutdowns.each(targets, self._swept)
                loop.teller.teardown_ended(loop)
            more = self._judge_all(self._undecided())
            if not more or loop.is_stopping:
                return
            pending.pivot = self._earliest([pending.pivot, *more])

    def _after(self, pivot: Member) -> list[Member]:
        """Those that go along with ``pivot``, the latest first; it is down itself."""
        later = []
        for member in reversed(self._loop.members):
            if member is not pivot:
                later.append(member)
            elif not self._all:
                break
        return later

    def _undecided(self) -> list[Member]:
        loop = self._loop
        return [member for member in loop.members if member.undecided and member not in loop.hooks]

    def _swept(self, member: Member) -> None:
        if member.undecided:
            self._wants_restart(member)
        elif member.state == "stopping":
            if member.child.restart == "temporary":
                self._loop.conclude(member, Verdict.SPENT)
            else:
                member.state = "restarting"
                member.tell_watchers()

    # Replaying

    def _schedule(self, pending: _Pending) -> None:
        loop = self._loop
        if loop.is_stopping:
            return
        if pending.due <= trio.current_time():
            loop.post(self._due, pending)
        else:
            pending.timer = loop.tree.alarm.at(pending.due, lambda: loop.post(self._due, pending))

    async def _due(self, pending: _Pending) -> None:
        if pending is self._pending and trio.current_time() >= pending.due:
            self._pending = None
            await self._replay(pending)

    async def _replay(self, pending: _Pending) -> None:
        loop = self._loop
        parent = loop.teller.attempt_span(pending.teller_member)
        try:
            startup = await loop.run_system(parent)
        except Interrupted:
            return  # the teardown that follows tells the rest
        except StartupFailure as failure:
            await self._failed(pending, failure)
            return
        undeclared = [
            member
            for key, member in reversed(loop.members.declared.items())
            if key not in startup.declared and is_up(member)
        ]
        if undeclared:
            loop.teller.sweep_began(loop, pending.teller_member)
            await loop.shutdowns.each(undeclared, loop.shut)
            loop.teller.teardown_ended(loop)
        loop.teller.restart_succeeded(pending.teller_member)

    async def _failed(self, pending: _Pending, failure: StartupFailure) -> None:
        """An attempt has failed: it asks the breaker again, with the key that failed."""
        loop = self._loop
        culprit = loop.last.failed if isinstance(failure, ChildFailure) else None
        loop.teller.restart_failed(pending.teller_member, failure)
        if culprit is not None:
            verdict = loop.judge(culprit)
            if verdict in (Verdict.ESCALATE, Verdict.DISCARD):
                self._bring_back(culprit)
                loop.conclude(culprit, verdict)
        if loop.is_stopping:
            return
        member = culprit or pending.pivot
        now = trio.current_time()
        delay = next_delay(member) if culprit is not None else 0.0
        allowed = loop.breaker.may_restart(member.key, now)
        loop.teller.restart_decided(loop, member, allowed, delay, pending.teller_member)
        if not allowed:
            loop.incident = pending.teller_member.attempt
            loop.refuse(member, failure.__cause__)
            return
        self._pending = _Pending(pending.pivot, now + delay)
        self._pending.teller_member = pending.teller_member
        if self._all:
            await self._sweep(self._pending)
        self._schedule(self._pending)

    def _bring_back(self, member: Member) -> None:
        """A newly declared key that failed was free again; what became of it is to be remembered."""
        self._loop.members.declared.setdefault(member.key, member)


def next_delay(member: Member) -> float:
    """Count one more restart in a row, and say how long to wait before it."""
    report = member.last_report
    assert report is not None
    member.in_a_row = policy.in_a_row(member.child, member.in_a_row, report)
    delay = policy.delay(member.child, member.in_a_row, report.exception)
    if math.isinf(delay):
        raise ValueError(f"the backoff of {member.path!r} must give a finite number of seconds")
    return delay


def was_ignored(member: Member) -> bool:
    """Whether the last start answered `Ignore`."""
    exception = member.last_report.exception if member.last_report is not None else None
    return exception is not None and isinstance(sole_leaf_of(exception), Ignore)


def is_up(member: Member) -> bool:
    """Whether something of it has to be shut down."""
    return member.is_alive or member.undecided
