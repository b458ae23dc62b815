"""The program's own log records, with the child whose code has written them."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spry_py._handles.context import carrier, current_context
from spry_py._kernel.context import current_incarnation

# outside a tree, so that a format may name them
_NOTHING: Final[dict[str, object]] = {
    "spry.child.path": "",
    "spry.child.key": "",
    "spry.child.incarnation": 0,
    "trace_id": "",
    "span_id": "",
    "trace_flags": 0,
}
_propagator: Final = TraceContextTextMapPropagator()
# an incarnation, and what is known of it; of a child around it where its own is not known yet
_known: ContextVar[tuple[object, dict[str, object]] | None] = ContextVar(
    "spry_py_log_fields", default=None
)


class LogFilter(logging.Filter):
    """See `spry_py.telemetry.log_filter`."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields = vars(record)
        for name, value in (_NOTHING | _here()).items():
            fields.setdefault(name, value)
        return True

    def __call__(
        self, logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for name, value in _here().items():
            event.setdefault(name, value)
        return event


def _here() -> dict[str, object]:
    """What is known of the code that runs here and now."""
    incarnation = current_incarnation()
    fields = _of_child(incarnation) if incarnation is not None else {}
    span = trace.get_current_span().get_span_context()
    return fields | _of_span(span) if span.is_valid else fields


def _of_child(incarnation: object) -> dict[str, object]:
    """The same for all of an incarnation: made once for a task, since records come in numbers."""
    known = _known.get()
    if known is not None and known[0] is incarnation:
        return known[1]
    context = current_context()
    fields: dict[str, object] = {
        "spry.child.path": context.path,
        "spry.child.key": context.key,
        "spry.child.incarnation": context.incarnation,
    }
    # the span of its start, in whose trace all else about it stands
    start = trace.get_current_span(_propagator.extract(carrier(context))).get_span_context()
    if start.is_valid:
        fields |= _of_span(start)
    _known.set((incarnation, fields))
    return fields


def _of_span(span: trace.SpanContext) -> dict[str, object]:
    return {
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "trace_flags": int(span.trace_flags),
    }
