"""Reading spans back from JSON lines, and finding them. Pure; no line is bad enough to raise.

A line holds one span as the SDK writes it, or many in OTLP's own JSON, as collectors write them.
Times are whole microseconds since 1970: the SDK's lines have no finer ones.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from .otlp import as_mapping, as_sequence, as_text, is_number, spans_of

SpanId: TypeAlias = tuple[str, str]
"""The trace and the span in it."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# The microsecond in which the year 10000 would begin.
_LATEST: Final = 253_402_300_800_000_000


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception; without a stack trace when the program sent its exceptions to the log alone."""

    type: str
    message: str
    stacktrace: str = ""

    def is_like(self, other: Raised) -> bool:
        """Whether a person would call it the same."""
        return (self.type, self.message) == (other.type, other.message)


@dataclass(frozen=True, slots=True)
class Span:
    """One span of this library. ``error`` is its status description, ``None`` if it is no error."""

    id: SpanId
    parent: SpanId | None
    name: str
    began: int
    ended: int
    attributes: Mapping[str, Any]
    error: str | None
    raised: Raised | None
    stacks: tuple[tuple[str, str], ...]
    """Path and stack of each child that was found not to end."""
    links: Mapping[str, SpanId]
    """What the span links to, by ``spry.link``."""

    def text(self, name: str) -> str:
        """The attribute, ``""`` if it is missing or no text."""
        return as_text(self.attributes.get(name))

    def number(self, name: str) -> float:
        """The attribute, 0.0 if it is missing or no finite number."""
        value = self.attributes.get(name)
        return float(value) if value is not None and is_number(value) else 0.0

    def count(self, name: str) -> int:
        """The attribute as a whole number."""
        return int(self.number(name))

    def truth(self, name: str) -> bool | None:
        """Whether the attribute is true; ``None`` if it is missing or no truth value."""
        value = self.attributes.get(name)
        return value if isinstance(value, bool) else None

    def one_of(self, name: str, words: Collection[str]) -> str:
        """The attribute if it is one of these words, else ``""``: it may have been cut."""
        text = self.text(name)
        return text if text in words else ""

    def seconds(self, name: str) -> float | None:
        """The attribute, ``None`` if it is missing or no finite number."""
        value = self.attributes.get(name)
        return self.number(name) if is_number(value) else None

    @property
    def system(self) -> str:
        """The path of the system, as far as it can be known; of a child's, its parent's."""
        path, system = self.text("spry.child.path"), self.text("spry.system.path")
        if system and path == system:
            return f"{system}…"  # both have been cut, at the same length
        return system or path.rpartition("/")[0]

    @property
    def path(self) -> str:
        """The path of the child, whole if possible: a limit may have cut the attribute short."""
        path, key = self.text("spry.child.path"), self.text("spry.child.key")
        whole = f"{self.system}/{key}"
        return whole if self.system and key and whole.startswith(path) else path


@dataclass(frozen=True, slots=True)
class Reading:
    """All that could be read: our spans, each once, how many spans there were in all.

    ``strange`` counts lines that are whole, but hold no spans: other signals of OpenTelemetry.
    """

    spans: tuple[Span, ...]
    count: int
    unreadable: int
    strange: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether something was there, but no span among it."""
        return not self.count and bool(self.unreadable or self.strange)


def read_spans(lines: Iterable[bytes | str]) -> Reading:
    """Read the spans of each line; spans of other libraries are counted, and left out."""
    spans: dict[SpanId, Span] = {}
    count = unreadable = strange = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            found = _found_in(as_mapping(json.loads(line)))
        except (ValueError, RecursionError):
            unreadable += 1
            continue
        strange += found is None
        for fields in found or ():
            try:
                if _name(fields).startswith("spry."):
                    span = _span(_name(fields), fields)
                    spans.setdefault(span.id, span)
                count += 1
            except (ValueError, OverflowError, RecursionError):
                unreadable += 1
    return Reading(tuple(spans.values()), count, unreadable, strange)


