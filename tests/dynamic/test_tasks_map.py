"""Many tasks and the iterator of their ends, after Elixir's async_stream_nolink, by number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from jobs import Toil, brief, crash, double, open_desk
from spry_py import (
    Child,
    DynamicSupervisor,
    MaxChildrenReached,
    NeverRestart,
    Normal,
    Scope,
    current_context,
    open_system,
)
from stories import Boom, Record, story


async def all_of(results: AsyncIterator[Any]) -> list[object]:
    """All that is left, in short."""
    return [brief(result) async for result in results]


@story
async def test_f24_f37_results_come_in_the_order_of_the_items() -> None:
    async with open_desk() as desk:
        async with desk.map(double, [1, 2, 3, 4], limit=4) as results:
            assert [result async for result in results] == [Normal(n) for n in (2, 4, 6, 8)]
        assert trio.current_time() == 4


@story
async def test_f25_f38_a_method_and_any_iterable_will_do() -> None:
    class Worker:
        factor = 3

        async def job(self, item: int) -> int:
            await trio.lowlevel.checkpoint()
            return self.factor * item

    async def source() -> AsyncIterator[int]:
        for item in (1, 2):
            yield item
            await trio.sleep(1)

    found = []
    async with open_desk() as desk:
        for items in ([1, 2], (1, 2), {1: "", 2: ""}, range(1, 3), iter([1, 2]), source()):
            async with desk.map(Worker().job, items) as results:
                found.append(await all_of(results))
        async with desk.map(Worker().job, []) as results:
            found.append(await all_of(results))
    assert found == [[3, 6]] * 6 + [[]]


@story
async def test_f26_f39_nothing_is_left_when_all_are_consumed() -> None:
    record = Record()
    toil = Toil(record)
    async with open_desk() as desk, desk.map(toil.job, [1, 2], limit=2) as results:
        assert await all_of(results) == [1, 2]
        assert await all_of(results) == []
        record(f"children {desk.count_children().specs}")
    assert record.facts == [(0, "+1"), (0, "+2"), (1, "-1"), (2, "-2"), (2, "children 0")]


@story
async def test_f27_f40_the_slowest_first_keeps_its_place() -> None:
    """Unless as they finish is good enough."""
    async with open_desk() as desk:
        async with desk.map(double, [4, 1, 3, 2], limit=4) as results:
            assert await all_of(results) == [8, 2, 6, 4]
        async with desk.map(double, [4, 1, 3, 2], limit=4, ordered=False) as results:
            assert await all_of(results) == [2, 4, 6, 8]
        assert trio.current_time() == 8


@pytest.mark.parametrize("takes", [None, 0, 1], ids=["at once", "one checkpoint", "later"])
@story
async def test_f28_f41_failing_items_are_results_like_others(takes: float | None) -> None:
    async def job(item: int) -> int:
        if item % 2:
            await crash(Boom(item), takes)
        return item

    async with open_desk(breaker=NeverRestart()) as desk:
        async with desk.map(job, range(4), limit=2) as results:
            assert await all_of(results) == [0, ("Boom", 1), 2, ("Boom", 3)]
        assert (desk.status, desk.which_children()) == ("running", [])


@story
async def test_f29_f42_taking_one_shuts_the_others_down() -> None:
    record = Record()
    toil = Toil(record, cleanup=1)
    async with open_desk() as desk:
        async with desk.map(toil.job, [1, 20, 30, 40], limit=4) as results:
            async for result in results:
                record(f"got {brief(result)}")
                break
        record(f"children {desk.count_children().specs}")
        await trio.sleep(100)
    begun, rest = record.facts[:4], record.facts[4:]
    assert begun == [(0, "+1"), (0, "+20"), (0, "+30"), (0, "+40")]
    assert rest[:2] == [(2, "-1"), (2, "got 1")]
    assert sorted(rest[2:5]) == [(3, "-20"), (3, "-30"), (3, "-40")]
    assert rest[5:] == [(3, "children 0")]


@story
async def test_f30_f43_taking_none_shuts_all_of_them_down() -> None:
    record = Record()
    toil = Toil(record)
    async with open_desk() as desk:
        async with desk.map(toil.job, [10, 20], limit=2):
            await trio.sleep(1)
        record(f"children {desk.count_children().specs}")
    assert sorted(record.facts[:4]) == [(0, "+10"), (0, "+20"), (1, "-10"), (1, "-20")]
    assert record.facts[4:] == [(1, "children 0")]


@story
async def test_f31_f44_no_more_tasks_than_children_are_allowed() -> None:
    record = Record()
    toil = Toil(record)
    async with open_desk(max_children=2) as desk:
        with pytest.raises(MaxChildrenReached, match="max_children=2"):
            async with desk.map(toil.job, [10, 20, 30], limit=3) as results:
                record(f"results {await all_of(results)}")
        record(f"children {desk.count_children().specs}")
    assert sorted(record.facts[:4]) == [(0, "+10"), (0, "+20"), (0, "-10"), (0, "-20")]
    assert record.facts[4:] == [(0, "children 0")]


@story
async def test_f32_tasks_know_who_supervises_them() -> None:
    async def where(item: int) -> str:
        return current_context().path

    async def system(scope: Scope) -> None:
        await scope.start(Child("desk", DynamicSupervisor()))

    async with open_system(system, name="top") as tree:
        desk: Any = tree.child("desk").value
        async with desk.map(where, range(2)) as results:
            found = await all_of(results)
        assert found == ["top/desk/task-1", "top/desk/task-2"]


@story
async def test_f33_another_task_may_consume() -> None:
    found: list[object] = []

    async def consume(results: AsyncIterator[Any]) -> None:
        found.append(await all_of(results))

    async with (
        open_desk() as desk,
        desk.map(double, [1, 2], limit=2) as results,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(consume, results)
    assert found == [[2, 4]]


@story
async def test_f34_each_task_has_its_timeout() -> None:
    """It counts from the start of that very task."""
    items = [1, 100, 2, 100]
    async with open_desk() as desk, desk.map(trio.sleep, items, limit=1, timeout=50) as results:
        found = await all_of(results)
    assert (found, trio.current_time()) == (
        [
            None,
            ("RunTimeout", "child 'desk/task-2' ran longer than 50 s"),
            None,
            ("RunTimeout", "child 'desk/task-4' ran longer than 50 s"),
        ],
        103,
    )


@story
async def test_f35_taking_four_of_eight_that_fail() -> None:
    async def job(item: int) -> None:
        await trio.sleep(1)
        raise Boom(item)

    async with open_desk() as desk:
        async with desk.map(job, range(8), limit=4) as results:
            found = [(item, brief(await anext(results))) for item in range(4)]
        assert desk.which_children() == []
    assert found == [(item, ("Boom", item)) for item in range(4)]


@pytest.mark.parametrize(
    ("error", "text", "wrong"),
    [
        (TypeError, "map: fn must be an async function", {"fn": lambda item: item}),
        (TypeError, "map: fn must be an async function", {"fn": None}),
        (TypeError, "map: items must be an iterable or an async iterable, not 3", {"items": 3}),
        (TypeError, "map: limit must be an int, 1 or more, not 1.5", {"limit": 1.5}),
        (TypeError, "map: limit must be an int, 1 or more, not True", {"limit": True}),
        (ValueError, "map: limit must be an int, 1 or more, not 0", {"limit": 0}),
        (ValueError, "map: limit must be an int, 1 or more, not -1", {"limit": -1}),
        (TypeError, "map: ordered must be a bool, not 1", {"ordered": 1}),
        (ValueError, "map: timeout must be more than 0 seconds", {"timeout": 0}),
        (TypeError, "map: timeout must be a number of seconds, not None", {"timeout": None}),
    ],
)
@story
async def test_f36_bad_options_are_refused_where_they_are_written(
    error: type[Exception], text: str, wrong: dict[str, Any]
) -> None:
    async with open_desk() as desk:
        with pytest.raises(error, match=text):
            desk.map(**{"fn": double, "items": [1], **wrong})
        assert desk.which_children() == []
