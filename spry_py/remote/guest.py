"""`Guest`: what is traced of the tree on the other side, as a part of that on this side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext

from .order import Order

TERM: Final = "spry.term"
START: Final = "spry.child.start"


class Guest:
    """The tree in which an order is carried out, as its spans have it.

    That tree is a frame around one child, which is known on this side, too. So of the frame and of
    that child only the start is traced there, below the start on this side, and all else of them
    here. What the child has below it is traced there, and what would be a trace of its own
    belongs to that start: all but incidents, each of which is one.
    """

    def __init__(self, order: Order) -> None:
        self._frame = order.key
        self._child = f"{order.key}/{order.key}"
        self._start: SpanContext = trace.INVALID_SPAN_CONTEXT
        with suppress(Exception):  # what a propagator cannot read is no reason not to do the work
            around = propagate.extract(order.carrier)
            self._start = trace.get_current_span(around).get_span_context()
        # the incident that the child has ended with; written by `above`
        self._incident: SpanContext = trace.INVALID_SPAN_CONTEXT

    def __call__(self, provider: trace.TracerProvider) -> trace.TracerProvider:
        """For `traced_through`."""
        return _Tracers(provider, self)

    @property
    def incident(self) -> dict[str, str]:
        """The incident below that the child has ended with, as headers; empty if there is none."""
        headers: dict[str, str] = {}
        if self._incident.is_valid:
            span = trace.NonRecordingSpan(self._incident)
            with suppress(Exception):
                propagate.inject(headers, trace.set_span_in_context(span, Context()))
        return headers

    def known_here(self, name: str, fields: Mapping[str, Any], around: Context | None) -> bool:
        """Whether this span is traced on this side alone."""
        path = fields.get("spry.child.path")
        is_frame = path is None and fields.get("spry.system.path") == self._frame
        if name == TERM and path == self._child:
            self._incident = trace.get_current_span(around).get_span_context()
        return is_frame or (path == self._child and name != START)

    def above(self, name: str, around: Context | None) -> Context | None:
        """Below what the span of another operation stands."""
        if name == TERM or trace.get_current_span(around).get_span_context().is_valid:
            return around
        return trace.set_span_in_context(self.stand_in, Context())

    @property
    def stand_in(self) -> Span:
        """The start on this side, as a span of that one."""
        return trace.NonRecordingSpan(self._start)


class _Tracers(trace.TracerProvider):
    def __init__(self, provider: trace.TracerProvider, guest: Guest) -> None:
        self._provider = provider
        self._guest = guest

    def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
        return _Tracer(self._provider.get_tracer(*args, **options), self._guest)


class _Tracer(trace.Tracer):
    def __init__(self, tracer: trace.Tracer, guest: Guest) -> None:
        self._tracer = tracer
        self._guest = guest

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        *args: Any,
        **options: Any,
    ) -> Span:
        guest = self._guest
        if guest.known_here(name, attributes or {}, context):
            return guest.stand_in
        around = guest.above(name, context)
        return self._tracer.start_span(name, around, kind, attributes, links, *args, **options)

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:
        return self._tracer.start_as_current_span(*args, **options)
