"""Metrics as a real Prometheus scrapes them, asked for in its own language.

Run with `pytest -m backend`. Needs the extra `backends`, and `prometheus` on the PATH.
"""

from __future__ import annotations

import json
import shutil
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporting import exporting, leaves, said
from servers import Server, polled, serving
from stationery import SHOP, SHOP_SAYS

pytestmark = pytest.mark.backend

SCRAPED_WITHIN = 20.0
NOWHERE = "http://127.0.0.1:9"

# The application brings its own provider, and its own server for it.
RUN = f"""{SHOP}
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
server, _ = start_http_server(0, "127.0.0.1")
say("port", server.server_port)
run(monitor())
"""
CONFIGURATION = """
global:
  scrape_interval: 100ms
  scrape_timeout: 100ms
scrape_configs:
  - job_name: stationery
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""

BY_CHILD = "(spry_system_path, spry_child_key)"
DESK = "monitor/shop desk"
THE_SHOP = "monitor shop"
ASKED = {
    f"sum by {BY_CHILD} (spry_child_restarts_total)": {DESK: 1, THE_SHOP: 1},
    "sum by (spry_termination_reason, error_type) (spry_child_terminations_total)": {
        "failed ValueError": 2,
        "failed spry_py.TooManyRestarts": 1,
    },
    "spry_system_escalations_total": {"monitor/shop": 1},
    "sum by (spry_system_path) (spry_child_count)": {"monitor": 2, "monitor/shop": 1},
    f"sum by {BY_CHILD} (spry_child_lifetime_seconds_count)": {DESK: 2, THE_SHOP: 1},
    'spry_child_lifetime_seconds_bucket{le="604800.0"}': {DESK: 2, THE_SHOP: 1},
    "count by (otel_scope_name) ({__name__=~'spry_.*_total'})": {"spry_py": 5},
}
# One scrape brings all of them.
SCRAPED = "spry_system_escalations_total"
LABELS = (
    "spry_system_path",
    "spry_child_key",
    "spry_termination_reason",
    "error_type",
    "otel_scope_name",
)


@contextmanager
def prometheus(cwd: Path, target: int) -> Iterator[Server]:
    found = shutil.which("prometheus")
    assert found is not None, "there is no `prometheus` on the PATH"
    (cwd / "prometheus.yml").write_text(CONFIGURATION.format(port=target), encoding="utf-8")

    def command(ports: list[int]) -> list[str]:
        flags = {
            "config.file": cwd / "prometheus.yml",
            "storage.tsdb.path": cwd / "data",
            "web.listen-address": f"127.0.0.1:{ports[0]}",
        }
        return [found, *(f"--{name}={value}" for name, value in flags.items())]

    with serving(command, 1, cwd) as server:
        yield server


def answers(server: Server, query: str) -> dict[str, float]:
    """The present value of each series, under those of its labels that tell the series apart."""
    where = f"http://127.0.0.1:{server.ports[0]}/api/v1/query"
    given = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"{where}?{given}", timeout=SCRAPED_WITHIN) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return {}  # it listens before it is ready
    return {_name(one["metric"]): float(one["value"][1]) for one in found["data"]["result"]}


def _name(labels: dict[str, str]) -> str:
    told = LABELS if set(labels) == {"otel_scope_name"} else LABELS[:-1]
    return " ".join(labels[name] for name in told if name in labels)


def test_prometheus_counts_what_happened(tmp_path: Path) -> None:
    with exporting(RUN, tmp_path, "http", NOWHERE) as program:
        port = int(program.until("> port").split()[-1])
        program.until("> ready")
        with prometheus(tmp_path, port) as server:
            polled(lambda: answers(server, SCRAPED) or None, SCRAPED_WITHIN)
            assert {query: answers(server, query) for query in ASKED} == ASKED
        program.send(signal.SIGTERM)
        assert leaves(program) == 0, program.lines
    assert said(program)[1:] == SHOP_SAYS
