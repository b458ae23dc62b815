"""Starts, and system functions, that do not come to their end are named until they do."""

from __future__ import annotations

import gc
import math

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan

from actors import Actor
from callers import Desk
from listeners import Heard
from spans import recording
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Scope,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py._kernel.timers import Timer
from spry_py.events import ChildSlow
from stories import Record, story, warnings_of

Status = trio.TaskStatus[None]
Told = list[tuple[float, str]]


async def the_slow_part(seconds: float) -> None:
    await trio.sleep(seconds)


async def starting(seconds: float, *, task_status: Status) -> None:
    await the_slow_part(seconds)
    task_status.started()
    await trio.sleep_forever()


async def steady() -> None:
    await trio.sleep_forever()


def told(heard: list[tuple[float, str, str]]) -> Told:
    """The reports of what is slow: when, and about whom."""
    slow = [one for one in heard if "; it stands at" in one[2]]
    stacks = [text.partition(" name=")[0] for _, _, text in slow]
    assert all("the_slow_part" in stack and "spry_py" not in stack for stack in stacks)
    return [(time, name.removeprefix("spry_py.")) for time, name, _ in slow]


@story
async def test_a_start_is_named_after_ten_seconds_and_at_doubling_intervals() -> None:
    with warnings_of("top") as heard:
        async with open_system([Child("a", starting, 100)], name="top"):
            await trio.sleep(1000)
    assert told(heard) == [(10, "top.a"), (30, "top.a"), (70, "top.a")]
    assert heard[0][2].startswith("top/a has not started within 10 s; it stands at\n")


@pytest.mark.parametrize("seconds", [0, 5, 9.99])
@story
async def test_one_that_takes_no_ten_seconds_is_not_slow(seconds: float) -> None:
    children = [Child(key, starting, seconds) for key in "abcde"]
    with warnings_of("top") as heard:
        async with open_system(children, name="top"):
            await trio.sleep(1000)
    assert heard == []


@pytest.mark.parametrize(
    ("limit", "times"),
    [(5, []), (11, [10]), (20, [10]), (21, [10.5]), (100, [50]), (math.inf, [10, 30, 70])],
)
@story
async def test_half_of_a_long_start_timeout_is_waited_for_first(
    limit: float, times: list[float]
) -> None:
    with warnings_of("top") as heard, trio.move_on_after(120), pytest.raises(ChildFailure):
        async with open_system([Child("a", starting, 300, start_timeout=limit)], name="top"):
            raise AssertionError("it never starts")
    assert told(heard) == [(t, "top.a") for t in times]


@story
async def test_each_is_named_in_its_own_time() -> None:
    async def system(scope: Scope) -> None:
        await scope.start_together(
            Child("a", starting, 15),
            Child("b", starting, 35, start_timeout=50),
            Child("c", starting, 5),
        )
        await scope.start(Child("d", starting, 12))

    with warnings_of("top") as heard:
        async with open_system(system, name="top"):
            await trio.sleep(1000)
    assert told(heard) == [(10, "top.a"), (25, "top.b"), (45, "top.d")]


@story
async def test_only_the_innermost_start_is_named() -> None:
    async def inner(scope: Scope) -> None:
        await scope.start(Child("quick", starting, 2))
        await scope.start(Child("slow", starting, 11))
        await the_slow_part(12)

    async def outer(scope: Scope) -> None:
        await scope.start(Child("inner", SystemSupervisor(inner)))

    with warnings_of("top") as heard:
        async with open_system([Child("outer", SystemSupervisor(outer))], name="top"):
            assert trio.current_time() == 25
    assert told(heard) == [(12, "top.outer.inner.slow")]


@story
async def test_a_system_function_is_named_with_its_own_stack_alone() -> None:
    async def system(scope: Scope) -> None:
        await scope.start(Child("steady", steady))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(the_slow_part, 35)

    with warnings_of("top") as heard:
        async with open_system([Child("sub", SystemSupervisor(system))], name="top"):
            await trio.sleep(1000)
    assert told(heard) == [(10, "top.sub"), (30, "top.sub")]
    assert "not come to the end of its system function within 10 s" in heard[0][2]
    assert "in its nested task" in heard[0][2]
    assert "steady" not in heard[0][2]


