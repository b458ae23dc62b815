"""What restarts, escalations and the end of a whole tree tell a meter."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from metered import (
    COUNT,
    DELAY,
    ESCALATIONS,
    RESTARTS,
    SHUTDOWN,
    START,
    STARTUP,
    TEARDOWN,
    TERMINATIONS,
    at_once,
    book,
    metered,
    metrics_of,
    metrics_over,
)
from spans import play, recording
from spry_py import (
    Child,
    NeverRestart,
    SystemSupervisor,
    Unrecoverable,
    current_context,
    open_system,
)
from traced import BEFORE_STARTED, crash, forever, idle, lives, shop, supervisor

# Restarts


def test_a_crash_and_the_restart_of_that_child_alone() -> None:
    assert metrics_of(shop(Child("a", lives(crash())), Child("b", idle))) == book(
        lifetime={"shop/a": (2, 10.0), "shop/b": (1, 10.0)},
        terminations={"shop/a failed ValueError": 1, "shop/a aborted": 1, "shop/b aborted": 1},
        restarts={"shop/a": 1},
        start={"shop/a": (2, 0.0), "shop/b": (1, 0.0)},
        shutdown=at_once("shop/a", "shop/b"),
        startup=at_once("shop"),
        teardown=at_once("shop"),
        delay=at_once("shop/a"),
    )


def test_backoff_is_told_as_delay() -> None:
    flapping = Child("a", lives(crash(), crash()), backoff=lambda _: 2.5)
    assert metrics_of(shop(flapping)) == book(
        lifetime={"shop/a": (3, 5.0)},
        terminations={"shop/a failed ValueError": 2, "shop/a aborted": 1},
        restarts={"shop/a": 2},
        start={"shop/a": (3, 0.0)},
        shutdown=at_once("shop/a"),
        startup=at_once("shop"),
        teardown=at_once("shop"),
        delay={"shop/a": (2, 5.0)},
    )


def test_a_stop_during_the_backoff_means_no_restart() -> None:
    told = metrics_of(shop(Child("a", lives(crash()), backoff=lambda _: 60.0)))
    assert told[DELAY] == {"shop/a": (1, 60.0)}
    assert told[TERMINATIONS] == {"shop/a failed ValueError": 1}
    assert RESTARTS not in told


def three(**options: Any) -> SystemSupervisor:
    return shop(Child("a", idle), Child("b", lives(crash())), Child("c", idle), **options)


def test_one_for_all_restarts_all() -> None:
    assert metrics_of(three(strategy="one_for_all")) == book(
        lifetime={"shop/a": (2, 10.0), "shop/b": (2, 10.0), "shop/c": (2, 10.0)},
        terminations={
            "shop/b failed ValueError": 1,
            "shop/a aborted": 2,
            "shop/b aborted": 1,
            "shop/c aborted": 2,
        },
        restarts={"shop/a": 1, "shop/b": 1, "shop/c": 1},
        start={"shop/a": (2, 0.0), "shop/b": (2, 0.0), "shop/c": (2, 0.0)},
        shutdown={"shop/a": (2, 0.0), "shop/b": (1, 0.0), "shop/c": (2, 0.0)},
        startup={"shop": (2, 0.0)},
        teardown={"shop": (2, 0.0)},
        delay=at_once("shop/b"),
    )


def test_rest_for_one_restarts_what_came_after() -> None:
    assert metrics_of(three(strategy="rest_for_one")) == book(
        lifetime={"shop/a": (1, 10.0), "shop/b": (2, 10.0), "shop/c": (2, 10.0)},
        terminations={
            "shop/b failed ValueError": 1,
            "shop/a aborted": 1,
            "shop/b aborted": 1,
            "shop/c aborted": 2,
        },
        restarts={"shop/b": 1, "shop/c": 1},
        start={"shop/a": (1, 0.0), "shop/b": (2, 0.0), "shop/c": (2, 0.0)},
        shutdown={"shop/a": (1, 0.0), "shop/b": (1, 0.0), "shop/c": (2, 0.0)},
        startup={"shop": (2, 0.0)},
        teardown={"shop": (2, 0.0)},
        delay=at_once("shop/b"),
    )


def test_failing_attempts_are_restarts_and_starts_but_no_terminations() -> None:
    refused = (BEFORE_STARTED, OSError("no"))
    told = metrics_of(shop(Child("a", lives(crash(), refused, refused), backoff=lambda _: 1.0)))
    assert told == book(
        lifetime={"shop/a": (2, 7.0)},
        terminations={"shop/a failed ValueError": 1, "shop/a aborted": 1},
        restarts={"shop/a": 3},
        start={"shop/a": (2, 0.0), "shop/a OSError": (2, 0.0)},
        shutdown=at_once("shop/a"),
        startup=at_once("shop"),
        teardown=at_once("shop"),
        delay={"shop/a": (3, 3.0)},
    )


def test_a_replay_that_fails_is_a_run_of_the_system_too() -> None:
    told = metrics_of(
        shop(
            Child("a", idle),
            Child("b", lives(crash(), (BEFORE_STARTED, OSError("no")))),
            strategy="one_for_all",
        )
    )
    assert told[STARTUP] == {"shop": (3, 0.0)}
    assert told[RESTARTS] == {"shop/a": 2, "shop/b": 2}
    assert told[START] == {"shop/a": (3, 0.0), "shop/b": (2, 0.0), "shop/b OSError": (1, 0.0)}
    assert told[TERMINATIONS] == {
        "shop/a aborted": 3,
        "shop/b failed ValueError": 1,
        "shop/b aborted": 1,
    }


# Giving up


def test_a_refusal_is_an_escalation_and_no_delay() -> None:
    refusing = shop(Child("a", lives(crash())), Child("b", idle), breaker=NeverRestart())
    assert metrics_of(refusing) == book(
        lifetime=at_age_1("shop/a", "shop/b"),
        terminations={"shop/a failed ValueError": 1, "shop/b aborted": 1},
        escalations={"shop": 1},
        start=at_once("shop/a", "shop/b"),
        shutdown=at_once("shop/b"),
        startup=at_once("shop"),
        teardown=at_once("shop"),
    )


def at_age_1(*labels: str) -> dict[str, tuple[int, float]]:
    return dict.fromkeys(labels, (1, 1.0))


HOPELESS = (1.0, Unrecoverable("hopeless"))


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_two_that_cannot_be_recovered_are_one_escalation(strategy: Any) -> None:
    both = shop(Child("a", lives(HOPELESS)), Child("b", lives(HOPELESS)), strategy=strategy)
    with recording():
        told = metrics_of(both)
    assert told == book(
        lifetime=at_age_1("shop/a", "shop/b"),
        terminations={
            "shop/a failed spry_py.Unrecoverable": 1,
            "shop/b failed spry_py.Unrecoverable": 1,
        },
        escalations={"shop": 1},
        start=at_once("shop/a", "shop/b"),
        shutdown={},
        startup=at_once("shop"),
        teardown=at_once("shop"),
    )


def test_a_discarded_child_ends_alone() -> None:
    discarded = Child("a", lives(HOPELESS), on_unrecoverable="discard")
    told = metrics_of(shop(discarded, Child("b", idle)))
    assert told[TERMINATIONS] == {"shop/a failed spry_py.Unrecoverable": 1, "shop/b aborted": 1}
    assert told[COUNT] == {"shop/a": 0, "shop/b": 0}
    assert {ESCALATIONS, RESTARTS, DELAY} & set(told) == set()


def test_a_child_whose_own_breaker_refuses() -> None:
    told = metrics_of(shop(Child("a", lives(crash()), breaker=NeverRestart())))
    assert told[ESCALATIONS] == {"shop": 1}
    assert {RESTARTS, DELAY} & set(told) == set()


def test_an_escalation_over_two_levels() -> None:
    low = supervisor(Child("leaf", lives(crash())), breaker=NeverRestart())
    mid = supervisor(Child("low", low), breaker=NeverRestart())
    gave_up = "failed spry_py.TooManyRestarts"
    assert metrics_of(shop(Child("mid", mid))) == book(
        lifetime=dict.fromkeys(("shop/mid", "shop/mid/low", "shop/mid/low/leaf"), (2, 10.0)),
        terminations={
            "shop/mid/low/leaf failed ValueError": 1,
            f"shop/mid/low {gave_up}": 1,
            f"shop/mid {gave_up}": 1,
            "shop/mid normal": 1,
            "shop/mid/low normal": 1,
            "shop/mid/low/leaf aborted": 1,
        },
        restarts={"shop/mid": 1},
        escalations={"shop/mid/low": 1, "shop/mid": 1},
        start=dict.fromkeys(("shop/mid", "shop/mid/low", "shop/mid/low/leaf"), (2, 0.0)),
        shutdown=at_once("shop/mid", "shop/mid/low", "shop/mid/low/leaf"),
        startup={"shop": (1, 0.0), "shop/mid": (2, 0.0), "shop/mid/low": (2, 0.0)},
        teardown={"shop": (1, 0.0), "shop/mid": (2, 0.0), "shop/mid/low": (2, 0.0)},
        delay=at_once("shop/mid"),
    )


# The end of a whole tree


def family(key: str = "inner", **options: Any) -> Child[Any]:
    return Child(key, supervisor(Child("a", idle), Child("b", idle)), **options)


async def aborts_the_root(handle: Any) -> None:
    await trio.sleep(4)
    handle.abort()
    await handle.wait()


async def cancels_from_outside() -> None:
    with trio.move_on_after(4):
        await forever(shop(family()))


async def leaves() -> None:
    async with open_system(shop(family())) as handle:
        await trio.sleep(4)
        await handle.stop()


@pytest.mark.parametrize(
    ("story", "reason"), [(leaves, "normal"), (cancels_from_outside, "normal"), (None, "aborted")]
)
def test_ways_in_which_a_root_ends(story: Any, reason: str) -> None:
    told = metrics_over(story) if story else metrics_of(shop(family()), aborts_the_root)
    assert told == book(
        lifetime={"shop/inner": (1, 4.0), "shop/inner/a": (1, 4.0), "shop/inner/b": (1, 4.0)},
        terminations={
            f"shop/inner {reason}": 1,
            "shop/inner/a aborted": 1,
            "shop/inner/b aborted": 1,
        },
        start=at_once("shop/inner", "shop/inner/a", "shop/inner/b"),
        shutdown=at_once("shop/inner", "shop/inner/a", "shop/inner/b"),
        startup=at_once("shop", "shop/inner"),
        teardown=at_once("shop", "shop/inner"),
    )


async def deaf() -> None:
    await current_context().settled()
    await trio.sleep_forever()


def test_a_subsystem_that_outlives_its_time() -> None:
    inner = supervisor(Child("a", idle), Child("b", deaf, shutdown=60.0))
    told = metrics_of(shop(Child("inner", inner, shutdown=2.0)))
    assert told[SHUTDOWN] == {
        "shop/inner": (1, 2.0),
        "shop/inner/a": (1, 0.0),
        "shop/inner/b": (1, 2.0),
    }
    assert told[TEARDOWN] == {"shop": (1, 2.0), "shop/inner": (1, 2.0)}
    assert told[COUNT] == {"shop/inner": 0, "shop/inner/a": 0, "shop/inner/b": 0}


def test_a_subsystem_whose_own_time_is_over() -> None:
    assert metrics_of(shop(family(run_timeout=4.0, restart="temporary"))) == book(
        lifetime={"shop/inner": (1, 4.0), "shop/inner/a": (1, 4.0), "shop/inner/b": (1, 4.0)},
        terminations={
            "shop/inner failed spry_py.RunTimeout": 1,
            "shop/inner/a aborted": 1,
            "shop/inner/b aborted": 1,
        },
        start=at_once("shop/inner", "shop/inner/a", "shop/inner/b"),
        shutdown=at_once("shop/inner/a", "shop/inner/b"),
        startup=at_once("shop", "shop/inner"),
        teardown=at_once("shop", "shop/inner"),
    )


@pytest.mark.parametrize("way", ["stop", "abort"])
def test_a_subsystem_ended_by_its_own_handle_ends_by_itself(way: str) -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(4)
        inner = handle.child("inner").value
        await inner.stop() if way == "stop" else inner.abort()
        await trio.sleep(1)

    told = metrics_of(shop(family(restart="transient")), story)
    reason = {"stop": "normal", "abort": "aborted"}[way]
    assert told[TERMINATIONS] == {
        f"shop/inner {reason}": 1,
        "shop/inner/a aborted": 1,
        "shop/inner/b aborted": 1,
    }
    assert told[SHUTDOWN] == at_once("shop/inner/a", "shop/inner/b")
    assert told[TEARDOWN] == at_once("shop", "shop/inner")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_exit_exception_is_a_failure_that_stops_the_tree(error: BaseException) -> None:
    exiting = shop(Child("b", idle), Child("a", lives((1.0, error))))
    with metered() as told:
        with pytest.raises(type(error)):
            play(lambda: forever(exiting))
        assert told.read() == book(
            lifetime=at_age_1("shop/a", "shop/b"),
            terminations={f"shop/a failed {type(error).__name__}": 1, "shop/b aborted": 1},
            start=at_once("shop/a", "shop/b"),
            shutdown=at_once("shop/b"),
            startup=at_once("shop"),
            teardown=at_once("shop"),
        )
