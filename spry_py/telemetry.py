"""Exporting the traces of a program in one line, for programs that do not set up OpenTelemetry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


class JsonLinesExporter(SpanExporter):
    """Writes each span as one line of JSON. The file is made anew."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed by shutdown

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._file.writelines(f"{span.to_json(indent=None)}\n" for span in spans)
        self._file.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()


def configure(traces: str, *, service_name: str = "spry_py") -> TracerProvider:
    """Set the global tracer provider: ``"console"``, or the path of a file for JSON lines.

    Call it before a tree is opened, and ``shutdown()`` on what it returns at the end. Raises
    `OSError` if the file cannot be written, `RuntimeError` if a provider has been set already.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise RuntimeError(  # noqa: TRY004 - it is the moment that is wrong, not an argument
            "a tracer provider has been set already: add a span processor to it instead of calling "
            "spry_py.telemetry.configure"
        )
    exporter = ConsoleSpanExporter() if traces == "console" else JsonLinesExporter(traces)
    resource = Resource.create({SERVICE_NAME: service_name})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider
