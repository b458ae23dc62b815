"""Spans: the facts of a tree as operations, through the OpenTelemetry API.

There is a span for each operation and none for a child's lifetime, since a span that never ends is
never exported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode

from spry_py._spec.errors import (
    Escalation,
    Interrupted,
    StartupFailure,
    TooManyRestarts,
    sole_leaf_of,
    tell,
    words,
)

from .attributes import (
    SCOPE,
    TIMEOUT,
    Attributes,
    child_attributes,
    error_type,
    library_version,
    report_attributes,
    system_attributes,
    type_name,
)
from .logs import why_no_start
from .tracebacks import traceback_of

if TYPE_CHECKING:
    from spry_py._kernel.incarnation import Incarnation
    from spry_py._kernel.keeper import Keeper
    from spry_py._kernel.member import Member
    from spry_py._spec.termination import TerminationReport

    from .listener import Incident

EMPTY: Final = Context()
# What a supervisor fails with when its breaker refuses.
REFUSED: Final = f"{SCOPE}.{TooManyRestarts.__name__}"


def spans_of_application() -> Spans | None:
    """Spans for the tracer provider that the application has set, if it has."""
    provider = trace.get_tracer_provider()
    idle = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    return None if isinstance(provider, idle) else Spans(provider)


class Spans:
    """The tracer of one tree."""

    __slots__ = ("_records_exceptions", "_tracer")

    def __init__(self, provider: trace.TracerProvider) -> None:
        # set to "logs", exceptions go to the log alone; "logs/dup": to both
        opt_in = os.environ.get("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "")
        self._records_exceptions = "logs" not in [word.strip() for word in opt_in.split(",")]
        self._tracer = provider.get_tracer(SCOPE, library_version())

    # A system comes up

    def startup_began(self, loop: Keeper, parent: Span | None) -> None:
        links = _links("restart_of", loop.last_startup)
        span = self._start("spry.startup", parent, system_attributes(loop), links)
        loop.startup_span = span
        loop.last_startup = span.get_span_context()

    def startup_ended(self, loop: Keeper, error: BaseException | None) -> None:
        span, loop.startup_span = loop.startup_span, None
        if isinstance(error, StartupFailure) and not isinstance(error, Interrupted):
            _end_failed(span, error)
        else:
            end(span)

    # A child comes up

    def child_starting(self, member: Member, incarnation: Incarnation) -> None:
        parent = member.loop.startup_span or attempt_span(member.incident)
        links = _links("restart_of", member.start_span)
        span = self._start("spry.child.start", parent, child_attributes(member), links)
        incarnation.span = span
        member.start_span = span.get_span_context()

    def start_failed(self, span: Span, exception: BaseException | None) -> str | None:
        """The ``span`` of a start ends; answers as `_record`."""
        try:
            _mark(span, why_no_start(exception), error_type(exception))
            return self._record(span, exception)
        finally:
            span.end()

    def child_slow(self, span: Span | None, path: str, stack: str, seconds: float) -> None:
        if span is not None:
            where = {"spry.child.path": path, "spry.child.stack": stack}
            span.add_event("spry.child.slow", where | {"spry.child.seconds": seconds})

    # A child ends

    def wait_began(self, member: Member, parent: Span | None) -> Span:
        links = _links("terminates", member.start_span)
        return self._start("spry.wait_for_termination", parent, child_attributes(member), links)

    def wait_ended(self, wait: Span, report: TerminationReport) -> str | None:
        """A child has ended as it was asked to; answers as `_record`."""
        try:
            wait.set_attributes(report_attributes(report))
            return self._tell_exception(wait, report)
        finally:
            wait.end()

    def terminated(
        self, member: Member, report: TerminationReport, wanted: bool, incident: Incident
    ) -> str | None:
        """A child has ended by itself: ``incident`` begins; answers as `_record`."""
        inner = member.inner
        below = inner.incident.term if inner is not None and inner.incident is not None else None
        attributes = child_attributes(member) | report_attributes(report)
        attributes["spry.restart.wanted"] = wanted
        links = _links("terminates", member.start_span)
        incident.term = self._start("spry.term", below, attributes, links)
        return self._tell_exception(incident.term, report)

    def child_stuck(self, wait: Span | None, path: str, stack: str) -> None:
        if wait is not None:
            wait.add_event("spry.child.stuck", {"spry.child.path": path, "spry.child.stack": stack})

    # Children are stopped

    def teardown_began(self, loop: Keeper, parent: Span | None) -> None:
        if loop.teardown_span is None:
            loop.teardown_span = self._start("spry.teardown", parent, system_attributes(loop))

    # A child is restarted

    def restart_decided(
        self, loop: Keeper, member: Member | None, incident: Incident, allowed: bool, delay: float
    ) -> None:
        attributes = system_attributes(loop) | {
            "spry.restart.strategy": loop.strategy,
            "spry.restart.allowed": allowed,
            "spry.restart.attempt": incident.attempt,
            "spry.restart.delay": delay,
        }
        incident.trying = span = self._start("spry.try_restart", incident.term, attributes)
        if not allowed:
            what = f"run the system function of {loop.path!r} again"
            if member is not None:
                what = f"restart {member.path!r}"
            _end_marked(span, f"the breaker refused to {what}", REFUSED)

    def attempt_failed(self, incident: Incident, error: BaseException | None) -> None:
        span, incident.trying = incident.trying, None
        _end_failed(span, error)

    # One span

    def _start(
        self, name: str, parent: Span | None, attributes: Attributes, links: Sequence[Link] = ()
    ) -> Span:
        around = EMPTY if parent is None else trace.set_span_in_context(parent, EMPTY)
        return self._tracer.start_span(name, around, attributes=attributes, links=links)

    def _tell_exception(self, span: Span, report: TerminationReport) -> str | None:
        exception = report.exception
        if exception is None or not report.failed:
            return None
        _mark(span, tell(exception), error_type(exception))
        return self._record(span, exception)

    def _record(self, span: Span, exception: BaseException | None) -> str | None:
        """Record an exception; answers its traceback as text, if that had to be made."""
        if exception is None or not self._records_exceptions or not span.is_recording():
            return None
        return record(span, exception)


def record(span: Span, exception: BaseException, timestamp: int | None = None) -> str:
    """Record an exception, whatever it is, as OpenTelemetry wants it; returns its traceback."""
    # an escalation is told by its text; what caused it has been recorded at its own termination
    chain = not isinstance(exception, Escalation | StartupFailure)
    text = traceback_of(exception, chain=chain)
    fields = {
        "exception.type": type_name(exception),
        "exception.message": words(str, sole_leaf_of(exception)),
        "exception.stacktrace": text,
    }
    span.add_event("exception", fields, timestamp)
    return text


def attempt_span(incident: Incident | None) -> Span | None:
    """The span of the restart under way."""
    return incident.trying if incident is not None else None


def end(span: Span | None) -> None:
    """End a span, unless there is none or it has ended."""
    if span is not None and span.is_recording():
        span.end()


def mark_late(loop: Keeper, text: str) -> None:
    """A child has outlived its time."""
    if loop.teardown_span is not None:
        _mark(loop.teardown_span, text, TIMEOUT)


def _mark(span: Span, text: str, kind: str) -> None:
    span.set_status(Status(StatusCode.ERROR, text))
    span.set_attribute("error.type", kind)


def _end_marked(span: Span, text: str, kind: str) -> None:
    try:
        _mark(span, text, kind)
    finally:
        span.end()


def _end_failed(span: Span | None, error: BaseException | None) -> None:
    if span is not None:
        _end_marked(span, tell(error), error_type(error))


def _links(kind: str, context: SpanContext | None) -> Sequence[Link]:
    """A link to a span that has ended, saying what for."""
    return (Link(context, {"spry.link": kind}),) if context is not None else ()


def inject(context: SpanContext | None, headers: dict[str, str]) -> None:
    """Write what a span, and what the present context carries besides, reads like in headers."""
    around = None
    if context is not None:
        around = trace.set_span_in_context(trace.NonRecordingSpan(context))
    propagate.inject(headers, around)


# The context that children are born in


context_here: Final = otel_context.get_current


def callers_span() -> Span | None:
    """The span that the calling code stands in."""
    span = trace.get_current_span()
    return span if span is not trace.INVALID_SPAN else None


@contextmanager
def clean_context() -> Iterator[None]:
    """No current span inside; everything else in the context stays."""
    if callers_span() is None:
        yield
        return
    token = otel_context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
    try:
        yield
    finally:
        otel_context.detach(token)
