"""What went wrong in the trees, told as `spry-py incidents` tells it, from events instead of spans.

Kept as text and numbers alone: no exception, and so no frame of anybody's code, outlives its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from spry_py import ChildNotFound, TerminationReport
from spry_py import events as facts
from spry_py.lowlevel import (
    Attempt,
    Failure,
    Incident,
    Raised,
    Step,
    Story,
    error_type,
    picture,
    sentences,
    tell,
)

from .tree import Json, shown
from .trees import Trees

# what fails again so soon after its restart has not been cured by it, microseconds
_SOON: Final = 60 * 1_000_000
# of one restart, and of one failure
_MOST_STEPS: Final = 64
_MOST_ATTEMPTS: Final = 32
_MOST_SEEN: Final = 1_000
_WIDTH: Final = 96
# stories in one reply
MOST_TOLD: Final = 50


@dataclass
class _Case:
    """An incident as far as it has come."""

    number: int
    failures: list[Failure]
    outcome: Any = "open"
    # when what is under way was begun: starts, and stops
    began: dict[str, int] = field(default_factory=dict[str, int])
    stacks: dict[str, str] = field(default_factory=dict[str, str])
    overdue: set[str] = field(default_factory=set[str])


def _live(text: str) -> str:
    """There are no spans here that could have ended too early."""
    return text.replace(" when the spans end", "")


_Note: TypeAlias = Callable[[_Case, Any, str, int], None]


class Incidents:
    """The last incidents of all trees, oldest first."""

    def __init__(self, trees: Trees, most: int) -> None:
        self._trees = trees
        self._cases: deque[_Case] = deque(maxlen=most)
        # those that are not closed, by tree and number
        self._open: dict[tuple[str, int], _Case] = {}
        self._notes: dict[type[facts.Event], _Note] = {
            facts.ChildTerminated: self._terminated,
            facts.ChildStarting: self._begun,
            facts.ChildStarted: self._started,
            facts.ChildStartFailed: self._start_failed,
            facts.ChildSettling: self._begun,
            facts.ChildAborted: self._begun,
            facts.ChildStuck: self._stuck,
            facts.RestartScheduled: self._scheduled,
            facts.RestartRefused: self._scheduled,
            facts.Escalated: self._escalated,
            facts.IncidentClosed: self._closed,
        }
        # kind, restart type and strategy by path: to look them up costs more than all the rest
        self._seen: dict[str, tuple[str, str, str]] = {}
        # what the wall clock was when trio's was 0
        self._epoch: float | None = None

    def note(self, event: facts.Event, path: str, tree: str) -> None:
        """Take an event to the incident that it belongs to, if to any."""
        if isinstance(event, facts.SystemStarted):
            # it may declare something else than before
            self._seen.clear()
        number = event.incident
        note = self._notes.get(type(event))
        if number is None or note is None:
            return
        case = self._open.get((tree, number))
        if case is None:
            if not isinstance(event, facts.ChildTerminated) or event.report.burden != "none":
                return  # it began before there was anyone to see it
            case = self._open[tree, number] = _Case(number, [])
            self._keep(case)
        note(case, event, path, self._microseconds(event))
        if case.outcome != "open":
            del self._open[tree, number]

    def _microseconds(self, event: facts.Event) -> int:
        """Since 1970, by trio's clock: it never goes back."""
        if self._epoch is None:
            self._epoch = event.time - event.at
        return round((event.at + self._epoch) * 1e6)

    def _keep(self, case: _Case) -> None:
        if len(self._cases) == self._cases.maxlen:
            oldest = self._cases[0]
            for key in [key for key, one in self._open.items() if one is oldest]:
                del self._open[key]
        self._cases.append(case)

    # What each event says

    def _terminated(self, case: _Case, event: Any, path: str, at: int) -> None:
        report: TerminationReport = event.report
        last = case.failures[-1] if case.failures else None
        goes_on = last is not None and last.gave_up and path == last.system
        if report.burden == "none" and (last is None or goes_on):
            case.failures.append(self._failure(report, path, at))
        else:
            self._step(case, "stop", path, report, at)

    def _failure(self, report: TerminationReport, path: str, at: int) -> Failure:
        failed = report.failed
        kind, restart, _ = self._about(path)
        return Failure(
            path=path,
            system=path.rpartition("/")[0] or path,
            incarnation=report.incarnation,
            kind=kind,
            restart=restart,
            reason="failed" if failed else type(report.reason).__name__.lower(),
            lifetime=report.lifetime,
            began=at,
            ended=at,
            is_wanted=restart != "temporary",
            raised=_raised(report.exception) if failed else None,
            attempts=(),
            gave_up=False,
            stops=(),
            start=None,
        )

    def _about(self, path: str) -> tuple[str, str, str]:
        """Kind, restart type and strategy of a path."""
        found = self._seen.get(path)
        if found is None:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            found = self._seen[path] = self._look_up(path)
        return found

    def _look_up(self, path: str) -> tuple[str, str, str]:
        try:
            info = self._trees.find(path).info()
        except ChildNotFound:
            return "", "temporary", ""  # it is known no more
        return info.kind, info.restart, str(getattr(info.child.start, "strategy", "one_for_one"))

    def _step(
        self, case: _Case, what: Any, path: str, report: TerminationReport | None, at: int
    ) -> None:
        error = tell(report.exception) if report is not None and report.failed else None
        stack = case.stacks.pop(path, None)
        is_late = path in case.overdue
        case.overdue.discard(path)
        step = Step(
            what=what,
            path=path,
            incarnation=report.incarnation if report is not None else 1,
            began=case.began.pop(path, at),
            ended=at,
            burden=report.burden if report is not None else "none",
            error=error,
            late="not finished in its time" if is_late else "",
            stacks=((path, stack),) if stack is not None else (),
        )
        self._add(case, step, at)

    def _add(self, case: _Case, step: Step, at: int) -> None:
        if not case.failures:
            return
        failure = case.failures[-1]
        if failure.gave_up:
            if len(failure.stops) < _MOST_STEPS:
                case.failures[-1] = replace(failure, stops=(*failure.stops, step), ended=at)
        elif failure.attempts:
            attempt = failure.attempts[-1]
            if len(attempt.steps) < _MOST_STEPS:
                attempt = replace(attempt, steps=(*attempt.steps, step))
            self._set_attempt(case, replace(attempt, ended=at))

    def _set_attempt(self, case: _Case, attempt: Attempt) -> None:
        failure = case.failures[-1]
        attempts = (*failure.attempts[:-1], attempt)
        case.failures[-1] = replace(failure, attempts=attempts, ended=attempt.ended)

    def _started(self, case: _Case, event: Any, path: str, at: int) -> None:
        step = Step(
            "start", path, event.incarnation, case.began.pop(path, at), at, "none", None, "", ()
        )
        self._add(case, step, at)

    def _start_failed(self, case: _Case, event: Any, path: str, at: int) -> None:
        self._step(case, "start", path, event.report, at)
        failure = case.failures[-1] if case.failures else None
        if failure is not None and failure.attempts and not failure.gave_up:
            self._set_attempt(case, replace(failure.attempts[-1], outcome="failed"))

    def _scheduled(self, case: _Case, event: Any, path: str, at: int) -> None:
        if not case.failures:
            return
        failure = case.failures[-1]
        attempts = failure.attempts
        if attempts and attempts[-1].outcome == "called off":
            attempts = (*attempts[:-1], replace(attempts[-1], outcome="failed"))
        refused = isinstance(event, facts.RestartRefused)
        new = Attempt(
            system=failure.system,
            strategy=self._about(failure.system)[2],
            number=getattr(event, "attempt", len(attempts) + 1),
            delay=getattr(event, "delay", 0.0),
            # until more is known
            outcome="refused" if refused else "called off",
            began=at,
            ended=at,
            steps=(),
            is_of_system=path == failure.system,
        )
        # the first and the last of very many
        half = _MOST_ATTEMPTS // 2
        kept = (*attempts[:half], *attempts[half:][-half:])
        case.failures[-1] = replace(failure, attempts=(*kept, new), ended=at)

    def _escalated(self, case: _Case, event: Any, path: str, at: int) -> None:
        if case.failures:
            case.failures[-1] = replace(case.failures[-1], gave_up=True, ended=at)

    def _closed(self, case: _Case, event: Any, path: str, at: int) -> None:
        case.outcome = event.outcome
        failure = case.failures[-1]
        case.failures[-1] = replace(failure, ended=at)
        if event.outcome == "cured" and failure.attempts:
            self._set_attempt(case, replace(failure.attempts[-1], outcome="cured", ended=at))
        elif event.outcome == "dropped":
            case.failures[-1] = replace(failure, ended=at, is_wanted=False)

    def _begun(self, case: _Case, event: Any, path: str, at: int) -> None:
        if isinstance(event, facts.ChildAborted) and path in case.began:
            case.overdue.add(path)
        case.began.setdefault(path, at)

    def _stuck(self, case: _Case, event: Any, path: str, at: int) -> None:
        case.stacks[path] = event.stack

    # Telling

    def stories(self) -> list[Story]:
        """Newest first. A child that keeps failing is one story, as a person would tell it."""
        told: list[list[Incident]] = []
        latest: dict[str, list[Incident]] = {}
        for case in self._cases:
            incident = Incident(str(case.number), tuple(case.failures), case.outcome)
            before = latest.get(incident.leaf.path)
            if before is not None and _goes_on(before[-1], incident):
                before.append(incident)
            else:
                told.append([incident])
                latest[incident.leaf.path] = told[-1]
        told.sort(key=lambda story: story[-1].began, reverse=True)
        return [Story(tuple(story)) for story in told]


def _goes_on(before: Incident, incident: Incident) -> bool:
    return before.outcome == "cured" and incident.began - before.ended <= _SOON


def _raised(exception: BaseException | None) -> Raised | None:
    if exception is None:
        return None
    # without the type, which `tell` puts before it
    name, _, text = tell(exception).partition(": ")
    return Raised(error_type(exception) or name, shown(text))


def story_as_json(story: Story) -> Json:
    """A story in sentences and as a picture, all of it plain text."""
    return {
        "path": story.incidents[0].leaf.path,
        "incidents": len(story.incidents),
        "outcome": story.last.outcome,
        "began": story.began / 1e6,
        "ended": story.last.ended / 1e6,
        "sentences": [_live(shown(sentence, 2_000)) for sentence in sentences(story)],
        "picture": [_live(line.rstrip()) for line in picture(story, _WIDTH)],
    }
