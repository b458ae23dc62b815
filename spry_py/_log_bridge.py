"""From `logging` to OpenTelemetry: the records of a tree as log records of a collector."""

from __future__ import annotations

import logging
import time
import traceback
from typing import Any

from opentelemetry import _logs as logs_api
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ._attributes import SCOPE, library_version, type_name


class LogBridge(logging.Handler):
    """Hands the records of the logger ``spry_py`` on to the global logger provider.

    The SDK's own handler formats a traceback each time anew, and is on its way out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logger = logs_api.get_logger(SCOPE, library_version())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hand_on(record)
        except Exception:
            self.handleError(record)
        _as_if_alone(record)

    def _hand_on(self, record: logging.LogRecord) -> None:
        told = logs_api.LogRecord(
            timestamp=int(record.created * 1e9),
            observed_timestamp=time.time_ns(),
            context=_context(record),
            severity_text=record.levelname,
            severity_number=_severity(record.levelno),
            body=record.getMessage(),
            attributes=_attributes(record),
        )
        self._logger.emit(told)


def _context(record: logging.LogRecord) -> otel_context.Context:
    """A context in which the span is current that the record belongs to."""
    trace_id, span_id = getattr(record, "trace_id", None), getattr(record, "span_id", None)
    empty = otel_context.Context()
    if trace_id is None or span_id is None:
        return empty
    flags = TraceFlags(TraceFlags.SAMPLED)
    span = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span), empty)


def _severity(level: int) -> logs_api.SeverityNumber:
    """OpenTelemetry's number of a level: 5 for DEBUG, and 4 more for each of the next ones."""
    return logs_api.SeverityNumber(4 * min(max(level // 10, 0), 5) + 1)


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes = {name: value for name, value in vars(record).items() if "." in name}
    if record.exc_info is not None and record.exc_info[1] is not None:
        exception = record.exc_info[1]
        if record.exc_text is None:
            record.exc_text = "".join(traceback.format_exception(exception)).rstrip("\n")
        attributes["exception.type"] = type_name(exception)
        attributes["exception.message"] = str(exception)
        attributes["exception.stacktrace"] = record.exc_text
    return attributes


def _as_if_alone(record: logging.LogRecord) -> None:
    """Without any handler, warnings go to stderr; a handler that only exports changes nothing."""
    last = logging.lastResort
    others = [*logging.getLogger(SCOPE).handlers, *logging.getLogger().handlers]
    is_alone = all(isinstance(handler, LogBridge) for handler in others)
    if is_alone and last is not None and record.levelno >= last.level:
        last.handle(record)
