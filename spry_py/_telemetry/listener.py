"""Telling: the one place that turns a fact into an event, a span, a metric point and a log record.

Nothing here decides anything, and nothing that a listener raises gets out of it. Spans and metrics
go to whatever OpenTelemetry providers the application has set when the tree is opened; without one,
a look at `None` is all they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trio import current_time

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
    Incident,
    IncidentClosed,
    IncidentOpened,
    RestartRefused,
    RestartScheduled,
    SystemOrdered,
    SystemStarted,
    SystemStopped,
    SystemTeardown,
)
from spry_py._spec.errors import Ignore, Interrupted, sole_leaf_of

from .attributes import system_attributes
from .logs import (
    is_logged,
    log,
    log_child,
    log_end,
    log_escalated,
    log_failed_start,
    log_hook,
    log_restart,
    log_retry,
    log_started,
)
from .numbers import Numbers
from .providers import meter_provider
from .spans import (
    Spans,
    clean_context,
    context_here,
    end,
    inject,
    spans_of_application,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from spry_py._kernel.facts import (
        AboutChild,
        AboutRun,
        AboutSystem,
        Cause,
        Event,
        Guard,
        Origin,
        Outcome,
        Stream,
    )
    from spry_py._spec.termination import TerminationReport

    from .metrics import Metrics


def _metrics_of_application() -> Metrics | None:
    """Metrics for the meter provider that the application has set, if it has."""
    provider = meter_provider()
    if provider is None:
        return None
    from .metrics import Metrics  # noqa: PLC0415 - for those who have a provider alone

    return Metrics(provider)


class Teller:
    """Tells the facts of one tree. `None` stands for a span wherever nothing is recorded.

    Each kind of listener is called through ``guard`` alone, so that what one of them raises neither
    decides anything nor takes the fact from the others.
    """

    __slots__ = (
        "_context",
        "_ending",
        "guard",
        "metrics",
        "numbers",
        "spans",
        "stream",
        "subscribers",
    )

    # writes headers for the code that runs here and now, which belongs to no living child
    inject_here = staticmethod(inject)
    is_logged = staticmethod(is_logged)

    def __init__(self, stream: Stream, guard: Guard) -> None:
        self.guard = guard
        self.stream = stream
        # with no subscriber, one look at this is all that events cost
        self.subscribers = stream.subscribers
        self.numbers = Numbers()
        stream.on_silence = self.numbers.forget
        # whose last teardown has been emitted
        self._ending: set[AboutSystem] = set()
        # outside all spans: children are born in it
        self._context: object = None
        self.spans: Spans | None = None
        self.metrics: Metrics | None = None

    # A tree

    @contextmanager
    def outside(self) -> Generator[None, None, None]:
        """Around the life of the tree: no span is current inside, and providers are looked for.

        Not before, since one may let Ctrl-C in, and there must be a tree that it stops.
        """
        self.spans = self.guard(spans_of_application)
        self.metrics = self.guard(_metrics_of_application)
        self.stream.heard_by.extend(filter(None, (self.spans, self.metrics)))
        with clean_context():
            self._context = context_here()
            yield

    def bear(self, spawn: Callable[..., object], function: object, of: object, key: str) -> None:
        """Call ``spawn(function, of, name=key)``, with no current span in the task's context."""
        if context_here() is self._context:
            spawn(function, of, name=key)
        else:
            with clean_context():
                spawn(function, of, name=key)

    def tree_ended(self) -> None:
        """The root has ended, and there is nothing left to emit."""
        self.stream.end()

    # What others do with a tree

    def call_made(self, call: Origin) -> None:
        if self.spans is not None:
            self.guard(self.spans.call_made, call)

    def stop_asked(self, system: AboutSystem) -> None:
        if self.spans is not None:
            self.guard(self.spans.stop_asked, system)

    def inject(self, child: AboutChild, headers: dict[str, str]) -> None:
        """Write what makes whatever another process does a part of the child's last start."""
        context = self.spans.last_start(child) if self.spans is not None else None
        self.guard(inject, headers, context)

    def incident_elsewhere(self, child: AboutChild, headers: Mapping[str, str]) -> None:
        """A child is about to end with an incident that another program has recorded."""
        if self.spans is not None:
            self.guard(self.spans.incident_elsewhere, child, headers)

    # A system comes up

    def startup_began(self, system: AboutSystem, startup: object, part_of: Cause) -> None:
        if self.subscribers:
            self.numbers.startup_began(startup, part_of)
        if self.metrics is not None:
            self.guard(self.metrics.startup_began, startup)
        if self.spans is not None:
            self.guard(self.spans.startup_began, system, startup, part_of)

    def startup_ended(
        self, system: AboutSystem, startup: object, error: BaseException | None
    ) -> None:
        if self.subscribers:
            self.numbers.startup_ended(startup)
        if self.metrics is not None:
            self.guard(self.metrics.startup_ended, system, startup)
        if self.spans is not None:
            self.guard(self.spans.startup_ended, startup, error)

    def system_started(self, system: AboutSystem) -> None:
        if self.subscribers:
            self._publish(SystemStarted, system.path, self.numbers.of_start(system.own))
        if _is_root(system):
            fields = system_attributes(system)
            self.guard(log, SystemStarted, system.path, "started", fields, None)

    def system_ordered(self, system: AboutSystem, startup: object, keys: Sequence[str]) -> None:
        if self.subscribers:
            number = self.numbers.of_startup(startup)
            self._publish(SystemOrdered, system.path, number, tuple(keys))

    def system_stopped(self, system: AboutSystem) -> None:
        self._ending.discard(system)
        if self.subscribers:
            number = self.numbers.of_system(system)
            self._tell_outcome(system)
            self._publish(SystemStopped, system.path, number)
        if self.spans is not None:
            self._end_spans(self.spans, system.incident)
        if self.spans is not None:
            self.guard(self.spans.system_stopped, system)
        if _is_root(system) and system.failure is None:
            fields = system_attributes(system)
            self.guard(log, SystemStopped, system.path, "stopped", fields, None)

    # A child comes up

    def child_starting(self, child: AboutChild, run: AboutRun, part_of: Cause) -> None:
        if self.subscribers:
            number = self.numbers.start_began(child, run, part_of)
            self._publish(ChildStarting, child.path, number, run.number)
        if self.metrics is not None:
            self.guard(self.metrics.child_starting, run)
        if self.spans is not None:
            self.guard(self.spans.child_starting, child, run, part_of)

    def child_started(self, child: AboutChild, run: AboutRun) -> None:
        if self.subscribers:
            number = self.numbers.start_ended(child, run)
            self._publish(ChildStarted, child.path, number, run.number)
        if self.metrics is not None:
            self.guard(self.metrics.child_started, child, run)
        span = None
        if self.spans is not None:
            span = self.spans.child_started(run)
            self.guard(end, span)
        if is_logged(ChildStarted):
            self.guard(log_started, child, run.number, span)

    def start_ignored(self, child: AboutChild) -> None:
        text = "left out: its start raised Ignore"
        self.guard(log_child, child, ChildTerminated, text, None)

    def start_slow(self, child: AboutChild, run: AboutRun, stack: str, seconds: float) -> None:
        text = f"has not started within {seconds:g} s"
        span = self.spans.start_of(run) if self.spans is not None else None
        self._tell_slow(child.path, self.numbers.of_start(run), text, stack, seconds, span)

    def system_slow(self, system: AboutSystem, startup: object, stack: str, seconds: float) -> None:
        text = f"has not come to the end of its system function within {seconds:g} s"
        span = self.spans.startup_of(startup) if self.spans is not None else None
        number = self.numbers.of_startup(startup)
        self._tell_slow(system.path, number, text, stack, seconds, span)

    def _tell_slow(
        self,
        path: str,
        number: int | None,
        text: str,
        stack: str,
        seconds: float,
        span: Span | None,
    ) -> None:
        if self.subscribers:
            self._publish(ChildSlow, path, number, stack, seconds)
        if self.spans is not None:
            self.guard(self.spans.child_slow, span, path, stack, seconds)
        fields = {"spry.child.path": path, "spry.child.stack": stack}
        self.guard(log, ChildSlow, path, f"{text}; it stands at\n{stack}", fields, span)

    # A child ends

    def child_ended(self, child: AboutChild, run: AboutRun, report: TerminationReport) -> None:
        span = wait = None
        if self.spans is not None:
            span, wait = self.spans.child_ended(run)
        failed = report.started_at is None and report.burden == "none" and _is_failure(report)
        if self.subscribers:
            self._publish_end(child, run, report, failed)
        if failed:
            self._tell_failed_start(child, run, report, span)
            return
        if self.metrics is not None:
            self.guard(self.metrics.child_ended, child, run, report)
        if span is not None:
            self.guard(end, span)
        if report.burden != "none":
            self._tell_asked_end(child, report, wait)

    def _publish_end(
        self, child: AboutChild, run: AboutRun, report: TerminationReport, failed: bool
    ) -> None:
        begins, numbers = False, self.numbers
        number = numbers.start_ended(child, run) if report.started_at is None else None
        if report.burden != "none":
            number = numbers.of_stop(child)
        elif report.started_at is not None:
            number, begins = numbers.ended(child, run, report)
        kind = ChildStartFailed if failed else ChildTerminated
        self._publish(kind, report.path, number, report)
        if begins:
            self._publish(IncidentOpened, report.path, number)

    def _tell_failed_start(
        self, child: AboutChild, run: AboutRun, report: TerminationReport, span: Span | None
    ) -> None:
        if self.metrics is not None:
            self.guard(self.metrics.start_failed, child, run, report)
        exception = report.exception
        trace = None
        if self.spans is not None and span is not None:
            trace = self.guard(self.spans.start_failed, span, exception)
        if is_logged(ChildStartFailed):
            self.guard(log_failed_start, child, exception, span, trace)

    def _tell_asked_end(
        self, child: AboutChild, report: TerminationReport, wait: Span | None
    ) -> None:
        trace = None
        if self.spans is not None and wait is not None:
            trace = self.guard(self.spans.wait_ended, wait, report)
        if is_logged(ChildTerminated, report.failed):
            self.guard(log_end, child, report, wait, trace)

    def terminated(self, child: AboutChild, incident: Incident, wanted: bool) -> None:
        """A child has ended by itself; its incident stays open while something is done about it."""
        report = child.last_report
        assert report is not None
        if self.subscribers:
            self.numbers.decided(child, incident, wanted)
        trace = None
        if self.spans is not None:
            trace = self.guard(self.spans.terminated, child, report, incident, wanted)
        if is_logged(ChildTerminated, report.failed):
            span = self.spans.term_of(incident) if self.spans is not None else None
            self.guard(log_end, child, report, span, trace)

    def own_breaker_refused(self, child: AboutChild, incident: Incident | None) -> None:
        """The breaker of a child alone does not let it be restarted."""
        if self.subscribers:
            self._publish(RestartRefused, child.path, self.numbers.of(incident))
        times = "1 restart" if child.restarts == 1 else f"{child.restarts} restarts"
        text = f"may not be restarted any more: its own breaker refuses after {times}"
        self.guard(log_child, child, RestartRefused, text, None)

    def child_discarded(self, child: AboutChild, incident: Incident | None) -> None:
        if self.subscribers:
            self._publish(ChildDiscarded, child.path, self.numbers.of(incident))
        text = "is not recoverable: going on without it"
        self.guard(log_child, child, ChildDiscarded, text, None)

    def start_retried(self, child: AboutChild, pause: float) -> None:
        """Its first start has failed, and is tried again after so many seconds."""
        self.guard(log_retry, child, pause)

    def hook_failed(self, child: AboutChild, error: Exception) -> None:
        """Its ``on_termination`` has raised while it was stopped: that decides nothing."""
        self.guard(log_hook, child, error)

    # A child is stopped

    def child_asked(self, child: AboutChild, run: AboutRun, part_of: Cause) -> None:
        """It is about to be stopped, whatever its burden becomes."""
        if self.metrics is not None:
            self.guard(self.metrics.child_asked, run)
        if self.spans is not None:
            self.guard(self.spans.child_asked, child, run, part_of)

    def child_settling(self, child: AboutChild, run: AboutRun) -> None:
        """It is about to be asked to finish; a root is no child."""
        if self.subscribers and child.loop.path:
            number = self.numbers.of_stop(child)
            self._publish(ChildSettling, child.path, number, run.number, run.occasion or "stop")

    def child_aborted(self, child: AboutChild, run: AboutRun) -> None:
        """It is about to be cancelled; a root is no child."""
        if self.subscribers and child.loop.path:
            number = self.numbers.of_stop(child)
            self._publish(ChildAborted, child.path, number, run.number, run.occasion or "stop")

    def child_overdue(self, child: AboutChild, run: AboutRun) -> None:
        """It has been asked to finish and has not; it is about to be cancelled."""
        text = f"did not finish within its {child.child.shutdown:g} s: aborting it"
        span = None
        if self.spans is not None:
            self.guard(self.spans.child_late, child.loop, f"{child.path!r} {text}")
            span = self.spans.wait_of(run)
        self.guard(log_child, child, ChildAborted, text, span)

    def stuck(
        self, system: AboutSystem, run: AboutRun | None, stuck: Sequence[tuple[str, str]]
    ) -> None:
        """Children of ``system`` or below it that do not end, each with its path and its stack."""
        wait = self.spans.wait_of(run) if self.spans is not None and run is not None else None
        # what a root stands on is part of no incident
        number = self.numbers.of_system(system) if self.subscribers and system.path else None
        for path, stack in stuck:
            if self.subscribers:
                self._publish(ChildStuck, path, number, stack)
            if self.spans is not None:
                late = f"{path!r} does not end although it was aborted"
                self.guard(self.spans.child_late, system, late)
                self.guard(self.spans.child_stuck, wait, path, stack)
            fields = {"spry.child.path": path, "spry.child.stack": stack}
            text = f"does not end although it was aborted; it sits at\n{stack}"
            self.guard(log, ChildStuck, path, text, fields, wait)

    def teardown_began(self, system: AboutSystem, part_of: Cause) -> None:
        """Some of its children are stopped, or all of them."""
        if system.is_stopping:
            self._tell_teardown(system)
        if self.subscribers:
            self.numbers.teardown_began(system, part_of)
        if self.metrics is not None:
            self.guard(self.metrics.teardown_began, system)
        if self.spans is not None:
            self.guard(self.spans.teardown_began, system, part_of)

    def system_ending(self, system: AboutSystem) -> None:
        """All that is left is stopped now, since the supervisor ends."""
        self._tell_teardown(system)
        if self.subscribers:
            self.numbers.system_ending(system)
        if self.metrics is not None:
            self.guard(self.metrics.teardown_began, system)
        if self.spans is not None:
            self.guard(self.spans.system_ending, system)

    def subtree_aborted(self, system: AboutSystem) -> None:
        """A supervisor is being cancelled with all that lives below it."""
        if system.has_ended:
            return  # its task has yet to let the cancellation through, but there is nothing to stop
        self._tell_teardown(system)
        if self.subscribers:
            self.numbers.system_ending(system)
        if self.metrics is not None:
            self.guard(self.metrics.teardown_began, system)
        if self.spans is not None:
            self.guard(self.spans.subtree_aborted, system)

    def teardown_ended(self, system: AboutSystem) -> None:
        if self.subscribers:
            self.numbers.teardown_ended(system)
        if self.metrics is not None:
            self.guard(self.metrics.teardown_ended, system)
        if self.spans is not None:
            self.guard(self.spans.teardown_ended, system)

    def _tell_teardown(self, system: AboutSystem) -> None:
        """A supervisor ends; it may be aborted after it was asked to, and that is no second end."""
        if system not in self._ending:
            self._ending.add(system)
            if self.subscribers:
                self._publish(SystemTeardown, system.path, self.numbers.of_system(system))

    # A child is restarted

    def restart_decided(
        self,
        system: AboutSystem,
        child: AboutChild | None,
        incident: Incident,
        allowed: bool,
        delay: float,
    ) -> None:
        """The breaker has answered for ``child``; for the system function, if that is ``None``."""
        if self.subscribers:
            path = child.path if child is not None else system.path
            number = self.numbers.of(incident)
            if allowed:
                self._publish(RestartScheduled, path, number, delay, incident.attempt)
            else:
                self._publish(RestartRefused, path, number)
        if self.metrics is not None and allowed:
            self.guard(self.metrics.restart_allowed, system, child, delay)
        if self.spans is not None:
            self.guard(self.spans.restart_decided, system, child, incident, allowed, delay)
        if is_logged(RestartScheduled):
            attempt = incident.attempt
            span = self.spans.attempt_of(incident) if self.spans is not None else None
            self.guard(log_restart, system, child, attempt, allowed, delay, span)

    def child_restarted(self, child: AboutChild) -> None:
        """Its supervisor is about to start it again."""
        if self.metrics is not None:
            self.guard(self.metrics.child_restarted, child)

    def attempt_failed(self, incident: Incident, error: BaseException | None) -> None:
        """The restart under way has come to nothing, and the incident goes on."""
        if self.spans is not None:
            self.guard(self.spans.attempt_failed, incident, error)

    def incident_opened(self, incident: Incident) -> None:
        """A restart that a caller had asked for has failed, and is tried again."""
        if self.subscribers:
            self._publish(IncidentOpened, incident.path, self.numbers.of(incident))

    def incident_joined(self, incident: Incident) -> None:
        """The restart that is done about another one is to cure it, too: its trace is over."""
        if self.spans is not None:
            self._end_spans(self.spans, incident)

    def incident_closed(self, incident: Incident | None, outcome: Outcome) -> None:
        """Cured, or given up: nothing more is going to be done about it."""
        if incident is not None:
            if self.subscribers:
                self._publish_outcome(incident, outcome)
            if self.spans is not None:
                self._end_spans(self.spans, incident)

    def _publish_outcome(self, incident: Incident, outcome: Outcome) -> None:
        number = self.numbers.close(incident)
        if number is not None:
            seconds = current_time() - incident.since
            self._publish(IncidentClosed, incident.path, number, outcome, seconds)

    def _tell_outcome(self, system: AboutSystem) -> None:
        """A supervisor has ended; its parent goes on with what made it give up, if it has one."""
        if system.incident is None:
            return
        if _is_root(system):
            self._publish_outcome(system.incident, "ended")
        elif system.own.burden != "none":
            self._publish_outcome(system.incident, "stopped")

    def _end_spans(self, spans: Spans, incident: Incident | None) -> None:
        self.guard(spans.attempt_over, incident)
        self.guard(end, spans.term_of(incident))

    def escalated(self, system: AboutSystem, error: BaseException) -> None:
        if self.subscribers:
            number = self.numbers.of(system.incident)
            self._publish(Escalated, system.path, number, error.__cause__, error)
        if self.metrics is not None:
            self.guard(self.metrics.escalated, system)
        span = self.spans.term_of(system.incident) if self.spans is not None else None
        self.guard(log_escalated, system, error, span)

    def _publish(
        self, kind: Callable[..., Event], path: str, number: int | None, *details: object
    ) -> None:
        """Make an event of a fact that belongs to the incident of this number."""
        self.guard(self.stream.publish, kind, path, number, *details)


def _is_root(system: AboutSystem) -> bool:
    return system.own.member is not None and not system.own.member.loop.path


def _is_failure(report: TerminationReport) -> bool:
    """Whether a start that was not asked to end went wrong: leaving out a child is no error."""
    exception = report.exception
    return exception is None or not isinstance(sole_leaf_of(exception), Ignore | Interrupted)
