"""Metrics of children that come and go, of partitions, and of what callers ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

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
    Told,
    at_once,
    book,
    metrics_of,
)
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    DynamicSupervisor,
    Ignore,
    NeverRestart,
    PartitionSupervisor,
    Scope,
    SpryError,
    SystemSupervisor,
    cancel_on_settle,
)
from traced import BEFORE_STARTED, crash, idle, lives, shop

Story = Callable[[Any], Awaitable[object]]


def pool(story: Story, **options: Any) -> Told:
    return metrics_of(DynamicSupervisor(name="pool", **options), story)


# Children that no system has declared


async def starts_three(handle: Any) -> None:
    await handle.start_child(Child("a", lives(crash(2.0))))
    await handle.start_child(Child("b", idle))
    await handle.start_child(Child("c", lives((4.0, None)), restart="temporary"))
    await trio.sleep(10)


def test_children_of_a_dynamic_supervisor_have_no_key() -> None:
    assert pool(starts_three) == book(
        lifetime={"pool/*": (4, 24.0)},
        terminations={"pool/* failed ValueError": 1, "pool/* normal": 1, "pool/* aborted": 2},
        restarts={"pool/*": 1},
        start={"pool/*": (4, 0.0)},
        shutdown={"pool/*": (2, 0.0)},
        startup={},
        teardown=at_once("pool"),
        delay=at_once("pool/*"),
    )


def test_nor_have_those_added_to_a_system_which_are_restarted_with_the_others() -> None:
    async def story(handle: Any) -> None:
        await handle.start_child(Child("b", lives(crash())))
        await trio.sleep(10)

    assert metrics_of(shop(Child("a", idle), strategy="one_for_all"), story) == book(
        lifetime={"shop/a": (2, 10.0), "shop/*": (2, 10.0)},
        terminations={"shop/a aborted": 2, "shop/* failed ValueError": 1, "shop/* aborted": 1},
        restarts={"shop/a": 1, "shop/*": 1},
        start={"shop/a": (2, 0.0), "shop/*": (2, 0.0)},
        shutdown={"shop/a": (2, 0.0), "shop/*": (1, 0.0)},
        startup={"shop": (2, 0.0)},
        teardown={"shop": (2, 0.0)},
        delay=at_once("shop/*"),
    )


def test_a_dynamic_supervisor_that_gives_up_is_a_child_with_a_key() -> None:
    async def story(handle: Any) -> None:
        await handle.child("pool").value.start_child(Child("a", lives(crash())))
        await trio.sleep(10)

    inner = DynamicSupervisor(breaker=NeverRestart())
    assert metrics_of(shop(Child("pool", inner)), story) == book(
        lifetime={"shop/pool": (2, 10.0), "shop/pool/*": (1, 1.0)},
        terminations={
            "shop/pool/* failed ValueError": 1,
            "shop/pool failed spry_py.TooManyRestarts": 1,
            "shop/pool normal": 1,
        },
        restarts={"shop/pool": 1},
        escalations={"shop/pool": 1},
        start={"shop/pool": (2, 0.0), "shop/pool/*": (1, 0.0)},
        shutdown=at_once("shop/pool"),
        startup=at_once("shop"),
        teardown={"shop": (1, 0.0), "shop/pool": (2, 0.0)},
        delay=at_once("shop/pool"),
    )


def test_a_key_that_a_system_declares_keeps_it_in_every_incarnation() -> None:
    async def story(handle: Any) -> None:
        await handle.terminate_child("a")
        await trio.sleep(1)
        await handle.restart_child("a")
        await trio.sleep(2)

    told = metrics_of(shop(Child("a", idle)), story)
    assert told[LIFETIME] == {"shop/a": (2, 2.0)}
    assert told[COUNT] == {"shop/a": 0}


def test_a_deleted_key_that_is_added_anew_has_lost_it() -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(1)
        await handle.terminate_child("a")
        await handle.delete_child("a")
        await handle.start_child(Child("a", idle))
        await trio.sleep(2)

    told = metrics_of(shop(Child("a", idle)), story)
    assert told[LIFETIME] == {"shop/a": (1, 1.0), "shop/*": (1, 2.0)}
    assert told[COUNT] == {"shop/a": 0, "shop/*": 0}


def test_one_that_was_added_and_is_declared_later_goes_down_where_it_went_up() -> None:
    declared = [Child("a", idle)]

    async def system(scope: Scope) -> None:
        for child in declared:
            await scope.start(child)

    async def story(handle: Any) -> None:
        await handle.start_child(Child("b", lives(crash(2.0))))
        declared.append(Child("b", lives(crash(2.0))))
        await trio.sleep(1)
        await handle.replay()
        await trio.sleep(4)

    told = metrics_of(SystemSupervisor(system, name="shop", strategy="one_for_one"), story)
    assert told[COUNT] == {"shop/a": 0, "shop/*": 0}


# Partitions


def test_partitions_have_keys_since_there_are_only_so_many() -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(4)
        await handle.resize(1)
        await trio.sleep(1)
        await handle.resize(2)
        await trio.sleep(5)

    def made(index: int) -> Child[Any]:
        return Child("any", lives(crash()) if index == 0 else idle)

    assert metrics_of(PartitionSupervisor(made, partitions=2, name="shop"), story) == book(
        lifetime={"shop/0": (2, 10.0), "shop/1": (2, 9.0)},
        terminations={"shop/0 failed ValueError": 1, "shop/0 aborted": 1, "shop/1 aborted": 2},
        restarts={"shop/0": 1},
        start={"shop/0": (2, 0.0), "shop/1": (2, 0.0)},
        shutdown={"shop/0": (1, 0.0), "shop/1": (2, 0.0)},
        startup=at_once("shop"),
        teardown=at_once("shop"),
        delay=at_once("shop/0"),
    )


# What callers ask for


def test_a_termination_by_call_takes_its_time() -> None:
    async def settles() -> None:
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(3)

    async def story(handle: Any) -> None:
        await trio.sleep(1)
        await handle.terminate_child("a")

    assert metrics_of(shop(Child("a", settles)), story) == book(
        lifetime={"shop/a": (1, 4.0)},
        terminations={"shop/a normal": 1},
        start=at_once("shop/a"),
        shutdown={"shop/a": (1, 3.0)},
        startup=at_once("shop"),
        teardown=at_once("shop"),
    )


@pytest.mark.parametrize(
    ("strategy", "restarts"),
    [("one_for_one", {"shop/a": 1}), ("one_for_all", {"shop/a": 1, "shop/b": 1})],
)
def test_a_restart_by_call_is_one_without_a_delay(strategy: Any, restarts: dict[str, int]) -> None:
    async def story(handle: Any) -> None:
        await handle.child("a").restart()

    told = metrics_of(shop(Child("a", idle), Child("b", idle), strategy=strategy), story)
    assert told[RESTARTS] == restarts
    assert DELAY not in told
    assert told[COUNT] == {"shop/a": 0, "shop/b": 0}


def test_a_start_by_call_is_no_restart() -> None:
    async def story(handle: Any) -> None:
        await handle.terminate_child("a")
        await handle.restart_child("a")

    told = metrics_of(shop(Child("a", idle)), story)
    assert RESTARTS not in told
    assert told[START] == {"shop/a": (2, 0.0)}


def test_a_replay_by_call_is_a_run_of_the_system() -> None:
    async def story(handle: Any) -> None:
        await handle.terminate_child("a")
        await handle.replay()

    told = metrics_of(shop(Child("a", idle), Child("b", idle)), story)
    assert told[STARTUP] == {"shop": (2, 0.0)}
    assert told[START] == {"shop/a": (2, 0.0), "shop/b": (1, 0.0)}


def test_a_start_that_fails_and_one_that_is_left_out() -> None:
    async def story(handle: Any) -> None:
        with suppress(ChildFailure):
            await handle.start_child(Child("a", lives((BEFORE_STARTED, OSError("no")))))
        await handle.start_child(Child("i", lives((BEFORE_STARTED, Ignore()))))

    assert pool(story) == {START: {"pool/* OSError": (1, 0.0)}, TEARDOWN: {"pool": (1, 0.0)}}


async def starts_in_3(*, task_status: trio.TaskStatus[None]) -> None:
    await trio.sleep(3)
    task_status.started()
    await trio.sleep_forever()


def test_a_start_that_its_caller_takes_back_is_an_end_and_no_start() -> None:
    async def story(handle: Any) -> None:
        with trio.move_on_after(2):
            await handle.start_child(Child("a", starts_in_3))

    assert pool(story) == {SHUTDOWN: {"pool/*": (1, 0.0)}, TEARDOWN: {"pool": (1, 0.0)}}


async def insists(*, task_status: trio.TaskStatus[None]) -> None:
    """Comes up although it has been asked to end meanwhile, and takes a second to end."""
    with cancel_on_settle():
        pass
    await trio.sleep(3)
    task_status.started()
    await trio.sleep(1)


def test_a_child_that_starts_after_it_was_asked_to_end() -> None:
    async def call(handle: Any) -> None:
        with suppress(SpryError):
            await handle.start_child(Child("a", insists))

    async def story(handle: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, handle)
            await trio.sleep(2)
            await handle.terminate_child("a")

    assert pool(story) == book(
        lifetime={"pool/*": (1, 1.0)},
        terminations={"pool/* normal": 1},
        start={"pool/*": (1, 3.0)},
        shutdown={"pool/*": (1, 2.0)},
        startup={},
        teardown=at_once("pool"),
    )


def test_a_child_that_waits_for_its_turn_begins_when_that_comes() -> None:
    async def story(handle: Any) -> None:
        async with trio.open_nursery() as nursery:
            for key in "ab":
                child = Child(key, lives((4.0, None)), restart="temporary")
                nursery.start_soon(handle.start_child, child)
            await trio.sleep(1)
        await trio.sleep(10)

    assert pool(story, max_running=1) == book(
        lifetime={"pool/*": (2, 8.0)},
        terminations={"pool/* normal": 2},
        start={"pool/*": (2, 0.0)},
        shutdown={},
        startup={},
        teardown=at_once("pool"),
    )


async def naps(seconds: float) -> None:
    await trio.sleep(seconds)


async def fails() -> None:
    await trio.sleep(1)
    raise ValueError("boom")


def test_tasks_are_children_like_any_other() -> None:
    async def story(handle: Any) -> None:
        await handle.run(naps, 2)
        with suppress(ValueError):
            await handle.run(fails)
        async with handle.map(naps, [1, 2, 3], limit=2) as results:
            async for _ in results:
                pass
        with trio.move_on_after(4):
            await handle.run(naps, 5)

    assert pool(story) == book(
        lifetime={"pool/*": (6, 13.0)},
        terminations={"pool/* normal": 4, "pool/* failed ValueError": 1, "pool/* aborted": 1},
        start={"pool/*": (6, 0.0)},
        shutdown={"pool/*": (1, 0.0)},
        startup={},
        teardown=at_once("pool"),
    )


@pytest.mark.parametrize("way", ["replace", "queue"])
def test_a_key_that_changes_hands(way: Any) -> None:
    async def story(handle: Any) -> None:
        await handle.start_child(Child("a", idle, restart="temporary"))
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.start_child, Child("a", idle), way)
            await trio.sleep(1)
            if way == "queue":
                await handle.terminate_child("a")
        await trio.sleep(1)

    told = pool(story, breaker=AlwaysRestart)
    assert told[COUNT] == {"pool/*": 0}
    assert told[TERMINATIONS] == {"pool/* aborted": 2}
    assert told[START] == {"pool/*": (2, 0.0)}
    assert told[SHUTDOWN] == {"pool/*": (2, 0.0)}
    assert {RESTARTS, ESCALATIONS} & set(told) == set()
