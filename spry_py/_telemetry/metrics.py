"""Metrics: the facts of a tree as points of a few instruments, through the OpenTelemetry API.

All points carry ``spry.system.path``. Those about a child carry its key as well if a system has
declared it; keys that come and go would make a new time series each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import trio

from .attributes import Attributes, reason_name, type_name
from .instruments import instruments_of

if TYPE_CHECKING:
    from opentelemetry import metrics

    from spry_py._kernel.facts import AboutChild, AboutRun, AboutSystem
    from spry_py._spec.termination import TerminationReport


class Metrics:
    """What the instruments record of one tree. Durations are seconds on trio's clock."""

    __slots__ = ("_asked", "_begun", "_labels", "_of", "_started", "_torn")

    def __init__(self, provider: metrics.MeterProvider) -> None:
        self._of = instruments_of(provider)
        # since when, each until it is over: an incarnation begun, and asked to end; a run of a
        # system function, and a teardown
        self._begun: dict[AboutRun, float] = {}
        self._asked: dict[AboutRun, float] = {}
        self._started: dict[object, float] = {}
        self._torn: dict[AboutSystem, float] = {}
        # the same all a child's life, or the sums would not agree
        self._labels: WeakKeyDictionary[AboutChild, Attributes] = WeakKeyDictionary()

    # A child

    def child_starting(self, run: AboutRun) -> None:
        self._begun[run] = trio.current_time()

    def child_started(self, child: AboutChild, run: AboutRun) -> None:
        labels = self._labels_of(child)
        self._of.children.add(1, labels)
        assert run.started_at is not None
        self._of.start.record(run.started_at - self._begun[run], labels)

    def child_asked(self, run: AboutRun) -> None:
        if run.burden == "none":
            self._asked[run] = trio.current_time()

    def start_failed(self, child: AboutChild, run: AboutRun, report: TerminationReport) -> None:
        self._asked.pop(run, None)
        seconds = report.ended_at - self._begun.pop(run)
        labels = dict(self._labels_of(child))
        if report.exception is not None:
            labels["error.type"] = type_name(report.exception)
        self._of.start.record(seconds, labels)

    def child_ended(self, child: AboutChild, run: AboutRun, report: TerminationReport) -> None:
        del self._begun[run]
        asked_at = self._asked.pop(run, None)
        labels = self._labels_of(child)
        if report.lifetime is not None:
            self._of.children.add(-1, labels)  # first of all: a sum would stay wrong for ever
        if asked_at is not None:
            self._of.shutdown.record(report.ended_at - asked_at, labels)
        if report.lifetime is None:
            return
        ended = dict(labels)
        ended["spry.termination.reason"] = reason_name(report)
        exception = report.exception
        if exception is not None:
            ended["error.type"] = type_name(exception)
        self._of.terminations.add(1, ended)
        self._of.lifetime.record(report.lifetime, labels)

    def child_restarted(self, child: AboutChild) -> None:
        self._of.restarts.add(1, self._labels_of(child))

    def restart_allowed(self, system: AboutSystem, child: AboutChild | None, delay: float) -> None:
        self._of.delay.record(delay, self._labels_of(child) if child is not None else _path(system))

    def _labels_of(self, child: AboutChild) -> Attributes:
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
        self._of.startup.record(seconds, _path(system))

    def teardown_began(self, system: AboutSystem) -> None:
        self._torn.setdefault(system, trio.current_time())

    def teardown_ended(self, system: AboutSystem) -> None:
        since = self._torn.pop(system, None)
        if since is not None:
            self._of.teardown.record(trio.current_time() - since, _path(system))

    def escalated(self, system: AboutSystem) -> None:
        self._of.escalations.add(1, _path(system))


def _path(system: AboutSystem) -> Attributes:
    return {"spry.system.path": system.path}