def _found_in(fields: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The spans of one line, in the SDK's form; ``None`` for another signal."""
    if "resourceSpans" in fields:
        return list(spans_of(fields))
    return None if "resourceMetrics" in fields or "resourceLogs" in fields else [fields]


def _name(fields: Mapping[str, Any]) -> str:
    name = as_text(fields.get("name"))
    if not name:
        raise ValueError("this is no span")
    return name


def _span(name: str, fields: Mapping[str, Any]) -> Span:
    context = as_mapping(fields.get("context"))
    own = _id(context)
    if own is None:
        raise ValueError("a span that has no identity of its own")
    above = as_text(fields.get("parent_id"))
    began, ended = _times(fields)
    events = [as_mapping(event) for event in as_sequence(fields.get("events"))]
    return Span(
        id=own,
        parent=(own[0], above) if above else None,
        name=name,
        began=began,
        ended=ended,
        attributes=as_mapping(fields.get("attributes")),
        error=_error(as_mapping(fields.get("status"))),
        raised=_raised(events),
        stacks=tuple(_stacks(events)),
        links=dict(_links(fields)),
    )


def _id(context: Mapping[str, Any]) -> SpanId | None:
    trace, span = as_text(context.get("trace_id")), as_text(context.get("span_id"))
    return (trace, span) if trace and span else None


def _times(fields: Mapping[str, Any]) -> tuple[int, int]:
    """When it began and ended; one that is missing is taken to be like the other."""
    moments = [_moment(fields.get("start_time")), _moment(fields.get("end_time"))]
    known = [moment for moment in moments if moment is not None]
    if not known:
        raise ValueError("a span without a time")
    return known[0], max(known)


def _moment(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value < _LATEST else None
    return _microseconds(value) if isinstance(value, str) and value else None


def _microseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    known = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (known.astimezone(UTC) - EPOCH) // _MICROSECOND


def _error(status: Mapping[str, Any]) -> str | None:
    return as_text(status.get("description")) if status.get("status_code") == "ERROR" else None


def _raised(events: Iterable[Mapping[str, Any]]) -> Raised | None:
    for event in events:
        if event.get("name") == "exception":
            fields = as_mapping(event.get("attributes"))
            parts = (as_text(fields.get(f"exception.{part}")) for part in Raised.__slots__)
            return Raised(*parts)
    return None


def _stacks(events: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for event in events:
        if event.get("name") == "spry.child.stuck":
            fields = as_mapping(event.get("attributes"))
            yield as_text(fields.get("spry.child.path")), as_text(fields.get("spry.child.stack"))


def _links(fields: Mapping[str, Any]) -> Iterable[tuple[str, SpanId]]:
    for link in map(as_mapping, as_sequence(fields.get("links"))):
        target = _id(as_mapping(link.get("context")))
        kind = as_text(as_mapping(link.get("attributes")).get("spry.link"))
        if target is not None and kind:
            yield kind, target


# Finding spans


class SpanIndex:
    """All spans, found by what they belong to, and in order of time."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.by_id = {span.id: span for span in spans}
        self.traces: defaultdict[str, list[Span]] = defaultdict(list)
        self.successors: dict[SpanId, Span] = {}
        """The start that came after a start of the same child."""
        self._below: defaultdict[SpanId, list[Span]] = defaultdict(list)
        self._teardowns: defaultdict[tuple[str, int], list[Span]] = defaultdict(list)
        self._waits: defaultdict[str, list[Span]] = defaultdict(list)
        for span in sorted(spans, key=_in_order):
            self._add(span)

    def _add(self, span: Span) -> None:
        self.traces[span.id[0]].append(span)
        if span.parent is not None:
            self._below[span.parent].append(span)
        replaced = span.links.get("restart_of")
        if replaced is not None and span.name == "spry.child.start":
            self.successors.setdefault(replaced, span)
        if span.name == "spry.teardown" and not self._is_on_the_way(span):
            self._teardowns[_system(span)].append(span)
        if span.name == "spry.wait_for_termination":
            self._waits[span.path].append(span)

    def _is_on_the_way(self, teardown: Span) -> bool:
        """Whether it swept children away for a restart or a failed start: no end of its system."""
        above = self.parent(teardown)
        return above is not None and above.name in ("spry.try_restart", "spry.startup")

    def parent(self, span: Span) -> Span | None:
        """The span it belongs to, if that is there."""
        return self.by_id.get(span.parent) if span.parent is not None else None

    def is_loose(self, span: Span) -> bool:
        """Whether it belongs to a span that is not there."""
        return span.parent is not None and span.parent not in self.by_id

    def below(self, parent: SpanId, name: str) -> list[Span]:
        """The spans of that name directly below."""
        return [span for span in self._below.get(parent, ()) if span.name == name]

    def everything_below(self, roots: Iterable[Span]) -> Iterator[Span]:
        """These, and each before those below it; what belongs to other failures stays out."""
        pending = list(roots)[::-1]
        while pending:
            span = pending.pop()
            yield span
            inner = [other for other in self._below.get(span.id, ()) if is_step(other)]
            pending.extend(reversed(inner))

    def is_torn_down(self, span: Span) -> bool:
        """Whether the system of ``span`` was ending while that lasted."""
        return _has_overlap(self._teardowns.get(_system(span), []), span.began, span.ended)

    def is_awaited(self, path: str, began: int, ended: int) -> bool:
        """Whether the child at ``path`` was being stopped in this time."""
        return _has_overlap(self._waits.get(path, []), began, ended)


def _has_overlap(spans: Sequence[Span], began: int, ended: int) -> bool:
    """Whether one of these, which never last at the same time, does in this time."""
    at = bisect_right(spans, ended, key=lambda span: span.began)
    return at > 0 and spans[at - 1].ended >= began


def is_step(span: Span) -> bool:
    """Whether it is a part of what was done, and no failure or attempt of its own."""
    return span.name not in ("spry.term", "spry.try_restart")


def _in_order(span: Span) -> tuple[int, int, str]:
    return span.began, span.ended, span.path


def _system(span: Span) -> tuple[str, int]:
    return span.system, span.count("spry.system.incarnation")
