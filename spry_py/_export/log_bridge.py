"""From `logging` to OpenTelemetry: the records of a tree as log records of a collector."""

from __future__ import annotations

import logging
from time import time_ns
from typing import Any, Final

from opentelemetry import _logs as logs_api
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from spry_py._spec.errors import sole_leaf_of, words
from spry_py._telemetry.attributes import SCOPE, library_version, type_name
from spry_py._telemetry.logs import Entry, EntryHandler, handlers_of, logger_of
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


class LogBridge(EntryHandler):
    """Hands what the logger ``spry_py`` logs on to the global logger provider.

    The SDK's own handler formats a traceback each time anew, and is on its way out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logger = logs_api.get_logger(SCOPE, library_version())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            moment, level = int(record.created * 1e9), record.levelno
            attributes, around = _attributes(record), _around(_span_of(record))
            self._send(moment, level, record.levelname, record.getMessage(), attributes, around)
        except Exception:
            self.handleError(record)
        last = _last_resort(logger_of(record.name), record.levelno)
        if last is not None:
            last.handle(record)

    def take(self, entry: Entry) -> None:
        try:
            level, name = entry.level, logging.getLevelName(entry.level)
            attributes = _attributes_of(entry)
            around = _around(None if entry.span is None else entry.span.get_span_context())
            self._send(time_ns(), level, name, entry.message, attributes, around)
        except Exception:
            self.handleError(entry.record())
        last = _last_resort(entry.logger, entry.level)
        if last is not None:
            last.handle(entry.record())

    def _send(
        self,
        moment: int,
        level: int,
        level_name: str,
        message: str,
        attributes: dict[str, Any],
        around: otel_context.Context,
    ) -> None:
        sent = logs_api.LogRecord(
            timestamp=moment,
            observed_timestamp=moment,
            context=around,
            severity_text=level_name,
            severity_number=SEVERITIES[min(max(level // 10, 0), 5)],
            body=message,
            attributes=attributes,
        )
        self._logger.emit(sent)


def _span_of(record: logging.LogRecord) -> SpanContext | None:
    """The span that a record belongs to."""
    fields = vars(record)
    if "trace_id" not in fields:
        return None
    ids = int(fields["trace_id"], 16), int(fields["span_id"], 16)
    return SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(fields["trace_flags"]))


def _around(span: SpanContext | None) -> otel_context.Context:
    """A context in which that span is current, or none."""
    empty = otel_context.Context()
    return empty if span is None else trace.set_span_in_context(NonRecordingSpan(span), empty)


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes = {name: value for name, value in vars(record).items() if "." in name}
    if record.exc_info is not None and record.exc_info[1] is not None:
        exception = record.exc_info[1]
        if record.exc_text is None:
            record.exc_text = traceback_of(exception).rstrip("\n")
        attributes |= _of_exception(exception, record.exc_text)
    return attributes


def _attributes_of(entry: Entry) -> dict[str, Any]:
    attributes, exception = dict(entry.fields), entry.exception
    if exception is not None:
        text = traceback_of(exception) if entry.trace is None else entry.trace
        attributes |= _of_exception(exception, text.rstrip("\n"))
    return attributes


def _of_exception(exception: BaseException, text: str) -> dict[str, Any]:
    return {
        "exception.type": type_name(exception),
        "exception.message": words(str, sole_leaf_of(exception)),
        "exception.stacktrace": text,
    }


def _last_resort(logger: logging.Logger, level: int) -> logging.Handler | None:
    """Without any handler, warnings go to stderr; a handler that only exports changes nothing."""
    last = logging.lastResort
    if last is None or level < last.level:
        return None
    for handler in handlers_of(logger):
        if not isinstance(handler, LogBridge):
            return None
    return last
