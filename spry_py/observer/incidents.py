"""What went wrong in the trees, in the words of `spry-py incidents`, from events instead of spans.

Kept as text and numbers alone: no exception, and so no frame of anybody's code, outlives its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias

import trio

from spry_py import ChildNotFound, TerminationReport
from spry_py import events as facts
from spry_py.lowlevel import (
    STORY_ENDS,
    Raised,
    Step,
    Story,
    Tale,
    error_type,
    picture,
    story_as_json,
    summary_of,
)

from .cases import Case, CaseAttempt, CaseFailure
from .tree import SLICE, Json, shown
from .trees import Trees

# what fails of the same again so soon after its restart has not been cured by it, microseconds
_SOON: Final = 60 * 1_000_000
_MOST_SEEN: Final = 1_000
_WIDTH: Final = 96
# stories in one reply
_MOST_SHOWN: Final = 50
# incidents between two checkpoints: some 50 microseconds each, and more where much was done
_TOLD_AT_ONCE: Final = 16


def _live(text: str) -> str:
    """There are no spans here that could have ended too early."""
    return text.replace(" when the spans end", "")


_Note: TypeAlias = Callable[[Case, Any, str, int], None]


class Incidents:
    """The last incidents of all trees, oldest first."""

    def __init__(self, trees: Trees, most: int) -> None:
        self._trees = trees
        self._cases: deque[Case] = deque(maxlen=most)
        # those that are not closed, by tree and number
        self._open: dict[tuple[str, int], Case] = {}
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
            case = self._open[tree, number] = Case(number)
            self._keep(case)
        note(case, event, path, self._microseconds(event))
        if case.outcome != "open":
            del self._open[tree, number]

    def _microseconds(self, event: facts.Event) -> int:
        """Since 1970, by trio's clock: it never goes back."""
        if self._epoch is None:
            self._epoch = event.time - event.at
        return round((event.at + self._epoch) * 1e6)

    def _keep(self, case: Case) -> None:
        if len(self._cases) == self._cases.maxlen:
            oldest = self._cases[0]
            for key in [key for key, one in self._open.items() if one is oldest]:
                del self._open[key]
        self._cases.append(case)

    # What each event means

    def _terminated(self, case: Case, event: Any, path: str, at: int) -> None:
        report: TerminationReport = event.report
        is_first = not case.failures
        goes_on = is_first or (case.latest.gave_up and path == case.latest.system)
        if report.burden == "none" and goes_on:
            case.failures.append(self._failure(report, path, at))
        else:
            self._step(case, "stop", path, report, at)

    def _failure(self, report: TerminationReport, path: str, at: int) -> CaseFailure:
        failed = report.failed
        kind, restart, _ = self._about(path)
        system = path.rpartition("/")[0] or path
        return CaseFailure(
            path=path,
            system=system,
            strategy=self._about(system)[2],
            incarnation=report.incarnation,
            kind=kind,
            restart=restart,
            reason="failed" if failed else type(report.reason).__name__.lower(),
            lifetime=report.lifetime,
            began=at,
            ended=at,
            is_wanted=restart != "temporary",
            raised=_raised(report.exception) if failed else None,
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

    def _step(self, case: Case, what: Any, path: str, report: TerminationReport, at: int) -> None:
        stack = case.stacks.pop(path, None)
        is_late = path in case.overdue
        case.overdue.discard(path)
        step = Step(
            what=what,
            path=path,
            incarnation=report.incarnation,
            began=case.under_way.pop(path, at),
            ended=at,
            burden=report.burden,
            error=summary_of(report.exception) if report.failed else None,
            late="not finished in its time" if is_late else "",
            stacks=((path, stack),) if stack is not None else (),
        )
        case.latest.add(step, at)

    def _started(self, case: Case, event: Any, path: str, at: int) -> None:
        began = case.under_way.pop(path, at)
        step = Step("start", path, event.incarnation, began, at, "none", None, "", ())
        case.latest.add(step, at)

    def _start_failed(self, case: Case, event: Any, path: str, at: int) -> None:
        self._step(case, "start", path, event.report, at)
        if case.latest.attempts and not case.latest.gave_up:
            case.latest.attempts[-1].outcome = "failed"

    def _scheduled(self, case: Case, event: Any, path: str, at: int) -> None:
        failure = case.latest
        attempt = CaseAttempt(
            system=failure.system,
            strategy=failure.strategy,
            number=getattr(event, "attempt", len(failure.attempts) + 1),
            delay=getattr(event, "delay", 0.0),
            # until more is known
            outcome="refused" if isinstance(event, facts.RestartRefused) else "called off",
            began=at,
            ended=at,
            is_of_system=path == failure.system,
        )
        failure.attempt(attempt)

    def _escalated(self, case: Case, event: Any, path: str, at: int) -> None:
        case.latest.gave_up = True
        case.latest.ended = at

    def _closed(self, case: Case, event: Any, path: str, at: int) -> None:
        case.outcome = event.outcome
        failure = case.latest
        failure.ended = at
        if event.outcome == "cured" and failure.attempts:
            failure.attempts[-1].outcome = "cured"
            failure.attempts[-1].ended = at
        elif event.outcome == "dropped":
            failure.is_wanted = False

    def _begun(self, case: Case, event: Any, path: str, at: int) -> None:
        if isinstance(event, facts.ChildAborted) and path in case.under_way:
            case.overdue.add(path)
        case.under_way.setdefault(path, at)

    def _stuck(self, case: Case, event: Any, path: str, at: int) -> None:
        case.stacks[path] = event.stack

    # Telling

    async def stories(self) -> list[Json]:
        """The last, newest first, as they are sent; made in slices, however many there are.

        A child that keeps failing is one, as a person would count it.
        """
        return [await _story_of(cases) for cases in (await self._together())[:_MOST_SHOWN]]

    async def _together(self) -> list[list[Case]]:
        found: list[list[Case]] = []
        latest: dict[str, list[Case]] = {}
        async for case in _in_slices(list(self._cases), SLICE):
            before = latest.get(case.path)
            if before is not None and _goes_on(before[-1], case):
                before.append(case)
            else:
                found.append([case])
                latest[case.path] = found[-1]
        found.sort(key=lambda cases: cases[-1].began, reverse=True)
        return found


async def _in_slices(cases: list[Case], size: int) -> AsyncIterator[Case]:
    """The cases, with others running after each ``size`` of them."""
    for number, case in enumerate(cases, 1):
        yield case
        if number % size == 0:
            await trio.lowlevel.checkpoint()


async def _story_of(cases: list[Case]) -> Json:
    """The story of one child in sentences and as a picture, all of it plain text."""
    tale = Tale(is_alone=True)
    async for case in _in_slices(cases, _TOLD_AT_ONCE):
        tale.add(case.as_frozen())
    await trio.lowlevel.checkpoint()
    ends = cases if len(cases) <= 2 * STORY_ENDS else [*cases[:STORY_ENDS], *cases[-STORY_ENDS:]]
    incidents = tuple(case.as_frozen() for case in ends)
    return _described(Story(incidents, len(cases) - len(ends)), tale)


def _goes_on(before: Case, case: Case) -> bool:
    is_soon = before.outcome == "cured" and case.began - before.ended <= _SOON
    return is_soon and before.cause == case.cause


def _raised(exception: BaseException | None) -> Raised | None:
    if exception is None:
        return None
    # without the type, which `summary_of` puts before it
    name, _, text = summary_of(exception).partition(": ")
    return Raised(error_type(exception) or name, shown(text))


def _described(story: Story, tale: Tale) -> Json:
    sentences = [_live(shown(sentence, 2_000)) for sentence in tale.sentences(story)]
    return story_as_json(
        story, sentences, [_live(line.rstrip()) for line in picture(story, _WIDTH)]
    )
