"""OTLP's own JSON, as collectors write it to files, turned into what the SDK writes for one span.

Nothing that a stranger's JSON may hold in any place raises anything but `ValueError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

# What no count and no duration of a real tree comes near: beyond it, arithmetic overflows.
_LARGEST: Final = 1e12
_IS_ERROR: Final = (2, "STATUS_CODE_ERROR")


def spans_of(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The spans of one export request."""
    for resource in map(as_mapping, as_sequence(request.get("resourceSpans"))):
        for scope in map(as_mapping, as_sequence(resource.get("scopeSpans"))):
            yield from map(_span, map(as_mapping, as_sequence(scope.get("spans"))))


def _span(span: Mapping[str, Any]) -> Mapping[str, Any]:
    status = as_mapping(span.get("status"))
    is_error = status.get("code") in _IS_ERROR
    return {
        "name": span.get("name"),
        "context": _context(span),
        "parent_id": span.get("parentSpanId"),
        "start_time": _microseconds(span.get("startTimeUnixNano")),
        "end_time": _microseconds(span.get("endTimeUnixNano")),
        "attributes": _attributes(span),
        "status": {
            "status_code": "ERROR" if is_error else "UNSET",
            "description": status.get("message"),
        },
        "events": [
            {"name": event.get("name"), "attributes": _attributes(event)}
            for event in map(as_mapping, as_sequence(span.get("events")))
        ],
        "links": [
            {"context": _context(link), "attributes": _attributes(link)}
            for link in map(as_mapping, as_sequence(span.get("links")))
        ],
    }


def _context(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"trace_id": fields.get("traceId"), "span_id": fields.get("spanId")}


def _attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    pairs = map(as_mapping, as_sequence(fields.get("attributes")))
    return {as_text(pair.get("key")): _value(as_mapping(pair.get("value"))) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Any:
    """A as_text, a truth value or a number; 64 bits come as text; ``None`` for all else."""
    if "intValue" in value or "doubleValue" in value:
        return _number(value.get("intValue", value.get("doubleValue")))
    return value.get("stringValue", value.get("boolValue"))


def _number(value: object) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        return None


def _microseconds(value: object) -> int | None:
    number = _number(value)
    return number // 1000 if isinstance(number, int) and number is not True else None


# What a stranger's JSON may hold in any place


def as_text(value: object) -> str:
    """The value if it is a as_text, else an empty one."""
    return value if isinstance(value, str) else ""


def is_number(value: object) -> bool:
    """Whether the value is a number that one can count with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _LARGEST  # false for nan, too


def as_mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def as_sequence(value: object) -> Sequence[Any]:
    """The value if it is an array, else an empty one."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()
