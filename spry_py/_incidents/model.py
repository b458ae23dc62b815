"""What an incident is: frozen values, made of the spans of its trace. Pure.

An incident is a trace with a ``spry.term`` in it: from the first failure, up the chain of
supervisors that gave up, to the restart that cured it. Spans may come in any order, and any of
them may be missing; a restart without its ``spry.term`` is an incident that is still open. Times
are microseconds since 1970.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from .reading import Raised, Span, SpanId, SpanIndex, is_step

Tried: TypeAlias = Literal["cured", "failed", "refused", "called off"]
"""How an attempt to restart ended; called off when the supervisor was stopped meanwhile."""

Outcome: TypeAlias = Literal["cured", "joined", "dropped", "stopped", "ended", "open"]
"""Cured by a restart of its own or by another incident's, not restarted, stopped on the way, the
end of the whole tree, or without an end in these spans."""

SOON: Final = 60 * 1_000_000
"""A child that fails again so soon after its restart, of the same, has not been cured by it."""

STORY_ENDS: Final = 4
"""So many incidents of each end of a story are needed to draw it, but for a whole picture."""

_EXITS: Final = ("KeyboardInterrupt", "SystemExit")
# All that these can be; what is none of it has been cut by a limit on its length, and is unknown.
_KINDS: Final = ("worker", "supervisor", "thread", "process", "remote")
_RESTARTS: Final = ("permanent", "transient", "temporary")
_REASONS: Final = ("normal", "aborted", "failed")
_BURDENS: Final = ("none", "settling", "aborted")
_STRATEGIES: Final = ("one_for_one", "rest_for_one", "one_for_all")
_REFUSAL: Final = re.compile(r"the breaker refused to restart '(.+)'")
_REFUSED_SYSTEM: Final = "the breaker refused to run the system function of "
_OVERDUE: Final = re.compile(r"did not finish within its ([\d.e+]+) s")


@dataclass(frozen=True, slots=True)
class Step:
    """A child started or stopped on the way; ``late`` has a text if it outlived its time."""

    what: Literal["start", "stop"]
    path: str
    incarnation: int
    began: int
    ended: int
    burden: str
    error: str | None
    late: str
    stacks: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Whether the breaker allowed one restart, and what followed. ``delay`` is in seconds."""

    system: str
    strategy: str
    number: int
    delay: float
    outcome: Tried
    began: int
    ended: int
    steps: tuple[Step, ...]
    is_of_system: bool = False
    """Whether the breaker refused to run the system function once more, and not a child."""
    problem: str = ""
    """What the system function failed with, if it was that and no child that failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An end that something had to be done about. ``lifetime`` is in seconds.

    ``path`` is empty, and ``is_known`` false, for one whose own span is not there. What its span
    lacks is empty or ``None``.
    """

    path: str
    system: str
    incarnation: int
    kind: str
    restart: str
    reason: str
    lifetime: float | None
    began: int
    ended: int
    is_wanted: bool | None
    raised: Raised | None
    attempts: tuple[Attempt, ...]
    gave_up: bool
    stops: tuple[Step, ...]
    """What was stopped when its supervisor gave up."""
    start: SpanId | None
    was_ending: bool = False
    """Whether its supervisor was being stopped before anything else was done about it."""
    is_known: bool = True
    is_reload: bool = False
    """Whether no child had ended: a reload by call had failed, after it had changed something."""

    @property
    def is_refused(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].outcome == "refused"

    @property
    def is_exit(self) -> bool:
        """Whether it asked the whole program to end."""
        return self.raised is not None and self.raised.type in _EXITS


@dataclass(frozen=True, slots=True)
class Incident:
    """One trace: the failures from the leaf upwards, each because the one before escalated."""

    trace: str
    failures: tuple[Failure, ...]
    outcome: Outcome

    @property
    def leaf(self) -> Failure:
        return self.failures[0]

    @property
    def began(self) -> int:
        return self.leaf.began

    @property
    def ended(self) -> int:
        return max(failure.ended for failure in self.failures)

    @property
    def is_ordinary(self) -> bool:
        """Whether nothing went wrong: a child that needed no restart was through with its work."""
        leaf = self.leaf
        return leaf.is_known and leaf.is_wanted is False and leaf.reason in ("normal", "aborted")


