"""Exporters to a collector over OTLP, as far as they are installed and the environment wants them.

They read their standard variables themselves (endpoint, headers, timeout, compression); which of
them to make is what is decided here.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

EXPORTERS: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
PACKAGES: Final = {"http/protobuf": "http", "grpc": "grpc"}
EXTRAS: Final = {"http": "otlp", "grpc": "otlp-grpc"}


def otlp_exporters() -> dict[str, Any]:
    """An exporter for each signal that is not turned off.

    Raises `RuntimeError` if the package for it is not installed, `ValueError` for a protocol that
    is not known.
    """
    return {signal: _exporter(signal) for signal in EXPORTERS if _is_wanted(signal)}


def _is_wanted(signal: str) -> bool:
    return _variable(f"OTEL_{signal.upper()}_EXPORTER") != "none"


def _exporter(signal: str) -> Any:
    names = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    name = next(filter(_variable, names), "")
    protocol = _variable(name)
    if protocol and protocol not in PACKAGES:
        allowed = " or ".join(map(repr, PACKAGES))
        raise ValueError(f"{name} must be {allowed}, not {protocol!r}")
    # without such a variable, the first that is installed
    packages = [PACKAGES[protocol]] if protocol else list(EXTRAS)
    for package in packages:
        try:
            return _make(package, *EXPORTERS[signal])
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("opentelemetry.exporter"):
                raise
    raise RuntimeError(
        f"exporting {signal} over OTLP needs a package more: pip install "
        f"'spry-py[{EXTRAS[packages[0]]}]'"
    )


def _make(package: str, module: str, name: str) -> Any:
    found = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}")
    return getattr(found, name)()


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip().lower()
