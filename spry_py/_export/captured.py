"""`Captured`: what the trees of a block emit, kept in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Self

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as RecordedSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from spry_py._incidents.model import stories_of
from spry_py._incidents.prose import sentences
from spry_py._incidents.reading import read_spans
from spry_py._telemetry.logs import NAME, logger_of
from spry_py._telemetry.providers import Capture, capturing

LEAST: Final = logging.INFO


class Captured(AbstractContextManager["Captured"]):
    """What `spry_py.telemetry.capture` has kept up to now, in the words of OpenTelemetry.

    It can be asked within the block, and after it.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._spans = _Spans(_Moments(now))
        self._reader = InMemoryMetricReader()
        self._front = _Front()
        self._before: Capture | None = None

    def __enter__(self) -> Self:
        self._before = capturing.get()
        resource = Resource.get_empty()
        tracers = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        tracers.add_span_processor(self._spans)
        meters = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        capturing.set(Capture(tracers, meters, self._front))
        return self

    def __exit__(self, *_: object) -> None:
        capturing.set(self._before)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends, with times by trio's clock."""
        return list(self._spans.ended)

    @property
    def metrics(self) -> list[Metric]:
        """Each instrument with all its points up to now, summed up."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        scopes = [one for resource in data.resource_metrics for one in resource.scope_metrics]
        return [metric for scope in scopes for metric in scope.metrics]

    @property
    def logs(self) -> list[logging.LogRecord]:
        """The log records from INFO on, whatever level the loggers have, in their order."""
        return list(self._front.records)

    @property
    def incidents(self) -> list[str]:
        """What ``spry-py incidents`` prints of each, as one line of sentences.

        Durations are those of trio's clock, and so the same each time on virtual time.
        """
        lines = (span.to_json(indent=None) for span in self._spans.ended)
        stories = stories_of(read_spans(lines).spans)
        return [" ".join(sentences(story)) for story in stories]


class _Moments:
    """Times for spans, in nanoseconds since 1970, that go by trio's clock.

    No two are in the same microsecond, since their order shows what led to what.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = time.time_ns() // 1000
        # the last reading of trio's clock, and how far it is behind; each run has its own clock
        self._reading = 0
        self._behind: int | None = None

    def next(self) -> int:
        try:
            reading = round(self._now() * 1e6)
        except RuntimeError:
            reading = self._reading  # outside trio, where there is no such clock
        if self._behind is None or reading < self._reading:
            self._behind = self._last - reading
        self._reading = reading
        self._last = max(self._last + 1, reading + self._behind)
        return self._last * 1000


class _Spans(SpanProcessor):
    """Keeps the spans that have ended, with times by trio's clock."""

    def __init__(self, moments: _Moments) -> None:
        self.ended: list[ReadableSpan] = []
        self._moments = moments
        # when those that have not ended began, by their id
        self._begun: dict[int, int] = {}

    def on_start(self, span: RecordedSpan, parent_context: Context | None = None) -> None:
        self._begun[span.get_span_context().span_id] = self._moments.next()

    def on_end(self, span: ReadableSpan) -> None:
        assert span.context is not None
        self.ended.append(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=span.resource,
                attributes=span.attributes,
                events=span.events,
                links=span.links,
                kind=span.kind,
                status=span.status,
                start_time=self._begun.pop(span.context.span_id),
                end_time=self._moments.next(),
                instrumentation_scope=span.instrumentation_scope,
            )
        )


class _Front(logging.Logger):
    """Keeps records on their way to the loggers of the application, which get what they want."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.records: list[logging.LogRecord] = []

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name of `logging`
        return level >= LEAST

    def handle(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        logger = logger_of(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
