"""Metrics: the facts of a tree as points of a few instruments, through the OpenTelemetry API.

All points carry ``spry.system.path``. Those about a child carry its key as well if a system has
declared it; keys that come and go would make a new time series each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio
from opentelemetry import metrics

from .attributes import SCOPE, Attributes, library_version, reason_name, type_name

if TYPE_CHECKING:
    from spry_py._kernel.incarnation import Incarnation
    from spry_py._kernel.keeper import Keeper
    from spry_py._kernel.member import Member
    from spry_py._spec.termination import TerminationReport

# Upper bounds in seconds: from a checkpoint to patience, and from a crash loop to a quarter.
DURATIONS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LIFETIMES: Final = (0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0, 7_776_000.0)


def metrics_of_application() -> Metrics | None:
    """Metrics for the meter provider that the application has set, if it has."""
    provider = metrics.get_meter_provider()
    # the API's own providers do nothing, and that of its proxy is private
    is_idle = type(provider).__module__.startswith("opentelemetry.metrics")
    return None if is_idle else Metrics(provider)


class Metrics:
    """The instruments of one tree. Durations are seconds on trio's clock."""

    __slots__ = (
        "_children",
        "_delay",
        "_escalations",
        "_lifetime",
        "_restarts",
        "_shutdown",
        "_start",
        "_startup",
        "_teardown",
        "_terminations",
    )

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = provider.get_meter(SCOPE, library_version())

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

    def child_starting(self, incarnation: Incarnation) -> None:
        incarnation.begun_at = trio.current_time()

    def child_started(self, member: Member, incarnation: Incarnation) -> None:
        labels = _labels(member)
        self._children.add(1, labels)
        begun_at, started_at = incarnation.begun_at, incarnation.started_at
        assert begun_at is not None, "a child started without having been begun"
        assert started_at is not None
        self._start.record(started_at - begun_at, labels)

    def child_asked(self, incarnation: Incarnation) -> None:
        if incarnation.burden == "none":
            incarnation.asked_at = trio.current_time()

    def start_failed(
        self, member: Member, incarnation: Incarnation, report: TerminationReport
    ) -> None:
        labels = dict(_labels(member))
        if report.exception is not None:
            labels["error.type"] = type_name(report.exception)
        assert incarnation.begun_at is not None, "a start failed that was never begun"
        self._start.record(report.ended_at - incarnation.begun_at, labels)

    def child_ended(
        self, member: Member, incarnation: Incarnation, report: TerminationReport
    ) -> None:
        labels = _labels(member)
        if report.lifetime is not None:
            self._children.add(-1, labels)  # first of all: a sum would stay wrong for ever
        if incarnation.asked_at is not None:
            self._shutdown.record(report.ended_at - incarnation.asked_at, labels)
        if report.lifetime is None:
            return
        ended = dict(labels)
        ended["spry.termination.reason"] = reason_name(report)
        if report.failed and report.exception is not None:
            ended["error.type"] = type_name(report.exception)
        self._terminations.add(1, ended)
        self._lifetime.record(report.lifetime, labels)

    def child_restarted(self, member: Member) -> None:
        self._restarts.add(1, _labels(member))

    def restart_allowed(self, loop: Keeper, member: Member | None, delay: float) -> None:
        self._delay.record(delay, _labels(member) if member is not None else _path(loop))

    # A system

    def startup_began(self, loop: Keeper) -> None:
        loop.startup_since = trio.current_time()

    def startup_ended(self, loop: Keeper) -> None:
        since, loop.startup_since = loop.startup_since, None
        assert since is not None, "a startup ended that never began"
        self._startup.record(trio.current_time() - since, _path(loop))

    def teardown_began(self, loop: Keeper) -> None:
        if loop.teardown_since is None:
            loop.teardown_since = trio.current_time()

    def teardown_ended(self, loop: Keeper) -> None:
        since, loop.teardown_since = loop.teardown_since, None
        if since is not None:
            self._teardown.record(trio.current_time() - since, _path(loop))

    def escalated(self, loop: Keeper) -> None:
        self._escalations.add(1, _path(loop))


def _path(loop: Keeper) -> Attributes:
    return {"spry.system.path": loop.path}


def _labels(member: Member) -> Attributes:
    """What the points about a child carry: the same all its life, or the sums would not agree."""
    labels: Attributes | None = member.labels
    if labels is None:
        labels = _path(member.loop)
        if member.loop.members.declared.get(member.key) is member:
            labels["spry.child.key"] = member.key
        member.labels = labels
    return labels
