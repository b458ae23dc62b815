"""Children that do not end when they are told to are named until they do."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from actors import Actor, cast
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Failed,
    RunTimeout,
    Scope,
    SpryError,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    cancel_on_settle,
    current_context,
    open_system,
)
from spry_py.events import ChildStuck
from stories import Boom, Record, story, warnings_of
from stubborn import clinging, the_stubborn_part


async def starts_in_vain(handle: SystemHandle, child: Child[SystemHandle]) -> None:
    with pytest.raises(SpryError):
        await handle.start_child(child)


def named(heard: list[tuple[float, str, str]], path: str) -> list[float]:
    """The times at which a child was reported as stuck, each time with the stack it sits on."""
    return [time for time, _, text in heard if path in text and "the_stubborn_part" in text]


@story
async def test_a_shielded_child_is_named_with_its_stack_at_doubling_intervals() -> None:
    record = Record()
    a = Actor(record, "a")
    with warnings_of("top") as heard:
        async with open_system([a.child(), Child("stuck", clinging, 20)], name="top"):
            await trio.sleep(1)
        assert trio.current_time() == 21
    assert named(heard, "top/stuck") == [2, 4, 8, 16]
    assert [time for time, _, _ in heard] == [2, 4, 8, 16]
    assert all(name.startswith("spry_py.top") for _, name, _ in heard)
    assert record.facts == [(0, "+a1"), (21, "-a1")]


@story
async def test_one_that_ends_within_a_second_of_its_abort_is_not_stuck() -> None:
    with warnings_of("top") as heard:
        async with open_system([Child("brief", clinging, 0.5)], name="top"):
            await trio.sleep(1)
        await trio.sleep(100)
    assert heard == []


@story
async def test_one_that_has_started_in_time_is_not_stuck_when_that_time_is_over() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with warnings_of("top") as heard:
        async with open_system([a.child(start_timeout=2)], name="top"):
            await trio.sleep(100)
    assert heard == []


@story
async def test_the_reports_end_with_the_child() -> None:
    with warnings_of("top") as heard:
        async with open_system([Child("stuck", clinging, 3.5)], name="top"):
            pass
        await trio.sleep(1000)
    assert named(heard, "top/stuck") == [1, 3]


@story
async def test_one_that_settles_slowly_is_not_stuck_before_its_time_is_over() -> None:
    async def slow() -> None:
        await current_context().settled()
        await the_stubborn_part(10)

    with warnings_of("top") as heard:
        async with open_system([Child("slow", slow, shutdown=4)], name="top"):
            pass
        assert trio.current_time() == 10
    assert named(heard, "top/slow") == [5, 7]


@story
async def test_a_child_that_swallows_its_cancellation_is_named() -> None:
    async def deaf() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            await the_stubborn_part(2)
            await the_stubborn_part(3)

    with warnings_of("top") as heard:
        async with open_system([Child("deaf", deaf)], name="top"):
            pass
        assert trio.current_time() == 5
    assert named(heard, "top/deaf") == [1, 3]


@story
async def test_a_child_stuck_after_its_run_timeout_is_named_and_then_restarted() -> None:
    with warnings_of("top") as heard:
        child = Child("stuck", clinging, 5, run_timeout=10)
        async with open_system([child], name="top") as tree:
            await trio.sleep(14)
            assert named(heard, "top/stuck") == [11, 13]
            assert tree.child("stuck").incarnation == 1
            await trio.sleep(4)
            assert named(heard, "top/stuck") == [11, 13]
            assert tree.child("stuck").incarnation == 2
            report = tree.child("stuck").last_report
            assert report is not None
            assert isinstance(report.exception, RunTimeout)
            assert report.ended_at == 15


@story
async def test_a_start_stuck_after_its_timeout_is_named() -> None:
    async def never(*, task_status: trio.TaskStatus[None]) -> None:
        await clinging(5)

    with warnings_of("top") as heard, pytest.raises(ChildFailure):
        async with open_system([Child("never", never, start_timeout=10)], name="top"):
            raise AssertionError("it never starts")
    assert named(heard, "top/never") == [11, 13]
    assert trio.current_time() == 15


@story
async def test_a_child_stuck_after_it_failed_itself_is_named() -> None:
    error = RuntimeError("told")

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        current_context().fail(error)
        await clinging(5)

    with warnings_of("top") as heard:
        child = Child("fails", fails, restart="temporary")
        async with open_system([child], name="top") as tree:
            handle = tree.child("fails")
            await trio.sleep(9)
    assert named(heard, "top/fails") == [1, 3]
    assert handle.last_report is not None
    assert handle.last_report.reason == Failed(error)


@story
async def test_the_stuck_leaf_of_an_aborted_subtree_is_named() -> None:
    record = Record()
    a, b = cast(record, "ab")
    leaves = SystemSupervisor([b.child(), Child("stuck", clinging, 9)])
    sub = Child("sub", SystemSupervisor([Child("inner", leaves)]), shutdown=0)
    with warnings_of("top") as heard:
        async with open_system([a.child(), sub], name="top"):
            await trio.sleep(1)
    assert named(heard, "top/sub/inner/stuck") == [2, 4, 8]
    assert record.facts[-1] == (10, "-a1")


@story
async def test_one_watcher_names_a_child_that_is_stuck_below_an_aborted_supervisor() -> None:
    sub = SystemSupervisor([Child("stuck", clinging, 9)])
    with warnings_of("top") as heard:
        async with (
            open_system([Child("sub", sub)], name="top") as tree,
            trio.open_nursery() as aside,
        ):
            aside.start_soon(tree.find("sub").value.terminate_child, "stuck")
            await trio.sleep(1.5)
            assert named(heard, "top/sub/stuck") == [1]
            tree.find("sub").value.abort()
            await trio.sleep(1.5)
            aside.cancel_scope.cancel()
    assert named(heard, "top/sub/stuck") == [1, 2.5, 4.5, 8.5]


@story
async def test_so_it_does_if_the_child_has_a_limit_of_its_own() -> None:
    sub = SystemSupervisor([Child("stuck", clinging, 9, run_timeout=3)])
    with warnings_of("top") as heard:
        async with open_system([Child("sub", sub, shutdown=0)], name="top"):
            await trio.sleep(2)
    assert named(heard, "top/sub/stuck") == [3, 5, 9]


@story
async def test_so_it_does_if_the_child_fails_itself_meanwhile() -> None:
    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            current_context().fail(RuntimeError("told"))
            await the_stubborn_part(9)

    sub = SystemSupervisor([Child("stuck", fails)])
    with warnings_of("top") as heard:
        async with open_system([Child("sub", sub, shutdown=0)], name="top"):
            await trio.sleep(2)
    assert named(heard, "top/sub/stuck") == [3, 5, 9]


@story
async def test_a_stop_does_not_put_off_the_reports_of_a_child_that_was_cancelled() -> None:
    async def listens() -> None:
        with cancel_on_settle():
            await clinging(9)

    with warnings_of("top") as heard:
        child = Child("stuck", listens, run_timeout=2, shutdown=100)
        async with open_system([child], name="top"):
            await trio.sleep(2.5)
    assert named(heard, "top/stuck") == [3.5, 5.5, 9.5]


async def takes_back(scope: Scope) -> None:
    """Its second child fails to start, and the first is stuck when it is shut down for that."""

    async def never() -> None:
        raise RuntimeError("no start")

    await scope.start_together(Child("stuck", clinging, 9.5), Child("never", never))


@pytest.mark.parametrize("limit", [math.inf, 2.0])
@story
async def test_so_it_does_if_the_supervisor_is_cancelled_in_its_start(limit: float) -> None:
    sub = Child("sub", SystemSupervisor(takes_back), start_timeout=limit)
    with warnings_of("top") as heard:
        async with trio.open_nursery() as aside:
            handle = await aside.start(SystemSupervisor([], name="top"))
            aside.start_soon(starts_in_vain, handle, sub)
            await trio.sleep(2)
            if limit == math.inf:
                handle.abort()
            await trio.sleep(8)
            assert named(heard, "top/sub/stuck") == [1, 3, 5, 9]
            handle.abort()


@story
async def test_others_are_served_while_one_is_stuck() -> None:
    record = Record()
    a = Actor(record, "a")
    children = [a.child(), Child("stuck", clinging, 50, run_timeout=1)]
    async with open_system(children, strategy="one_for_one"):
        await trio.sleep(5)
        a.die()
        await trio.sleep(1)
    assert record.facts == [(0, "+a1"), (5, "-a1"), (5, "+a2"), (51, "-a2")]


# An on_termination that does not end


def lingers(seconds: float) -> Callable[[TerminationReport], Awaitable[None]]:
    async def hook(report: TerminationReport) -> None:
        await the_stubborn_part(seconds)

    return hook


async def crashes() -> None:
    await trio.sleep(1)
    raise Boom


def bad(seconds: float) -> Child[None]:
    return Child("bad", crashes, on_termination=lingers(seconds), restart="temporary")


@story
async def test_an_on_termination_that_a_stop_does_not_end_is_named() -> None:
    record = Record()
    a = Actor(record, "a")
    with warnings_of("top") as heard:
        async with open_system([a.child(), bad(20)], name="top"):
            await trio.sleep(2)
        await trio.sleep(100)
    assert named(heard, "top/bad") == [3, 5, 9, 17]
    assert all("on_termination" in text for time, _, text in heard if time < 20)
    assert record.facts == [(0, "+a1"), (21, "-a1")]


@story
async def test_an_on_termination_that_its_time_limit_does_not_end_is_named() -> None:
    with warnings_of("top") as heard:
        async with (
            open_system([bad(15)], name="top", strategy="one_for_one") as tree,
            tree.events() as events,
        ):
            await tree.child("bad").wait()
            assert trio.current_time() == 16
            await tree.stop()
            stuck = [event async for event in events if isinstance(event, ChildStuck)]
        await trio.sleep(100)
    assert named(heard, "top/bad") == [7, 9, 13]
    assert [(event.at, event.path) for event in stuck] == [(time, "top/bad") for time in (7, 9, 13)]
    assert all("the_stubborn_part" in event.stack for event in stuck)


@story
async def test_one_that_ends_when_cancelled_or_before_is_not_named() -> None:
    async def sleeps(report: TerminationReport) -> None:
        await trio.sleep(50)

    with warnings_of("top") as heard:
        children = [
            Child("limited", crashes, on_termination=sleeps, restart="temporary"),
            Child("brief", crashes, on_termination=lingers(5.9), restart="temporary"),
        ]
        async with open_system(children, name="top", strategy="one_for_one"):
            await trio.sleep(100)
    assert named(heard, "top") == []


@story
async def test_one_below_an_aborted_supervisor_is_named_once_each_time() -> None:
    sub = Child("sub", SystemSupervisor([Child("inner", SystemSupervisor([bad(20)]))]), shutdown=0)
    with warnings_of("top") as heard:
        async with open_system([sub], name="top"):
            await trio.sleep(2)
        assert trio.current_time() == 21
    assert [(time, name) for time, name, text in heard if "does not end" in text] == [
        (time, "spry_py.top.sub.inner.bad") for time in (3, 5, 9, 17)
    ]
    assert len(named(heard, "top/sub/inner/bad")) == 4


@story
async def test_one_of_a_dynamic_supervisor_is_named() -> None:
    with warnings_of("top") as heard:
        async with open_system(DynamicSupervisor(name="top")) as pool:
            await pool.start_child(bad(20))
            await trio.sleep(2)
    assert named(heard, "top/bad") == [3, 5, 9, 17]


@story
async def test_one_that_keeps_a_termination_waiting_is_named() -> None:
    with warnings_of("top") as heard:
        async with open_system([bad(5)], name="top", strategy="one_for_one") as tree:
            await trio.sleep(2)
            await tree.terminate_child("bad")
            assert trio.current_time() == 6
    assert named(heard, "top/bad") == [3, 5]
