"""What telemetry adds to a restart, and that it adds nothing while a child just runs.

The cycle is that of the figure ``restart``: a child that crashes right after it has started, on
bare trio a ``nursery.start`` of a function that crashes. Global providers can be set only once in a
process, so each configuration is measured in a fresh process, both sides in turn. What is exported
is dropped, but all the way to the exporter is paid for: the queues are emptied before the time is
taken.
"""

from __future__ import annotations

import gc
import logging
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeAlias

import trio
import trio.testing
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from spry_py import Child, open_system
from spry_py._export.log_bridge import LogBridge

from . import restart
from .harness import (
    Options,
    Row,
    clock,
    compared,
    count_cpu_time,
    counts_cpu_time,
    in_turn,
    round_by_round,
)

Flush: TypeAlias = Callable[[], object]
CHECKPOINTS_PER_CHILD = 100
# Restarts without a pause overrun queues of the usual size, and what is dropped costs less.
QUEUE = 1_000_000

# What has reached the exporters of this process.
exported: Counter[str] = Counter()


class Spans(SpanExporter):
    """Counts, and drops."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        exported["spans"] += len(spans)
        return SpanExportResult.SUCCESS


class Records(LogRecordExporter):
    """Counts, and drops."""

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        exported["log records"] += len(batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        pass


class Points(MetricExporter):
    """Counts the durations measured so far, and drops them."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        exported["durations"] = sum(
            getattr(point, "count", 0)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        )
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass


def set_traces(sampler: Sampler) -> Flush:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(Spans(), max_queue_size=QUEUE))
    trace.set_tracer_provider(provider)
    return provider.force_flush


def set_metrics(views: Sequence[View] = ()) -> Flush:
    provider = MeterProvider([PeriodicExportingMetricReader(Points())], views=views)
    metrics.set_meter_provider(provider)
    return provider.force_flush


def set_logs(level: int) -> Flush:
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(Records(), max_queue_size=QUEUE))
    set_logger_provider(provider)
    logger = logging.getLogger("spry_py")
    # with no handler but the bridge, warnings would go to stderr as well
    logger.addHandler(logging.NullHandler())
    logger.addHandler(LogBridge())
    logger.setLevel(level)
    return provider.force_flush


def nothing() -> list[Flush]:
    return []


def sampled_out() -> list[Flush]:
    """No trace is sampled, and each instrument has a view that drops it."""
    drop = View(instrument_name="*", aggregation=DropAggregation())
    return [set_traces(ALWAYS_OFF), set_metrics([drop])]


def traces() -> list[Flush]:
    return [set_traces(ALWAYS_ON)]


def measurements() -> list[Flush]:
    return [set_metrics()]


def records() -> list[Flush]:
    return [set_logs(logging.INFO)]


def all_signals() -> list[Flush]:
    """As after `configure("otlp")`: `logging` hands on warnings and what is worse."""
    return [set_traces(ALWAYS_ON), set_metrics(), set_logs(logging.WARNING)]


def all_with_info() -> list[Flush]:
    return [set_traces(ALWAYS_ON), set_metrics(), set_logs(logging.INFO)]


CONFIGURATIONS: dict[str, tuple[Callable[[], list[Flush]], float]] = {
    "API only": (nothing, 1.5),
    "SDK, all sampled out": (sampled_out, 4.0),
    "traces alone": (traces, float("inf")),
    "metrics alone": (measurements, float("inf")),
    "logs alone": (records, float("inf")),
    "all signals": (all_signals, 9.0),
    "all signals, log records from INFO on": (all_with_info, float("inf")),
}


async def supervised(count: int, flushes: list[Flush]) -> float:
    """Seconds for so many restarts, and for all that they emit to reach the exporters."""
    seconds = await restart.supervised(count)
    began = clock()
    for flush in flushes:
        flush()
    return seconds + clock() - began


def cycle(figure: str, options: Options) -> Row:
    """A crash and its restart, against the bare side of the figure ``restart``."""
    set_up, target = CONFIGURATIONS[figure]
    flushes = set_up()
    count = options.children
    ours, bare, guarded = in_turn(
        options.rounds,
        partial(supervised, count, flushes),
        partial(restart.bare, count),
        partial(restart.bare_cycle, count),
    )
    other = statistics.median(round_by_round(ours, guarded))
    note = f"{emitted(count, options.rounds + 1)}; {other:.2f} against a crash caught in the task"
    return compared(f"restart, {figure}", ours, bare, count=count, target=target, note=note)


def emitted(count: int, rounds: int) -> str:
    """What one restart has put into the exporters, to show that nothing was measured for free."""
    amounts = [f"{amount / count / rounds:.1f} {name}" for name, amount in exported.items()]
    return f"each: {', '.join(amounts) or 'nothing'} exported"


async def spin(count: int) -> float:
    began = clock()
    for _ in range(count):
        await trio.lowlevel.checkpoint()
    return clock() - began


async def supervised_spin(count: int, flushes: list[Flush]) -> float:
    """As `spin`, in a child; nothing may be emitted between its start and its end."""
    seconds = 0.0
    before = after = Counter[str]()
    done = trio.Event()

    async def spinning(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal seconds, before, after
        task_status.started()
        await trio.testing.wait_all_tasks_blocked()  # until its start has been emitted
        for flush in flushes:
            flush()
        before = Counter(exported)
        began = clock()
        await spin(count)
        for flush in flushes:
            flush()
        seconds = clock() - began
        after = Counter(exported)
        done.set()

    async with open_system([Child("child", spinning)]):
        await done.wait()
    assert before == after, (before, after)
    return seconds


async def bare_spin(count: int, flushes: list[Flush]) -> float:
    """In a task of its own, and with the same empty queues to flush."""
    seconds = 0.0

    async def spinning() -> None:
        nonlocal seconds
        began = clock()
        await spin(count)
        for flush in flushes:
            flush()
        seconds = clock() - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spinning)
    return seconds


def running(figure: str, options: Options) -> Row:
    flushes = all_signals()
    count = CHECKPOINTS_PER_CHILD * options.children
    ours, bare = in_turn(
        options.rounds, partial(supervised_spin, count, flushes), partial(bare_spin, count, flushes)
    )
    assert all(exported[signal] for signal in ("spans", "log records", "durations"))
    note = f"{count:,} checkpoints a round, meanwhile nothing is exported"
    return compared(figure, ours, bare, count=count, target=1.05, note=note)


def in_this_process(
    measure: Callable[[str, Options], Row], figure: str, options: Options, cpu: bool, collects: bool
) -> Row:
    """What a fresh process does: measure with the options of its parent."""
    logger = logging.getLogger("spry_py")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    if cpu:
        count_cpu_time()
    if not collects:
        gc.disable()
    return measure(figure, options)


def alone(measure: Callable[[str, Options], Row], figure: str, options: Options) -> Row:
    """The row, measured in a process without providers."""
    settings = counts_cpu_time(), gc.isenabled()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(in_this_process, measure, figure, options, *settings).result()


def rows(options: Options) -> Iterator[Row]:
    for figure in CONFIGURATIONS:
        yield alone(cycle, figure, options)
    yield alone(running, "a child that runs, all signals", options)