@dataclass(frozen=True, slots=True)
class Story:
    """Incidents that belong together: a child that keeps failing, or several at once.

    Of very many the first `STORY_ENDS` and the last are enough, with the number ``between`` them.
    """

    incidents: tuple[Incident, ...]
    between: int = 0

    @property
    def count(self) -> int:
        """How many there are, with those that are not here."""
        return len(self.incidents) + self.between

    @property
    def began(self) -> int:
        return self.incidents[0].began

    @property
    def last(self) -> Incident:
        """The incident that the story ends with."""
        own = [incident for incident in self.incidents if incident.outcome != "joined"]
        return max(own or self.incidents, key=lambda incident: incident.ended)


# From spans to incidents


def _incidents(index: SpanIndex) -> list[Incident]:
    """One for each trace that holds one, in order of time."""
    chains = ((trace, tuple(_chain(index, trace))) for trace in index.traces)
    found = [_incident(index, trace, chain) for trace, chain in chains if chain]
    return sorted(found, key=lambda incident: (incident.began, incident.leaf.path))


def _incident(index: SpanIndex, trace: str, chain: tuple[Failure, ...]) -> Incident:
    return Incident(trace, chain, _outcome(index, chain[-1]))


def _chain(index: SpanIndex, trace: str) -> Iterator[Failure]:
    """The failures of a trace from the leaf upwards, which is the order in which they began."""
    spans = index.traces[trace]
    below = ""
    for span in (span for span in spans if span.name == "spry.term"):
        failure = _failure(index, span)
        below = failure.system if failure.gave_up else ""
        yield failure
    tried = [span for span in spans if span.name == "spry.try_restart" and _is_first(index, span)]
    loose = [span for span in spans if is_step(span) and index.is_loose(span)]
    is_alone = all(span.name != "spry.term" for span in spans)
    if tried or (is_alone and any("restart_of" in span.links for span in loose)):
        yield _unknown(index, tried, loose, below)


def _is_first(index: SpanIndex, tried: Span) -> bool:
    """Whether it stands for what it was about: below a span that is not there, or of a reload.

    No end of a child has begun a reload. A supervisor that gives up after one has a ``spry.term``
    of its own, but for a root.
    """
    if tried.parent is not None:
        return index.is_loose(tried)
    return not _is_refusal(tried) or "/" not in tried.system


def _failure(index: SpanIndex, term: Span) -> Failure:
    tried = index.below(term.id, "spry.try_restart")
    attempts = tuple(_attempt(index, span, term.system) for span in tried)
    teardowns = index.below(term.id, "spry.teardown")
    return Failure(
        path=term.path,
        system=term.system,
        incarnation=term.count("spry.child.incarnation"),
        kind=term.one_of("spry.child.kind", _KINDS),
        restart=term.one_of("spry.restart.type", _RESTARTS),
        reason=_reason(term),
        lifetime=term.seconds("spry.child.lifetime"),
        began=term.began,
        ended=term.ended,
        is_wanted=_is_wanted(term),
        raised=_raised(term),
        attempts=attempts,
        gave_up=bool(teardowns) or (bool(attempts) and attempts[-1].outcome == "refused"),
        stops=_steps(index, teardowns),
        start=term.links.get("terminates"),
        was_ending=index.is_torn_down(term),
    )


def _is_wanted(term: Span) -> bool | None:
    is_temporary = term.text("spry.restart.type") == "temporary"
    return False if is_temporary else term.truth("spry.restart.wanted")


def _reason(term: Span) -> str:
    """How the child ended; a failure shows by its status as well."""
    known = term.one_of("spry.termination.reason", _REASONS)
    return known or ("failed" if term.error is not None or term.raised is not None else "")


def _raised(term: Span) -> Raised | None:
    """What it raised; out of the status, if the exception was recorded as a log record alone."""
    if term.raised is not None or term.error is None:
        return term.raised
    name, _, text = term.error.partition(": ")
    return Raised(term.text("error.type") or name, text)


