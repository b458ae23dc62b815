"""Which incident an event belongs to: the one whose trace holds the span of the same fact.

Kept only while there are subscribers. Whatever was begun before belongs to no incident, unless the
incident itself is at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from spry_py._kernel.facts import Incident

if TYPE_CHECKING:
    from spry_py._kernel.facts import AboutChild, AboutRun, AboutSystem, Cause
    from spry_py._spec.termination import TerminationReport


class Numbers:
    """The numbers of the incidents of one tree, and of what is under way in it."""

    __slots__ = ("_ends", "_last", "_starts", "_startups", "_teardowns")

    def __init__(self) -> None:
        self._last = 0
        # of ends by themselves that are still to be decided about
        self._ends: dict[AboutChild, int] = {}
        # what is under way, each until it is over
        self._starts: dict[object, int] = {}
        self._startups: dict[object, int] = {}
        self._teardowns: dict[AboutSystem, int] = {}

    def forget(self) -> None:
        """Nobody listens any more."""
        for table in (self._ends, self._starts, self._startups, self._teardowns):
            table.clear()

    # What there is

    def of(self, incident: Incident | None) -> int | None:
        """The number of an incident, which is given one if it has none; ``None`` if it is over."""
        if incident is None:
            return None
        if incident.number is None:
            incident.number = self._next()
        return incident.number or None

    def of_start(self, run: AboutRun) -> int | None:
        """Of a start under way."""
        return self._starts.get(run)

    def of_startup(self, startup: object) -> int | None:
        """Of a run of a system function."""
        return self._startups.get(startup)

    def of_stop(self, child: AboutChild) -> int | None:
        """Of a child that is being stopped."""
        return self._teardowns.get(child.loop) or self.of(child.loop.incident)

    def of_system(self, system: AboutSystem) -> int | None:
        """Of a supervisor that ends: its own, else that of those who stop it."""
        own = system.own
        number = self._teardowns.get(system) or self.of(system.incident) or self._starts.get(own)
        if number is None and own.burden != "none" and own.member is not None:
            return self._teardowns.get(own.member.loop)
        return number

    def _of_cause(self, part_of: Cause) -> int | None:
        for token in part_of:
            if isinstance(token, Incident):
                return self.of(token)
            number = self._startups.get(token) or self._starts.get(token)
            if number is not None:
                return number
        return None

    # What happens

    def ended(
        self, child: AboutChild, run: AboutRun, report: TerminationReport
    ) -> tuple[int | None, bool]:
        """A child that was up has ended by itself: the number, and whether an incident begins.

        None does if nothing went wrong: if it is not wanted again, and has not failed.
        """
        inner = child.inner
        below = inner.incident if inner is not None and inner.own is run else None
        if below is not None:
            number = self.of(below)
        elif report.failed or child.child.restart == "permanent":
            number = self._next()
        else:
            # an end that is none
            number = 0
        if number is not None:
            self._ends[child] = number
        return number or None, bool(number) and below is None

    def decided(self, child: AboutChild, incident: Incident, wanted: bool) -> None:
        """This is the incident that the end of a child has begun, or goes on with."""
        number = self._ends.pop(child, incident.number)
        report = child.last_report
        if number is None and not wanted and report is not None and not report.failed:
            number = 0
        incident.number = number

    def close(self, incident: Incident) -> int | None:
        """An incident is over: its number, if it is one."""
        number = self.of(incident)
        incident.number = 0
        return number

    def start_began(self, child: AboutChild, run: AboutRun, part_of: Cause) -> int | None:
        return _keep(self._starts, run, self._of_cause((*part_of, child.incident)))

    def start_ended(self, child: AboutChild, run: AboutRun) -> int | None:
        return self._starts.pop(run, None) or self.of(child.incident)

    def startup_began(self, startup: object, part_of: Cause) -> None:
        _keep(self._startups, startup, self._of_cause(part_of))

    def startup_ended(self, startup: object) -> None:
        self._startups.pop(startup, None)

    def teardown_began(self, system: AboutSystem, part_of: Cause) -> None:
        """Some of its children are stopped, as a part of one of these."""
        _keep(self._teardowns, system, self._of_cause(part_of))

    def system_ending(self, system: AboutSystem) -> None:
        """All of its children are stopped."""
        _keep(self._teardowns, system, self.of_system(system))

    def teardown_ended(self, system: AboutSystem) -> None:
        self._teardowns.pop(system, None)

    def _next(self) -> int:
        self._last += 1
        return self._last


K = TypeVar("K")


def _keep(table: dict[K, int], key: K, number: int | None) -> int | None:
    if number is not None:
        table.setdefault(key, number)
    return number
