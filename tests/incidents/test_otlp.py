"""Incidents from what a collector writes: OTLP's own JSON, many spans a line, or compressed."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incident_files import lasts, life_of, told
from programs import SECONDS, environment
from spry_py import Child
from spry_py._incidents.reading import EPOCH, read_spans
from spry_py._program.cli import main
from traced import idle, shop

LINES = life_of(shop(Child("db", idle), Child("api", lasts(5.0, takes=0.3))))


def value(item: Any) -> dict[str, Any]:
    if isinstance(item, bool):
        return {"boolValue": item}
    if isinstance(item, int):
        return {"intValue": str(item)}
    return {"doubleValue": item} if isinstance(item, float) else {"stringValue": item}


def attributes(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(item)} for key, item in fields.items()]


def nanoseconds(text: str) -> str:
    return str((datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) * 1000)


def otlp(line: str, code: Any = 2) -> dict[str, Any]:
    """One span as OTLP has it."""
    span = json.loads(line)
    is_error = span["status"]["status_code"] == "ERROR"
    return {
        "traceId": span["context"]["trace_id"],
        "spanId": span["context"]["span_id"],
        "parentSpanId": span["parent_id"] or "",
        "name": span["name"],
        "kind": 1,
        "startTimeUnixNano": nanoseconds(span["start_time"]),
        "endTimeUnixNano": nanoseconds(span["end_time"]),
        "attributes": attributes(span["attributes"]),
        "status": {"code": code, "message": span["status"]["description"]} if is_error else {},
        "events": [
            {"name": event["name"], "attributes": attributes(event["attributes"])}
            for event in span["events"]
        ],
        "links": [
            {
                "traceId": link["context"]["trace_id"],
                "spanId": link["context"]["span_id"],
                "attributes": attributes(link["attributes"]),
            }
            for link in span["links"]
        ],
    }


def request(spans: list[dict[str, Any]]) -> str:
    scopes = [{"scope": {"name": "spry_py"}, "spans": spans}, {"spans": []}]
    return json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": scopes}, {}]})


BATCHES = [request([otlp(line) for line in LINES[:3]]), request([otlp(line) for line in LINES[3:]])]
OTHERS = [json.dumps({"resourceMetrics": []}), json.dumps({"resourceLogs": []})]


@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR"])
def test_a_batch_reads_like_the_lines_that_it_was_made_of(code: Any) -> None:
    batch = request([otlp(line, code) for line in LINES])
    assert read_spans([batch]) == read_spans(LINES)
    assert told([batch]) == told(LINES)


def test_other_signals_between_the_batches_are_passed_over() -> None:
    reading = read_spans([OTHERS[0], *BATCHES, OTHERS[1]])
    assert (reading.count, reading.unreadable, reading.is_nothing) == (len(LINES), 0, False)


ODD: list[Any] = [
    None,
    7,
    "x",
    [],
    {},
    [None],
    [7],
    {"stringValue": 7},
    -1,
    1e400,
    True,
    "9" * 99,
]


@pytest.mark.parametrize("strange", ODD, ids=repr)
@pytest.mark.parametrize("field", sorted(otlp(LINES[0])))
def test_no_strange_value_raises_or_spoils_the_other_spans(field: str, strange: Any) -> None:
    spans = [otlp(line) for line in LINES]
    spoilt = [{**span, field: strange} for span in spans[:1]]
    reading = read_spans([request(spoilt + spans[1:])])
    assert reading.count + reading.unreadable == len(LINES)
    assert reading.count >= len(LINES) - 1


@pytest.mark.parametrize("field", ["key", "value"])
@pytest.mark.parametrize("strange", ODD, ids=repr)
def test_no_strange_attribute_raises(field: str, strange: Any) -> None:
    span = otlp(LINES[-1])
    span["attributes"] = [{**pair, field: strange} for pair in span["attributes"]]
    assert read_spans([request([span])]).count == 1
    told([request([span])])


# As a file


def incidents(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["incidents", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


DATA = "".join(f"{batch}\n" for batch in BATCHES).encode()
PACKED = {
    "plain": DATA,
    "gzip": gzip.compress(DATA),
    "no last newline": gzip.compress(DATA.rstrip()),
    "in members": b"".join(gzip.compress(f"{batch}\n".encode()) for batch in BATCHES),
}


@pytest.mark.parametrize("data", PACKED.values(), ids=PACKED)
def test_a_collectors_file_compressed_or_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "spans").write_bytes(data)
    status, out, err = incidents(capsys, str(tmp_path / "spans"))
    assert (status, out.splitlines()[-1], err) == (
        0,
        f"1 incident in {len(LINES)} spans: 1 healthy again",
        "",
    )


def test_it_may_come_in_compressed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PACKED["gzip"])))
    assert incidents(capsys, "-")[0] == 0


def test_a_compressed_file_that_is_still_written_is_told_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for cut, expected in ((40, 2), (len(PACKED["in members"]) - 9, 0)):
        (tmp_path / "spans").write_bytes(PACKED["in members"][:cut])
        status, _, err = incidents(capsys, str(tmp_path / "spans"))
        assert (status, err.endswith("could not be read as spans\n")) == (expected, not expected)


def test_a_compressed_file_that_is_damaged_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = gzip.compress(f"{BATCHES[0]}\n".encode())
    (tmp_path / "spans").write_bytes(first + b"no member at all")
    status, out, err = incidents(capsys, str(tmp_path / "spans"))
    assert (status, err) == (0, "spry-py: 1 line could not be read as spans\n")
    assert out.endswith("in 3 spans\n")


@pytest.mark.parametrize("text", ["{", "no\nspans\n", "[]\n", *OTHERS])
def test_a_file_without_any_span_is_no_file_of_spans(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text, encoding="utf-8")
    said = f"spry-py: nothing in {path} could be read as a span\n"
    assert incidents(capsys, str(path)) == (2, "", said)


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"])
def test_closed_streams_end_quietly(tmp_path: Path, closed: str) -> None:
    (tmp_path / "spans").write_bytes(DATA)
    command = f"{sys.executable} -m spry_py incidents spans {closed}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
