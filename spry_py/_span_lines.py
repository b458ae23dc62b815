"""Reading spans back from JSON lines, and finding them. Pure; no line is bad enough to raise.

Times are whole microseconds since 1970, which is all that such a line tells.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

SpanId: TypeAlias = tuple[str, str]
"""The trace and the span in it."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# What no count and no duration of a real tree comes near: beyond it, arithmetic overflows.
_LARGEST: Final = 1e12


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
        return _text(self.attributes.get(name))

    def number(self, name: str) -> float:
        """The attribute, 0.0 if it is missing or no finite number."""
        return _number(self.attributes.get(name))

    def count(self, name: str) -> int:
        """The attribute as a whole number."""
        return int(self.number(name))

    def says(self, name: str) -> bool:
        """Whether the attribute is true."""
        return self.attributes.get(name) is True


@dataclass(frozen=True, slots=True)
class Reading:
    """All that could be read: our spans, each once, how many spans there were in all."""

    spans: tuple[Span, ...]
    count: int
    unreadable: int


def read_spans(lines: Iterable[bytes | str]) -> Reading:
    """Read one span per line; spans of other libraries are counted, and left out."""
    spans: dict[SpanId, Span] = {}
    count = unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            fields = _fields(line)
            if fields["name"].startswith("spry."):
                span = _span(fields["name"], fields)
                spans.setdefault(span.id, span)
            count += 1
        except (ValueError, OverflowError, RecursionError):
            unreadable += 1
    return Reading(tuple(spans.values()), count, unreadable)


def _fields(line: bytes | str) -> Mapping[str, Any]:
    fields = json.loads(line)
    if not _text(_mapping(fields).get("name")):
        raise ValueError("this is no span")
    return _mapping(fields)


def _span(name: str, fields: Mapping[str, Any]) -> Span:
    context = _mapping(fields.get("context"))
    own = _id(context)
    if own is None:
        raise ValueError("a span that cannot be told from others")
    above = _text(fields.get("parent_id"))
    began, ended = _times(fields)
    events = [_mapping(event) for event in _sequence(fields.get("events"))]
    return Span(
        id=own,
        parent=(own[0], above) if above else None,
        name=name,
        began=began,
        ended=ended,
        attributes=_mapping(fields.get("attributes")),
        error=_error(_mapping(fields.get("status"))),
        raised=_raised(events),
        stacks=tuple(_stacks(events)),
        links=dict(_links(fields)),
    )


def _id(context: Mapping[str, Any]) -> SpanId | None:
    trace, span = _text(context.get("trace_id")), _text(context.get("span_id"))
    return (trace, span) if trace and span else None


def _times(fields: Mapping[str, Any]) -> tuple[int, int]:
    """When it began and ended; one that is missing is taken to be like the other."""
    texts = [_text(fields.get("start_time")), _text(fields.get("end_time"))]
    began, ended = (_microseconds(text) for text in (texts[0] or texts[1], texts[1] or texts[0]))
    return began, max(began, ended)


def _microseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    known = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (known.astimezone(UTC) - EPOCH) // _MICROSECOND


def _error(status: Mapping[str, Any]) -> str | None:
    return _text(status.get("description")) if status.get("status_code") == "ERROR" else None


def _raised(events: Iterable[Mapping[str, Any]]) -> Raised | None:
    for event in events:
        if event.get("name") == "exception":
            told = _mapping(event.get("attributes"))
            parts = (_text(told.get(f"exception.{part}")) for part in Raised.__slots__)
            return Raised(*parts)
    return None


def _stacks(events: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for event in events:
        if event.get("name") == "spry.child.stuck":
            told = _mapping(event.get("attributes"))
            yield _text(told.get("spry.child.path")), _text(told.get("spry.child.stack"))


def _links(fields: Mapping[str, Any]) -> Iterable[tuple[str, SpanId]]:
    for link in map(_mapping, _sequence(fields.get("links"))):
        target = _id(_mapping(link.get("context")))
        kind = _text(_mapping(link.get("attributes")).get("spry.link"))
        if target is not None and kind:
            yield kind, target


# What a stranger's JSON may hold in any place


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if abs(value) < _LARGEST else 0.0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


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
            self._waits[span.text("spry.child.path")].append(span)

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
    return span.began, span.ended, span.text("spry.child.path")


def _system(span: Span) -> tuple[str, int]:
    return span.text("spry.system.path"), span.count("spry.system.incarnation")
