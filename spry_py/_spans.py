"""Spans, through the OpenTelemetry API, to whatever provider the application has set."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext

from ._attributes import Attributes, type_name
from ._errors import Escalation, StartupFailure, sole_leaf_of

EMPTY: Final = Context()


def library_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("spry_py")
    except PackageNotFoundError:  # pragma: no cover - run from a tree that was never installed
        return "0"


class Spans:
    """The tracer of one tree. Without a provider nothing is made, and `None` stands for a span."""

    __slots__ = ("_records_events", "_tracer", "is_tracing")

    def __init__(self) -> None:
        provider = trace.get_tracer_provider()
        idle = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
        self.is_tracing = not isinstance(provider, idle)
        # set to "logs", exceptions go to the log alone; "logs/dup": to both
        opt_in = os.environ.get("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "")
        self._records_events = "logs" not in [word.strip() for word in opt_in.split(",")]
        self._tracer = trace.get_tracer("spry_py", library_version())

    # The context that children are born in

    def is_in_span(self) -> bool:
        """Whether a task spawned now would believe itself inside somebody's span."""
        return self.is_tracing and trace.get_current_span() is not trace.INVALID_SPAN

    @contextmanager
    def clean_context(self) -> Iterator[None]:
        """No current span inside; everything else in the context stays."""
        if not self.is_in_span():
            yield
            return
        token = otel_context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
        try:
            yield
        finally:
            otel_context.detach(token)

    def callers_span(self) -> Span | None:
        """The span that the calling code stands in."""
        return trace.get_current_span() if self.is_in_span() else None

    def start(
        self,
        name: str,
        parent: Span | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
    ) -> Span:
        around = EMPTY if parent is None else trace.set_span_in_context(parent, EMPTY)
        return self._tracer.start_span(name, around, attributes=attributes, links=links)

    def record(self, span: Span, exception: BaseException) -> None:
        if not self._records_events or not span.is_recording():
            return
        # an escalation is told by its text; what caused it has been recorded at its own termination
        chain = not isinstance(exception, Escalation | StartupFailure)
        text = "".join(traceback.format_exception(exception, chain=chain))
        span.add_event(
            "exception",
            {
                "exception.type": type_name(exception),
                "exception.message": str(sole_leaf_of(exception)),
                "exception.stacktrace": text,
            },
        )


def links(*pairs: tuple[str, SpanContext | None]) -> list[Link]:
    """Links to spans that have ended, each saying what for."""
    return [Link(context, {"spry.link": kind}) for kind, context in pairs if context is not None]


def end(span: Span | None) -> None:
    """End a span, unless there is none or it has ended."""
    if span is not None and span.is_recording():
        span.end()
