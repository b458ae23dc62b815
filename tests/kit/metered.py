"""Reads what a tree told a meter, so that a test compares all of it with one `==`.

Points are read from the SDK (`metered`), or one by one as they were told (`tallied`), for laws
about what happened on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest
import trio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, ScopeMetrics

from spans import play
from spry_py import SpryError, open_system
from spry_py._telemetry.sums import Sums

Value = float | tuple[int, float]
"""A sum; of a histogram, how many it has seen and their sum."""
Told = dict[str, dict[str, Value]]
"""By instrument and by label, as `label` writes it."""

COUNT = "spry.child.count"
TERMINATIONS = "spry.child.terminations"
RESTARTS = "spry.child.restarts"
ESCALATIONS = "spry.system.escalations"
LIFETIME = "spry.child.lifetime"
START = "spry.child.start.duration"
SHUTDOWN = "spry.child.shutdown.duration"
STARTUP = "spry.system.startup.duration"
TEARDOWN = "spry.system.teardown.duration"
DELAY = "spry.restart.delay"


def label(name: str, attributes: Mapping[str, Any]) -> str:
    """`shop/a failed ValueError`; without a key `shop/*`, and `shop` for a system as a whole."""
    rest = dict(attributes)
    where = str(rest.pop("spry.system.path"))
    if not name.startswith("spry.system."):
        where += f"/{rest.pop('spry.child.key', '*')}"
    ends = [rest.pop("spry.termination.reason", None)] if name == TERMINATIONS else []
    words = [where, *ends, rest.pop("error.type", None)]
    assert not rest, f"{name} is not to carry {rest}"
    return " ".join(str(word) for word in words if word is not None)


# As the SDK sums it up


class Meters:
    """What one test has told the SDK so far."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def scopes(self) -> set[tuple[str, str | None]]:
        """Name and version of every meter."""
        return {(each.scope.name, each.scope.version) for each in self._collected()}

    def raw(self) -> list[Metric]:
        """All instruments that have been used, as collected."""
        return [metric for each in self._collected() for metric in each.metrics]

    def _collected(self) -> list[ScopeMetrics]:
        data: Any = self._reader.get_metrics_data()
        found = data.resource_metrics if data is not None else []
        return [scope for each in found for scope in each.scope_metrics]

    def read(self) -> Told:
        """Everything up to now."""
        return {metric.name: _points(metric) for metric in self.raw()}


def _points(metric: Metric) -> dict[str, Value]:
    told: dict[str, Value] = {}
    for point in metric.data.data_points:
        said = label(metric.name, point.attributes or {})
        assert said not in told
        told[said] = _value(point)
    return told


def _value(point: Any) -> Value:
    return (point.count, point.sum) if hasattr(point, "bucket_counts") else point.value


@contextmanager
def meters(provider: metrics.MeterProvider) -> Iterator[None]:
    """A meter provider for the block; OpenTelemetry lets a process set its own only once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "get_meter_provider", lambda: provider)
        yield


@contextmanager
def metered() -> Iterator[Meters]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with meters(provider):
        yield Meters(reader)
    provider.shutdown()


# As it was told


class Point(NamedTuple):
    name: str
    label: str
    value: float


class Tally(metrics.MeterProvider, metrics.Meter):
    """Every point of one test, in order. It is its own meter."""

    def __init__(self) -> None:
        super().__init__("tally")
        self.points: list[Point] = []

    def get_meter(self, *_: Any, **__: Any) -> metrics.Meter:
        return self

    def create_counter(self, name: str, *_: Any, **__: Any) -> Any:
        return _Instrument(self.points, name)

    create_up_down_counter = create_histogram = create_counter
    create_observable_counter = create_observable_gauge = create_counter
    create_observable_up_down_counter = create_counter

    def values(self, name: str) -> dict[str, list[float]]:
        """The points of an instrument, by label."""
        found: dict[str, list[float]] = {}
        for point in self.points:
            if point.name == name:
                found.setdefault(point.label, []).append(point.value)
        return found

    def number(self, name: str) -> int:
        """How many points an instrument was told."""
        return Counter(point.name for point in self.points)[name]

    def numbers(self, name: str) -> Counter[str]:
        """How many points an instrument was told, by label."""
        return Counter(point.label for point in self.points if point.name == name)


class _Instrument:
    def __init__(self, points: list[Point], name: str) -> None:
        self._points = points
        self._name = name

    def add(self, value: float, attributes: Mapping[str, Any]) -> None:
        self._points.append(Point(self._name, label(self._name, attributes), value))

    record = add


class _Single:
    """In the place of a sum: hands over each point by itself."""

    def __init__(self, counter: Any) -> None:
        self.add = counter.add


@contextmanager
def tallied() -> Iterator[Tally]:
    tally = Tally()
    with meters(tally), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sums, "of", lambda _, counter: _Single(counter))
        yield tally


# Whole trees


async def idly(_: object) -> None:
    """The story of a tree to which nothing is done for ten seconds."""
    await trio.sleep(10)


def metrics_of(tree: Any, story: Callable[[Any], Awaitable[object]] = idly) -> Told:
    """What a tree has told when its story was over and it was stopped; it may fail."""

    async def opened() -> None:
        async with open_system(tree) as handle:
            await story(handle)

    return metrics_over(opened)


def metrics_over(story: Callable[[], Awaitable[object]]) -> Told:
    """What all trees of a story have told; the last one may fail."""
    with metered() as told:
        with suppress(SpryError):
            play(story)
        return told.read()


Times = dict[str, tuple[int, float]]
Numbers = dict[str, int]


def book(
    *,
    lifetime: Times,
    terminations: Numbers,
    start: Times,
    shutdown: Times,
    startup: Times,
    teardown: Times,
    restarts: Numbers | None = None,
    escalations: Numbers | None = None,
    delay: Times | None = None,
) -> Told:
    """All that a tree is to have told at its end, when of all that lived nothing is left."""
    told: dict[str, Any] = {
        COUNT: dict.fromkeys(lifetime, 0),
        LIFETIME: lifetime,
        TERMINATIONS: terminations,
        START: start,
        SHUTDOWN: shutdown,
        STARTUP: startup,
        TEARDOWN: teardown,
        RESTARTS: restarts,
        ESCALATIONS: escalations,
        DELAY: delay,
    }
    return {name: points for name, points in told.items() if points}


def at_once(*labels: str) -> Times:
    """It happened once to each, and took no time."""
    return dict.fromkeys(labels, (1, 0.0))


def without(told: Told, *names: str) -> Told:
    """All of it but a few instruments."""
    return {name: points for name, points in told.items() if name not in names}
