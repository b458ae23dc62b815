"""What a supervisor does about an end when each child is restarted alone: begin, and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from spry_py._policy.restart import Verdict

from .messages import Again, Due
from .phases import Phase

if TYPE_CHECKING:
    from .calls import Call
    from .facts import Incident
    from .loop import Loop
    from .member import Member


class OneForOne:
    """Each child is restarted alone."""

    __slots__ = ("_loop",)

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def decide(self, member: Member) -> None:
        """Act on the end of a child, or on a restart that has failed to start it."""
        loop = self._loop
        if not loop.is_undecided(member):
            return
        report = member.last_report
        assert report is not None
        was_started = report.started_at is not None
        if not was_started:
            if member.was_ignored:
                loop.teller.incident_closed(member.incident, "dropped")
                member.incident = None
                loop.leave_out(member)
                return
            before = member.incident
            member.incident = loop.attempt_failed(before, report.path, report.exception)
        verdict = loop.judge(member)
        incident = loop.terminated(member, verdict) if was_started else member.incident
        assert incident is not None
        if verdict is Verdict.RESTART:
            self._restart(member, incident, at_once=was_started)
        else:
            loop.conclude(member, verdict, incident)

    def _restart(self, member: Member, incident: Incident, at_once: bool) -> None:
        loop = self._loop
        member.move(Phase.RESTARTING)
        member.incident = incident
        report = member.last_report
        assert report is not None
        now = trio.current_time()
        delay = member.next_delay()
        if not loop.may_restart(member, incident, delay):
            loop.refuse(member, report.exception, incident)
        elif delay > 0:
            due = now + delay
            loop.waits[member] = loop.tree.alarm.at(due, lambda: loop.post(Due(member)))
        elif at_once:
            loop.begin(member)
        else:
            loop.post(Again(member))

    def due(self, member: Member) -> None:
        """The wait is over, unless it was given up."""
        if self._loop.waits.pop(member, None) is not None:
            self._loop.begin(member)

    def again(self, member: Member) -> None:
        """Try a restart again that has failed."""
        # a replay may have started it meanwhile, and that one may have ended
        if member.phase is Phase.RESTARTING:
            self._loop.begin(member)

    async def restart_by_hand(self, member: Member, calls: list[Call]) -> None:
        """A caller has it restarted, now; the call returns as soon as that has begun."""
        self._loop.shut(member)
        member.move(Phase.RESTARTING)
        member.remember().by_hand += 1
        self._loop.begin(member, (calls[0],))
        for call in calls:
            call.give()
