"""What callers do to a running tree is told below the span that they stand in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from opentelemetry import trace

from spans import Seen, play, recording, start, startup, teardown, term, try_restart, wait
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Ignore,
    Interrupted,
    PartitionSupervisor,
    SystemHandle,
    open_system,
)
from traced import BEFORE_STARTED, crash, idle, lives, shop

Story = Callable[[Any], Awaitable[object]]


def calling(name: str) -> Any:
    """A span of the caller's own."""
    return trace.get_tracer("app").start_as_current_span(name)


def call(name: str, *below: Seen) -> Seen:
    """That span, as it is to be read."""
    return Seen(name, {}, (), "unset", (), below)


def traces(tree: Any, story: Story) -> list[Seen]:
    """All traces of a tree whose story was played and which was stopped then."""

    async def opened() -> None:
        async with open_system(tree) as handle:
            await story(handle)

    with recording() as spans:
        play(opened)
    return spans.trees()


def pool(**options: Any) -> DynamicSupervisor:
    return DynamicSupervisor(name="pool", **options)


def temp(key: str, seconds: float) -> Child[None]:
    return Child(key, lives((seconds, None)), restart="temporary")


def over(path: str, lifetime: float) -> Seen:
    """The end of a temporary child that has returned."""
    return term(path, reason="normal", wanted=False, restart="temporary", lifetime=lifetime)


# Starts


def test_a_start_belongs_to_its_caller_and_an_end_to_nobody() -> None:
    async def story(handle: Any) -> None:
        with calling("call"):
            await handle.start_child(temp("a", 2.0))
        await trio.sleep(3)

    assert traces(pool(), story) == [
        call("call", start("pool/a", restart="temporary")),
        over("pool/a", 2.0),
        teardown("pool"),
    ]


def test_without_a_span_of_the_caller_a_start_is_a_trace_of_its_own() -> None:
    async def story(handle: Any) -> None:
        await handle.start_child(Child("a", idle))

    assert traces(pool(), story) == [
        start("pool/a"),
        teardown("pool", wait("pool/a", lifetime=0.0)),
    ]


def test_starts_that_fail_or_are_left_out() -> None:
    async def story(handle: Any) -> None:
        with calling("fails"), suppress(ChildFailure):
            await handle.start_child(Child("a", lives((BEFORE_STARTED, OSError("no")))))
        with calling("ignored"):
            await handle.start_child(Child("i", lives((BEFORE_STARTED, Ignore()))))

    assert traces(pool(), story) == [
        call("fails", start("pool/a", raised="OSError: no")),
        call("ignored", start("pool/i")),
        teardown("pool"),
    ]


def test_each_try_of_a_start_belongs_to_its_caller() -> None:
    flaky = lives((BEFORE_STARTED, OSError("no")), (BEFORE_STARTED, OSError("not yet")))

    async def story(handle: Any) -> None:
        with calling("call"):
            await handle.start_child(Child("a", flaky, start_attempts=3))

    assert traces(pool(), story) == [
        call(
            "call",
            start("pool/a", raised="OSError: no"),
            start("pool/a#2", raised="OSError: not yet"),
            start("pool/a#3"),
        ),
        teardown("pool", wait("pool/a#3", lifetime=0.0)),
    ]


def test_a_start_that_waits_for_its_turn_belongs_to_its_own_caller() -> None:
    async def begin(handle: Any, key: str) -> None:
        with calling(f"call {key}"):
            await handle.start_child(temp(key, 2.0))

    async def story(handle: Any) -> None:
        async with trio.open_nursery() as nursery:
            for key in "abc":
                nursery.start_soon(begin, handle, key)
                await trio.sleep(0.5)
        await trio.sleep(9)

    told = traces(pool(max_running=1), story)
    assert told == [
        *(call(f"call {key}", start(f"pool/{key}", restart="temporary")) for key in "abc"),
        *(over(f"pool/{key}", 2.0) for key in "abc"),
        teardown("pool"),
    ]


async def never(*, task_status: trio.TaskStatus[None]) -> None:
    await trio.sleep_forever()


def test_a_start_taken_back_ends_below_its_caller() -> None:
    async def story(handle: Any) -> None:
        with trio.move_on_after(1), calling("call"):
            await handle.start_child(Child("a", never))

    below = start("pool/a"), wait("pool/a", lifetime=0.0)
    assert traces(pool(), story) == [call("call", *below), teardown("pool")]


def test_a_start_interrupted_by_a_stop_ends_in_its_teardown() -> None:
    async def begin(handle: Any) -> None:
        with calling("call"), suppress(Interrupted):
            await handle.start_child(Child("a", never))

    async def story(handle: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin, handle)
            await trio.sleep(1)
            await handle.stop()

    assert traces(pool(), story) == [
        call("call", start("pool/a")),
        teardown("pool", wait("pool/a", lifetime=0.0)),
    ]


@pytest.mark.parametrize("way", ["replace", "queue"])
def test_a_key_that_changes_hands(way: Any) -> None:
    async def begin(handle: Any) -> None:
        with calling(way):
            await handle.start_child(Child("a", idle), way)

    async def story(handle: Any) -> None:
        await handle.start_child(Child("a", idle))
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin, handle)
            await trio.sleep(1)
            if way == "queue":
                with calling("terminate"):
                    await handle.terminate_child("a")
        await trio.sleep(1)

    replaced = [call("replace", wait("pool/a"), start("pool/a"))]
    queued = [call("queue", start("pool/a")), call("terminate", wait("pool/a", lifetime=2.0))]
    assert traces(pool(), story) == [
        start("pool/a"),
        *(replaced if way == "replace" else queued),
        teardown("pool", wait("pool/a", lifetime=2.0 if way == "replace" else 1.0)),
    ]


