"""Incidents read back, with their links, from a trace store that has an API, mlflow.

By hand only, since mlflow brings some 80 packages. Beside the suite, in an environment of its own:

    python3 -m venv /tmp/mlflow
    /tmp/mlflow/bin/pip install '.[test]' mlflow
    /tmp/mlflow/bin/pytest -m trace_store

mlflow keeps traces and neither metrics nor logs, so the program exports traces alone. What comes
back is OTLP again, in JSON, with one attribute of mlflow's own added to every span.
"""

from __future__ import annotations

import json
import signal
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporting import exporting, leaves, said
from otlp_records import Span, spans_of, traces
from servers import Server, polled, serving
from stationery import SHOP, SHOP_SAYS, SHOP_TRACES

pytestmark = pytest.mark.trace_store

STORED_WITHIN = 20.0
EXPERIMENT = "0"
RUN = f"""{SHOP}
run(monitor(), traces="otlp")
"""
SETTINGS = {
    "OTEL_EXPORTER_OTLP_HEADERS": f"x-mlflow-experiment-id={EXPERIMENT}",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


@contextmanager
def mlflow(cwd: Path) -> Iterator[Server]:
    def command(ports: list[int]) -> list[str]:
        flags = {
            "host": "127.0.0.1",
            "port": ports[0],
            "workers": 1,
            "backend-store-uri": f"sqlite:///{cwd / 'mlflow.db'}",
            "default-artifact-root": cwd / "artifacts",
        }
        given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        return [sys.executable, "-m", "mlflow", "server", *given]

    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, 1, cwd, **quiet) as server:
        yield server


def asked(server: Server, path: str, body: Any = None) -> Any:
    """What the store answers to a GET, or, with a body, to a POST."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.ports[0]}/api/3.0/mlflow/traces/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=STORED_WITHIN) as answer:
        return json.load(answer)


def stored(server: Server) -> list[Span]:
    """Every span that the store has, as it came to it."""
    where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": EXPERIMENT}}
    found = asked(server, "search", {"locations": [where], "max_results": 100})
    ids = [("trace_ids", trace["trace_id"]) for trace in found.get("traces", [])]
    if not ids:
        return []
    whole = asked(server, f"batchGet?{urllib.parse.urlencode(ids)}")
    spans = [span for trace in whole["traces"] for span in trace["spans"]]
    exported = {"resource_spans": [{"scope_spans": [{"spans": spans}]}]}
    return [own(span) for span in spans_of(ParseDict(exported, ExportTraceServiceRequest()))]


def own(span: Span) -> Span:
    """The span without the attribute that mlflow has added."""
    attributes = {k: v for k, v in span.attributes.items() if k != "mlflow.traceRequestId"}
    return span._replace(attributes=attributes)


def test_incidents_come_back_with_their_links(tmp_path: Path) -> None:
    with mlflow(tmp_path) as server:
        endpoint = f"http://127.0.0.1:{server.ports[0]}"
        with exporting(RUN, tmp_path, "http", endpoint, **SETTINGS) as program:
            program.until("> ready")
            program.send(signal.SIGTERM)
            assert (leaves(program), said(program)) == (0, SHOP_SAYS), program.lines
        polled(lambda: len(stored(server)) == 21 or None, STORED_WITHIN)
        assert traces(stored(server)) == SHOP_TRACES
