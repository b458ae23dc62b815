"""A story in sentences, for a person, and all of them on one page."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from .model import Attempt, Failure, Incident, Outcome, Step, Story
from .reading import EPOCH, Raised
from .rows import brief, duration, key_of, printable, what_raised
from .timeline import columns_of, fit, picture

_MOST_NAMES: Final = 4
_MOST_DEEDS: Final = 8
_MOST_LINES: Final = 8
_FRAME: Final = re.compile(r'File ".*?([^/\\"]*)", line (\d+), in (\w+)')


class _Deed(NamedTuple):
    """What a supervisor did about a failure, as a text that is equal if it is done again."""

    text: str
    delay: float = 0.0
    detail: str = ""


# The page


def page(stories: Sequence[Story], spans: int, width: int, whole: bool = False) -> Iterator[str]:
    """All stories, each with its sentences, its picture and its exception, and a last line."""
    for number, story in enumerate(stories, 1):
        yield _heading(number, story, width)
        yield ""
        text = " ".join(sentences(story))
        yield from textwrap.wrap(text, width - 2, initial_indent="  ", subsequent_indent="  ")
        yield ""
        yield from picture(story, width, whole)
        yield ""
        for traceback in _tracebacks(story, whole):
            yield from (f"  {line}".rstrip() for line in traceback)
            yield ""
    yield _summary(stories, spans)


def _heading(number: int, story: Story, width: int) -> str:
    moment = EPOCH + timedelta(microseconds=story.began)
    right = f" {moment:%Y-%m-%d %H:%M:%S} UTC ━━"
    left = f"━━ {number} ━━ {printable(_name(story.incidents[0].leaf))}"
    left = fit(left, width - len(right) - 4).rstrip() + " "
    return left + "━" * (width - columns_of(left) - len(right)) + right


def _name(failure: Failure) -> str:
    return failure.path or failure.system


def _summary(stories: Sequence[Story], spans: int) -> str:
    if not stories:
        return f"no incidents in {_count(spans, 'span')}"
    incidents = [incident for story in stories for incident in story.incidents]
    ends = Counter(_ENDS[incident.outcome] for incident in incidents)
    counts = ", ".join(f"{ends[end]} {end}" for end in dict.fromkeys(_ENDS.values()) if ends[end])
    shown = f", shown as {len(stories)}," if len(stories) < len(incidents) else ""
    return f"{_count(len(incidents), 'incident')}{shown} in {_count(spans, 'span')}: {counts}"


_ENDS: Final[dict[Outcome, str]] = {
    "cured": "healthy again",
    "joined": "healthy again",
    "dropped": "not restarted",
    "stopped": "stopped meanwhile",
    "ended": "ended the tree",
    "open": "still open",
}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# The exception


def _tracebacks(story: Story, whole: bool) -> Iterator[list[str]]:
    """Where the first exception came from; if ``whole``, the traceback of each kind."""
    kinds: dict[tuple[str, str], Raised] = {}
    for raised in (incident.leaf.raised for incident in story.incidents):
        if raised is not None:
            kinds.setdefault((raised.type, raised.message), raised)
    for raised in list(kinds.values())[: None if whole else 1]:
        yield _traceback(raised, whole)


def _traceback(raised: Raised, whole: bool) -> list[str]:
    lines = raised.stacktrace.rstrip().splitlines() or [what_raised(raised, 500)]
    if not whole:
        frames = [at for at, line in enumerate(lines) if 'File "' in line]
        lines = lines[frames[-1] if frames else 0 :][:_MOST_LINES]
    return [printable(line.replace("\t", "    ")) for line in lines]


# What failed


def story_as_json(story: Story, sentences: list[str], drawn: list[str]) -> dict[str, object]:
    """The story for programs, with its sentences and its picture; times in epoch seconds."""
    last = story.last
    return {
        "path": last.leaf.path,
        "incidents": story.count,
        "outcome": last.outcome,
        "began": story.began / 1e6,
        "ended": last.ended / 1e6,
        "sentences": sentences,
        "picture": drawn,
    }


def sentences(story: Story) -> Iterator[str]:
    """What failed, how often, what was done about it, how far it went, and how it ended."""
    tale = Tale(len({incident.leaf.path for incident in story.incidents}) == 1)
    for incident in story.incidents:
        tale.add(incident)
    yield from tale.sentences(story)


class Tale:
    """What is to be said of the incidents of a story, taken one by one.

    Each costs the same, and what is kept does not grow with their number: a child may fail a
    hundred thousand times. ``is_alone``: all of them are of one child.
    """

    def __init__(self, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._failed: dict[str, _Failures] = {}
        self._done = _Deeds()

    def add(self, incident: Incident) -> None:
        """Take one more incident, later than those before."""
        leaf = incident.leaf
        self._failed.setdefault(leaf.path, _Failures(leaf)).add(incident)
        for deed in _deeds(incident, self._is_alone):
            self._done.add(deed)

    def sentences(self, story: Story) -> Iterator[str]:
        """All that is to be said of the story that these incidents are."""
        for failures in self._failed.values():
            yield failures.sentence()
        yield from self._done.sentences()
        yield _ended(story)


class _Failures:
    """How often a child has failed, and why."""

    def __init__(self, unknown: Failure) -> None:
        self._unknown = unknown
        self._first: Failure | None = None
        self._last = unknown
        self._count = 0
        # microseconds: how long it was down, and until when
        self._down = self._until = 0
        self._reasons: Counter[str] = Counter()

    def add(self, incident: Incident) -> None:
        failure = incident.leaf
        if not failure.is_known:
            return
        self._down += max(0, incident.ended - max(incident.began, self._until))
        self._until = max(incident.ended, self._until)
        self._first = self._first or failure
        self._last = failure
        self._count += 1
        if failure.raised is not None:
            self._reasons[what_raised(failure.raised, 200)] += 1

    def sentence(self) -> str:
        first = self._first
        if first is None:
            return _unknown(self._unknown)
        what = " ".join(filter(None, [first.restart, first.kind or "child"]))
        verb = _VERBS.get(first.reason, "ended")
        who = f"{printable(first.path)}, a {printable(what)}, {verb}"
        if self._count == 1:
            why = f" with {what_raised(first.raised, 200)}" if first.raised is not None else ""
            after = f" after {duration(first.lifetime)}" if first.lifetime is not None else ""
            return f"{who}{after}{why}."
        took = duration((self._last.began - first.began) / 1e6)
        down = f"{self._count} incidents, down for {duration(self._down / 1e6)} in all"
        return f"{who} {_times(self._count)} in {took} ({down}){self._why()}."

    def _why(self) -> str:
        counts = self._reasons.most_common()
        if len(counts) == 1:
            return f", each time with {counts[0][0]}"
        texts = [f"{text} ({_times(number)})" for text, number in counts]
        return f", with {_listed(texts)}" if texts else ""


_VERBS: Final = {"failed": "failed", "normal": "ended by itself", "aborted": "ended by itself"}


def _unknown(failure: Failure) -> str:
    if failure.is_reload:
        return f"A restart of {printable(failure.system)} that a caller asked for failed half-way."
    who = printable(failure.path) or f"A child of {printable(failure.system)}"
    return f"{who} failed; its own span, which is written when all is over, is missing."


# What was done about it


class _Run:
    """Deeds with the same text, and what they differ in."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._count = 0
        # the first, the shortest and the longest wait, seconds
        self._waits: list[float] = []
        self._shortest, self._longest = math.inf, 0.0
        self._detail = ""

    @property
    def text(self) -> str:
        return self._text

    def add(self, deed: _Deed) -> None:
        self._count += 1
        self._detail = deed.detail
        if deed.delay > 0:
            if len(self._waits) <= _MOST_NAMES:
                self._waits.append(deed.delay)
            self._shortest = min(self._shortest, deed.delay)
            self._longest = max(self._longest, deed.delay)

    def sentence(self) -> str:
        times = f", {_times(self._count)}" if self._count > 1 else ""
        return f"{self._text}{times}{self._waited()}{self._detail}."

    def _waited(self) -> str:
        waits = self._waits
        if len(waits) < 2:
            return f", after a wait of {duration(waits[0])}" if waits else ""
        if len(waits) > _MOST_NAMES:
            return f", after waits of {duration(self._shortest)} to {duration(self._longest)}"
        return f", after waits of {_listed(map(duration, waits))}"