def _unknown(index: SpanIndex, tried: list[Span], loose: list[Span], below: str) -> Failure:
    """A failure whose own span has not ended yet, or was lost."""
    attempts = [_attempt(index, span, span.system) for span in tried]
    teardowns = [span for span in loose if span.name == "spry.teardown"]
    gave_up = bool(attempts) and attempts[-1].outcome == "refused"
    rest = [span for span in loose if not (gave_up and span in teardowns)]
    if rest:
        attempts.append(_open_attempt(index, rest))
    path = below or _refused(tried) or _restarted(attempts)
    spans = [*tried, *loose]
    first = spans[0]
    return Failure(
        path=path,
        system=path.rpartition("/")[0] if path else first.system,
        incarnation=0,
        kind="supervisor" if below else "",
        restart="",
        reason="",
        lifetime=None,
        began=min(span.began for span in spans),
        ended=max(span.ended for span in spans),
        is_wanted=True,
        raised=None,
        attempts=tuple(attempts),
        gave_up=gave_up,
        stops=_steps(index, teardowns) if gave_up else (),
        start=None,
        is_known=False,
        is_reload=not below and any(span.parent is None for span in tried),
    )


def _open_attempt(index: SpanIndex, loose: list[Span]) -> Attempt:
    """A restart that was still going on: only what had been done by then is there."""
    began, ended = min(span.began for span in loose), max(span.ended for span in loose)
    system = loose[0].system
    return Attempt(system, "", 0, 0.0, "called off", began, ended, _steps(index, loose))


def _refused(tried: Iterable[Span]) -> str:
    """The child that the breaker refused to restart, which stands in the status alone."""
    found = (_REFUSAL.fullmatch(span.error or "") for span in tried)
    return next((match[1] for match in found if match is not None), "")


def _restarted(attempts: Iterable[Attempt]) -> str:
    """The child that these attempts were for, as far as their spans show it."""
    starts = [step for one in attempts for step in one.steps if step.what == "start"]
    alone = [one for one in attempts if one.strategy == "one_for_one"]
    likely = [step for step in starts if step.error is not None] or (starts if alone else [])
    return likely[0].path if likely else ""


def _attempt(index: SpanIndex, span: Span, system: str) -> Attempt:
    steps = _steps(index, [span])
    return Attempt(
        system=system,
        strategy=span.one_of("spry.restart.strategy", _STRATEGIES),
        number=span.count("spry.restart.attempt"),
        delay=span.number("spry.restart.delay"),
        outcome=_tried(index, span, steps),
        began=span.began,
        ended=span.ended,
        steps=steps,
        is_of_system=(span.error or "").startswith(_REFUSED_SYSTEM),
        problem=_problem(span.error or "", system, steps),
    )


def _problem(error: str, system: str, steps: Iterable[Step]) -> str:
    """What went wrong in the system function itself, out of what an attempt failed with."""
    own = f"NonChildFailure: the system function of {system!r} failed: "
    if error.startswith(own):
        return error.removeprefix(own)
    # said of a child that is a system in the same words: then the start of that has failed
    is_alone = all(step.error is None for step in steps if step.what == "start")
    return error if is_alone and error.startswith("ReusedKey: ") else ""


def _tried(index: SpanIndex, span: Span, steps: Iterable[Step]) -> Tried:
    if _is_refusal(span):
        return "refused"
    if span.error is not None:
        return "failed"
    has_started = any(step.what == "start" and step.error is None for step in steps)
    return "cured" if has_started and not index.is_torn_down(span) else "called off"


def _is_refusal(span: Span) -> bool:
    allowed = span.truth("spry.restart.allowed")
    if allowed is None:
        return span.error is not None and span.error.startswith("the breaker refused")
    return not allowed


def _steps(index: SpanIndex, roots: Iterable[Span]) -> tuple[Step, ...]:
    found = {span.id: span for span in index.everything_below(roots)}
    return tuple(_step(index, span) for span in found.values() if span.name in _STEPS)


