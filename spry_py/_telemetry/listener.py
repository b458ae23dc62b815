"""Telling: the one place that turns a fact into an event, a span, a metric point and a log record.

Nothing here decides anything, and nothing that a listener raises gets out of it. Spans and metrics
go to whatever OpenTelemetry providers the application has set when the tree is opened; without one,
a look at `None` is all they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spry_py._handles.subscription import Stream
from spry_py._kernel.facts import (
    ChildAborted,
    ChildDiscarded,
    ChildSettling,
    ChildSlow,
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
from spry_py._kernel.guard import Guard
from spry_py._policy.restart import Verdict
from spry_py._spec.errors import Ignore, Interrupted, sole_leaf_of

from .attributes import system_attributes
from .logs import (
    log,
    log_child,
    log_end,
    log_escalated,
    log_failed_start,
    log_restart,
    log_started,
)
from .metrics import Metrics, metrics_of_application
from .spans import (
    Spans,
    callers_span,
    end,
    mark_late,
    spans_of_application,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from spry_py._kernel.incarnation import Incarnation
    from spry_py._kernel.keeper import Keeper
    from spry_py._kernel.member import Member
    from spry_py._spec.termination import TerminationReport


class Incident:
    """A termination and what is done about it, until it is cured or given up."""

    __slots__ = ("attempt", "term", "trying")

    def __init__(self) -> None:
        # its own span, and whose restart is under way: written by `Spans`
        self.term: Span | None = None
        # the span of the restart under way, and its number
        self.trying: Span | None = None
        self.attempt = 0


class Teller:
    """Tells the facts of one tree. `None` stands for a span wherever nothing is recorded.

    Each kind of listener is called through ``guard`` alone, so that what one of them raises neither
    decides anything nor takes the fact from the others.
    """

    __slots__ = ("_ending", "guard", "metrics", "spans", "stream", "subscribers")

    def __init__(self, interrupted: Callable[[BaseException], object]) -> None:
        self.guard = Guard(interrupted)
        self.stream = Stream()
        # with nobody there, one look at this is all that events cost
        self.subscribers = self.stream.subscribers
        # whose last teardown has been told
        self._ending: set[Keeper] = set()
        self.spans: Spans | None = None
        self.metrics: Metrics | None = None

    def listen(self) -> None:
        """Look for the providers of the application."""
        self.spans = self.guard(spans_of_application)
        self.metrics = self.guard(metrics_of_application)

    def callers_span(self) -> Span | None:
        """The span that the calling code stands in."""
        return self.guard(callers_span) if self.spans is not None else None

    # A system comes up

    def boot_parent(self, loop: Keeper) -> Span | None:
        """The span that the first startup of a system belongs to; nothing for a root."""
        span: Span | None = loop.own.span
        return span

    def startup_began(self, loop: Keeper, parent: Span | None) -> None:
        if self.metrics is not None:
            self.guard(self.metrics.startup_began, loop)
        if self.spans is not None:
            self.guard(self.spans.startup_began, loop, parent)

    def startup_ended(self, loop: Keeper, error: BaseException | None) -> None:
        if self.metrics is not None:
            self.guard(self.metrics.startup_ended, loop)
        if self.spans is not None:
            self.guard(self.spans.startup_ended, loop, error)

    def system_started(self, loop: Keeper) -> None:
        if self.subscribers:
            self.guard(self.stream.publish, SystemStarted, loop.path)
        if _is_root(loop):
            fields = system_attributes(loop)
            self.guard(log, SystemStarted, loop.path, "started", fields, None)

    def system_stopped(self, loop: Keeper) -> None:
        self._ending.discard(loop)
        if self.subscribers:
            self.guard(self.stream.publish, SystemStopped, loop.path)
        self.incident_closed(loop.incident)
        if _is_root(loop) and loop.failure is None:
            fields = system_attributes(loop)
            self.guard(log, SystemStopped, loop.path, "stopped", fields, None)

    def tree_ended(self) -> None:
        """The root has ended, and there is nothing left to tell."""
        self.stream.end()

    # A child comes up

    def child_starting(self, member: Member, incarnation: Incarnation) -> None:
        if self.subscribers:
            self.guard(self.stream.publish, ChildStarting, member.path, incarnation.number)
        if self.metrics is not None:
            self.guard(self.metrics.child_starting, incarnation)
        if self.spans is not None:
            self.guard(self.spans.child_starting, member, incarnation)

    def child_started(self, member: Member, incarnation: Incarnation) -> None:
        if self.subscribers:
            self.guard(self.stream.publish, ChildStarted, member.path, incarnation.number)
        if self.metrics is not None:
            self.guard(self.metrics.child_started, member, incarnation)
        span, incarnation.span = incarnation.span, None
        if span is not None:
            self.guard(end, span)
        self.guard(log_started, member, incarnation.number, span)

    def start_ignored(self, member: Member) -> None:
        text = "left out: its start raised Ignore"
        self.guard(log_child, member, ChildTerminated, text, None)

    def start_slow(
        self, member: Member, incarnation: Incarnation, stack: str, seconds: float
    ) -> None:
        text = f"has not started within {seconds:g} s"
        self._tell_slow(member.path, text, stack, seconds, incarnation.span)

    def system_slow(self, loop: Keeper, stack: str, seconds: float) -> None:
        text = f"has not come to the end of its system function within {seconds:g} s"
        self._tell_slow(loop.path, text, stack, seconds, loop.startup_span)

    def _tell_slow(
        self, path: str, text: str, stack: str, seconds: float, span: Span | None
    ) -> None:
        if self.subscribers:
            self.guard(self.stream.publish, ChildSlow, path, stack, seconds)
        if self.spans is not None:
            self.guard(self.spans.child_slow, span, path, stack, seconds)
        fields = {"spry.child.path": path, "spry.child.stack": stack}
        self.guard(log, ChildSlow, path, f"{text}; it stands at\n{stack}", fields, span)

    # A child ends

    def child_ended(
        self, member: Member, incarnation: Incarnation, report: TerminationReport
    ) -> None:
        span, incarnation.span = incarnation.span, None
        wait, incarnation.wait_span = incarnation.wait_span, None
        failed = report.started_at is None and report.burden == "none" and _is_failure(report)
        if self.subscribers:
            kind = ChildStartFailed if failed else ChildTerminated
            self.guard(self.stream.publish, kind, report.path, report)
        if failed:
            self._tell_failed_start(member, incarnation, report, span)
            return
        if self.metrics is not None:
            self.guard(self.metrics.child_ended, member, incarnation, report)
        if span is not None:
            self.guard(end, span)
        if report.burden != "none":
            self._tell_asked_end(member, report, wait)

    def _tell_failed_start(
        self,
        member: Member,
        incarnation: Incarnation,
        report: TerminationReport,
        span: Span | None,
    ) -> None:
        if self.metrics is not None:
            self.guard(self.metrics.start_failed, member, incarnation, report)
        exception = report.exception
        trace = None
        if self.spans is not None and span is not None:
            trace = self.guard(self.spans.start_failed, span, exception)
        self.guard(log_failed_start, member, exception, span, trace)

    def _tell_asked_end(self, member: Member, report: TerminationReport, wait: Span | None) -> None:
        trace = None
        if self.spans is not None and wait is not None:
            trace = self.guard(self.spans.wait_ended, wait, report)
        self.guard(log_end, member, report, wait, trace)

    def terminated(self, member: Member, verdict: Verdict) -> Incident:
        """A child has ended by itself; its incident stays open while something is done about it."""
        report = member.last_report
        assert report is not None
        incident = Incident()
        trace = None
        if self.spans is not None:
            wanted = verdict is Verdict.RESTART
            trace = self.guard(self.spans.terminated, member, report, wanted, incident)
        self.guard(log_end, member, report, incident.term, trace)
        return incident

    def ended_unasked(self, member: Member) -> None:
        """A child has ended by itself, and nothing is going to be done about it any more."""
        report = member.last_report
        if report is not None and report.started_at is not None:
            self.incident_closed(self.terminated(member, Verdict.DOWN))

    def own_breaker_refused(self, member: Member) -> None:
        """The breaker of a child alone does not let it be restarted."""
        if self.subscribers:
            self.guard(self.stream.publish, RestartRefused, member.path)
        times = "1 restart" if member.restarts == 1 else f"{member.restarts} restarts"
        text = f"may not be restarted any more: its own breaker refuses after {times}"
        self.guard(log_child, member, RestartRefused, text, None)

    def child_discarded(self, member: Member) -> None:
        if self.subscribers:
            self.guard(self.stream.publish, ChildDiscarded, member.path)
        text = "is not recoverable: going on without it"
        self.guard(log_child, member, ChildDiscarded, text, None)

    # A child is stopped

    def child_asked(self, member: Member, incarnation: Incarnation) -> None:
        """It is about to be stopped, whatever its burden becomes."""
        if self.metrics is not None:
            self.guard(self.metrics.child_asked, incarnation)
        if self.spans is not None and incarnation.wait_span is None:
            loop = member.loop
            parent = loop.teardown_span or loop.startup_span
            incarnation.wait_span = self.guard(self.spans.wait_began, member, parent)

    def child_settling(self, member: Member, incarnation: Incarnation) -> None:
        """It is about to be asked to finish; a root is no child."""
        if self.subscribers and member.loop.path:
            self.guard(self.stream.publish, ChildSettling, member.path, incarnation.number)

    def child_aborted(self, member: Member, incarnation: Incarnation) -> None:
        """It is about to be cancelled; a root is no child."""
        if self.subscribers and member.loop.path:
            self.guard(self.stream.publish, ChildAborted, member.path, incarnation.number)

    def child_overdue(self, member: Member, incarnation: Incarnation) -> None:
        """It has been asked to finish and has not; it is about to be cancelled."""
        text = f"did not finish within its {member.child.shutdown:g} s: aborting it"
        self.guard(mark_late, member.loop, f"{member.path!r} {text}")
        self.guard(log_child, member, ChildAborted, text, incarnation.wait_span)

    def stuck(self, loop: Keeper, wait: Span | None, stuck: Sequence[tuple[str, str]]) -> None:
        """Children of ``loop`` or below it that do not end, each with its path and its stack."""
        for path, stack in stuck:
            if self.subscribers:
                self.guard(self.stream.publish, ChildStuck, path, stack)
            self.guard(mark_late, loop, f"{path!r} does not end although it was aborted")
            if self.spans is not None:
                self.guard(self.spans.child_stuck, wait, path, stack)
            fields = {"spry.child.path": path, "spry.child.stack": stack}
            text = f"does not end although it was aborted; it sits at\n{stack}"
            self.guard(log, ChildStuck, path, text, fields, wait)

    def teardown_began(self, loop: Keeper, parent: Span | None) -> None:
        if loop.is_stopping:
            self._tell_teardown(loop)
        if self.metrics is not None:
            self.guard(self.metrics.teardown_began, loop)
        if self.spans is not None:
            self.guard(self.spans.teardown_began, loop, parent)

    def teardown_ended(self, loop: Keeper) -> None:
        if self.metrics is not None:
            self.guard(self.metrics.teardown_ended, loop)
        span, loop.teardown_span = loop.teardown_span, None
        if span is not None:
            self.guard(end, span)

    def _tell_teardown(self, loop: Keeper) -> None:
        """A supervisor ends; it may be aborted after it was asked to, and that is no second end."""
        if loop not in self._ending:
            self._ending.add(loop)
            if self.subscribers:
                self.guard(self.stream.publish, SystemTeardown, loop.path)

    def subtree_aborted(self, loop: Keeper) -> None:
        """A supervisor is being cancelled with all that lives below it."""
        if loop.has_ended:
            return  # its task has yet to let the cancellation through, but there is nothing to stop
        self._tell_teardown(loop)
        self.teardown_began(loop, loop.own.wait_span or loop.own.span or loop.stop_span)

    # A child is restarted

    def restart_decided(
        self, loop: Keeper, member: Member | None, incident: Incident, allowed: bool, delay: float
    ) -> None:
        """The breaker has answered for ``member``; for the system function, if that is ``None``."""
        incident.attempt += 1
        path = member.path if member is not None else loop.path
        if self.subscribers and allowed:
            self.guard(self.stream.publish, RestartScheduled, path, delay, incident.attempt)
        elif self.subscribers:
            self.guard(self.stream.publish, RestartRefused, path)
        if self.metrics is not None and allowed:
            self.guard(self.metrics.restart_allowed, loop, member, delay)
        if self.spans is not None:
            self.guard(self.spans.restart_decided, loop, member, incident, allowed, delay)
        self.guard(log_restart, loop, member, incident, allowed, delay)

    def child_restarted(self, member: Member) -> None:
        """Its supervisor is about to start it again."""
        if self.metrics is not None:
            self.guard(self.metrics.child_restarted, member)

    def restart_failed(self, incident: Incident | None, error: BaseException | None) -> Incident:
        """The incident goes on; one begins here if a caller had asked for the restart."""
        if incident is None:
            return Incident()
        if self.spans is not None:
            self.guard(self.spans.attempt_failed, incident, error)
        return incident

    def incident_closed(self, incident: Incident | None) -> None:
        """Cured, or given up: nothing more is going to be done about it."""
        if incident is not None and self.spans is not None:
            self.guard(end, incident.trying)
            self.guard(end, incident.term)

    def escalated(self, loop: Keeper, error: BaseException) -> None:
        if self.subscribers:
            self.guard(self.stream.publish, Escalated, loop.path, error.__cause__, error)
        if self.metrics is not None:
            self.guard(self.metrics.escalated, loop)
        self.guard(log_escalated, loop, error)


def _is_root(loop: Keeper) -> bool:
    return loop.own.member is not None and not loop.own.member.loop.path


def _is_failure(report: TerminationReport) -> bool:
    """Whether a start that was not asked to end went wrong: leaving out a child is no error."""
    exception = report.exception
    return exception is None or not isinstance(sole_leaf_of(exception), Ignore | Interrupted)
