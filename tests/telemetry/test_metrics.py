"""What a system tells a meter, for every kind of end that its children come to."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from opentelemetry import metrics
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
    Sum,
)

from metered import (
    COUNT,
    DELAY,
    ESCALATIONS,
    LIFETIME,
    RESTARTS,
    SHUTDOWN,
    START,
    STARTUP,
    TEARDOWN,
    TERMINATIONS,
    at_once,
    book,
    label,
    metered,
    meters,
    metrics_of,
    metrics_over,
    tallied,
    without,
)
from spans import play
from spry_py import (
    AlwaysRestart,
    Child,
    Ignore,
    NeverRestart,
    RateLimited,
    Scope,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py._telemetry import sums
from traced import BEFORE_STARTED, crash, forever, idle, lives, shop, supervisor

# The instruments

SHORT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LONG = (0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0, 7_776_000.0)
INSTRUMENTS = {
    COUNT: ("{child}", "up-down counter"),
    TERMINATIONS: ("{termination}", "counter"),
    RESTARTS: ("{restart}", "counter"),
    ESCALATIONS: ("{escalation}", "counter"),
    LIFETIME: ("s", LONG),
    START: ("s", SHORT),
    SHUTDOWN: ("s", SHORT),
    STARTUP: ("s", SHORT),
    TEARDOWN: ("s", SHORT),
    DELAY: ("s", SHORT),
}


def kind(metric: Metric) -> object:
    if isinstance(metric.data, Histogram):
        (bounds,) = {tuple(point.explicit_bounds) for point in metric.data.data_points}
        return bounds
    assert isinstance(metric.data, Sum)
    return "counter" if metric.data.is_monotonic else "up-down counter"


async def until_it_fails() -> None:
    inner = supervisor(Child("a", lives(crash(), crash())), breaker=NeverRestart())
    with trio.move_on_after(10):
        await forever(shop(Child("inner", inner)))


def test_names_units_and_kinds() -> None:
    with metered() as told:
        play(until_it_fails)
        found = {metric.name: (metric.unit, kind(metric)) for metric in told.raw()}
        described = [metric.name for metric in told.raw() if metric.description]
    assert found == INSTRUMENTS
    assert len(described) == len(INSTRUMENTS)


def test_the_meter_is_named_and_versioned_as_the_library() -> None:
    with metered() as told:
        play(until_it_fails)
        ((name, version),) = told.scopes()
    assert name == "spry_py"
    assert version


# Living and ending


def test_the_count_goes_up_and_down_with_the_children() -> None:
    seen: list[Any] = []

    async def story() -> None:
        async with open_system(shop(Child("a", lives(crash(2.0)), backoff=lambda _: 2.0))):
            for _ in range(3):
                await trio.sleep(1.5)
                seen.append(told.read()[COUNT])
        seen.append(told.read()[COUNT])

    with metered() as told:
        play(story)
    assert seen == [{"shop/a": number} for number in (1, 0, 1, 0)]


def test_boot_and_stop_of_a_nested_tree() -> None:
    inner = supervisor(Child("api", lives_after(2.0)))
    assert metrics_of(shop(Child("db", idle), Child("web", inner))) == book(
        lifetime={"shop/db": (1, 12.0), "shop/web": (1, 10.0), "shop/web/api": (1, 10.0)},
        terminations={"shop/db aborted": 1, "shop/web normal": 1, "shop/web/api aborted": 1},
        start={"shop/db": (1, 0.0), "shop/web": (1, 2.0), "shop/web/api": (1, 2.0)},
        shutdown=at_once("shop/db", "shop/web", "shop/web/api"),
        startup={"shop": (1, 2.0), "shop/web": (1, 2.0)},
        teardown=at_once("shop", "shop/web"),
    )


def lives_after(seconds: float) -> Any:
    """A child that takes its time to start."""

    async def live(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(seconds)
        task_status.started()
        await trio.sleep_forever()

    return live


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_an_end_for_good(restart: Any) -> None:
    ending = Child("a", lives((3.0, None)), restart=restart)
    assert metrics_of(shop(ending)) == book(
        lifetime={"shop/a": (1, 3.0)},
        terminations={"shop/a normal": 1},
        start=at_once("shop/a"),
        shutdown={},
        startup=at_once("shop"),
        teardown=at_once("shop"),
    )


async def settles() -> None:
    await current_context().settled()
    await trio.sleep(2)


async def sulks() -> None:
    await current_context().settled()
    await trio.sleep(1)
    raise ValueError("sulks")


async def deaf() -> None:
    await current_context().settled()
    await trio.sleep_forever()


def test_ends_that_were_asked_for_take_their_time() -> None:
    tree = shop(Child("a", settles), Child("b", sulks), Child("c", deaf, shutdown=3.0))
    assert metrics_of(tree) == book(
        lifetime={"shop/a": (1, 16.0), "shop/b": (1, 14.0), "shop/c": (1, 13.0)},
        terminations={"shop/a normal": 1, "shop/b failed ValueError": 1, "shop/c aborted": 1},
        start=at_once("shop/a", "shop/b", "shop/c"),
        shutdown={"shop/a": (1, 2.0), "shop/b": (1, 1.0), "shop/c": (1, 3.0)},
        startup=at_once("shop"),
        teardown={"shop": (1, 6.0)},
    )


async def beats_once() -> None:
    current_context().heartbeat()
    await trio.sleep_forever()


async def gives_up() -> None:
    await trio.sleep(2)
    current_context().fail(OSError("given up"))
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("child", "error"),
    [
        (Child("a", idle, run_timeout=2.0, restart="temporary"), "spry_py.RunTimeout"),
        (Child("a", beats_once, heartbeat=2.0, restart="temporary"), "spry_py.Unresponsive"),
        (Child("a", gives_up, restart="temporary"), "OSError"),
        (Child("a", lives(crash(2.0)), restart="temporary"), "ValueError"),
    ],
)
def test_failures_by_themselves(child: Child[Any], error: str) -> None:
    assert metrics_of(shop(child)) == book(
        lifetime={"shop/a": (1, 2.0)},
        terminations={f"shop/a failed {error}": 1},
        start=at_once("shop/a"),
        shutdown={},
        startup=at_once("shop"),
        teardown=at_once("shop"),
    )


def test_one_leaf_of_a_group_gives_its_own_type() -> None:
    group = ExceptionGroup("both", [ValueError("boom")])
    told = metrics_of(shop(Child("a", lives((1.0, group)), restart="temporary")))
    assert told[TERMINATIONS] == {"shop/a failed ValueError": 1}


# Starts that come to nothing


async def never(*, task_status: trio.TaskStatus[None]) -> None:
    await trio.sleep_forever()


BOOTING = supervisor(Child("x", never, start_timeout=1.0))


@pytest.mark.parametrize(
    ("child", "seconds", "failed"),
    [
        (Child("a", never, start_timeout=3.0), 3.0, ["shop/a spry_py.StartTimeout"]),
        (Child("a", lives((BEFORE_STARTED, OSError("no")))), 0.0, ["shop/a OSError"]),
        (
            Child("a", BOOTING),
            1.0,
            ["shop/a spry_py.ChildFailure", "shop/a/x spry_py.StartTimeout"],
        ),
    ],
)
def test_a_boot_that_fails(child: Child[Any], seconds: float, failed: list[str]) -> None:
    told = metrics_of(shop(Child("z", idle), child))
    assert without(told, STARTUP, TEARDOWN) == {
        COUNT: {"shop/z": 0},
        LIFETIME: {"shop/z": (1, seconds)},
        TERMINATIONS: {"shop/z aborted": 1},
        START: {"shop/z": (1, 0.0)} | dict.fromkeys(failed, (1, seconds)),
        SHUTDOWN: {"shop/z": (1, 0.0)},
    }
    systems = ["shop", "shop/a"][: len(failed)]
    assert told[STARTUP] == dict.fromkeys(systems, (1, seconds))
    assert told[TEARDOWN] == at_once(*systems)


def test_a_child_left_out_by_ignore_counts_nowhere() -> None:
    assert metrics_of(
        shop(Child("i", lives((BEFORE_STARTED, Ignore()))), Child("b", idle))
    ) == book(
        lifetime={"shop/b": (1, 10.0)},
        terminations={"shop/b aborted": 1},
        start=at_once("shop/b"),
        shutdown=at_once("shop/b"),
        startup=at_once("shop"),
        teardown=at_once("shop"),
    )


def test_children_started_together_of_which_one_fails() -> None:
    async def system(scope: Scope) -> None:
        failing = Child("b", fails_after(2.0))
        await scope.start_together(Child("a", idle), failing, Child("c", never))

    assert metrics_of(SystemSupervisor(system, name="shop")) == book(
        lifetime={"shop/a": (1, 2.0)},
        terminations={"shop/a aborted": 1},
        start={"shop/a": (1, 0.0), "shop/b OSError": (1, 2.0)},
        shutdown=at_once("shop/a", "shop/c"),
        startup={"shop": (1, 2.0)},
        teardown={"shop": (2, 0.0)},
    )


def fails_after(seconds: float) -> Any:
    async def live(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(seconds)
        raise OSError("no")

    return live


def test_a_boot_that_is_interrupted() -> None:
    async def story() -> None:
        with trio.move_on_after(2):
            await forever(shop(Child("a", idle), Child("b", never)))

    assert metrics_over(story) == book(
        lifetime={"shop/a": (1, 2.0)},
        terminations={"shop/a aborted": 1},
        start=at_once("shop/a"),
        shutdown=at_once("shop/a", "shop/b"),
        startup={"shop": (1, 2.0)},
        teardown={"shop": (2, 0.0)},
    )


# Counters are summed up until a reader collects


def deltas(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    """What has been counted since the reader collected last, by instrument and label."""
    data = reader.get_metrics_data()
    found = data.resource_metrics if data is not None else []
    scopes = [scope for each in found for scope in each.scope_metrics]
    return {
        (metric.name, label(metric.name, point.attributes or {})): point.value
        for scope in scopes
        for metric in scope.metrics
        if isinstance(metric.data, Sum)
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }


def test_each_of_several_readers_sees_all_that_was_counted_up_to_now() -> None:
    delta = InMemoryMetricReader({Counter: AggregationTemporality.DELTA})
    total = InMemoryMetricReader()
    provider = MeterProvider([delta, total], shutdown_on_exit=False)
    seen: list[tuple[float | None, float | None]] = []
    restarts = RESTARTS, "shop/a"

    async def story() -> None:
        often = RateLimited(100, 1.0)
        async with open_system(shop(Child("a", lives(*[crash()] * 5)), breaker=often)):
            for until in (2.5, 3.0, 1.0):
                await trio.sleep(until)
                seen.append((deltas(delta).get(restarts), deltas(total).get(restarts)))

    with meters(provider):
        play(story)
    provider.shutdown()
    # where nothing more was counted, a delta has no point
    assert seen == [(2, 2), (3, 5), (None, 5)]


def test_trees_of_one_provider_share_its_counters() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", idle))), open_system(shop(Child("a", idle))):
            seen.append(told.read()[COUNT])
        async with open_system(shop(Child("a", idle))):
            seen.append(told.read()[COUNT])

    seen: list[Any] = []
    with metered() as told:
        play(story)
        seen.append(told.read()[TERMINATIONS])
    assert seen == [{"shop/a": 2}, {"shop/a": 1}, {"shop/a aborted": 3}]


def test_series_beyond_those_that_are_kept_apart_are_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sums, "MOST", 2)
    keys = ("a", "b", "c", "d")

    async def story() -> None:
        async with open_system(
            shop(*[Child(key, lives(crash(), crash())) for key in keys], breaker=AlwaysRestart())
        ):
            await trio.sleep(5)

    with metered() as told:
        play(story)
        restarts = told.read()[RESTARTS]
    assert restarts == {f"shop/{key}": 2 for key in keys}


# Without a meter provider


def test_without_a_provider_nobody_makes_an_instrument(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for idle_provider in (NoOpMeterProvider, type(metrics.get_meter_provider())):
        monkeypatch.setattr(idle_provider, "get_meter", lambda self, name, *_: made.append(name))
        with meters(idle_provider()):
            play(until_it_fails)
    assert made == []


def test_a_tree_that_was_opened_before_the_provider_was_set_stays_silent() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", lives(crash())))):
            with tallied() as tally:
                await trio.sleep(5)
                async with open_system(supervisor(Child("b", idle), name="other")):
                    told.extend(tally.points)

    told: list[Any] = []
    play(story)
    assert {point.label for point in told} == {"other", "other/b"}
