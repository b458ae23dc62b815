"""Reading spans back from lines of JSON, whoever wrote them and in whatever state they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from incident_files import NOON, changed
from spry_py._incidents.reading import Raised, Reading, Span, read_spans
from spry_py._incidents.rows import duration

START = {"trace_id": "0xa", "span_id": "0x1", "trace_state": "[]"}
TERM: dict[str, Any] = {
    "name": "spry.term",
    "context": {"trace_id": "0xb", "span_id": "0x2", "trace_state": "[]"},
    "kind": "SpanKind.INTERNAL",
    "parent_id": "0x3",
    "start_time": "2026-03-01T12:00:00.000001Z",
    "end_time": "2026-03-01T12:00:01.500000Z",
    "status": {"status_code": "ERROR", "description": "ValueError: boom"},
    "attributes": {"spry.child.path": "shop/a", "spry.child.lifetime": 1.5},
    "events": [
        {
            "name": "exception",
            "timestamp": "2026-03-01T12:00:00.000001Z",
            "attributes": {
                "exception.type": "ValueError",
                "exception.message": "boom",
                "exception.stacktrace": "Traceback",
            },
        },
        {
            "name": "spry.child.stuck",
            "attributes": {"spry.child.path": "shop/b", "spry.child.stack": "line 1"},
        },
    ],
    "links": [{"context": START, "attributes": {"spry.link": "terminates"}}],
    "resource": {"attributes": {"service.name": "shop"}, "schema_url": ""},
}
READ = Span(
    id=("0xb", "0x2"),
    parent=("0xb", "0x3"),
    name="spry.term",
    began=NOON // 1000 + 1,
    ended=NOON // 1000 + 1_500_000,
    attributes={"spry.child.path": "shop/a", "spry.child.lifetime": 1.5},
    error="ValueError: boom",
    raised=Raised("ValueError", "boom", "Traceback"),
    stacks=(("shop/b", "line 1"),),
    links={"terminates": ("0xa", "0x1")},
)


def read(**fields: Any) -> Reading:
    return read_spans([changed(json.dumps(TERM), **fields)])


def test_a_span_is_read() -> None:
    assert read() == Reading((READ,), 1, 0)


@pytest.mark.parametrize("field", ["kind", "resource"])
def test_what_is_not_needed_may_be_missing(field: str) -> None:
    assert read(**{field: ...}) == Reading((READ,), 1, 0)


@pytest.mark.parametrize("nothing", [..., None, [], {}, 7, "x", [None], {"x": None}])
@pytest.mark.parametrize(
    ("field", "attribute", "empty"),
    [
        ("parent_id", "parent", None),
        ("attributes", "attributes", {}),
        ("status", "error", None),
        ("events", "raised", None),
        ("events", "stacks", ()),
        ("links", "links", {}),
    ],
)
def test_what_is_missing_or_strange_is_empty(
    field: str, attribute: str, empty: object, nothing: object
) -> None:
    expected = {("parent_id", "x"): ("0xb", "x")}.get((field, str(nothing)), empty)
    if field == "attributes" and nothing == {"x": None}:
        expected = nothing
    (span,) = read(**{field: nothing}).spans
    assert getattr(span, attribute) == expected


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"end_time": ...}, (0.000001, 0.000001)),
        ({"start_time": None}, (1.5, 1.5)),
        ({"start_time": "2026-03-01T12:00:00"}, (0.0, 1.5)),
        ({"start_time": "2026-03-01T14:00:00+02:00"}, (0.0, 1.5)),
        ({"start_time": "2026-03-01T12:00:03Z"}, (3.0, 3.0)),
    ],
)
def test_times_of_other_makers(fields: dict[str, Any], seconds: tuple[float, float]) -> None:
    (span,) = read(**fields).spans
    assert ((span.began - NOON // 1000) / 1e6, (span.ended - NOON // 1000) / 1e6) == seconds


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(TERM)[:-20],
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"name": 7}',
        "\x00",
        "[" * 100_000,
        "1" * 10_000,
        changed(json.dumps(TERM), context=...),
        changed(json.dumps(TERM), context={"trace_id": "0xa"}),
        changed(json.dumps(TERM), start_time=..., end_time=...),
        changed(json.dumps(TERM), start_time="yesterday"),
        changed(json.dumps(TERM), start_time="9999-12-31T23:59:59-23:00"),
    ],
    ids=lambda line: line[:30],
)
def test_a_line_that_is_no_span_is_counted_and_nothing_else(line: str) -> None:
    assert read_spans(["", line, "  \n", json.dumps(TERM)]) == Reading((READ,), 1, 1)


def test_bytes_that_are_no_text_are_counted() -> None:
    assert read_spans([b"\xff\xfe\xfd", json.dumps(TERM).encode()]) == Reading((READ,), 1, 1)


def test_spans_of_other_libraries_are_counted_and_left_out() -> None:
    other = changed(json.dumps(TERM), name="GET /", context=...)
    assert read_spans([other, json.dumps(TERM)]) == Reading((READ,), 2, 0)


@pytest.mark.parametrize(
    ("value", "number"),
    [(2, 2.0), (2.5, 2.5), (True, 0.0), ("2", 0.0), (None, 0.0), (1e300, 0.0), (-(10**400), 0.0)],
)
def test_a_number_is_a_number_that_can_be_reckoned_with(value: object, number: float) -> None:
    (span,) = read(attributes={"n": value}).spans
    assert (span.number("n"), span.count("n")) == (number, int(number))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.00009, "under 0.1 ms"),
        (0.0004, "0.4 ms"),
        (0.00996, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (59.96, "60 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (125.2, "2 min 5 s"),
        (7199.9, "2 h 0 min"),
        (90_000, "25 h 0 min"),
        (180_000, "2 days 2 h"),
        (400_000_000, "12 years"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said