@story
async def test_the_system_function_of_a_root_and_the_start_timeout_of_a_supervisor() -> None:
    async def system(scope: Scope) -> None:
        await the_slow_part(45)

    with warnings_of("top") as heard:
        async with open_system(system, name="top") as tree:
            sub = Child("sub", SystemSupervisor(system), start_timeout=60)
            await tree.start_child(sub)
            await tree.child("sub").value.replay()
    assert told(heard) == [
        (10, "top"),
        (30, "top"),
        (75, "top.sub"),
        (100, "top.sub"),
        (120, "top.sub"),
    ]


@story
async def test_starts_of_restarts_and_replays_are_named_but_not_waits_between_them() -> None:
    record = Record()
    a = Actor(record, "a")
    calls = 0

    async def system(scope: Scope) -> None:
        nonlocal calls
        calls += 1
        await scope.start(a.child(backoff=lambda _: 50.0))
        await the_slow_part(15 if calls == 2 else 0)
        await scope.start(Child("b", starting, 15 if calls == 2 else 0))

    with warnings_of("top") as heard:
        async with open_system(system, name="top", strategy="one_for_all"):
            heard.clear()
            a.die()
            await trio.sleep(1000)
    assert told(heard) == [(60, "top"), (75, "top.b")]


@story
async def test_what_waits_for_its_turn_is_not_slow_and_who_calls_for_it_neither() -> None:
    async def one_by_one(scope: Scope) -> None:
        pool = await scope.start(Child("pool", DynamicSupervisor(max_running=1)))
        await pool.start_child(Child("a", starting, 25, restart="temporary", run_timeout=50))
        await pool.start_child(Child("b", starting, 15))

    with warnings_of("top") as heard:
        async with open_system(one_by_one, name="top"):
            assert trio.current_time() == 90
    assert told(heard) == [(10, "top.pool.a"), (85, "top.pool.b")]


@story
async def test_a_child_that_waits_for_the_start_of_a_tree_of_its_own_is_not_named() -> None:
    async def host(*, task_status: Status) -> None:
        async with open_system([Child("a", starting, 15)], name="inner"):
            await the_slow_part(20)
            task_status.started()
            await trio.sleep_forever()

    with warnings_of("inner") as inside, warnings_of("top") as heard:
        async with open_system([Child("host", host)], name="top"):
            await trio.sleep(1000)
    assert told(inside) == [(10, "inner.a")]
    assert told(heard) == [(30, "top.host")]


@story
async def test_what_is_being_stopped_is_not_starting_any_more() -> None:
    async def clinging(*, task_status: Status) -> None:
        with trio.CancelScope(shield=True):
            await the_slow_part(39)

    with warnings_of("top") as heard:
        async with open_system([], name="top") as tree, trio.open_nursery() as nursery:
            with trio.move_on_after(11):
                await tree.start_child(Child("a", clinging))
            nursery.cancel_scope.cancel()
    assert told(heard) == [(10, "top.a")]
    assert [time for time, _, text in heard if "does not end" in text] == [12, 14, 18, 26]


@story
async def test_a_start_that_has_failed_or_was_asked_to_finish_is_none() -> None:
    async def fails(*, task_status: Status) -> None:
        await the_slow_part(5)
        raise RuntimeError("no start")

    async def finishes(*, task_status: Status) -> None:
        await current_context().settled()
        await the_slow_part(20)

    with warnings_of("top") as heard:
        async with open_system(DynamicSupervisor(name="top")) as pool:
            with pytest.raises(ChildFailure):
                await pool.start_child(Child("fails", fails))
            with trio.move_on_after(5):
                await pool.start_child(Child("finishes", finishes, shutdown=100))
            assert trio.current_time() == 30
            await trio.sleep(100)
    assert [text for _, _, text in heard if "RuntimeError" not in text] == []


