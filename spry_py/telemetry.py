"""Exporting what a tree emits, in one line, for programs that do not set up OpenTelemetry.

A tree emits to the providers that the application has set. `configure` sets them: for the console,
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
from typing import TYPE_CHECKING, Any, Final, Self, cast

import trio
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

from spry_py._export.captured import Captured as Captured  # noqa: PLC0414 - for users
from spry_py._export.log_bridge import LogBridge
from spry_py._export.log_filter import LogFilter
from spry_py._export.otlp import otlp_exporters
from spry_py._kernel.guard import guarded
from spry_py._spec.check import check_seconds
from spry_py._telemetry.attributes import SCOPE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

# A local file or a terminal takes spans at once; it is only not to be waited for.
LOCAL_DELAY_MILLIS: Final = 200
LOCAL_QUEUE: Final = 32_768


def configure(traces: str | os.PathLike[str], *, service_name: str | None = None) -> Exporting:
    """Set OpenTelemetry's global providers, and where they send what a tree emits.

    ``traces`` is ``"console"``, ``"otlp"``, or the path of a file that is made anew and gets each
    span as one line of JSON, which ``spry-py incidents`` reads. ``"otlp"`` sends traces, metrics
    and the records of the logger ``spry_py`` to a collector, over HTTP (extra ``otlp``) or gRPC
    (extra ``otlp-grpc``); the standard variables apply, ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_EXPORTER_OTLP_PROTOCOL`` and ``OTEL_METRICS_EXPORTER=none`` among them. A meter or logger
    provider that has been set already stays. ``service_name`` names the program in the back end
    unless ``OTEL_SERVICE_NAME`` does; ``spry_py`` if neither is given.

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
    return Exporting(_otlp(resource) if traces == "otlp" else [_local(traces, resource)])


def log_filter() -> LogFilter:
    """A filter that puts the running child on each record of the program's own loggers.

    On a handler, which sees the records of all loggers (a filter of a logger sees only those made
    with that very one)::

        handler.addFilter(telemetry.log_filter())
        handler.setFormatter(logging.Formatter("%(spry.child.path)s: %(message)s"))

    The fields are ``spry.child.path``, ``spry.child.key`` and ``spry.child.incarnation``, of the
    child whose code writes the record, in its nested tasks and in its threads, too; ``trace_id``,
    ``span_id`` and ``trace_flags`` are those of the current span, else of the start of the child.
    Outside a tree, and where nothing is traced, they are empty. A field that a record has stays as
    it is. The same object is a processor for structlog, which adds what there is::

        structlog.configure(processors=[telemetry.log_filter(), ...])
    """
    return LogFilter()


def capture() -> Captured:
    """Keep what trees emit in memory, for tests::

        with telemetry.capture() as captured:
            trio.run(main)
        assert captured.incidents == ["shop/db, a permanent worker, failed after 1 s with …"]

    All trees that are opened within the block are captured, whether they end there or not: their
    ``spans``, ``metrics`` and ``logs``, and the ``incidents`` in sentences. In their place the
    providers that the application has set get nothing of these trees; its loggers get what they
    would have got. Nothing global is changed, and trees opened elsewhere meanwhile, as in another
    task or thread, are left alone. In a nested block the inner one captures.
    """
    return Captured(trio.current_time)


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
    by then may be lost, and a warning is logged. What a process does not shut down itself is shut
    down at its exit, within 2 seconds. In a forked process this is not done: call `shutdown` there,
    or what the fork has emitted in its last moment is lost.
    """

    def __init__(self, providers: Sequence[Any]) -> None:
        # of a provider whose exporter is not watched, only what it returns itself is known
        signals = [one if isinstance(one, _Signal) else _Signal(one) for one in providers]
        self._helpers: list[_Helper] = [_Helper(signal) for signal in signals]
        atexit.register(self.shutdown)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        atexit.unregister(self.shutdown)
        for helper in self._helpers:
            helper.forked()

    def flush(self, within: float = 2.0) -> bool:
        """Send what has been emitted up to now, ``within`` so many seconds.

        `True` only if all of it was taken, from the first span on: what a full disk or a collector
        has refused, or what found no room in the queue, is lost (the SDK logs that). Of metrics the
        last export counts, as each holds all sums.
        """
        return self._finish(_Helper.flush, within)

    def shutdown(self, within: float = 2.0) -> bool:
        """Send what is left and stop exporting; returns what `flush` does.

        Further calls wait for the first one.
        """
        done = self._finish(_Helper.shutdown, within)
        atexit.unregister(self.shutdown)
        return done

    def _finish(self, job_of: Callable[[_Helper], _Job], within: float) -> bool:
        check_seconds("telemetry", "within", within)
        jobs = [job_of(helper) for helper in self._helpers]
        until = time.monotonic() + min(within, threading.TIMEOUT_MAX)
        if not all(job.done.wait(max(0.0, until - time.monotonic())) for job in jobs):
            _warn(
                f"not all telemetry got out within {within:g} s: the collector may be down or slow"
            )
            return False
        if not all(job.is_whole for job in jobs):
            _warn(
                "not all telemetry got out: it was refused, could not be written, or was too much"
            )
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.shutdown()


def _warn(text: str) -> None:
    guarded(logging.getLogger(SCOPE).warning, text)


class _Job:
    """Something to be done by a helper."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        # written by the helper, before it is done
        self.is_whole = False
        self.done = threading.Event()


