"""`configure("otlp")` from inside: which exporters are made, and what each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry import metrics
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from fresh import Fresh, crashes_once
from spry_py._export import otlp as _otlp
from spry_py.telemetry import configure


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Fresh:
    return Fresh(monkeypatch)


# OTLP: which exporters are made


def made_of(package: str, module: str, kind: str) -> Any:
    return SimpleNamespace(package=package, module=module, kind=kind)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The protocols whose packages are there; both, unless a test takes one away."""
    there = {"http", "grpc"}
    home = "opentelemetry.exporter.otlp.proto"

    def find(name: str) -> Any:
        package, module = name.removeprefix(f"{home}.").split(".")
        if package not in there:
            raise ModuleNotFoundError(f"No module named {name!r}", name=f"{home}.{package}")
        kinds = [kind for _, kind in _otlp.EXPORTERS.values()]
        return SimpleNamespace(
            **{kind: lambda kind=kind: made_of(package, module, kind) for kind in kinds}
        )

    monkeypatch.setattr(_otlp, "importlib", SimpleNamespace(import_module=find))
    for name in ("PROTOCOL", *(f"{signal}_PROTOCOL" for signal in ("TRACES", "METRICS", "LOGS"))):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for signal in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.delenv(f"OTEL_{signal}_EXPORTER", raising=False)
    return there


def packages() -> dict[str, str]:
    return {signal: exporter.package for signal, exporter in _otlp.otlp_exporters().items()}


HTTP = dict.fromkeys(("traces", "metrics", "logs"), "http")
GRPC = dict.fromkeys(HTTP, "grpc")


@pytest.mark.parametrize(
    ("variables", "there", "expected"),
    [
        ({}, "http grpc", HTTP),
        ({}, "grpc", GRPC),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": ""}, "http grpc", HTTP),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http grpc", HTTP),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": " GRPC "}, "http grpc", GRPC),
        ({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, "http grpc", HTTP | {"logs": "grpc"}),
        (
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "http grpc",
            GRPC | {"traces": "http"},
        ),
        ({"OTEL_METRICS_EXPORTER": "none"}, "http", {"traces": "http", "logs": "http"}),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}, "http", HTTP),
        (
            dict.fromkeys(
                ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "None"
            ),
            "",
            {},
        ),
    ],
)
def test_which_protocol_each_signal_takes(
    variables: dict[str, str],
    there: str,
    expected: dict[str, str],
    installed: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed &= set(there.split())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert packages() == expected


@pytest.mark.parametrize(
    ("protocol", "there", "extra"),
    [("", "", "otlp"), ("http/protobuf", "grpc", "otlp"), ("grpc", "http", "otlp-grpc")],
)
def test_a_missing_package_is_named_by_its_extra_and_nothing_set(
    protocol: str,
    there: str,
    extra: str,
    installed: set[str],
    fresh: Fresh,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed &= set(there.split())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with pytest.raises(RuntimeError, match=rf"pip install 'spry-py\[{extra}\]'"):
        configure("otlp")
    assert fresh.names == []


@pytest.mark.parametrize("signal", ["", "METRICS_"])
def test_an_unknown_protocol_is_refused_and_nothing_set(
    signal: str, installed: set[str], fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL", "http/json")
    with pytest.raises(ValueError, match=r"must be 'http/protobuf' or 'grpc'.* not 'http/json'"):
        configure("otlp")
    assert fresh.names == []


def test_a_package_that_is_broken_is_not_said_to_be_missing(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(_: str) -> Any:
        raise ModuleNotFoundError("No module named 'requests'", name="requests")

    monkeypatch.setattr(_otlp, "importlib", SimpleNamespace(import_module=find))
    with pytest.raises(ModuleNotFoundError, match="requests"):
        _otlp.otlp_exporters()


# What they get


class SpansSent(SpanExporter):
    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.names.append("shutdown")


class MetricsSent(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any
    ) -> MetricExportResult:
        scopes = [scope for each in metrics_data.resource_metrics for scope in each.scope_metrics]
        self.names += [metric.name for scope in scopes for metric in scope.metrics]
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        self.names.append("shutdown")


class LogsSent:
    """Of no base class: that of log exporters has changed its name."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, batch: Sequence[Any]) -> None:
        self.names += [data.log_record.body for data in batch]

    def shutdown(self) -> None:
        self.names.append("shutdown")


SPANS = [
    "spry.child.start",
    "spry.startup",
    "spry.child.start",
    "spry.try_restart",
    "spry.term",
    "spry.wait_for_termination",
    "spry.teardown",
]
METRICS = [
    "spry.child.count",
    "spry.child.start.duration",
    "spry.system.startup.duration",
    "spry.child.terminations",
    "spry.child.lifetime",
    "spry.restart.delay",
    "spry.child.restarts",
    "spry.child.shutdown.duration",
    "spry.system.teardown.duration",
]
LOGS = ["shop/a failed: ValueError: boom", "shop/a will be restarted now"]
ALL = {"traces": SPANS, "metrics": METRICS, "logs": LOGS}


@pytest.mark.parametrize("left_out", ["", "traces", "metrics", "logs"])
@pytest.mark.parametrize("how", ["by the environment", "set by the application"])
def test_each_signal_gets_what_a_tree_tells_it(
    left_out: str, how: str, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {"traces": SpansSent(), "metrics": MetricsSent(), "logs": LogsSent()}
    monkeypatch.setattr("spry_py.telemetry.otlp_exporters", lambda: dict(sent))
    if how == "by the environment" or left_out == "traces":
        sent.pop(left_out, None)
    elif left_out:
        set_by_application(fresh)[left_out]()
    with configure("otlp"):
        crashes_once()
    told = {signal: exporter.names for signal, exporter in sent.items() if exporter.names}
    expected = {signal: [*ALL[signal], "shutdown"] for signal in ALL if signal != left_out}
    assert {signal: sorted(names) for signal, names in told.items()} == {
        signal: sorted(names) for signal, names in expected.items()
    }


def set_by_application(fresh: Fresh) -> dict[str, Any]:
    meters, loggers = metrics.NoOpMeterProvider(), logs_api.NoOpLoggerProvider()
    return {
        "metrics": lambda: fresh.set.update(get_meter_provider=meters),
        "logs": lambda: fresh.set.update(get_logger_provider=loggers),
    }
