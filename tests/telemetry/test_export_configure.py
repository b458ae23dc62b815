"""`configure("otlp")`: which variables it heeds, what it refuses, when it sends and how it ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from exporting import exporting, leaves, said, spawned
from otlp_records import traces
from otlp_sink import Protocol, sink
from stationery import SHOP, SHOP_METRICS, SHOP_SAYS, SHOP_TRACES

PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "grpc"])
# Nobody is asked before anything is sent.
NOWHERE = "http://127.0.0.1:9"

RUN = f"""{SHOP}
run(monitor(), traces="otlp")
"""


def sigterm(text: str, cwd: Path, protocol: Protocol, endpoint: str, **variables: str) -> list[str]:
    """Runs the program until its new shop is up, and stops it; returns what it said."""
    with exporting(text, cwd, protocol, endpoint, **variables) as program:
        program.until("> ready")
        program.send(signal.SIGTERM)
        assert leaves(program) == 0, program.lines
    return said(program)


# Variables


@PROTOCOLS
def test_requests_are_compressed_and_carry_the_headers_that_are_asked_for(
    tmp_path: Path, protocol: Protocol
) -> None:
    asked = {
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-shop=stationery",
    }
    with sink(protocol) as collector:
        sigterm(RUN, tmp_path, protocol, collector.endpoint, **asked)
        assert traces(collector.spans) == SHOP_TRACES
        assert [headers["x-shop"] for _, headers in collector.requests] == ["stationery"] * 3
        if protocol == "http":
            encodings = [headers["content-encoding"] for _, headers in collector.requests]
            assert encodings == ["gzip"] * 3


@pytest.mark.parametrize(
    ("left_out", "sent"), [("traces logs", "metrics"), ("metrics", "logs traces")]
)
def test_signals_may_be_left_out(tmp_path: Path, left_out: str, sent: str) -> None:
    with sink("http") as collector:
        off = {f"OTEL_{name.upper()}_EXPORTER": "none" for name in left_out.split()}
        sigterm(RUN, tmp_path, "http", collector.endpoint, **off)
        assert sorted(path for path, _ in collector.requests) == [f"/v1/{n}" for n in sent.split()]


def test_each_signal_may_go_its_own_way(tmp_path: Path) -> None:
    with sink("http") as over_http, sink("grpc") as over_grpc:
        own = {
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": over_grpc.endpoint,
        }
        sigterm(RUN, tmp_path, "http", over_http.endpoint, **own)
        assert [path for path, _ in over_grpc.requests] == ["/v1/traces"]
        assert sorted(path for path, _ in over_http.requests) == ["/v1/logs", "/v1/metrics"]
        assert traces(over_grpc.spans) == SHOP_TRACES


def test_the_sdk_may_be_turned_off_altogether(tmp_path: Path) -> None:
    with sink("http") as collector:
        says = sigterm(RUN, tmp_path, "http", collector.endpoint, OTEL_SDK_DISABLED="true")
        assert (says, collector.requests) == (SHOP_SAYS, [])


NAMED = f"""{SHOP}
with telemetry.configure("otlp", service_name="stationery"):
    run(monitor())
"""


@pytest.mark.parametrize(
    ("text", "variables", "name"),
    [
        (NAMED, {}, "stationery"),
        (NAMED, {"OTEL_SERVICE_NAME": "paper"}, "paper"),
    ],
    ids=["argument", "environment"],
)
def test_what_the_program_is_called(
    tmp_path: Path, text: str, variables: dict[str, str], name: str
) -> None:
    with sink("http") as collector:
        sigterm(text, tmp_path, "http", collector.endpoint, **variables)
        assert {item.resource["service.name"] for item in collector.kept} == {name}


OWN = f"""{SHOP}
from opentelemetry import _logs, metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
_logs.set_logger_provider(LoggerProvider())
run(monitor(), traces="otlp")
scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
say(sorted(metric.name for scope in scopes for metric in scope.metrics))
"""


def test_what_the_application_has_set_stays_and_is_not_exported_twice(tmp_path: Path) -> None:
    with sink("http") as collector:
        *says, metrics = sigterm(OWN, tmp_path, "http", collector.endpoint)
        assert [path for path, _ in collector.requests] == ["/v1/traces"]
        assert traces(collector.spans) == SHOP_TRACES
    assert (says, metrics) == (SHOP_SAYS, f"> {sorted(name for name, _, _ in SHOP_METRICS)}")


# When it sends


def test_an_incident_is_told_while_the_tree_runs(tmp_path: Path) -> None:
    soon = {
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BLRP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "50",
    }
    with (
        sink("http") as collector,
        exporting(RUN, tmp_path, "http", collector.endpoint, **soon) as program,
    ):
        collector.wait_for(lambda: traces(collector.spans) == SHOP_TRACES[:-1])
        collector.wait_for(lambda: any("gives up" in record.body for record in collector.records))
        collector.wait_for(
            lambda: any(point.name == "spry.system.escalations" for point in collector.points)
        )
        program.until("> ready")
        program.send(signal.SIGTERM)
        assert leaves(program) == 0, program.lines
        assert traces(collector.spans) == SHOP_TRACES


FLUSHED = f"""{SHOP}
exporting = telemetry.configure("otlp")

