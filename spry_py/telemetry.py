"""Exporting what a tree tells, in one line, for programs that do not set up OpenTelemetry.

A tree speaks to whatever providers the application has set. `configure` sets them: for the console,
for a file of JSON lines, or for a collector over OTLP. Whatever is exported leaves the program in
threads of its own, and never holds up a tree.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import _logs as logs_api
from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from ._attributes import SCOPE
from ._check import check_seconds
from ._log_bridge import LogBridge
from ._otlp import otlp_exporters

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

# A local file or a terminal takes spans at once; it is only not to be waited for.
LOCAL_DELAY_MILLIS: Final = 200
LOCAL_QUEUE: Final = 32_768


def configure(traces: str | os.PathLike[str], *, service_name: str | None = None) -> Exporting:
    """Set OpenTelemetry's global providers, and say where what a tree tells goes.

    ``traces`` is ``"console"``, ``"otlp"``, or the path of a file that is made anew and gets each
    span as one line of JSON, which ``spry-py incidents`` reads. ``"otlp"`` sends traces, metrics
    and the records of the logger ``spry_py`` to a collector, over HTTP (extra ``otlp``) or gRPC
    (extra ``otlp-grpc``); the standard variables apply, ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_EXPORTER_OTLP_PROTOCOL`` and ``OTEL_METRICS_EXPORTER=none`` among them. A meter or logger
    provider that has been set already stays. ``service_name`` names the program in the back end
    unless ``OTEL_SERVICE_NAME`` does; ``spry_py`` if nobody says.

    Call it before a tree is opened. Shut down what it returns at the end of the program, or leave
    that to the end of the process. Raises `OSError` if the file cannot be written, `RuntimeError`
    if a tracer provider has been set already or an extra is not installed, `ValueError` for a word
    that is none of these and looks like no path: a path has a directory or a suffix.
    """
    if isinstance(traces, str) and traces not in ("console", "otlp"):
        _check_path(traces)
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise RuntimeError(  # noqa: TRY004 - it is the moment that is wrong, not an argument
            "a tracer provider has been set already: add a span processor to it instead of calling "
            "spry_py.telemetry.configure"
        )
    resource = _resource(service_name or SCOPE)
    providers = _otlp(resource) if traces == "otlp" else [_local(traces, resource)]
    return Exporting(providers)


def _check_path(traces: str) -> None:
    path = Path(traces)
    if not (path.suffix or len(path.parts) > 1 or traces.startswith(".")):
        raise ValueError(
            f"traces must be 'console', 'otlp' or the path of a file, not {traces!r}; for a file "
            f"of that name, './{traces}' or '{traces}.jsonl'"
        )


class Exporting:
    """What is being exported, as `configure` returns it; a context manager that shuts it down.

    Both methods block the calling thread, for ``within`` seconds at most however the other side
    behaves; call them from a trio program through `trio.to_thread.run_sync`. What has not got out
    by then may be lost, and a warning says so. A process that shuts nothing down itself has it done
    at its exit, within 2 seconds.
    """

    def __init__(self, providers: Sequence[Any]) -> None:
        self._helpers: list[_Helper] = [_Helper(provider) for provider in providers]
        atexit.register(self.shutdown)

    def flush(self, within: float = 2.0) -> bool:
        """Send what has been told up to now; says whether that was done ``within`` so many seconds.

        What a collector does not take is not noticed here: the SDK logs it, and drops it.
        """
        return self._finish(_Helper.flush, within)

    def shutdown(self, within: float = 2.0) -> bool:
        """Send what is left and stop exporting; says as `flush` whether that was done in time.

        Further calls wait for the first one.
        """
        done = self._finish(_Helper.shutdown, within)
        atexit.unregister(self.shutdown)
        return done

    def _finish(self, job_of: Callable[[_Helper], threading.Event], within: float) -> bool:
        check_seconds("telemetry", "within", within)
        jobs = [job_of(helper) for helper in self._helpers]
        until = time.monotonic() + min(within, threading.TIMEOUT_MAX)
        is_done = all(job.wait(max(0.0, until - time.monotonic())) for job in jobs)
        if not is_done:
            logging.getLogger(SCOPE).warning(
                "not all telemetry got out within %g s: the collector may be down or slow", within
            )
        return is_done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.shutdown()


class _Helper:
    """A thread that flushes one provider and shuts it down.

    The SDK's own calls may take far longer than they were asked to. The thread is there from the
    beginning, since none can be begun while the interpreter ends, and it is left behind then.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], threading.Event] | None]
        self._jobs = queue.SimpleQueue()
        self._over: threading.Event | None = None
        threading.Thread(target=self._work, name="spry_py export", daemon=True).start()

    def flush(self) -> threading.Event:
        return self._over or self._ask(self._provider.force_flush)

    def shutdown(self) -> threading.Event:
        if self._over is None:
            self._over = self._ask(self._provider.shutdown)
            self._jobs.put(None)
        return self._over

    def _ask(self, call: Callable[[], object]) -> threading.Event:
        done = threading.Event()
        self._jobs.put((call, done))
        return done

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, done = job
            try:
                call()
            except Exception:
                logging.getLogger(SCOPE).exception("exporting telemetry failed")
            finally:
                done.set()


# Where it goes


def _local(traces: str | os.PathLike[str], resource: Resource) -> TracerProvider:
    exporter: SpanExporter
    if traces == "console":
        exporter = ConsoleSpanExporter(out=sys.stdout)
    else:
        exporter = JsonLinesExporter(traces)
    processor = BatchSpanProcessor(
        exporter, max_queue_size=LOCAL_QUEUE, schedule_delay_millis=LOCAL_DELAY_MILLIS
    )
    return _traced(resource, processor)


def _traced(resource: Resource, processor: BatchSpanProcessor) -> TracerProvider:
    # the SDK's own hook at exit knows no bound
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return provider


def _otlp(resource: Resource) -> list[Any]:
    """The providers of all three signals, but for those that the environment turns off."""
    exporters = otlp_exporters()
    providers: list[Any] = []
    if "traces" in exporters:
        providers.append(_traced(resource, BatchSpanProcessor(exporters["traces"])))
    if "metrics" in exporters and _is_unset(metrics.get_meter_provider()):
        providers.append(_metered(resource, exporters["metrics"]))
    if "logs" in exporters and _is_unset(logs_api.get_logger_provider()):
        providers.append(_logged(resource, exporters["logs"]))
    return providers


def _metered(resource: Resource, exporter: Any) -> MeterProvider:
    reader = PeriodicExportingMetricReader(exporter)
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    return provider


def _logged(resource: Resource, exporter: Any) -> LoggerProvider:
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logs_api.set_logger_provider(provider)
    logging.getLogger(SCOPE).addHandler(LogBridge())
    return provider


def _is_unset(provider: object) -> bool:
    return type(provider).__name__ in {"_ProxyMeterProvider", "ProxyLoggerProvider"}


def _resource(service_name: str) -> Resource:
    """What the environment says of the program, and a name for it in any case."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service_name}))
    return resource


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
