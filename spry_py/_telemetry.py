"""Telling: the one place that turns a fact into an event, a span and a log record.

Nothing here decides anything. Spans go through the OpenTelemetry API to whatever provider the
application has set; without one the calls cost next to nothing. There is a span for each operation
and none for a child's lifetime, since a span that never ends is never exported.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.trace import Span, Status, StatusCode

from ._attributes import (
    child_attributes,
    report_attributes,
    system_attributes,
)
from ._errors import Ignore, Interrupted, StartupFailure, sole_leaf_of, tell
from ._events import (
    ChildAborted,
    ChildDiscarded,
    ChildSettling,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildStuck,
    ChildTerminated,
    Escalated,
    RestartRefused,
    RestartScheduled,
    SystemStarted,
    SystemStopped,
    SystemTeardown,
)
from ._logs import is_on, log, log_child, log_end
from ._policy import Verdict
from ._spans import Spans, end, links
from ._subscription import Stream

if TYPE_CHECKING:
    from ._incarnation import Incarnation
    from ._keeper import Keeper
    from ._loop import Loop
    from ._nursery import Member
    from ._termination import TerminationReport


class Incident:
    """A termination and what is done about it, until it is cured or given up."""

    __slots__ = ("attempt", "term", "trying")

    def __init__(self, term: Span | None) -> None:
        self.term = term
        # the span of the restart under way, and its number
        self.trying: Span | None = None
        self.attempt = 0


class Teller:
    """Tells the facts of one tree. `None` stands for a span wherever nothing is recorded."""

    __slots__ = (
        "_ending",
        "callers_span",
        "clean_context",
        "is_in_span",
        "is_tracing",
        "spans",
        "stream",
        "subscribers",
    )

    def __init__(self) -> None:
        self.stream = Stream()
        # with nobody there, one look at this is all that events cost
        self.subscribers = self.stream.subscribers
        # whose last teardown has been told
        self._ending: set[Loop] = set()
        self.spans = Spans()
        self.is_tracing = self.spans.is_tracing
        self.is_in_span = self.spans.is_in_span
        self.clean_context = self.spans.clean_context
        self.callers_span = self.spans.callers_span

    # A system comes up

    def boot_parent(self, loop: Loop) -> Span | None:
        """The span that the first startup of a system belongs to; nothing for a root."""
        span: Span | None = loop.own.span
        return span

    def startup_began(self, loop: Loop, parent: Span | None) -> None:
        if self.is_tracing:
            links_ = links(("restart_of", loop.last_startup))
            span = self.spans.start("spry.startup", parent, system_attributes(loop), links_)
            loop.startup_span = span
            loop.last_startup = span.get_span_context()

    def startup_ended(self, loop: Loop, error: BaseException | None) -> None:
        span, loop.startup_span = loop.startup_span, None
        if span is not None:
            failed = isinstance(error, StartupFailure) and not isinstance(error, Interrupted)
            if error is not None and failed:
                span.set_status(Status(StatusCode.ERROR, tell(error)))
            span.end()

    def system_started(self, loop: Loop) -> None:
        if self.subscribers:
            self.stream.publish(SystemStarted, loop.path)
        if loop.own.span is None and _is_root(loop):
            log(loop.path, logging.INFO, "started", system_attributes(loop), None)

    def system_stopped(self, loop: Loop) -> None:
        self._ending.discard(loop)
        if self.subscribers:
            self.stream.publish(SystemStopped, loop.path)
        incident = loop.incident
        self.incident_closed(incident)
        if _is_root(loop) and loop.failure is None:
            log(loop.path, logging.INFO, "stopped", system_attributes(loop), None)

    def tree_ended(self) -> None:
        """The root has ended, and there is nothing left to tell."""
        self.stream.end()

    # A child comes up

    def child_starting(self, member: Member, incarnation: Incarnation) -> None:
        if self.subscribers:
            self.stream.publish(ChildStarting, member.path, incarnation.number)
        if self.is_tracing:
            parent = member.loop.startup_span or self.attempt_span(member.incident)
            links_ = links(("restart_of", member.start_span))
            span = self.spans.start("spry.child.start", parent, child_attributes(member), links_)
            incarnation.span = span
            member.start_span = span.get_span_context()

    def child_started(self, member: Member, incarnation: Incarnation) -> None:
        if self.subscribers:
            self.stream.publish(ChildStarted, member.path, incarnation.number)
        span, incarnation.span = incarnation.span, None
        if span is not None:
            span.end()
        if is_on(member.loop.path, logging.INFO):
            which = f" (incarnation {incarnation.number})" if incarnation.number > 1 else ""
            log_child(member, logging.INFO, f"started{which}", span)

    def start_ignored(self, member: Member) -> None:
        log_child(member, logging.INFO, "left out: its start raised Ignore", None)

    # A child ends

    def child_ended(
        self, member: Member, incarnation: Incarnation, report: TerminationReport
    ) -> None:
        span, incarnation.span = incarnation.span, None
        wait, incarnation.wait_span = incarnation.wait_span, None
        failed = report.started_at is None and report.burden == "none" and _is_failure(report)
        if self.subscribers:
            kind = ChildStartFailed if failed else ChildTerminated
            self.stream.publish(kind, report.path, report)
        if failed:
            self._tell_failed_start(member, report, span)
            return
        end(span)
        if report.burden != "none":
            if self.is_tracing:
                self._tell_asked_end(member, report, wait)
            log_end(member, report, wait)

    def _tell_failed_start(
        self, member: Member, report: TerminationReport, span: Span | None
    ) -> None:
        exception = report.exception
        why = tell(exception) if exception is not None else "it was cancelled"
        if span is not None:
            span.set_status(Status(StatusCode.ERROR, why))
            if exception is not None:
                self.spans.record(span, exception)
            span.end()
        log_child(member, logging.ERROR, f"failed to start: {why}", span, exception)

    def _tell_asked_end(self, member: Member, report: TerminationReport, wait: Span | None) -> None:
        if wait is None:
            wait = self._wait_span(member, member.loop.teardown_span or member.loop.own.wait_span)
        wait.set_attributes(report_attributes(report))
        exception = report.exception
        if exception is not None:
            wait.set_status(Status(StatusCode.ERROR, tell(exception)))
            self.spans.record(wait, exception)
        wait.end()

    def terminated(self, member: Member, verdict: Verdict) -> Incident:
        """A child has ended by itself; its incident stays open while something is done about it."""
        report = member.last_report
        assert report is not None
        span = self._term(member, report, verdict is Verdict.RESTART) if self.is_tracing else None
        log_end(member, report, span)
        return Incident(span)

    def ended_unasked(self, member: Member) -> None:
        """A child has ended by itself, and nothing is going to be done about it any more."""
        report = member.last_report
        if report is not None and report.started_at is not None:
            self.incident_closed(self.terminated(member, Verdict.DOWN))

    def _term(self, member: Member, report: TerminationReport, wanted: bool) -> Span:
        inner = member.inner
        below = inner.incident.term if inner is not None and inner.incident is not None else None
        attributes = child_attributes(member) | report_attributes(report)
        attributes["spry.restart.wanted"] = wanted
        links_ = links(("terminates", member.start_span))
        span = self.spans.start("spry.term", below, attributes, links_)
        exception = report.exception
        if exception is not None:
            span.set_status(Status(StatusCode.ERROR, tell(exception)))
            self.spans.record(span, exception)
        return span

    def child_discarded(self, member: Member) -> None:
        if self.subscribers:
            self.stream.publish(ChildDiscarded, member.path)
        log_child(member, logging.WARNING, "is not recoverable: going on without it", None)

    # A child is stopped

    def child_asked(self, member: Member, incarnation: Incarnation) -> None:
        if self.is_tracing and incarnation.wait_span is None:
            loop = member.loop
            parent = loop.teardown_span or loop.startup_span
            incarnation.wait_span = self._wait_span(member, parent)

    def child_settling(self, member: Member, incarnation: Incarnation) -> None:
        """It is about to be asked to finish; a root is no child."""
        if self.subscribers and member.loop.path:
            self.stream.publish(ChildSettling, member.path, incarnation.number)

    def child_aborted(self, member: Member, incarnation: Incarnation) -> None:
        """It is about to be cancelled; a root is no child."""
        if self.subscribers and member.loop.path:
            self.stream.publish(ChildAborted, member.path, incarnation.number)

    def child_overdue(self, member: Member, incarnation: Incarnation) -> None:
        text = f"did not finish within its {member.child.shutdown:g} s: aborting it"
        _mark_late(member, text)
        log_child(member, logging.WARNING, text, incarnation.wait_span)

    def child_stuck(
        self, member: Member, incarnation: Incarnation, stuck: Sequence[tuple[str, str]]
    ) -> None:
        for path, stack in stuck:
            if self.subscribers:
                self.stream.publish(ChildStuck, path, stack)
            _mark_late(member, f"{path!r} does not end although it was aborted")
            fields = {"spry.child.path": path, "spry.child.stack": stack}
            if incarnation.wait_span is not None:
                incarnation.wait_span.add_event("spry.child.stuck", fields)
            text = f"does not end although it was aborted; it sits at\n{stack}"
            log(path, logging.WARNING, text, fields, incarnation.wait_span)

    def teardown_began(self, loop: Loop, parent: Span | None) -> None:
        if loop.is_stopping:
            self._tell_teardown(loop)
        if self.is_tracing and loop.teardown_span is None:
            loop.teardown_span = self.spans.start("spry.teardown", parent, system_attributes(loop))

    def teardown_ended(self, loop: Loop) -> None:
        span, loop.teardown_span = loop.teardown_span, None
        end(span)

    def sweep_began(self, loop: Loop, incident: Incident | None) -> None:
        """Siblings go along with the child of ``incident``."""
        self.teardown_began(loop, self.attempt_span(incident))

    def _tell_teardown(self, loop: Loop) -> None:
        """A supervisor ends; it may be aborted after it was asked to, and that is no second end."""
        if loop not in self._ending:
            self._ending.add(loop)
            if self.subscribers:
                self.stream.publish(SystemTeardown, loop.path)

    def subtree_aborted(self, loop: Loop) -> None:
        """A supervisor is being cancelled with all that lives below it."""
        if loop.has_ended:
            return  # its task has yet to let the cancellation through, but there is nothing to stop
        self._tell_teardown(loop)
        if loop.teardown_span is None:
            self.teardown_began(loop, loop.own.wait_span or loop.own.span or loop.stop_span)

    # A child is restarted

    def restart_decided(
        self, loop: Loop, member: Member, incident: Incident | None, allowed: bool, delay: float
    ) -> None:
        """The breaker has answered for ``member``."""
        if self.subscribers:
            self._publish_restart(member, incident, allowed, delay)
        if incident is None:
            return
        incident.attempt += 1
        if self.is_tracing:
            attributes = system_attributes(loop) | {
                "spry.restart.strategy": loop.strategy,
                "spry.restart.allowed": allowed,
                "spry.restart.attempt": incident.attempt,
                "spry.restart.delay": delay,
            }
            incident.trying = self.spans.start("spry.try_restart", incident.term, attributes)
            if not allowed:
                text = f"the breaker refused to restart {member.path!r}"
                incident.trying.set_status(Status(StatusCode.ERROR, text))
                incident.trying.end()
        if allowed:
            when = f"in {delay:g} s" if delay else "now"
            text = f"will be restarted {when} (attempt {incident.attempt})"
            log_child(member, logging.WARNING, text, incident.trying)

    def _publish_restart(
        self, member: Member, incident: Incident | None, allowed: bool, delay: float
    ) -> None:
        if allowed:
            attempt = incident.attempt + 1 if incident is not None else 1
            self.stream.publish(RestartScheduled, member.path, delay, attempt)
        else:
            self.stream.publish(RestartRefused, member.path)

    def attempt_span(self, incident: Incident | None) -> Span | None:
        """The span of the restart under way."""
        return incident.trying if incident is not None else None

    def restart_failed(self, incident: Incident | None, error: BaseException | None) -> None:
        if incident is not None and incident.trying is not None:
            incident.trying.set_status(Status(StatusCode.ERROR, tell(error)))
            incident.trying.end()
            incident.trying = None

    def incident_closed(self, incident: Incident | None) -> None:
        """Cured, or given up: nothing more is going to be done about it."""
        if incident is not None:
            end(incident.trying)
            end(incident.term)

    def escalated(self, loop: Keeper, error: BaseException) -> None:
        if self.subscribers:
            self.stream.publish(Escalated, loop.path, error.__cause__, error)
        fields = system_attributes(loop)
        span = loop.incident.term if loop.incident is not None else None
        log(loop.path, logging.ERROR, f"gives up: {error}", fields, span)

    # Spans

    def _wait_span(self, member: Member, parent: Span | None) -> Span:
        links_ = links(("terminates", member.start_span))
        attributes = child_attributes(member)
        return self.spans.start("spry.wait_for_termination", parent, attributes, links_)


def _mark_late(member: Member, text: str) -> None:
    teardown = member.loop.teardown_span
    if teardown is not None:
        teardown.set_status(Status(StatusCode.ERROR, text))


def _is_root(loop: Loop) -> bool:
    return loop.own.member is not None and not loop.own.member.loop.path


def _is_failure(report: TerminationReport) -> bool:
    """Whether a start that was not asked to end went wrong: leaving out a child is no error."""
    exception = report.exception
    return exception is None or not isinstance(sole_leaf_of(exception), Ignore | Interrupted)