# Tasks


def test_tasks_start_below_their_caller() -> None:
    async def story(handle: Any) -> None:
        with calling("run"):
            await handle.run(trio.sleep, 1.0)
        with calling("fails"), suppress(ValueError):
            await handle.run(lives(crash()))
        with calling("map"):
            async with handle.map(trio.sleep, [1.0, 1.0], limit=1) as results:
                async for _ in results:
                    pass
        with trio.move_on_after(1), calling("gives up"):
            await handle.run(trio.sleep, 9.0)

    def task(number: int) -> Seen:
        return start(f"pool/task-{number}", restart="temporary")

    failed = term("pool/task-2", wanted=False, restart="temporary", raised="ValueError: boom")
    assert traces(pool(), story) == [
        call("run", task(1)),
        over("pool/task-1", 1.0),
        call("fails", task(2)),
        failed,
        call("map", task(3), task(4)),
        over("pool/task-3", 1.0),
        over("pool/task-4", 1.0),
        call("gives up", task(5), wait("pool/task-5", restart="temporary")),
        teardown("pool"),
    ]


# Terminations and restarts


def both(strategy: Any) -> Any:
    return shop(Child("a", idle), Child("b", idle), strategy=strategy)


BOOT = startup("shop", start("shop/a"), start("shop/b"))


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_terminate_and_restart_a_child(strategy: Any) -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(1)
        with calling("terminate"):
            await handle.terminate_child("a")
        with calling("restart"):
            await handle.restart_child("a")
        await trio.sleep(1)

    assert traces(both(strategy), story) == [
        BOOT,
        call("terminate", wait("shop/a")),
        call("restart", start("shop/a#2")),
        teardown("shop", wait("shop/b", lifetime=2.0), wait("shop/a#2")),
    ]


def test_a_child_restarted_alone_by_its_handle() -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(1)
        with calling("restart"):
            await handle.child("a").restart()
        await trio.sleep(1)

    assert traces(both("one_for_one"), story) == [
        BOOT,
        call("restart", wait("shop/a"), start("shop/a#2")),
        teardown("shop", wait("shop/b", lifetime=2.0), wait("shop/a#2")),
    ]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
def test_a_child_restarted_with_its_siblings_by_its_handle(strategy: Any) -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(1)
        with calling("restart"):
            await handle.child("a").restart()
        await trio.sleep(1)

    again = startup("shop", start("shop/a#2"), start("shop/b#2"), replaces="shop#1")
    assert traces(both(strategy), story) == [
        BOOT,
        call("restart", wait("shop/a"), teardown("shop", wait("shop/b")), again),
        teardown("shop", wait("shop/b#2"), wait("shop/a#2")),
    ]


def test_a_replay_belongs_to_its_caller() -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(1)
        await handle.terminate_child("a")
        with calling("replay"):
            await handle.replay()
        await trio.sleep(1)

    assert traces(both("one_for_all"), story) == [
        BOOT,
        wait("shop/a"),
        call("replay", startup("shop", start("shop/a#2"), replaces="shop#1")),
        teardown("shop", wait("shop/b", lifetime=2.0), wait("shop/a#2")),
    ]


def test_a_termination_during_the_backoff_ends_the_incident() -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(2)
        with calling("terminate"):
            await handle.terminate_child("a")

    assert traces(shop(Child("a", lives(crash()), backoff=lambda _: 9.0)), story) == [
        startup("shop", start("shop/a")),
        term("shop/a", try_restart("shop", delay=9.0), raised="ValueError: boom"),
        call("terminate"),
        teardown("shop"),
    ]


# Whole subsystems


@pytest.mark.parametrize("way", ["stop", "abort"])
def test_a_pool_ended_by_its_own_handle(way: str) -> None:
    async def story(handle: Any) -> None:
        inner: SystemHandle = handle.child("pool").value
        await inner.start_child(Child("a", idle))
        await trio.sleep(1)
        with calling(way):
            await inner.stop() if way == "stop" else inner.abort()
            await trio.sleep(1)

    told = traces(shop(Child("pool", DynamicSupervisor(), restart="transient")), story)
    ended = teardown("shop/pool", wait("shop/pool/a"))
    reason = {"stop": "normal", "abort": "aborted"}[way]
    options: Any = {"kind": "supervisor", "restart": "transient"}
    assert told == [
        startup("shop", start("shop/pool", **options)),
        start("shop/pool/a"),
        *([call("stop", ended)] if way == "stop" else [call("abort"), ended]),
        term("shop/pool", reason=reason, wanted=False, **options),
        teardown("shop"),
    ]


def test_partitions_that_go_and_come_belong_to_whoever_resizes() -> None:
    async def story(handle: Any) -> None:
        await trio.sleep(1)
        with calling("down"):
            await handle.resize(1)
        with calling("up"):
            await handle.resize(2)
        with calling("replay"):
            await handle.replay()
        await trio.sleep(1)

    parts = PartitionSupervisor(lambda _: Child("any", idle), partitions=3, name="shop")
    again = startup("shop", start("shop/2#2"), replaces="shop#1")
    assert traces(parts, story) == [
        startup("shop", start("shop/0"), start("shop/1"), start("shop/2")),
        call("down", wait("shop/2"), wait("shop/1")),
        call("up", start("shop/1#2")),
        call("replay", again),
        teardown("shop", wait("shop/2#2"), wait("shop/1#2"), wait("shop/0", lifetime=2.0)),
    ]
