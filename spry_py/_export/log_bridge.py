"""From `logging` to OpenTelemetry: the records of a tree as log records of a collector."""

from __future__ import annotations

import logging
from typing import Any, Final

from opentelemetry import _logs as logs_api
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from spry_py._spec.errors import sole_leaf_of, words
from spry_py._telemetry.attributes import SCOPE, library_version, type_name
from spry_py._telemetry.logs import logger_of
from spry_py._telemetry.tracebacks import traceback_of

_NUMBERS: Final = logs_api.SeverityNumber
# by tens of Python's levels
SEVERITIES: Final = (
    _NUMBERS.TRACE,
    _NUMBERS.DEBUG,
    _NUMBERS.INFO,
    _NUMBERS.WARN,
    _NUMBERS.ERROR,
    _NUMBERS.FATAL,
)


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
        sent = logs_api.LogRecord(
            timestamp=int(record.created * 1e9),
            observed_timestamp=int(record.created * 1e9),
            context=_context(record),
            severity_text=record.levelname,
            severity_number=SEVERITIES[min(max(record.levelno // 10, 0), 5)],
            body=record.getMessage(),
            attributes=_attributes(record),
        )
        self._logger.emit(sent)


def _context(record: logging.LogRecord) -> otel_context.Context:
    """A context in which the span is current that the record belongs to."""
    fields, empty = vars(record), otel_context.Context()
    if "trace_id" not in fields:
        return empty
    ids = int(fields["trace_id"], 16), int(fields["span_id"], 16)
    span = SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(fields["trace_flags"]))
    return trace.set_span_in_context(NonRecordingSpan(span), empty)


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes = {name: value for name, value in vars(record).items() if "." in name}
    if record.exc_info is not None and record.exc_info[1] is not None:
        exception = record.exc_info[1]
        if record.exc_text is None:
            record.exc_text = traceback_of(exception).rstrip("\n")
        attributes["exception.type"] = type_name(exception)
        attributes["exception.message"] = words(str, sole_leaf_of(exception))
        attributes["exception.stacktrace"] = record.exc_text
    return attributes


def _as_if_alone(record: logging.LogRecord) -> None:
    """Without any handler, warnings go to stderr; a handler that only exports changes nothing."""
    last = logging.lastResort
    if last is not None and record.levelno >= last.level and not _has_others(record.name):
        last.handle(record)


def _has_others(name: str) -> bool:
    """Whether a record of this name reaches any other handler, as `logging` hands it up."""
    logger: logging.Logger | None = logger_of(name)
    while logger is not None:
        for handler in logger.handlers:
            if not isinstance(handler, LogBridge):
                return True
        logger = logger.parent if logger.propagate else None
    return False