@story
async def test_the_system_function_of_a_supervisor_that_was_aborted_is_stuck_not_slow() -> None:
    async def system(scope: Scope) -> None:
        with trio.CancelScope(shield=True):
            await the_slow_part(39)

    with warnings_of("top") as heard:
        async with open_system([], name="top") as tree:
            with pytest.raises(ChildFailure):
                sub = Child("sub", SystemSupervisor(system), start_timeout=9)
                await tree.start_child(sub)
    assert told(heard) == []
    assert [time for time, _, text in heard if "does not end" in text] == [10, 12, 16, 24]


@story
async def test_nor_is_that_of_one_below_it_slow() -> None:
    async def system(scope: Scope) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(30)

    sub = Child("sub", SystemSupervisor([Child("deep", SystemSupervisor(system))]))
    with warnings_of("top") as heard:
        async with open_system([], name="top") as tree, trio.open_nursery() as nursery:
            Desk(Record(), nursery).call("sub", tree.start_child, sub)
            await trio.sleep(5)
            tree.system("sub").abort()
            await trio.sleep(50)
    slow = [text for _, _, text in heard if "has not" in text.partition(" name=")[0]]
    assert slow == []


@story
async def test_a_system_function_that_keeps_a_stop_waiting_is_named() -> None:
    async def system(scope: Scope) -> None:
        with trio.CancelScope(shield=True):
            await the_slow_part(25)

    with warnings_of("top") as heard:
        async with open_system([], name="top") as tree:
            with trio.move_on_after(5):
                await tree.start_child(Child("sub", SystemSupervisor(system)))
        assert trio.current_time() == 25
    assert told(heard) == [(10, "top.sub")]


@story
async def test_it_is_an_event_too() -> None:
    heard = Heard()
    async with trio.open_nursery() as nursery, open_system([], name="top") as tree:
        await nursery.start(heard.listen, tree)
        await tree.start_child(Child("a", starting, 15))
    (slow,) = [event for event in heard.events if isinstance(event, ChildSlow)]
    assert (slow.path, slow.seconds, slow.at) == ("top/a", 10, 10)
    assert "the_slow_part" in slow.stack
    # where it waits is one line, however many frames of trio that are
    assert slow.stack.endswith("\n  waiting in trio.sleep\n")
    assert slow.stack.count("waiting in") == 1
    assert "site-packages" not in slow.stack
    assert "10 ChildSlow top/a 10 await the_slow_part(seconds)" in heard.take()


def test_it_stands_on_the_span_of_what_is_slow() -> None:
    async def system(scope: Scope) -> None:
        await scope.start(Child("a", starting, 15))
        await the_slow_part(20)

    @story
    async def tell() -> None:
        async with open_system(system, name="top"):
            pass

    with recording() as recorder:
        tell()
    assert {span.name: slow_on(span) for span in recorder.begun if slow_on(span)} == {
        "spry.child.start": [("top/a", 10)],
        "spry.startup": [("top", 30)],
    }


def slow_on(span: ReadableSpan) -> list[tuple[object, object]]:
    slow = [event.attributes or {} for event in span.events if event.name == "spry.child.slow"]
    assert all("the_slow_part" in str(one["spry.child.stack"]) for one in slow)
    return [(one["spry.child.path"], one["spry.child.seconds"]) for one in slow]


@story
async def test_many_starts_at_a_time_keep_one_appointment() -> None:
    async def begin(pool: SystemHandle, key: str) -> None:
        await pool.start_child(Child(key, starting, 5))

    before = timers()
    async with open_system(DynamicSupervisor(name="top")) as pool, trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(begin, pool, str(number))
        await trio.sleep(1)
        assert pool.count_children().specs == 200
        assert timers() == before + 1


def timers() -> int:
    gc.collect()
    return len([one for one in gc.get_objects() if type(one) is Timer])
