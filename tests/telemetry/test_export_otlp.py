"""Export over OTLP to a collector that keeps what it gets: all signals, complete at every exit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from exporting import exporting, leaves, said, spawned
from otlp_records import traces
from otlp_sink import Protocol, Sink, sink
from spans import start, startup, teardown, wait
from stationery import (
    FAILS,
    FAILS_SAYS,
    FAILS_TRACES,
    SHOP,
    SHOP_LOGS,
    SHOP_METRICS,
    SHOP_SAYS,
    SHOP_TRACES,
    SHOP_WARNINGS,
    SLOW,
    STUCK,
    STUCK_SAYS,
    log_of,
    totals,
)

PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "grpc"])

RUN = f"""{SHOP}
logging.getLogger("spry_py").setLevel(logging.INFO)
report = run(monitor(), traces="otlp")
say(report.path, report.reason, report.burden)
say([thread.name for thread in threading.enumerate()])
"""


class Told(NamedTuple):
    sink: Sink
    said: list[str]
    status: int


@pytest.fixture(scope="module", params=["http", "grpc"])
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    """What the collector has, and what was said, once the program has left after SIGTERM."""
    cwd = tmp_path_factory.mktemp(request.param)
    with sink(request.param) as collector:
        with exporting(RUN, cwd, request.param, collector.endpoint) as program:
            program.until("> ready")
            program.send(signal.SIGTERM)
            status = leaves(program)
        yield Told(collector, said(program), status)


def test_sigterm_ends_the_program_in_order_and_leaves_no_thread_behind(told: Told) -> None:
    end = ["> monitor Normal(value=None) settling", "> ['MainThread']"]
    assert (told.status, told.said) == (0, SHOP_SAYS + end)


def test_the_whole_incident_is_one_trace_and_the_last_teardown_is_there(told: Told) -> None:
    assert traces(told.sink.spans) == SHOP_TRACES


def test_no_span_arrives_twice(told: Told) -> None:
    ids = [span.span_id for span in told.sink.spans]
    assert sorted(set(ids)) == sorted(ids)


def test_every_signal_names_the_program_and_the_library(told: Told) -> None:
    collector = told.sink
    kept = collector.kept
    assert {item.resource["service.name"] for item in kept} == {"monitor"}
    assert {span.kind for span in collector.spans} == {1}  # INTERNAL
    assert [name for name, version in {item.scope for item in kept} if version] == ["spry_py"]


def test_the_metrics_add_up(told: Told) -> None:
    assert totals(told.sink.points) == SHOP_METRICS


def test_log_records_stand_in_the_trace_of_their_incident(told: Told) -> None:
    assert log_of(told.sink.records, told.sink.spans) == SHOP_LOGS


def test_a_failure_is_logged_with_its_exception_and_the_words_of_its_span(told: Told) -> None:
    record = next(record for record in told.sink.records if "no paper" in record.body)
    span = next(span for span in told.sink.spans if span.span_id == record.span_id)
    expected = span.attributes | dict(span.events)["exception"]
    del expected["spry.restart.wanted"]
    expected["exception.stacktrace"] = expected["exception.stacktrace"].rstrip("\n")
    assert {name: record.attributes.get(name) for name in expected} == expected


# Other ends


@PROTOCOLS
def test_a_tree_that_fails_exports_what_it_died_of(tmp_path: Path, protocol: Protocol) -> None:
    text = f'{FAILS}\nrun(monitor(), traces="otlp")\n'
    with sink(protocol) as collector:
        with exporting(text, tmp_path, protocol, collector.endpoint) as program:
            assert leaves(program) == 1, program.lines
        assert said(program) == FAILS_SAYS
        assert traces(collector.spans) == FAILS_TRACES
    assert program.lines[-1].startswith("spry_py.TooManyRestarts: too many restarts")


def test_a_second_signal_aborts_the_tree_and_loses_nothing(tmp_path: Path) -> None:
    with sink("http") as collector:
        with exporting(SLOW, tmp_path, "http", collector.endpoint) as program:
            for text in ("> ready", "> closing"):
                program.until(text)
                program.send(signal.SIGTERM)
            assert leaves(program) == 0, program.lines
        assert traces(collector.spans) == [
            startup("shop", start("shop/slow")),
            teardown("shop", wait("shop/slow")),
        ]
    assert said(program) == ["> ready", "> closing", "> Aborted()"]


def test_a_third_signal_leaves_but_sends_what_it_can(tmp_path: Path) -> None:
    with sink("http") as collector:
        with exporting(STUCK, tmp_path, "http", collector.endpoint) as program:
            for text in STUCK_SAYS:
                program.until(text)
                program.send(signal.SIGTERM)
            assert leaves(program) == 128 + signal.SIGTERM, program.lines
        assert traces(collector.spans) == [startup("shop", start("shop/slow"))]
        assert len(totals(collector.points)) > 0
    assert said(program) == STUCK_SAYS


def test_the_command_line_exports_too(tmp_path: Path) -> None:
    (tmp_path / "shops.py").write_text(SHOP, encoding="utf-8")
    command = ["-m", "spry_py", "run", "shops:monitor", "--traces", "otlp"]
    with sink("http") as collector:
        with spawned(command, tmp_path, "http", collector.endpoint) as program:
            program.until("> ready")
            program.send(signal.SIGTERM)
            assert leaves(program) == 0, program.lines
        assert said(program) == SHOP_SAYS
        assert traces(collector.spans) == SHOP_TRACES
        assert totals(collector.points) == SHOP_METRICS
        assert log_of(collector.records, collector.spans) == SHOP_LOGS


def test_the_command_line_exports_a_failure(tmp_path: Path) -> None:
    (tmp_path / "shops.py").write_text(FAILS, encoding="utf-8")
    command = ["-m", "spry_py", "run", "shops:monitor", "--traces", "otlp"]
    with sink("http") as collector:
        with spawned(command, tmp_path, "http", collector.endpoint) as program:
            assert leaves(program) == 1, program.lines
        assert traces(collector.spans) == FAILS_TRACES


# Without `run`: whoever configures and forgets is flushed at exit

OPENED = f"""{SHOP}
telemetry.configure("otlp")

async def main():
    async with open_system(monitor()):
        await ready.wait()

trio.run(main)
"""


@pytest.mark.parametrize(
    ("protocol", "end", "status"),
    [
        ("http", "", 0),
        ("grpc", "", 0),
        ("http", "sys.exit(3)", 3),
        ("grpc", "raise OSError('gone')", 1),
    ],
)
def test_a_program_without_run_is_flushed_at_exit(
    tmp_path: Path, protocol: Protocol, end: str, status: int
) -> None:
    with sink(protocol) as collector:
        with exporting(OPENED + end, tmp_path, protocol, collector.endpoint) as program:
            assert leaves(program) == status, program.lines
        names = [seen.name for seen in traces(collector.spans)]
        assert names == ["spry.startup", "spry.term", "spry.term", "spry.teardown"]
        assert totals(collector.points) == SHOP_METRICS
        assert log_of(collector.records, collector.spans) == SHOP_WARNINGS
