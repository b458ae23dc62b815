"""Through a real collector, `rotel`, to a sink behind it. Run with `pytest -m backend`.

Needs the extra `backends`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from exporting import exporting, leaves, said
from otlp_records import traces
from otlp_sink import Protocol, Sink, sink
from servers import Server, serving
from stationery import BOOT, SHOP, SHOP_LOGS, SHOP_METRICS, SHOP_SAYS, SHOP_TRACES, log_of, totals

pytestmark = pytest.mark.backend
PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "grpc"])

RUN = f"""{SHOP}
logging.getLogger("spry_py").setLevel(logging.INFO)
report = run(monitor(), traces="otlp")
say(report.path, report.reason, report.burden)
"""
ORDERLY = [*SHOP_SAYS, "> monitor Normal(value=None) settling"]
# The first desk crashes when it is told to: not before the collector is dead.
PATIENT = RUN.replace(
    "        if crashes:",
    """        while len(crashes) == 2 and not pathlib.Path("crash").exists():
            await trio.sleep(0.005)
        if crashes:""",
)
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_METRIC_EXPORT_INTERVAL": "20"}


def agent() -> str:
    found = find_spec("rotel")
    assert found is not None, "the extra `backends` is not installed"
    assert found.origin is not None
    return str(Path(found.origin).parent / "rotel-agent")


@contextmanager
def rotel(cwd: Path, protocol: Protocol, behind: Sink) -> Iterator[tuple[Server, str]]:
    """A collector that speaks `protocol` on both sides, and where it is to be reached."""

    def command(ports: list[int]) -> list[str]:
        http, grpc = (f"127.0.0.1:{port}" for port in ports)
        flags = {
            "otlp-http-endpoint": http,
            "otlp-grpc-endpoint": grpc,
            "otlp-exporter-endpoint": behind.endpoint,
            "otlp-exporter-protocol": protocol,
            "batch-timeout": "20ms",
            "pid-file": str(cwd / "rotel.pid"),
            "log-file": str(cwd / "rotel.log"),
        }
        given = [text for name, value in flags.items() for text in (f"--{name}", value)]
        return [agent(), "start", "--exporter", "otlp", *given]

    with serving(command, 2, cwd) as server:
        yield server, f"http://127.0.0.1:{server.ports[protocol == 'grpc']}"


@PROTOCOLS
def test_the_whole_incident_comes_through_a_collector(tmp_path: Path, protocol: Protocol) -> None:
    with sink(protocol) as behind, rotel(tmp_path, protocol, behind) as (_, endpoint):
        with exporting(RUN, tmp_path, protocol, endpoint) as program:
            program.until("> ready")
            program.send(signal.SIGTERM)
            assert (leaves(program), said(program)) == (0, ORDERLY)
        behind.wait_for(lambda: traces(behind.spans) == SHOP_TRACES)
        behind.wait_for(lambda: totals(behind.points) == SHOP_METRICS)
        behind.wait_for(lambda: log_of(behind.records, behind.spans) == SHOP_LOGS)


@PROTOCOLS
def test_a_collector_that_dies_takes_nothing_with_it(tmp_path: Path, protocol: Protocol) -> None:
    with sink(protocol) as behind, rotel(tmp_path, protocol, behind) as (server, endpoint):
        with exporting(PATIENT, tmp_path, protocol, endpoint, **AT_ONCE) as program:
            behind.wait_for(lambda: traces(behind.spans) == [BOOT])
            server.kill()
            (tmp_path / "crash").touch()
            program.until("> ready")
            program.send(signal.SIGTERM)
            assert (leaves(program), said(program)) == (0, ORDERLY), program.lines
        assert traces(behind.spans) == [BOOT]