class _Helper:
    """A thread that flushes one provider and shuts it down.

    The SDK's own calls may take far longer than they were asked to. The thread is there from the
    beginning, since none can be begun while the interpreter ends, and it is left behind then.
    """

    def __init__(self, signal: _Signal) -> None:
        self._signal = signal
        self.forked()
        self._begin()

    def forked(self) -> None:
        """This process has no thread; it is begun again only if there is something to do."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._over: _Job | None = None
        self._has_thread = False
        self._signal.forked()

    def _begin(self) -> None:
        self._has_thread = True
        threading.Thread(target=self._work, name="spry_py export", daemon=True).start()

    def flush(self) -> _Job:
        return self._over or self._ask(self._signal.provider.force_flush)

    def shutdown(self) -> _Job:
        if self._over is None:
            self._over = self._ask(self._signal.provider.shutdown)
            self._jobs.put(None)
        return self._over

    def _ask(self, call: Callable[[], object]) -> _Job:
        if not self._has_thread:
            self._begin()
        job = _Job(call)
        self._jobs.put(job)
        return job

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            emitted = self._signal.emitted
            try:
                job.is_whole = job.call() is not False and self._signal.is_out(emitted)
            except Exception:
                guarded(logging.getLogger(SCOPE).exception, "exporting telemetry failed")
            finally:
                job.done.set()


class _Signal:
    """One provider, and how much of what it has received its exporter has taken."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.forked()

    def forked(self) -> None:
        """What the parent process has received, the parent sends."""
        self._lock = threading.Lock()
        self.emitted = self._taken = 0
        self._were_sums_taken = True

    def count(self) -> None:
        """A span or a record more, from any thread."""
        with self._lock:
            self.emitted += 1

    def watch(self, exporter: Any) -> Any:
        """The same exporter, which counts what it takes."""
        export = exporter.export

        def watched(batch: Any, *args: Any, **options: Any) -> Any:
            taken = False
            try:
                result = export(batch, *args, **options)
                taken = result.name == "SUCCESS"
                return result
            finally:
                self._note(batch, taken)

        exporter.export = watched
        return exporter

    def _note(self, batch: object, taken: bool) -> None:
        if isinstance(batch, Sequence):
            self._taken += len(cast("Sequence[object]", batch)) if taken else 0
        else:
            self._were_sums_taken = taken

    def is_out(self, emitted: int) -> bool:
        """Whether so many spans or records were taken, or the sums when they were last sent."""
        return self._were_sums_taken and self._taken >= emitted


# Where it goes


def _local(traces: str | os.PathLike[str], resource: Resource) -> _Signal:
    exporter: SpanExporter
    if traces == "console":
        exporter = ConsoleSpanExporter(out=sys.stdout)
    else:
        exporter = JsonLinesExporter(traces)
    return _traced(resource, exporter, LOCAL_QUEUE, LOCAL_DELAY_MILLIS)


class _Spans(BatchSpanProcessor):
    """Counts what it receives, as the queue drops what finds no room in it."""

    def __init__(self, signal: _Signal, *args: Any) -> None:
        self._count = signal.count
        super().__init__(*args)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._count()
        super().on_end(span)


class _Logs(BatchLogRecordProcessor):
    """The same for records."""

    def __init__(self, signal: _Signal, exporter: Any) -> None:
        self._count = signal.count
        super().__init__(exporter)

    def on_emit(self, log_record: Any) -> None:
        self._count()
        super().on_emit(log_record)


def _traced(
    resource: Resource, exporter: Any, most: int | None = None, delay_millis: float | None = None
) -> _Signal:
    # the SDK's own hook at exit knows no bound
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    signal = _Signal(provider)
    provider.add_span_processor(_Spans(signal, signal.watch(exporter), most, delay_millis))
    trace.set_tracer_provider(provider)
    return signal


def _otlp(resource: Resource) -> list[_Signal]:
    """All three signals, but for those that the environment turns off."""
    exporters = otlp_exporters()
    signals: list[_Signal] = []
    if "traces" in exporters:
        signals.append(_traced(resource, exporters["traces"]))
    if "metrics" in exporters and _is_unset(metrics.get_meter_provider()):
        signals.append(_metered(resource, exporters["metrics"]))
    if "logs" in exporters and _is_unset(logs_api.get_logger_provider()):
        signals.append(_logged(resource, exporters["logs"]))
    return signals


def _metered(resource: Resource, exporter: Any) -> _Signal:
    reader = PeriodicExportingMetricReader(exporter)
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    signal = _Signal(provider)
    signal.watch(exporter)
    metrics.set_meter_provider(provider)
    return signal


def _logged(resource: Resource, exporter: Any) -> _Signal:
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    signal = _Signal(provider)
    provider.add_log_record_processor(_Logs(signal, signal.watch(exporter)))
    logs_api.set_logger_provider(provider)
    logging.getLogger(SCOPE).addHandler(LogBridge())
    return signal


def _is_unset(provider: object) -> bool:
    return type(provider).__name__ in {"_ProxyMeterProvider", "ProxyLoggerProvider"}


def _resource(service_name: str) -> Resource:
    """The resource that the environment describes, with a name in any case."""
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