async def main():
    async with open_system(monitor()):
        await ready.wait()
        say("flushed", await trio.to_thread.run_sync(exporting.flush))
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
say("shut down", exporting.shutdown(), exporting.shutdown(), exporting.flush())
say([thread.name for thread in threading.enumerate() if "spry" in thread.name.lower()])
"""


def test_flush_sends_what_has_been_told_and_goes_on(tmp_path: Path) -> None:
    with sink("grpc") as collector:
        with exporting(FLUSHED, tmp_path, "grpc", collector.endpoint) as program:
            assert leaves(program) == 0, program.lines
        first = [path for path, _ in collector.requests[:3]]
        assert sorted(first) == ["/v1/logs", "/v1/metrics", "/v1/traces"]
        assert traces(collector.spans) == SHOP_TRACES
    ends = ["> flushed True", "> desk down", "> shut down True True True", "> []"]
    assert said(program) == [*SHOP_SAYS[:-1], *ends]


HELD = f"""{SHOP}
exporting = telemetry.configure("otlp")

async def main():
    async with open_system(monitor()):
        await ready.wait()

trio.run(main)
calls = exporting.flush, exporting.shutdown, exporting.shutdown, exporting.flush
say(*[call(0.01) for call in calls])
"""


def test_both_say_so_when_not_all_has_got_out(tmp_path: Path) -> None:
    with (
        sink("http", "hang") as collector,
        exporting(HELD, tmp_path, "http", collector.endpoint) as program,
    ):
        assert leaves(program) == 0, program.lines
    assert said(program) == [*SHOP_SAYS, "> False False False False"]


# What it refuses

REFUSED = """
import json, sys
from spry_py import telemetry

for name in json.loads(sys.argv[1]):
    sys.modules[name] = None
for _ in range(2):
    try:
        telemetry.configure("otlp")
    except (RuntimeError, ValueError) as error:
        print(">", type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("protocol", "extra"), [("http/protobuf", "otlp"), ("grpc", "otlp-grpc"), ("", "otlp")]
)
def test_a_missing_extra_is_named(tmp_path: Path, protocol: str, extra: str) -> None:
    home = "opentelemetry.exporter.otlp.proto"
    text = (
        "> RuntimeError exporting traces over OTLP needs a package more: "
        f"pip install 'spry-py[{extra}]'"
    )
    assert refused(tmp_path, [f"{home}.http", f"{home}.grpc"], protocol) == [text, text]


def test_the_other_protocol_serves_when_only_its_extra_is_there(tmp_path: Path) -> None:
    again = (
        "> RuntimeError a tracer provider has been set already: add a span processor to it instead "
        "of calling spry_py.telemetry.configure"
    )
    assert refused(tmp_path, ["opentelemetry.exporter.otlp.proto.http"], "") == [again]


def test_an_unknown_protocol_is_refused_by_name(tmp_path: Path) -> None:
    text = (
        "> ValueError OTEL_EXPORTER_OTLP_PROTOCOL must be 'http/protobuf' or 'grpc', "
        "not 'http/json'"
    )
    assert refused(tmp_path, [], "http/json") == [text, text]


def refused(cwd: Path, missing: list[str], protocol: str) -> list[str]:
    given = ["-c", REFUSED, json.dumps(missing)]
    spoken = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with spawned(given, cwd, "http", NOWHERE, **spoken) as program:
        assert leaves(program) == 0, program.lines
    return said(program)


def test_the_command_line_tells_what_is_missing_before_it_starts_anything(tmp_path: Path) -> None:
    (tmp_path / "shops.py").write_text(SHOP, encoding="utf-8")
    command = ["-m", "spry_py", "run", "shops:monitor", "--traces", "otlp"]
    with spawned(command, tmp_path, "http", NOWHERE, OTEL_EXPORTER_OTLP_PROTOCOL="nil") as program:
        assert leaves(program) == 2
    text = (
        "spry-py: --traces otlp: OTEL_EXPORTER_OTLP_PROTOCOL must be 'http/protobuf' or 'grpc', "
        "not 'nil'"
    )
    assert program.lines == [text]
