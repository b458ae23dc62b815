"""What a collector receives, as plain values: spans, metric points and log records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from spans import Seen, read_event

STATUS = ("unset", "ok", "error")

Plain = dict[str, Any]


class Link(NamedTuple):
    trace_id: str
    span_id: str
    attributes: Plain


class Span(NamedTuple):
    resource: Plain
    scope: tuple[str, str]
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    began: int
    ended: int
    attributes: Plain
    links: tuple[Link, ...]
    status: str
    description: str
    events: tuple[tuple[str, Plain], ...]


class Point(NamedTuple):
    """One data point; of a histogram, `value` is its sum and `points` how many it has seen."""

    resource: Plain
    scope: tuple[str, str]
    name: str
    unit: str
    kind: str
    attributes: Plain
    value: float
    points: int


class Record(NamedTuple):
    resource: Plain
    scope: tuple[str, str]
    severity: tuple[int, str]
    body: str
    attributes: Plain
    trace_id: str
    span_id: str


# Out of the protobufs


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def attributes_of(pairs: Iterable[Any]) -> Plain:
    return {pair.key: plain(pair.value) for pair in pairs}


def _scoped(resources: Any, scopes: str, items: str) -> Iterator[tuple[Plain, Any, Any]]:
    for resource in resources:
        about = attributes_of(resource.resource.attributes)
        for scope in getattr(resource, scopes):
            for item in getattr(scope, items):
                yield about, scope.scope, item


def spans_of(request: Any) -> list[Span]:
    found = _scoped(request.resource_spans, "scope_spans", "spans")
    return [_span(resource, scope, span) for resource, scope, span in found]


def _span(resource: Plain, scope: Any, span: Any) -> Span:
    return Span(
        resource,
        (scope.name, scope.version),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        attributes_of(span.attributes),
        tuple(_link(link) for link in span.links),
        STATUS[span.status.code],
        span.status.message,
        tuple((event.name, attributes_of(event.attributes)) for event in span.events),
    )


def _link(link: Any) -> Link:
    return Link(link.trace_id.hex(), link.span_id.hex(), attributes_of(link.attributes))


def points_of(request: Any) -> list[Point]:
    found = _scoped(request.resource_metrics, "scope_metrics", "metrics")
    return [
        _point(resource, scope, metric, point)
        for resource, scope, metric in found
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def _point(resource: Plain, scope: Any, metric: Any, point: Any) -> Point:
    kind = metric.WhichOneof("data")
    if kind == "histogram":
        value, count = point.sum, point.count
    else:
        value, count = getattr(point, point.WhichOneof("value")), 1
    return Point(
        resource,
        (scope.name, scope.version),
        metric.name,
        metric.unit,
        _kind(kind, metric),
        attributes_of(point.attributes),
        value,
        count,
    )


def _kind(kind: str, metric: Any) -> str:
    if kind != "sum":
        return kind
    return "counter" if metric.sum.is_monotonic else "up-down counter"


def records_of(request: Any) -> list[Record]:
    found = _scoped(request.resource_logs, "scope_logs", "log_records")
    return [_record(resource, scope, record) for resource, scope, record in found]


def _record(resource: Plain, scope: Any, record: Any) -> Record:
    return Record(
        resource,
        (scope.name, scope.version),
        (record.severity_number, record.severity_text),
        plain(record.body),
        attributes_of(record.attributes),
        record.trace_id.hex(),
        record.span_id.hex(),
    )


# Whole traces


def traces(spans: Iterable[Span], *names: str) -> list[Seen]:
    """Traces as `spans` writes them, in the order in which they began; lifetimes are all 1.0.

    With names, those whose root has one of them.
    """
    ordered = sorted(spans, key=lambda span: span.began)
    known = {span.span_id: span for span in ordered}
    roots = [span for span in ordered if not span.parent_id and (not names or span.name in names)]
    return [_seen(root, ordered, known) for root in roots]


def _seen(span: Span, ordered: list[Span], known: dict[str, Span]) -> Seen:
    below = [other for other in ordered if other.parent_id == span.span_id]
    assert {other.trace_id for other in below} <= {span.trace_id}
    assert bool(span.description) == (span.status == "error")
    assert span.began <= span.ended
    return Seen(
        span.name,
        _timeless(span.attributes),
        tuple(_link_text(link, known) for link in span.links),
        span.status,
        tuple(read_event(name, attributes) for name, attributes in span.events),
        tuple(_seen(other, ordered, known) for other in below),
    )


def _timeless(attributes: Plain) -> Plain:
    """Programs run on the real clock: how long a child lived is never the same twice."""
    lifetime = attributes.get("spry.child.lifetime")
    if lifetime is None:
        return attributes
    assert 0.0 <= lifetime < 60.0
    return attributes | {"spry.child.lifetime": 1.0}


def _link_text(link: Link, known: dict[str, Span]) -> str:
    target = known[link.span_id]
    assert target.trace_id == link.trace_id
    return f"{link.attributes['spry.link']} {_label(target)}"


def _label(span: Span) -> str:
    side = "child" if "spry.child.path" in span.attributes else "system"
    path, number = (span.attributes[f"spry.{side}.{what}"] for what in ("path", "incarnation"))
    return f"{span.name} {path}#{number}"
