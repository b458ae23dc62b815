"""Tasks and those who wait for them: what the catalogue of scenarios does not ask."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref
from typing import Any

import pytest
import trio

from actors import Actor
from jobs import crash, double, open_desk
from spry_py import (
    Child,
    DynamicSupervisor,
    Interrupted,
    Scope,
    SupervisorStopped,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Record, story


def keys(desk: Any) -> list[str]:
    return [info.key for info in desk.which_children()]


@story
async def test_a_value_may_be_there_before_the_first_checkpoint() -> None:
    async def at_once() -> str:
        return "value"

    async def silent(task_status: Any = trio.TASK_STATUS_IGNORED) -> str:
        return "never said that it had started"

    async with open_desk() as desk:
        assert await desk.run(at_once) == "value"
        assert await desk.run(silent) == "never said that it had started"


@story
async def test_a_group_is_raised_as_the_group_it_is() -> None:
    group = ExceptionGroup("both", [Boom(1), Boom(2)])
    async with open_desk() as desk:
        with pytest.raises(ExceptionGroup) as raised:
            await desk.run(crash, group, 1)
        assert raised.value is group


@story
async def test_tasks_of_a_system_come_after_its_children() -> None:
    """They are stopped first, and are no part of what a replay brings back."""
    record = Record()
    a, job = Actor(record, "a"), Actor(record, "job")
    async with trio.open_nursery() as nursery:

        async def caller(tree: Any) -> None:
            with pytest.raises(Interrupted):
                await tree.run(job)

        async with open_system([a.child()]) as tree:
            nursery.start_soon(caller, tree)
            await trio.sleep(1)
            a.die()
            await trio.sleep(1)
            nursery.start_soon(caller, tree)
            await trio.sleep(1)
            assert keys(tree) == ["a", "task-2"]
    assert record.order == "+a1 +job1 -a1 -job1 +a2 +job2 -job2 -a2"


@story
async def test_a_caller_cancelled_while_its_task_waits_for_its_turn_leaves_nothing() -> None:
    record = Record()
    async with open_desk(max_running=1) as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.run, trio.sleep, 5)
        await trio.sleep(1)
        with trio.move_on_after(1):
            await desk.run(double, 1)
        record(f"left {keys(desk)}")
        record(str(await desk.run(double, 1)))
    assert record.facts == [(2, "left ['task-1']"), (6, "2")]


@story
async def test_a_caller_cancelled_while_the_supervisor_stops_waits_for_its_task() -> None:
    record = Record()
    job = Actor(record, "a", cleanup=2)

    async def caller(desk: Any, scope: trio.CancelScope) -> None:
        with scope:
            await desk.run(job)
        record(f"cancelled {scope.cancelled_caught}")

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        async with open_desk() as desk:
            nursery.start_soon(caller, desk, scope)
            await trio.sleep(1)
            nursery.start_soon(desk.stop)
            await trio.sleep(1)
            scope.cancel()
    assert record.facts == [(0, "+a1"), (3, "-a1"), (3, "cancelled True")]


@story
async def test_a_child_that_is_aborted_takes_the_task_it_waits_for_along() -> None:
    record = Record()
    job = Actor(record, "job", cleanup=1)

    async def user(desk: Any) -> None:
        try:
            await desk.run(job)
        finally:
            record("user ends")

    async def system(scope: Scope) -> None:
        desk = await scope.start(Child("desk", DynamicSupervisor()))
        await scope.start(Child("user", user, desk))

    async with open_system(system) as tree:
        await trio.sleep(1)
        await tree.terminate_child("user")
        assert tree.snapshot().children[0].children == ()
    assert record.facts == [(0, "+job1"), (2, "-job1"), (2, "user ends")]


@story
async def test_a_supervisor_may_be_run_as_a_task() -> None:
    record = Record()
    (a,) = (Actor(record, key) for key in "a")
    inner = SystemSupervisor([a.child(restart="transient")], auto_shutdown="when_empty")
    async with open_desk() as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.run, inner)
        await trio.sleep(1)
        a.stop()
    assert record.facts == [(0, "+a1"), (1, "-a1")]


@story
async def test_run_on_a_supervisor_that_is_gone() -> None:
    async with open_desk() as desk:
        pass
    with pytest.raises(SupervisorStopped):
        await desk.run(double, 1)


@pytest.mark.parametrize("wrong", [None, 3, Boom])
@story
async def test_only_an_async_function_can_be_run(wrong: Any) -> None:
    async with open_desk() as desk:
        with pytest.raises(TypeError, match="run: fn must be an async function"):
            await desk.run(wrong)
        assert keys(desk) == []


class Thing:
    """Something that a weak reference can be made to."""


@pytest.mark.parametrize("error", [None, Boom])
@story
async def test_nothing_of_a_task_is_kept(
    error: type[Exception] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def job(thing: Thing) -> None:
        await trio.sleep(1)
        if error is not None:
            raise error

    async def once() -> weakref.ref[Thing]:
        thing = Thing()
        with contextlib.suppress(Boom):
            await desk.run(job, thing)
        return weakref.ref(thing)

    # a log record would keep the exception, and with it the frames
    caplog.set_level(logging.CRITICAL, "spry_py")
    gc.disable()
    try:
        async with open_desk() as desk:
            alive = await once()
            assert alive() is None
    finally:
        gc.enable()
