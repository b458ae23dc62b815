"""A `trio.Cancelled` that no code has asked for is a failure: it was kept, and raised elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import pytest
import trio

from deciders import asking, everywhere, raising
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    NeverRestart,
    NonChildFailure,
    Scope,
    Strategy,
    SystemSupervisor,
    TooManyRestarts,
    UnrecoverableFailure,
    cancel_on_settle,
    open_system,
)
from stories import Boom, Record, story
from workers import STRATEGIES

SAYS = "no code has asked for"


async def stray() -> trio.Cancelled:
    """One that was raised in a task that is over, and kept."""
    kept: object = None
    with trio.CancelScope() as scope:
        scope.cancel()
        kept = await outcome.acapture(trio.sleep_forever)
    assert isinstance(kept, outcome.Error)
    assert isinstance(kept.error, trio.Cancelled)
    return kept.error


def grouped(error: BaseException) -> BaseException:
    return BaseExceptionGroup("of a nursery", [BaseExceptionGroup("of another", [error])])


shapes = pytest.mark.parametrize("shape", [lambda error: error, grouped], ids=["bare", "grouped"])
Shape = Callable[[BaseException], BaseException]


def assert_stray(error: BaseException | None, cause: BaseException) -> None:
    assert isinstance(error, RuntimeError)
    assert SAYS in str(error)
    assert error.__cause__ is cause


def runs(*errors: BaseException | None) -> Callable[[], Awaitable[None]]:
    """A child whose first runs end with these after a second; the next one stays."""
    ahead = iter(errors)

    async def run() -> None:
        error = next(ahead, None)
        if error is None:
            await trio.sleep_forever()
        else:
            await trio.sleep(1)
            raise error

    return run


@shapes
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@story
async def test_a_child_that_raises_it_has_failed_by_itself(
    strategy: Strategy, restart: Any, shape: Shape
) -> None:
    error = shape(await stray())
    child = Child("child", runs(error), restart=restart)
    async with open_system([child], strategy=strategy) as tree:
        handle = tree.child("child")
        await trio.sleep(2)
        report = handle.last_report
        assert report is not None
        assert_stray(report.exception, error)
        assert (report.burden, handle.status, handle.restarts) == ("none", "running", 1)


@shapes
@story
async def test_whoever_waits_for_a_task_gets_it(shape: Shape) -> None:
    error = shape(await stray())
    async with open_system(DynamicSupervisor()) as pool:
        with pytest.raises(RuntimeError, match=SAYS) as caught:
            await pool.run(runs(error))
    assert caught.value.__cause__ is error


@shapes
@story
async def test_a_start_that_raises_it_has_failed(shape: Shape) -> None:
    error = shape(await stray())

    async def start(*, task_status: trio.TaskStatus[None]) -> None:
        raise error

    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("child", start)]):
            raise AssertionError("it has not started")
    assert_stray(caught.value.__cause__, error)


@shapes
@story
async def test_a_system_function_that_raises_it_has_failed(shape: Shape) -> None:
    error = shape(await stray())
    record = Record()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            record("-child")

    async def system(scope: Scope) -> None:
        await scope.start(Child("child", child))
        raise error

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            raise AssertionError("it has not started")
    assert_stray(caught.value.__cause__, error)
    assert record.facts == [(0, "-child")]


@shapes
@everywhere
@story
async def test_what_is_asked_about_a_child_has_failed(where: str, shape: Shape) -> None:
    error = shape(await stray())
    options, breaker = asking(where, raising(error))
    child = Child("child", runs(Boom()), **options)
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([child], breaker=breaker, name="top"):
            await trio.sleep_forever()
    assert caught.value.path == "top/child"
    assert_stray(caught.value.__cause__, error)


@story
async def test_a_factory_of_breakers_that_raises_it_has_failed() -> None:
    error = await stray()

    def factory() -> Any:
        raise error

    with pytest.raises(NonChildFailure) as caught:
        async with open_system([], breaker=factory):
            raise AssertionError("it has not started")
    assert_stray(caught.value.__cause__, error)


@story
async def test_raised_while_settling_it_is_a_failure_with_its_burden() -> None:
    error = await stray()

    async def child() -> None:
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(1)
        raise error

    async with open_system([Child("child", child)]) as tree:
        await trio.sleep(1)
        await tree.terminate_child("child")
        report = tree.child("child").last_report
    assert report is not None
    assert_stray(report.exception, error)
    assert report.burden == "settling"


@story
async def test_raised_while_aborted_it_is_what_was_asked_for() -> None:
    error = await stray()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async with open_system([Child("child", child)]) as tree:
        await trio.lowlevel.checkpoint()
        await tree.terminate_child("child")
        report = tree.child("child").last_report
    assert report is not None
    assert (report.failed, report.burden) == (False, "aborted")


@story
async def test_a_subtree_that_is_aborted_whole_has_not_failed() -> None:
    stuck = SystemSupervisor([Child("leaf", trio.sleep_forever)])
    slow = Child("slow", runs(), shutdown=50)
    sub = SystemSupervisor([Child("stuck", stuck), slow])
    async with open_system([Child("sub", sub)]) as tree:
        leaf = tree.find("sub/stuck/leaf")
        tree.abort()
        report = await leaf.wait()
        await tree.wait()
    assert (report.failed, report.burden) == (False, "aborted")


@story
async def test_a_system_function_that_is_aborted_within_a_nursery_has_not_failed() -> None:
    async def system(scope: Scope) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    with trio.move_on_after(1) as scope:
        async with open_system([Child("sub", SystemSupervisor(system))]):
            raise AssertionError("it has not started")
    assert scope.cancelled_caught
    assert trio.current_time() == 1


@story
async def test_it_escalates_like_any_other() -> None:
    error = await stray()
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([Child("child", runs(error))], breaker=NeverRestart):
            await trio.sleep_forever()
    assert_stray(caught.value.__cause__, error)


@story
async def test_in_the_block_it_is_as_in_that_of_a_nursery() -> None:
    error = await stray()
    record = Record()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            record("-child")

    async with open_system([Child("child", child)]):
        await trio.sleep(1)
        raise error
    record("left")
    assert record.facts == [(1, "-child"), (1, "left")]


@story
async def test_items_that_raise_it_end_the_tasks_with_a_failure() -> None:
    error = await stray()

    def items() -> Any:
        yield 1
        raise error

    async def work(item: int) -> int:
        return item

    async with open_system(DynamicSupervisor()) as pool:
        with pytest.raises(RuntimeError, match=SAYS) as caught:
            async with pool.map(work, items()) as results:
                async for _ in results:
                    pass
    assert caught.value.__cause__ is error