_STEPS: Final[dict[str, Literal["start", "stop"]]] = {
    "spry.child.start": "start",
    "spry.wait_for_termination": "stop",
}


def _step(index: SpanIndex, span: Span) -> Step:
    return Step(
        what=_STEPS[span.name],
        path=span.path,
        incarnation=span.count("spry.child.incarnation"),
        began=span.began,
        ended=span.ended,
        burden=span.one_of("spry.termination.burden", _BURDENS),
        error=span.error,
        late=_late(index, span),
        stacks=span.stacks,
    )


def _late(index: SpanIndex, span: Span) -> str:
    """How a child was late, or an empty text.

    Its own span has no error for that, only the teardown above it: its time shows which it was.
    """
    if span.stacks:
        return ""  # the stack that it sat on is shown instead
    above = index.parent(span)
    limit = _OVERDUE.search(above.error or "") if above is not None else None
    if limit is None or span.text("spry.termination.burden") != "aborted":
        return ""
    seconds = (span.ended - span.began) / 1e6
    return f"not done within {limit[1]} s" if seconds >= float(limit[1]) else ""


def _outcome(index: SpanIndex, last: Failure) -> Outcome:
    if last.gave_up:
        if "/" not in last.system:
            return "ended"
        return "stopped" if index.is_awaited(last.system, last.began, last.ended) else "open"
    if last.attempts and last.attempts[-1].outcome == "cured":
        return "cured"
    if not last.is_known:
        return "open"
    if last.is_exit:
        return "ended"
    if last.is_wanted is None and not (last.attempts or last.was_ending):
        return "open"
    return "dropped" if last.is_wanted is False and not last.was_ending else "stopped"


# From incidents to stories


def stories_of(spans: Sequence[Span]) -> list[Story]:
    """What went wrong, in order of time; ordinary ends are left out."""
    index = SpanIndex(spans)
    incidents = {one.trace: one for one in _incidents(index) if not one.is_ordinary}
    groups = _Groups(incidents)
    for incident in list(incidents.values()):
        cure = _cured_elsewhere(index, incident, incidents)
        if cure is not None:
            incidents[incident.trace] = replace(incident, outcome="joined")
            groups.join(incident.trace, cure.trace)
        before = _before(index, incident, incidents)
        if before is not None:
            groups.join(incident.trace, before.trace)
    return [Story(tuple(incidents[trace] for trace in group)) for group in groups.all()]


def _before(index: SpanIndex, incident: Incident, others: dict[str, Incident]) -> Incident | None:
    """The incident whose restart of this very child did not last."""
    start = index.by_id.get(incident.leaf.start) if incident.leaf.start is not None else None
    if start is None or start.id[0] == incident.trace:
        return None
    other = others.get(start.id[0])
    is_same = other is not None and other.leaf.path == incident.leaf.path
    is_alike = is_same and _type_of(other) == _type_of(incident)
    return other if is_alike and incident.began - start.ended <= SOON else None


def _type_of(incident: Incident | None) -> str:
    """The type of what it began with; two of them in a row are two causes, and two stories."""
    raised = incident.leaf.raised if incident is not None else None
    return raised.type if raised is not None else ""


def _cured_elsewhere(
    index: SpanIndex, incident: Incident, others: dict[str, Incident]
) -> Incident | None:
    """The incident whose restart brought this child back too, when several went down at once."""
    top = incident.failures[-1]
    if incident.outcome != "stopped" or top.start is None:
        return None
    again = index.successors.get(top.start)
    other = others.get(again.id[0]) if again is not None else None
    return other if other is not incident else None


class _Groups:
    """Which traces belong together; kept in the order in which they are given."""

    def __init__(self, traces: Iterable[str]) -> None:
        self._above = {trace: trace for trace in traces}

    def join(self, one: str, other: str) -> None:
        self._above[self._top(one)] = self._top(other)

    def all(self) -> list[list[str]]:
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for trace in self._above:
            groups[self._top(trace)].append(trace)
        return list(groups.values())

    def _top(self, trace: str) -> str:
        while self._above[trace] != trace:
            self._above[trace] = trace = self._above[self._above[trace]]
        return trace
