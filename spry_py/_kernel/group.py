"""What a supervisor does about an end when siblings are restarted together.

`GroupRestart` shuts down those that go along, waits out the backoff, and replays the system. A
failed attempt is tried again through the mailbox, so that stops and other ends are served in
between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from spry_py._policy.breaker import tell_breaker
from spry_py._policy.restart import Verdict
from spry_py._spec.errors import (
    ChildFailure,
    Interrupted,
    StartupFailure,
    SupervisorStopped,
    cause_of,
)

from .before import Before
from .mailbox import MOST_IN_A_ROW
from .messages import Ended, Replay
from .phases import Phase

if TYPE_CHECKING:
    from .calls import Call
    from .facts import Cause, Incident
    from .member import Member
    from .system import SystemLoop
    from .timers import Timer


class Pending:
    """A replay to come: from which child on, not before when, and whose incident it cures."""

    __slots__ = (
        "along",
        "calls",
        "changes",
        "due",
        "failures",
        "incident",
        "pivot",
        "replays",
        "resume",
        "timer",
    )

    def __init__(self, pivot: Member | None, incident: Incident | None) -> None:
        self.pivot = pivot
        self.incident = incident
        # those of others that have ended meanwhile
        self.along: list[Incident] = []
        # whether what has changed is started anew; the replays that were asked for and hear of the
        # next attempt, however that goes
        self.changes = False
        self.replays: list[Call] = []
        # how it was before the last of those replays was asked for; ``None`` if that began it
        self.resume: tuple[bool, float] | None = None
        # the attempts that have failed, all of them in a row
        self.failures = 0
        self.due = 0.0
        # of those who wait for it to be done
        self.calls: list[Call] = []
        self.timer: Timer | None = None

    @property
    def part_of(self) -> Cause:
        """What the restart is a part of: an attempt to cure an incident, or what a caller does."""
        return self.incident, *self.replays, *self.calls


class GroupRestart:
    """A child is restarted together with its siblings: the later ones, or all."""

    __slots__ = ("_all", "_loop", "_pending", "_rest")

    def __init__(self, loop: SystemLoop) -> None:
        self._loop = loop
        self._all = loop.strategy == "one_for_all"
        self._pending: Pending | None = None
        # what is being shut down for a restart
        self._rest: list[Member] = []

    async def decide(self, member: Member) -> None:
        """Act on an end, and on all others that have been seen with it."""
        loop = self._loop
        down, delay = await self._those_to_restart(member)
        if not down or loop.is_leaving:
            return
        first = down[0]
        report = first.last_report
        assert report is not None
        incident = first.incident
        assert incident is not None
        allowed = loop.may_restart(first, incident, delay)
        first.incident = None
        if not allowed:
            loop.refuse(first, report.exception, incident)
            return
        pending = self._join(self._earliest(down), incident)
        self._only_one_incident(pending, down)
        delay = max(delay, await self._sweep(pending))
        # the later end of two waits counts
        pending.due = max(pending.due, trio.current_time() + delay)
        self._schedule(pending)

    # Who is down

    async def _those_to_restart(self, *first: Member) -> tuple[list[Member], float]:
        """Those that have ended by themselves and want to be restarted, and the longest wait."""
        loop = self._loop
        ended = dict.fromkeys(first)
        for message in loop.messages:
            if isinstance(message, Ended):
                ended[message.member] = None
        down: list[Member] = []
        delay = 0.0
        for number, member in enumerate(ended, 1):
            if loop.is_undecided(member) and self._wants_restart(member):
                down.append(member)
                delay = max(delay, member.next_delay())
            if number % MOST_IN_A_ROW == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
        return down, delay

    def _wants_restart(self, member: Member) -> bool:
        """Classify it by its own restart type."""
        loop = self._loop
        verdict = loop.judge(member)
        incident = loop.terminated(member, verdict)
        if verdict is not Verdict.RESTART:
            loop.conclude(member, verdict, incident)
            return False
        member.move(Phase.RESTARTING)
        member.incident = incident
        return True

    def _only_one_incident(self, pending: Pending, members: Iterable[Member]) -> None:
        """The restart belongs to the incident of one of them, and cures those of the others."""
        for member in members:
            if member.incident is not None:
                self._take_along(pending, member.incident)
                member.incident = None

    def _take_along(self, pending: Pending, incident: Incident) -> None:
        self._loop.teller.incident_joined(incident)
        pending.along.append(incident)

    def _earliest(self, members: Sequence[Member | None]) -> Member:
        first = members[0]
        if len(members) == 1 and first is not None:
            return first
        return next(filter(set(members).__contains__, self._loop.members))

    # Shutting down who goes along

    def _join(self, pivot: Member, incident: Incident | None) -> Pending:
        """One replay cures all that is down: from the earliest, after the longest wait."""
        pending = self._pending
        if pending is None:
            self._pending = pending = Pending(pivot, incident)
            return pending
        if pending.timer is not None:
            pending.timer.cancel()
        pending.pivot = self._earliest([pivot, pending.pivot])
        if incident is not None:
            self._take_along(pending, incident)
        return pending

    async def _sweep(self, pending: Pending) -> float:
        """Shut down in reverse all that goes along, and all that proves to go along meanwhile.

        Returns the longest wait that those want which have ended by themselves meanwhile.
        """
        loop = self._loop
        delay = 0.0
        while True:
            # those that have ended by themselves before it was their turn
            joined: list[Member] = []
            targets = self._after(pending.pivot)
            if targets and not loop.is_leaving:
                if loop.heard_by:
                    loop.teller.teardown_began(loop, pending.part_of)
                self._rest = targets
                await loop.shutdowns.each(targets, partial(self._swept, joined), "restart")
                self._rest = []
                if loop.heard_by:
                    loop.teller.teardown_ended(loop)
            more, longest = await self._those_to_restart()
            if loop.is_leaving:
                loop.stay_down()
                return delay
            more.extend(joined)
            if not more:
                return delay
            delay = max(delay, longest, *(member.next_delay() for member in joined))
            self._only_one_incident(pending, more)
            pending.pivot = self._earliest([pending.pivot, *more])

    def _after(self, pivot: Member | None) -> list[Member]:
        """Those that go along with ``pivot`` and are up, the latest first."""
        later: list[Member] = []
        for member in reversed(self._loop.members):
            if member.phase.is_alive or (member is not pivot and member.phase.is_up):
                later.append(member)
            is_left = member.phase in (Phase.STOPPED, Phase.IGNORED)
            if is_left and member.key in self._loop.members.added:
                member.move(Phase.RESTARTING)  # tried again with those it goes along with
            if member is pivot and not self._all:
                break
        return later

    def _swept(self, joined: list[Member], member: Member) -> None:
        if member.phase is Phase.ENDED:
            if self._wants_restart(member):
                joined.append(member)
        elif member.phase is Phase.HALTED:
            if member.child.restart == "temporary":
                self._loop.conclude(member, Verdict.SPENT, None)
            else:
                member.move(Phase.RESTARTING)

    # Replaying

    def _schedule(self, pending: Pending) -> None:
        loop = self._loop
        if loop.is_leaving:
            return
        if pending.due <= trio.current_time():
            loop.post(Replay(self, pending))
        else:
            message = Replay(self, pending)
            pending.timer = loop.tree.alarm.at(pending.due, lambda: loop.post(message))

    async def replay(self, pending: Pending) -> None:
        """Start what is down, unless that has been put off, or given up.

        Raises nothing: a failure is the next attempt's beginning.
        """
        if pending is not self._pending or trio.current_time() < pending.due:
            return
        loop = self._loop
        before = Before(loop) if pending.replays else None
        try:
            await self._attempt(pending, before)
        except Interrupted as interrupted:
            _let_go(before)
            _refuse(pending.replays, interrupted)  # the teardown that follows refuses the rest
            loop.stay_down()
        except StartupFailure as failure:
            _refuse(pending.replays, failure)
            if before is None or before.has_changed:
                _let_go(before)
                await self._failed(pending, failure)
            else:
                before.put_back()
                self._resume(pending)
        else:
            _let_go(before)
            self._pending = None
            for incident in (pending.incident, *pending.along):
                loop.teller.incident_closed(incident, "cured")
            for call in (*pending.replays, *pending.calls):
                call.give()
            if pending.failures:
                tell_breaker(loop.breaker, "forget", loop.own.key)

    def _resume(self, pending: Pending) -> None:
        """A caller's replay has gone wrong and cost nothing: go on with what was there before."""
        if pending.resume is None:
            self._pending = None
        else:
            pending.changes, pending.due = pending.resume
            self._schedule(pending)

    async def _attempt(self, pending: Pending, before: Before | None) -> None:
        loop, changes = self._loop, pending.changes
        extra: list[Member] = []
        declared = loop.members.declared.values()
        up = Phase.DONE, Phase.STARTING, Phase.RUNNING, Phase.STOPPING
        if changes or not loop.members.added or any(one.phase not in up for one in declared):
            startup = await loop.run_system(pending.part_of, changes, before)
            extra = await self._shut_down_undeclared(pending, startup.declared, before)
            loop.members.gone.intersection_update(startup.declared)
        await loop.start_added(pending.part_of, before)
        for member in extra:
            self._forget(member)
        loop.forget_unknown()

    # What callers ask for

    async def restart_by_hand(self, member: Member, calls: list[Call]) -> None:
        """A caller has it restarted, now, as if it had ended: without a breaker, or a wait."""
        loop = self._loop
        loop.shut(member)
        member.move(Phase.RESTARTING)
        member.remember().by_hand += 1
        pending = self._join(member, None)
        pending.calls.extend(calls)
        delay = await self._sweep(pending)
        pending.due = trio.current_time() + delay
        self._schedule(pending)

    def call_off(self, member: Member) -> None:
        """A caller keeps down what a restart began with: those that went along stay down."""
        pending = self._pending
        if pending is not None and pending.pivot is member:
            self.give_up()
            for other in self._loop.members:
                if other.phase in (Phase.RESTARTING, Phase.ENDED):
                    self._loop.shut(other)

    @property
    def due(self) -> float | None:
        """When the replay begins that is waited for. May be called from any thread."""
        pending = self._pending
        return pending.due if pending is not None and pending.timer is not None else None

    def give_up(self) -> None:
        """Nothing comes of the restart that was to be; who is not down yet is left to its turn."""
        self._rest.clear()
        pending, self._pending = self._pending, None
        if pending is not None:
            error = SupervisorStopped(f"nothing came of a restart in {self._loop.path!r}")
            _refuse([*pending.replays, *pending.calls], error)
            if pending.timer is not None:
                pending.timer.cancel()
            for incident in (pending.incident, *pending.along):
                if incident is not self._loop.incident:
                    self._loop.teller.incident_closed(incident, "stopped")

    def reconcile(self, call: Call) -> None:
        """Replay now, since the system may declare something else; that cures what waits, too."""
        loop = self._loop
        pending = self._pending
        if pending is None:
            pending = self._pending = Pending(next(iter(loop.members), None), None)
        else:
            pending.resume = pending.changes, pending.due
            if pending.timer is not None:
                pending.timer.cancel()
        pending.changes = True
        pending.replays.append(call)
        pending.due = trio.current_time()

    async def replay_now(self) -> None:
        """Replay, since a caller has asked for that."""
        assert self._pending is not None, "it has just been reconciled"
        await self.replay(self._pending)

    async def _shut_down_undeclared(
        self, pending: Pending, declared: Collection[str], before: Before | None
    ) -> list[Member]:
        """Stop what is left of those that the system does not declare any more; returns them."""
        loop = self._loop
        members = loop.members.declared
        extra = [member for key, member in reversed(members.items()) if key not in declared]
        extra = [member for member in extra if not loop.calls.has_start_of(member)]
        up = [member for member in extra if member.phase.is_up]
        if up:
            if before is not None:
                before.has_changed = True
            loop.teller.teardown_began(loop, pending.part_of)
            self._rest = up
            await loop.shutdowns.each(up, loop.shut, "replay")
            self._rest = []
            loop.teller.teardown_ended(loop)
        if loop.is_leaving:
            raise Interrupted(f"a replay of {loop.path!r} was interrupted: it is being stopped")
        return extra

    def _forget(self, member: Member) -> None:
        """It is not declared any more, and may wait for a restart of its own."""
        self._loop.shut(member)
        self._loop.members.remove(member)

    async def _failed(self, pending: Pending, failure: StartupFailure) -> None:
        """An attempt has failed: it asks the breaker again, with the key that failed."""
        loop = self._loop
        pending.failures += 1
        culprit = loop.failed.get(failure.path) if isinstance(failure, ChildFailure) else None
        delay = await self._sweep(pending) if self._all else 0.0
        if pending is not self._pending:
            return  # given up, and its incident is closed: the program is ending
        path = loop.path if culprit is None else culprit.path
        pending.incident = incident = loop.attempt_failed(pending.incident, path, failure)
        if culprit is not None and not culprit.phase.is_alive:
            self._judge_culprit(culprit, incident)
        if loop.is_leaving:
            return
        if culprit is not None:
            delay = max(delay, culprit.next_delay())
        if loop.may_restart(culprit, incident, delay):
            pending.due = trio.current_time() + delay
            self._schedule(pending)
        elif culprit is None:
            loop.refuse_system(pending.failures, failure, incident)
        else:
            loop.refuse(culprit, cause_of(failure), incident)

    def _judge_culprit(self, culprit: Member, incident: Incident | None) -> None:
        loop = self._loop
        verdict = loop.judge(culprit)
        if verdict is Verdict.ESCALATE:
            loop.conclude(culprit, verdict, incident)
        elif verdict is Verdict.DISCARD:
            self._bring_back(culprit)
            loop.conclude(culprit, verdict, None)

    def _bring_back(self, member: Member) -> None:
        """A newly declared key that failed was free again; keep in mind what became of it."""
        self._loop.members.declared.setdefault(member.key, member)


def _let_go(before: Before | None) -> None:
    if before is not None:
        before.let_go()


def _refuse(calls: list[Call], error: Exception) -> None:
    for call in calls:
        call.refuse(error)
    calls.clear()
