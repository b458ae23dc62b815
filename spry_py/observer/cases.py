"""An incident as far as it has come, to be written on with each event; read as a frozen one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from spry_py.lowlevel import Attempt, Failure, Incident, Raised, Step

# of one restart, and of one failure
_MOST_STEPS: Final = 64
_MOST_ATTEMPTS: Final = 32


@dataclass(slots=True)
class CaseAttempt:
    """One restart, and what followed."""

    system: str
    strategy: str
    number: int
    delay: float
    outcome: Any
    began: int
    ended: int
    is_of_system: bool
    steps: list[Step] = field(default_factory=list[Step])

    def as_frozen(self) -> Attempt:
        """As it stands now."""
        return Attempt(
            system=self.system,
            strategy=self.strategy,
            number=self.number,
            delay=self.delay,
            outcome=self.outcome,
            began=self.began,
            ended=self.ended,
            steps=tuple(self.steps),
            is_of_system=self.is_of_system,
        )


@dataclass(slots=True)
class CaseFailure:
    """An end that something has to be done about, and what is done."""

    path: str
    system: str
    strategy: str
    incarnation: int
    kind: str
    restart: str
    reason: str
    lifetime: float | None
    began: int
    ended: int
    is_wanted: bool
    raised: Raised | None
    gave_up: bool = False
    attempts: list[CaseAttempt] = field(default_factory=list[CaseAttempt])
    stops: list[Step] = field(default_factory=list[Step])

    def add(self, step: Step, at: int) -> None:
        """Something was started or stopped on the way."""
        if self.gave_up:
            if len(self.stops) < _MOST_STEPS:
                self.stops.append(step)
                self.ended = at
        elif self.attempts:
            attempt = self.attempts[-1]
            if len(attempt.steps) < _MOST_STEPS:
                attempt.steps.append(step)
            attempt.ended = self.ended = at

    def attempt(self, attempt: CaseAttempt) -> None:
        """It is tried again. The first and the last of very many are kept."""
        if self.attempts and self.attempts[-1].outcome == "called off":
            self.attempts[-1].outcome = "failed"
        if len(self.attempts) >= _MOST_ATTEMPTS:
            del self.attempts[_MOST_ATTEMPTS // 2]
        self.attempts.append(attempt)
        self.ended = attempt.began

    def as_frozen(self) -> Failure:
        """As it stands now."""
        return Failure(
            path=self.path,
            system=self.system,
            incarnation=self.incarnation,
            kind=self.kind,
            restart=self.restart,
            reason=self.reason,
            lifetime=self.lifetime,
            began=self.began,
            ended=self.ended,
            is_wanted=self.is_wanted,
            raised=self.raised,
            attempts=tuple(attempt.as_frozen() for attempt in self.attempts),
            gave_up=self.gave_up,
            stops=tuple(self.stops),
            start=None,
        )


@dataclass(slots=True)
class Case:
    """One incident: the failures from the leaf upwards, each because the one before escalated."""

    number: int
    # never empty: the first event of a case is that of its first failure
    failures: list[CaseFailure] = field(default_factory=list[CaseFailure])
    outcome: Any = "open"
    # when what is under way was begun: starts, and stops
    under_way: dict[str, int] = field(default_factory=dict[str, int])
    stacks: dict[str, str] = field(default_factory=dict[str, str])
    overdue: set[str] = field(default_factory=set[str])

    @property
    def path(self) -> str:
        return self.failures[0].path

    @property
    def cause(self) -> str:
        """The type of what the first failure raised, or an empty text."""
        raised = self.failures[0].raised
        return raised.type if raised is not None else ""

    @property
    def began(self) -> int:
        return self.failures[0].began

    @property
    def ended(self) -> int:
        return max(failure.ended for failure in self.failures)

    @property
    def latest(self) -> CaseFailure:
        return self.failures[-1]

    def as_frozen(self) -> Incident:
        """As it stands now."""
        failures = tuple(failure.as_frozen() for failure in self.failures)
        return Incident(str(self.number), failures, self.outcome)
