"""Export to a collector that is dead, silent, hanging, unavailable or slow: no tree ever notices.

All programs run at the same time, since each waits for its collector in vain.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from exporting import exporting, leaves, said, spawned
from otlp_records import traces
from otlp_sink import Mode, Protocol, sink
from programs import Program
from stationery import FAILS, FAILS_SAYS, SHOP, SHOP_SAYS, SHOP_TRACES, STUCK, STUCK_SAYS

PROTOCOLS: list[Protocol] = ["http", "grpc"]
# Exports begin while the tree runs: if the collector's trouble could be the tree's, it would.
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_METRIC_EXPORT_INTERVAL": "10"}
WARNING = "not all telemetry got out within 2 s"

RUN = f"""{SHOP}
report = run(monitor(), traces="otlp")
say(report.path, report.reason, report.burden)
"""
RUN_FAILS = f"""{FAILS}
run(monitor(), traces="otlp")
"""
FORGETS = f"""{SHOP}
telemetry.configure("otlp")
run(monitor())
sys.exit(3)
"""
ORDERLY = [*SHOP_SAYS, "> monitor Normal(value=None) settling"]


class Case(NamedTuple):
    protocol: Protocol
    mode: Mode
    text: str = RUN
    status: int = 0
    says: list[str] = ORDERLY
    # before each SIGTERM, the line to wait for
    stops: Sequence[str] = ("> ready",)


MODES: list[Mode] = ["refuse", "silent", "hang", "503", "slow"]
CASES = {
    f"{protocol}-{mode}": Case(protocol, mode) for protocol, mode in product(PROTOCOLS, MODES)
} | {
    "fails": Case("http", "hang", RUN_FAILS, 1, FAILS_SAYS, ()),
    "forgotten": Case("grpc", "hang", FORGETS, 3, SHOP_SAYS),
    "stuck": Case("grpc", "hang", STUCK, 128 + signal.SIGTERM, STUCK_SAYS, STUCK_SAYS),
    "command": Case("http", "hang", SHOP, 0, SHOP_SAYS),
}


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Program]]:
    """A program for each of `CASES`, past its crashes and restarts, and told to stop."""
    with ExitStack() as stack:
        programs = {
            name: _started(stack, case, tmp_path_factory.mktemp(name))
            for name, case in CASES.items()
        }
        for name, program in programs.items():
            for line in CASES[name].stops:
                program.until(line)
                program.send(signal.SIGTERM)
        yield programs


def _started(stack: ExitStack, case: Case, cwd: Path) -> Program:
    collector = stack.enter_context(sink(case.protocol, case.mode))
    if case.text != SHOP:
        return stack.enter_context(
            exporting(case.text, cwd, case.protocol, collector.endpoint, **AT_ONCE)
        )
    (cwd / "shops.py").write_text(SHOP, encoding="utf-8")
    command = ["-m", "spry_py", "run", "shops:monitor", "--traces", "otlp"]
    return stack.enter_context(spawned(command, cwd, case.protocol, collector.endpoint, **AT_ONCE))


@pytest.mark.parametrize("name", CASES)
def test_the_tree_goes_on_and_the_program_leaves_in_time(
    fleet: Mapping[str, Program], name: str
) -> None:
    case, program = CASES[name], fleet[name]
    assert (leaves(program), said(program)) == (case.status, case.says), program.lines
    if case.mode != "refuse":  # that may also fail at once
        program.index(WARNING)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_slow_but_in_time_gets_everything(
    tmp_path: Path, protocol: Protocol
) -> None:
    with sink(protocol, "slow", slow_seconds=0.3) as collector:
        with exporting(RUN, tmp_path, protocol, collector.endpoint) as program:
            program.until("> ready")
            program.send(signal.SIGTERM)
            assert (leaves(program), said(program)) == (0, ORDERLY)
        assert traces(collector.spans) == SHOP_TRACES
        assert [path for path, _ in sorted(collector.requests)] == [
            "/v1/logs",
            "/v1/metrics",
            "/v1/traces",
        ]
