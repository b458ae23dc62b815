"""Metrics: the facts of a tree as points of a few instruments, through the OpenTelemetry API.

All points carry ``spry.system.path``. Those about a child carry its key as well if a system has
declared it; keys that come and go would make a new time series each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import trio

from .attributes import SCOPE, Attributes, library_version, reason_name, type_name

if TYPE_CHECKING:
    from opentelemetry import metrics

    from spry_py._kernel.facts import AboutChild, AboutRun, AboutSystem
    from spry_py._spec.termination import TerminationReport

# Upper bounds in seconds: from a checkpoint to patience, and from a crash loop to a quarter.
DURATIONS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LIFETIMES: Final = (0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0, 7_776_000.0)


class Metrics:
    """The instruments of one tree. Durations are seconds on trio's clock."""

    __slots__ = (
        "_asked",
        "_begun",
        "_children",
        "_delay",
        "_escalations",
        "_labels",
        "_lifetime",
        "_restarts",
        "_shutdown",
        "_start",
        "_started",
        "_startup",
        "_teardown",
        "_terminations",
        "_torn",
    )

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = provider.get_meter(SCOPE, library_version())
        # since when, each until it is over: an incarnation begun, and asked to end; a run of a
        # system function, and a teardown
        self._begun: dict[AboutRun, float] = {}
        self._asked: dict[AboutRun, float] = {}
        self._started: dict[object, float] = {}
        self._torn: dict[AboutSystem, float] = {}
        # the same all a child's life, or the sums would not agree
        self._labels: WeakKeyDictionary[AboutChild, Attributes] = WeakKeyDictionary()

        def seconds(name: str, text: str, bounds: tuple[float, ...] = DURATIONS) -> Any:
            return meter.create_histogram(
                name, "s", text, explicit_bucket_boundaries_advisory=bounds
            )

        self._children = meter.create_up_down_counter(
            "spry.child.count", "{child}", "Children that are started and have not ended"
        )
        self._terminations = meter.create_counter(
            "spry.child.terminations", "{termination}", "Ends of started children"
        )
        self._restarts = meter.create_counter(
            "spry.child.restarts", "{restart}", "Children started again by their supervisor"
        )
        self._escalations = meter.create_counter(
            "spry.system.escalations", "{escalation}", "Supervisors that gave up"
        )
        self._lifetime = seconds("spry.child.lifetime", "From started to ended", LIFETIMES)
        self._start = seconds("spry.child.start.duration", "From begun to started")
        self._shutdown = seconds("spry.child.shutdown.duration", "From asked to end to ended")
        self._startup = seconds("spry.system.startup.duration", "A run of the system function")
        self._teardown = seconds("spry.system.teardown.duration", "Stopping children in reverse")
        self._delay = seconds("spry.restart.delay", "Backoff before a restart")

    # A child

    def child_starting(self, run: AboutRun) -> None:
        self._begun[run] = trio.current_time()

    def child_started(self, child: AboutChild, run: AboutRun) -> None:
        labels = self._of(child)
        self._children.add(1, labels)
        assert run.started_at is not None
        self._start.record(run.started_at - self._begun[run], labels)

    def child_asked(self, run: AboutRun) -> None:
        if run.burden == "none":
            self._asked[run] = trio.current_time()

    def start_failed(self, child: AboutChild, run: AboutRun, report: TerminationReport) -> None:
        self._asked.pop(run, None)
        seconds = report.ended_at - self._begun.pop(run)
        labels = dict(self._of(child))
        if report.exception is not None:
            labels["error.type"] = type_name(report.exception)
        self._start.record(seconds, labels)

    def child_ended(self, child: AboutChild, run: AboutRun, report: TerminationReport) -> None:
        del self._begun[run]
        asked_at = self._asked.pop(run, None)
        labels = self._of(child)
        if report.lifetime is not None:
            self._children.add(-1, labels)  # first of all: a sum would stay wrong for ever
        if asked_at is not None:
            self._shutdown.record(report.ended_at - asked_at, labels)
        if report.lifetime is None:
            return
        ended = dict(labels)
        ended["spry.termination.reason"] = reason_name(report)
        if report.failed and report.exception is not None:
            ended["error.type"] = type_name(report.exception)
        self._terminations.add(1, ended)
        self._lifetime.record(report.lifetime, labels)

    def child_restarted(self, child: AboutChild) -> None:
        self._restarts.add(1, self._of(child))

    def restart_allowed(self, system: AboutSystem, child: AboutChild | None, delay: float) -> None:
        self._delay.record(delay, self._of(child) if child is not None else _path(system))

    def _of(self, child: AboutChild) -> Attributes:
        """What the points about a child carry."""
        labels = self._labels.get(child)
        if labels is None:
            labels = _path(child.loop)
            if child.is_declared:
                labels["spry.child.key"] = child.key
            self._labels[child] = labels
        return labels

    # A system

    def startup_began(self, startup: object) -> None:
        self._started[startup] = trio.current_time()

    def startup_ended(self, system: AboutSystem, startup: object) -> None:
        seconds = trio.current_time() - self._started.pop(startup)
        self._startup.record(seconds, _path(system))

    def teardown_began(self, system: AboutSystem) -> None:
        self._torn.setdefault(system, trio.current_time())

    def teardown_ended(self, system: AboutSystem) -> None:
        since = self._torn.pop(system, None)
        if since is not None:
            self._teardown.record(trio.current_time() - since, _path(system))

    def escalated(self, system: AboutSystem) -> None:
        self._escalations.add(1, _path(system))


def _path(system: AboutSystem) -> Attributes:
    return {"spry.system.path": system.path}
