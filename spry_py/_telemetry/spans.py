"""Spans: the facts of a tree as operations, through the OpenTelemetry API.

There is a span for each operation and none for a child's lifetime, since a span that never ends is
never exported.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode

from spry_py._kernel.facts import Incident, Origin
from spry_py._spec.errors import (
    Escalation,
    Interrupted,
    StartupFailure,
    TooManyRestarts,
    sole_leaf_of,
    summary_of,
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
from .providers import provider_of_tree
from .tracebacks import traceback_of

if TYPE_CHECKING:
    from spry_py._kernel.facts import AboutChild, AboutRun, AboutSystem, Cause
    from spry_py._spec.termination import TerminationReport

EMPTY: Final = Context()
# What a supervisor fails with when its breaker refuses.
REFUSED: Final = f"{SCOPE}.{TooManyRestarts.__name__}"


def spans_of_application() -> Spans | None:
    """Spans for the tracer provider that the application has set, if it has."""
    provider = provider_of_tree()
    return None if provider is None else Spans(provider)


class _Births:
    """What the next incarnation of a child, and the next run of its system, are linked to."""

    __slots__ = ("start", "startup")

    def __init__(self) -> None:
        self.start: SpanContext | None = None
        self.startup: SpanContext | None = None


class _Cure:
    """The span of an incident, and that of the restart under way."""

    __slots__ = ("term", "trying")

    def __init__(self) -> None:
        self.term: Span | None = None
        self.trying: Span | None = None


class Spans:
    """The tracer of one tree, and the spans of what is under way in it."""

    __slots__ = (
        "_belows",
        "_births",
        "_callers",
        "_cures",
        "_records_exceptions",
        "_starts",
        "_startups",
        "_stops",
        "_teardowns",
        "_tracer",
        "_waits",
    )

    def __init__(self, provider: trace.TracerProvider) -> None:
        # set to "logs", exceptions go to the log alone; "logs/dup": to both
        opt_in = os.environ.get("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "")
        self._records_exceptions = "logs" not in [word.strip() for word in opt_in.split(",")]
        self._tracer = provider.get_tracer(SCOPE, library_version())
        # what is under way, each until it is over
        self._starts: dict[object, Span] = {}
        self._waits: dict[AboutRun, Span] = {}
        self._startups: dict[object, Span] = {}
        self._teardowns: dict[AboutSystem, Span] = {}
        # the current span of the caller that stops a supervisor
        self._stops: dict[AboutSystem, Span] = {}
        # what is known of a child, an incident and a call as long as the tree knows them
        self._births: WeakKeyDictionary[AboutChild, _Births] = WeakKeyDictionary()
        self._cures: WeakKeyDictionary[Incident, _Cure] = WeakKeyDictionary()
        self._callers: WeakKeyDictionary[Origin, Span] = WeakKeyDictionary()
        # of children that are about to end, the incident elsewhere that they end with; made by
        # the first, for most trees have none
        self._belows: WeakKeyDictionary[AboutChild, Span] | None = None

    # What there is

    def last_start(self, child: AboutChild) -> SpanContext | None:
        """The span of the last start of a child."""
        births = self._births.get(child)
        return births.start if births is not None else None

    def start_of(self, run: AboutRun) -> Span | None:
        """The span of a start under way."""
        return self._starts.get(run)

    def wait_of(self, run: AboutRun) -> Span | None:
        """The span of the wait for the end of an incarnation."""
        return self._waits.get(run)

    def startup_of(self, startup: object) -> Span | None:
        """The span of a run of a system function."""
        return self._startups.get(startup)

    def teardown_of(self, system: AboutSystem) -> Span | None:
        """The span of a teardown under way."""
        return self._teardowns.get(system)

    def term_of(self, incident: Incident | None) -> Span | None:
        """The span of an incident itself, also when it is over."""
        cure = self._cures.get(incident) if incident is not None else None
        return cure.term if cure is not None else None

    def attempt_of(self, incident: Incident | None) -> Span | None:
        """The span of the restart under way."""
        cure = self._cures.get(incident) if incident is not None else None
        return cure.trying if cure is not None else None

    def _parent(self, part_of: Cause) -> Span | None:
        """The span of the first of these that has one."""
        return next(filter(None, map(self._of, part_of)), None)

    def _of(self, token: object) -> Span | None:
        match token:
            case Incident():
                return self.attempt_of(token)
            case Origin():
                return self._callers.get(token)
            case _:
                return self._startups.get(token) or self._starts.get(token)

    def _cure_of(self, incident: Incident) -> _Cure:
        return self._cures.setdefault(incident, _Cure())

    def _births_of(self, child: AboutChild) -> _Births:
        return self._births.setdefault(child, _Births())

    # What others do with a tree

    def call_made(self, call: Origin) -> None:
        span = callers_span()
        if span is not None:
            self._callers[call] = span

    def stop_asked(self, system: AboutSystem) -> None:
        span = callers_span()
        self._stops.pop(system, None)
        if span is not None:
            self._stops[system] = span

    # A system comes up

    def startup_began(self, system: AboutSystem, startup: object, part_of: Cause) -> None:
        child = system.own.member
        assert child is not None, "a supervisor starts something after its end"
        births = self._births_of(child)
        links = _links("restart_of", births.startup)
        attributes = system_attributes(system)
        span = self._start("spry.startup", self._parent(part_of), attributes, links)
        self._startups[startup] = span
        births.startup = span.get_span_context()

    def startup_ended(self, startup: object, error: BaseException | None) -> None:
        span = self._startups.pop(startup, None)
        if isinstance(error, StartupFailure) and not isinstance(error, Interrupted):
            _end_failed(span, error)
        else:
            end(span)

    def system_stopped(self, system: AboutSystem) -> None:
        self._stops.pop(system, None)

    # A child comes up

    def child_starting(self, child: AboutChild, run: AboutRun, part_of: Cause) -> None:
        parent = self._parent((*part_of, child.incident))
        births = self._births_of(child)
        links = _links("restart_of", births.start)
        if self._belows is not None:
            self._belows.pop(child, None)
        span = self._start("spry.child.start", parent, child_attributes(child), links)
        self._starts[run] = span
        births.start = span.get_span_context()

    def child_started(self, run: AboutRun) -> Span | None:
        """Return the span of its start, which is over."""
        return self._starts.pop(run, None)

    def start_failed(self, span: Span, exception: BaseException | None) -> str | None:
        """End the ``span`` of a start; returns what `_record` returns."""
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

    def incident_elsewhere(self, child: AboutChild, headers: Mapping[str, str]) -> None:
        """A child is about to end with an incident of another program, which the headers name."""
        span = extracted(headers)
        if span.get_span_context().is_valid:
            if self._belows is None:
                self._belows = WeakKeyDictionary()
            self._belows[child] = span

    def child_ended(self, run: AboutRun) -> tuple[Span | None, Span | None]:
        """Return the spans of its start, if it was never up, and of the wait for its end."""
        return self._starts.pop(run, None), self._waits.pop(run, None)

    def child_asked(self, child: AboutChild, run: AboutRun, part_of: Cause) -> None:
        if run in self._waits:
            return
        parent = self._teardowns.get(child.loop) or self._parent(part_of)
        links = _links("terminates", self.last_start(child))
        attributes = child_attributes(child)
        self._waits[run] = self._start("spry.wait_for_termination", parent, attributes, links)

    def wait_ended(self, wait: Span, report: TerminationReport) -> str | None:
        """A child has ended as it was asked to; returns what `_record` returns."""
        try:
            wait.set_attributes(report_attributes(report))
            return self._tell_exception(wait, report)
        finally:
            wait.end()

    def terminated(
        self, child: AboutChild, report: TerminationReport, incident: Incident, wanted: bool
    ) -> str | None:
        """A child has ended by itself: ``incident`` begins; returns what `_record` returns."""
        below = self._belows.pop(child, None) if self._belows is not None else None
        if child.inner is not None:
            below = self.term_of(child.inner.incident)
        attributes = child_attributes(child) | report_attributes(report)
        attributes["spry.restart.wanted"] = wanted
        links = _links("terminates", self.last_start(child))
        term = self._start("spry.term", below, attributes, links)
        self._cure_of(incident).term = term
        return self._tell_exception(term, report)

    def child_stuck(self, wait: Span | None, path: str, stack: str) -> None:
        if wait is not None:
            wait.add_event("spry.child.stuck", {"spry.child.path": path, "spry.child.stack": stack})

    # Children are stopped

    def teardown_began(self, system: AboutSystem, part_of: Cause) -> None:
        self._tear_down(system, self._parent(part_of))

    def system_ending(self, system: AboutSystem) -> None:
        if system.incident is not None:
            self._tear_down(system, self.term_of(system.incident))
        else:
            self.subtree_aborted(system)

    def subtree_aborted(self, system: AboutSystem) -> None:
        own = system.own
        parent = self._waits.get(own) or self._starts.get(own) or self._stops.get(system)
        self._tear_down(system, parent)

    def _tear_down(self, system: AboutSystem, parent: Span | None) -> None:
        if system not in self._teardowns:
            attributes = system_attributes(system)
            self._teardowns[system] = self._start("spry.teardown", parent, attributes)

    def teardown_ended(self, system: AboutSystem) -> None:
        end(self._teardowns.pop(system, None))

    def child_late(self, system: AboutSystem, text: str) -> None:
        """A child has outlived its time."""
        teardown = self._teardowns.get(system)
        if teardown is not None:
            _mark(teardown, text, TIMEOUT)

    # A child is restarted

    def restart_decided(
        self,
        system: AboutSystem,
        child: AboutChild | None,
        incident: Incident,
        allowed: bool,
        delay: float,
    ) -> None:
        attributes = system_attributes(system) | {
            "spry.restart.strategy": system.strategy,
            "spry.restart.allowed": allowed,
            "spry.restart.attempt": incident.attempt,
            "spry.restart.delay": delay,
        }
        cure = self._cure_of(incident)
        cure.trying = span = self._start("spry.try_restart", cure.term, attributes)
        if not allowed:
            what = f"run the system function of {system.path!r} again"
            if child is not None:
                what = f"restart {child.path!r}"
            _end_marked(span, f"the breaker refused to {what}", REFUSED)

    def attempt_over(self, incident: Incident | None) -> None:
        """Nothing more belongs to the restart under way: it was one, or was given up."""
        cure = self._cures.get(incident) if incident is not None else None
        if cure is not None:
            span, cure.trying = cure.trying, None
            end(span)

    def attempt_failed(self, incident: Incident, error: BaseException | None) -> None:
        cure = self._cure_of(incident)
        span, cure.trying = cure.trying, None
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
        # its type is among the attributes of the report
        span.set_status(Status(StatusCode.ERROR, summary_of(exception)))
        return self._record(span, exception)

    def _record(self, span: Span, exception: BaseException | None) -> str | None:
        """Record an exception; returns its traceback as text, if that had to be made."""
        if exception is None or not self._records_exceptions or not span.is_recording():
            return None
        return record(span, exception)


def record(span: Span, exception: BaseException, timestamp: int | None = None) -> str:
    """Record an exception, whatever it is, as OpenTelemetry wants it; returns its traceback."""
    # the text of an escalation is enough: its cause has been recorded at its own termination
    chain = not isinstance(exception, Escalation | StartupFailure)
    text = traceback_of(exception, chain=chain)
    fields = {
        "exception.type": type_name(exception),
        "exception.message": words(str, sole_leaf_of(exception)),
        "exception.stacktrace": text,
    }
    span.add_event("exception", fields, timestamp)
    return text


def end(span: Span | None) -> None:
    """End a span, unless there is none or it has ended."""
    if span is not None and span.is_recording():
        span.end()


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
        _end_marked(span, summary_of(error), error_type(error))


def _links(kind: str, context: SpanContext | None) -> Sequence[Link]:
    """A link to a span that has ended; ``kind`` is what it is for."""
    return (Link(context, {"spry.link": kind}),) if context is not None else ()


def inject(headers: dict[str, str], context: SpanContext | None = None) -> None:
    """Write what a span, and what the present context carries besides, reads like in headers."""
    # finds the propagators that are installed, which costs files to read
    from opentelemetry import propagate  # noqa: PLC0415

    around = None
    if context is not None:
        around = trace.set_span_in_context(trace.NonRecordingSpan(context))
    propagate.inject(headers, around)


def extracted(headers: Mapping[str, str]) -> Span:
    """The span that headers name; an invalid one if they name none."""
    from opentelemetry import propagate  # noqa: PLC0415 - see above

    return trace.get_current_span(propagate.extract(headers, EMPTY))


# The context that children are born in


context_here: Final = otel_context.get_current


def callers_span() -> Span | None:
    """The span that the calling code stands in."""
    span = trace.get_current_span()
    return span if span is not trace.INVALID_SPAN else None


@contextmanager
def clean_context() -> Generator[None, None, None]:
    """No current span inside; everything else in the context stays."""
    if callers_span() is None:
        yield
        return
    token = otel_context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
    try:
        yield
    finally:
        otel_context.detach(token)