class _Deeds:
    """Deeds in order of time, but what was repeated comes once; no more of them than are said."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        # what was done alike, however much was done in between
        self._alike: dict[str, _Run] = {}

    def add(self, deed: _Deed) -> None:
        self._add_to_run(deed)
        if deed.text in self._alike or len(self._alike) <= _MOST_DEEDS:
            self._alike.setdefault(deed.text, _Run(deed.text)).add(deed)

    def _add_to_run(self, deed: _Deed) -> None:
        if len(self._runs) > _MOST_DEEDS:
            return  # they share one sentence
        if not self._runs or self._runs[-1].text != deed.text:
            self._runs.append(_Run(deed.text))
        self._runs[-1].add(deed)

    def sentences(self) -> Iterator[str]:
        runs = self._runs if len(self._runs) <= _MOST_DEEDS else list(self._alike.values())
        for run in runs[:_MOST_DEEDS]:
            yield run.sentence()
        if len(runs) > _MOST_DEEDS:
            yield "And so on, as the picture shows."


def _deeds(incident: Incident, is_alone: bool) -> Iterator[_Deed]:
    for failure in incident.failures:
        is_it = is_alone and failure is incident.leaf and not failure.is_reload
        who = "it" if is_it else printable(failure.path) or "a child"
        for attempt in failure.attempts:
            yield from _attempted(who, failure, attempt)
        if failure.gave_up:
            yield from _gave_up(who, failure)


def _attempted(who: str, failure: Failure, attempt: Attempt) -> Iterator[_Deed]:
    yield from _troubles(attempt.steps)
    if attempt.outcome == "failed":
        text, why = _vain(failure, attempt)
        yield _Deed(text, attempt.delay, f": {brief(why, 200)}" if why else "")
    elif attempt.outcome == "cured":
        yield _Deed(_manner(who, failure, attempt), attempt.delay)


def _vain(failure: Failure, attempt: Attempt) -> tuple[str, str]:
    """What an attempt came to nothing by, and why."""
    if attempt.problem:
        return f"The system function of {printable(attempt.system)} failed", attempt.problem
    bad = [one for one in attempt.steps if one.what == "start" and one.error is not None]
    path, why = (bad[-1].path, bad[-1].error or "") if bad else (failure.path, "")
    return f"{printable(path) or 'A child'} failed to start again", why


def _manner(who: str, failure: Failure, attempt: Attempt) -> str:
    system = printable(attempt.system)
    if attempt.strategy == "one_for_one":
        return f"{system} restarted {who} alone (one_for_one)"
    if not attempt.strategy:
        return f"{system} restarted {who}"
    swept = [step for one in failure.attempts for step in one.steps]
    stopped, started = _stopped(system, swept), _own(system, attempt.steps, "start")
    after = ", which had been started after it," if attempt.strategy == "rest_for_one" else ""
    along = f"{stopped}{after} and" if stopped else ""
    return f"{system}{along} started {_listed(started)} again ({attempt.strategy})"


def _gave_up(who: str, failure: Failure) -> Iterator[_Deed]:
    yield from _troubles(failure.stops)
    system = printable(failure.system)
    what = f"{system}{_stopped(system, failure.stops)}"
    what = f"{what} and gave up" if what != system else f"{system} gave up"
    if failure.is_refused and failure.attempts[-1].is_of_system:
        yield _Deed(f"The breaker of {system} refused to run its system function again: {what}")
    elif failure.is_refused:
        yield _Deed(f"The breaker of {system} refused to restart {who}: {what}")
    else:
        yield _Deed(f"{printable(failure.path)} cannot be recovered by a restart: {what}")


def _stopped(system: str, steps: Iterable[Step]) -> str:
    names = _own(system, steps, "stop")
    return f" stopped {_listed(names)}" if names else ""


def _own(system: str, steps: Iterable[Step], what: str) -> list[str]:
    """The children of the system itself that were started or stopped, each once, in order."""
    own = [one for one in steps if one.what == what and one.path.rpartition("/")[0] == system]
    done = [one for one in own if what == "stop" or one.error is None]
    return list(dict.fromkeys(key_of(one.path) for one in done))


def _troubles(steps: Iterable[Step]) -> Iterator[_Deed]:
    """What went wrong while children were stopped."""
    for step in steps:
        who = printable(step.path)
        if step.what == "stop" and step.error:
            yield _Deed(f"{who} failed while it was being stopped: {brief(step.error, 200)}")
        if step.late:
            yield _Deed(f"{who}, asked to end, was {step.late} and was aborted")
        if step.stacks:
            path, stack = step.stacks[-1]
            took = duration((step.ended - step.began) / 1e6)
            yield _Deed(f"{printable(path)} took {took} to end although aborted{_place(stack)}")


def _place(stack: str) -> str:
    # the stack of the child's thread comes after that of its trio task
    found = _FRAME.search(stack.rpartition("  in its thread ")[2])
    return f": it sat in {found[3]} ({found[1]}, line {found[2]})" if found else ""


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    if len(every) > _MOST_NAMES + 1:
        every = [*every[:_MOST_NAMES], f"{len(every) - _MOST_NAMES} more"]
    return " and ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


# How it ended


def _ended(story: Story) -> str:
    last = story.last
    top = last.failures[-1]
    after = _after((last.ended - story.began) / 1e6, story)
    if last.outcome == "dropped":
        why = _WHYS.get(top.restart, "a restart was not wanted")
        return f"Not restarted, since {why}: {printable(top.system)} goes on without it."
    if last.outcome == "stopped":
        return f"Not restarted: {_stopped_by(top)}{after}."
    if last.outcome == "ended" and top.is_exit:
        return "That asked the whole program to end."
    if last.outcome == "ended":
        return f"That was the end of the whole tree{after}."
    if last.outcome == "open" and top.is_wanted is None:
        return "What was done about it is not in these spans."
    if last.outcome == "open":
        return "Still open when the spans end."
    return f"Healthy again{after or ' at once'}."


_WHYS: Final = {
    "temporary": "it is temporary",
    "permanent": "a restart would not help",
    "transient": "a restart would not help",
}


def _after(seconds: float, story: Story) -> str:
    """How long after the first failure; empty if that is too short to matter."""
    first = "failure" if story.incidents[0].leaf.reason in ("failed", "") else "end"
    return f" {duration(seconds)} after the first {first}" if seconds >= 0.0001 else ""


def _stopped_by(top: Failure) -> str:
    system = printable(top.system)
    if top.gave_up:
        return f"the supervisor of {system} was being stopped"
    return f"{system} was stopped" if top.was_ending else "it was called off"
