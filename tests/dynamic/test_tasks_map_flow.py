"""How a map goes on: who waits for whom, and how it ends whatever happens."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from jobs import Toil, brief, crash, double, open_desk
from spry_py import MaxChildrenReached, RunTimeout, SupervisorStopped, open_system
from stories import Boom, Record, story


@pytest.mark.parametrize("ordered", [True, False])
@story
async def test_no_more_than_so_many_are_not_consumed(ordered: bool) -> None:
    """The next one is begun when a result is taken, not when a task ends."""
    record = Record()
    toil = Toil(record)
    async with (
        open_desk() as desk,
        desk.map(toil.job, [1, 2, 3, 4], limit=2, ordered=ordered) as results,
    ):
        await trio.sleep(10)
        async for result in results:
            record(f"got {brief(result)}")
            await trio.sleep(10)
    assert record.facts == [
        (0, "+1"),
        (0, "+2"),
        (1, "-1"),
        (2, "-2"),
        (10, "got 1"),
        (10, "+3"),
        (13, "-3"),
        (20, "got 2"),
        (20, "+4"),
        (24, "-4"),
        (30, "got 3"),
        (40, "got 4"),
    ]


@story
async def test_the_limit_is_the_number_of_cpus_unless_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []
    async with open_desk() as desk:
        for cpus in (3, None):
            monkeypatch.setattr(os, "cpu_count", lambda cpus=cpus: cpus)
            async with desk.map(trio.sleep, range(100, 200)):
                await trio.sleep(1)
                begun.append(desk.count_children().active)
    assert begun == [3, 1]


@story
async def test_a_slow_source_holds_up_no_result() -> None:
    record = Record()

    async def source() -> AsyncIterator[int]:
        yield 1
        await trio.sleep(10)
        yield 2

    async with open_desk() as desk, desk.map(double, source(), limit=5) as results:
        async for result in results:
            record(f"got {brief(result)}")
    assert record.facts == [(1, "got 2"), (12, "got 4")]


@story
async def test_an_async_generator_is_closed_when_nobody_wants_the_rest() -> None:
    record = Record()

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            record("closed")

    async with open_desk() as desk, desk.map(double, source(), limit=1) as results:
        record(f"got {brief(await anext(results))}")
    assert record.facts == [(1, "got 2"), (1, "closed")]


@story
async def test_a_source_that_is_no_generator_is_left_to_its_owner() -> None:
    """What has not been asked for yet is still in it."""
    send, receive = trio.open_memory_channel[int](10)
    async with open_desk() as desk, send, receive:
        for item in (1, 2, 3):
            send.send_nowait(item)
        async with desk.map(double, receive, limit=1) as results:
            assert brief(await anext(results)) == 2
            await trio.testing.wait_all_tasks_blocked()
        send.close()
        async with desk.map(double, receive, limit=1) as results:
            assert [brief(result) async for result in results] == [6]


def broken_source() -> Iterator[int]:
    yield 1
    yield 20
    raise Boom("no more items")


@story
async def test_a_source_that_raises_ends_the_iteration_at_once() -> None:
    """Nobody gets what was still to come, and the tasks are stopped."""
    record = Record()
    toil = Toil(record)
    async with open_desk() as desk:
        with pytest.raises(Boom, match="no more items"):
            async with desk.map(toil.job, broken_source(), limit=2) as results:
                async for result in results:
                    record(f"got {brief(result)}")
        record(f"children {desk.count_children().specs}")
    assert record.facts == [
        (0, "+1"),
        (0, "+20"),
        (1, "-1"),
        (1, "got 1"),
        (1, "-20"),
        (1, "children 0"),
    ]


@story
async def test_whoever_catches_that_gets_the_results_that_there_are() -> None:
    async with open_desk() as desk, desk.map(double, broken_source(), limit=3) as results:
        with pytest.raises(Boom):
            await anext(results)
        assert [brief(result) async for result in results] == [2, 40]


@story
async def test_an_error_of_the_source_that_nobody_has_seen_comes_out_of_the_block() -> None:
    async with open_desk() as desk:
        with pytest.raises(Boom, match="no more items"):
            async with desk.map(double, broken_source(), limit=3):
                await trio.sleep(1)


@story
async def test_when_block_and_source_both_fail_both_come_out() -> None:
    async with open_desk() as desk:
        with pytest.raises(ExceptionGroup) as raised:
            async with desk.map(double, broken_source(), limit=3):
                await trio.sleep(1)
                raise ValueError("block")
    assert [repr(error) for error in raised.value.exceptions] == [
        "ValueError('block')",
        "Boom('no more items')",
    ]


@story
async def test_a_block_that_raises_stops_the_tasks_and_lets_it_out_bare() -> None:
    record = Record()
    toil = Toil(record, cleanup=1)
    async with open_desk() as desk:
        with pytest.raises(Boom, match="block"):
            async with desk.map(toil.job, [10, 20], limit=1):
                await trio.sleep(1)
                raise Boom("block")
        record(f"children {desk.count_children().specs}")
    assert record.facts == [(0, "+10"), (2, "-10"), (2, "children 0")]


@story
async def test_a_block_that_is_cancelled_waits_for_its_tasks() -> None:
    record = Record()
    toil = Toil(record, cleanup=2)
    async with open_desk() as desk:
        with trio.move_on_after(1) as scope:
            async with desk.map(toil.job, [10], limit=1) as results:
                await anext(results)
        record(f"cancelled {scope.cancelled_caught}, children {desk.count_children().specs}")
    assert record.facts == [(0, "+10"), (3, "-10"), (3, "cancelled True, children 0")]


@story
async def test_a_cancellation_while_the_tasks_end_does_not_hide_why() -> None:
    record = Record()
    toil = Toil(record, cleanup=2)
    async with open_desk() as desk:
        with trio.move_on_after(2) as scope:
            with pytest.raises(Boom, match="block"):
                async with desk.map(toil.job, [10], limit=1):
                    await trio.sleep(1)
                    raise Boom("block")
            record("raised")
        record(f"cancelled {scope.cancelled_caught}")
    assert record.facts == [(0, "+10"), (3, "-10"), (3, "raised"), (3, "cancelled False")]


@story
async def test_a_cancelled_wait_for_a_result_loses_none() -> None:
    found: list[tuple[float, object]] = []
    async with open_desk() as desk, desk.map(double, [2, 3], limit=2) as results:
        while len(found) < 2:
            with trio.move_on_after(0.5):
                found.append((trio.current_time(), brief(await anext(results))))
    assert found == [(2, 4), (3, 6)]


@story
async def test_when_the_block_is_over_so_is_the_iteration() -> None:
    record = Record()

    async def consume(results: AsyncIterator[Any]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)
        record("closed")

    async with open_desk() as desk, trio.open_nursery() as nursery:
        async with desk.map(double, [10]) as results:
            nursery.start_soon(consume, results)
            await trio.sleep(1)
        await consume(results)
    assert record.order == "closed closed"


@story
async def test_a_task_that_somebody_else_terminates_was_aborted() -> None:
    async with open_desk() as desk, desk.map(double, [10, 20], limit=2) as results:
        await trio.sleep(1)
        await desk.terminate_child("task-1")
        assert [brief(result) async for result in results] == ["Aborted", 40]


@story
async def test_when_the_supervisor_stops_so_does_the_map() -> None:
    """The task was aborted, and there will be no other."""
    record = Record()

    async def consume(desk: Any) -> None:
        async with desk.map(double, [10, 20], limit=1) as results:
            async for result in results:
                record(f"got {brief(result)}")

    async def consumer(desk: Any) -> None:
        with pytest.raises(SupervisorStopped):
            await consume(desk)
        record("stopped")

    async with open_desk() as desk, trio.open_nursery() as nursery:
        nursery.start_soon(consumer, desk)
        await trio.sleep(1)
        await desk.stop()
    assert record.order == "got Aborted stopped"


@story
async def test_limited_by_max_running_they_take_turns() -> None:
    """Those that wait for their turn hold up those behind them, and no timeout of theirs runs."""
    async with (
        open_desk(max_running=1) as desk,
        desk.map(double, [2, 2, 2], limit=3, timeout=3) as results,
    ):
        found = [(brief(result), trio.current_time()) async for result in results]
    assert found == [(4, 2), (4, 4), (4, 6)]


@story
async def test_map_on_the_handle_of_a_system() -> None:
    record = Record()
    toil = Toil(record)
    async with open_system([]) as tree:
        async with tree.map(toil.job, [1, 2], limit=2) as results:
            assert [brief(result) async for result in results] == [1, 2]
        assert tree.which_children() == []
    assert record.order == "+1 +2 -1 -2"


@story
async def test_maps_side_by_side_share_the_room() -> None:
    async with open_desk(max_children=3) as desk, desk.map(double, [5, 5], limit=2) as one:
        await trio.sleep(1)
        with pytest.raises(MaxChildrenReached):
            async with desk.map(double, [5, 5], limit=2) as two:
                await anext(two)
        assert [brief(result) async for result in one] == [10, 10]


@story
async def test_a_timeout_is_a_failure_that_names_the_task() -> None:
    async with open_desk() as desk, desk.map(crash, [Boom()], timeout=1) as results:
        (result,) = [result async for result in results]
    assert isinstance(result.exception, TypeError)
    async with open_desk() as desk, desk.map(trio.sleep, [5], timeout=1) as results:
        (result,) = [result async for result in results]
    assert isinstance(result.exception, RunTimeout)
