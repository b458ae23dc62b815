"""Pipelines with open ends: items from and to channels of somebody else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from pipelines import counting, letters
from spry_py import Child, ChildFailure, Normal, Scope, UnrecoverableFailure, open_system
from spry_py.pipes import DROP, DeadLetter, DownstreamClosed, Pipe, Stage, Worker, pipeline
from stories import Boom, story


class Ends:
    """Two channels, one to feed a pipeline by and one that it feeds."""

    def __init__(self, size: float = 99) -> None:
        self.feed, self.upstream = trio.open_memory_channel[Any](size)
        self.downstream, self.drain = trio.open_memory_channel[Any](size)

    def give(self, *items: object) -> None:
        for item in items:
            self.feed.send_nowait(item)

    def arrived(self) -> list[Any]:
        found = []
        while self.drain.statistics().current_buffer_used:
            found.append(self.drain.receive_nowait())
        return found

    def open_clones(self) -> tuple[int, int]:
        """Those of the pipeline; the user's own are left out."""
        receives = self.upstream.statistics().open_receive_channels
        return receives - 1, self.downstream.statistics().open_send_channels - 1

    def options(self) -> dict[str, Any]:
        return {"upstream": self.upstream, "downstream": self.downstream}


def double(item: int) -> object:
    return DROP if item == 3 else 2 * item


@pytest.mark.parametrize("workers", [1, 3])
@story
async def test_a_stage_alone_between_two_channels(workers: int) -> None:
    ends = Ends()
    line = pipeline(Stage("double", double, workers=workers), **ends.options())
    async with open_system([Child("line", line, restart="transient")]) as root:
        ends.give(1, 2, 3, 4)
        await trio.sleep(1)
        assert sorted(ends.arrived()) == [2, 4, 8]
        assert ends.open_clones() == (workers, workers)
        ends.feed.close()
        assert (await root.child("line").wait()).reason == Normal()
        assert ends.open_clones() == (0, 0)
        # the user's own are still open
        ends.downstream.send_nowait(5)


@story
async def test_a_worker_may_take_from_outside_and_a_source_hand_on_to_there() -> None:
    ends = Ends()

    async def add(pipe: Pipe[int, int]) -> None:
        first = await anext(pipe)
        pipe.drop()
        async for item in pipe:
            pipe.replace(item + first)

    async with open_system(pipeline(Worker("add", add), **ends.options())) as line:
        ends.give(10, 1, 2)
        ends.feed.close()
        await line.wait()
    assert ends.arrived() == [11, 12]
    async with open_system(pipeline(Worker("s", counting(3)), downstream=ends.downstream)) as line:
        await line.wait()
    assert ends.arrived() == [1, 2, 3]


@story
async def test_an_item_is_held_from_the_moment_it_is_taken() -> None:
    ends = Ends()
    deliveries: list[int] = []

    async def work(item: int) -> int:
        deliveries.append(item)
        await trio.sleep(1)
        if deliveries.count(2) == 1 and item == 2:
            raise Boom
        return item

    line = pipeline(Stage("work", work, shutdown=0), **ends.options())
    async with open_system([Child("line", line, restart="transient")]) as root:
        ends.give(1, 2, 3)
        await trio.sleep(2.5)  # failed in 2, and begun with it once more
        await root.child("line").restart()
        await trio.sleep(5)
        assert ends.arrived() == [1, 2, 3]
    assert deliveries == [1, 2, 2, 2, 3]


@story
async def test_a_stop_takes_no_more_from_outside_and_works_off_what_was_taken() -> None:
    ends = Ends()

    async def work(item: int) -> int:
        await trio.sleep(1)
        return item

    line = pipeline(Stage("one", work), Stage("two", work, capacity=3), **ends.options())
    async with open_system([Child("line", line, restart="transient")]) as root:
        ends.give(1, 2, 3, 4, 5)
        await trio.sleep(2.5)
        await root.terminate_child("line")
        assert ends.arrived() == [1, 2, 3]
        assert ends.upstream.statistics().current_buffer_used == 2
        await root.restart_child("line")
        await trio.sleep(5)
        assert ends.arrived() == [4, 5]


@pytest.mark.parametrize("how", ["stopped", "aborted", "terminated"])
@story
async def test_its_own_ends_are_closed_when_nobody_goes_on_with_them(how: str) -> None:
    ends = Ends()
    dead, take = letters()
    stage = Stage("work", hang, shutdown=1)
    line = pipeline(stage, **ends.options(), dead_letters=dead)
    async with open_system([Child("line", line, restart="temporary")], name="root") as root:
        ends.give(1)
        await trio.sleep(1)
        if how == "aborted":
            root.abort()
        elif how == "terminated":
            await root.terminate_child("line")
            assert ends.open_clones() == (0, 0)
    assert ends.open_clones() == (0, 0)
    assert take() == [DeadLetter(1, "work", "root/line/work", 1, None)]


async def hang(item: int) -> None:
    await trio.sleep_forever()


@story
async def test_a_root_closes_its_own_ends() -> None:
    ends = Ends()
    async with open_system(pipeline(Stage("work", hang, shutdown=0), **ends.options())):
        ends.give(1)
        await trio.sleep(1)
        assert ends.open_clones() == (1, 1)
    assert ends.open_clones() == (0, 0)


@story
async def test_nobody_takes_results_any_more() -> None:
    ends = Ends()
    ends.drain.close()
    ends.give(1)

    async def main() -> None:
        line = pipeline(Stage("same", lambda item: item), **ends.options())
        async with open_system(line) as handle:
            await handle.wait()

    with pytest.raises(UnrecoverableFailure) as caught:
        await main()
    assert isinstance(caught.value.__cause__, DownstreamClosed)
    assert ends.open_clones() == (0, 0)


@pytest.mark.parametrize("field", ["upstream", "downstream"])
@story
async def test_an_end_that_is_closed_before_the_start_is_named(field: str) -> None:
    ends = Ends()
    ends.options()[field].close()

    async def main() -> None:
        line = pipeline(Stage("same", lambda item: item), **ends.options())
        async with open_system([Child("line", line)], name="root"):
            raise AssertionError("it has started")

    text = f"the {field} of 'root/line' is closed: keep it open until the pipeline has started"
    with pytest.raises(ChildFailure, match=text):
        await main()
    assert ends.upstream.statistics().open_receive_channels == (field != "upstream")
    assert ends.downstream.statistics().open_send_channels == (field != "downstream")


@story
async def test_made_anew_it_goes_on_with_the_ends_it_is_given() -> None:
    first, second = Ends(), Ends()
    both = iter((first, second))
    crash = trio.Event()
    begun: list[int] = []

    async def work(item: int) -> int:
        begun.append(item)
        await trio.sleep(1)
        return item

    async def crashing() -> None:
        nonlocal crash
        await crash.wait()
        crash = trio.Event()
        raise Boom

    async def system(scope: Scope) -> None:
        await scope.start(Child("crashing", crashing))
        stages = [Stage("one", work, shutdown=0), Stage("two", lambda item: item)]
        line = pipeline(*stages, **next(both).options())
        await scope.start(Child("line", line, restart="transient"))

    async with open_system(system, strategy="rest_for_one") as root:
        first.give(1, 2, 3)
        second.give(4)
        await trio.sleep(1.5)  # 2 is in hand
        crash.set()
        await trio.sleep(5)
        second.feed.close()
        await root.child("line").wait()
    assert (first.arrived(), second.arrived()) == ([1], [2, 4])
    assert begun == [1, 2, 2, 4]
    assert first.upstream.receive_nowait() == 3
    assert first.open_clones() == second.open_clones() == (0, 0)


@story
async def test_two_pipelines_on_one_channel_share_its_items() -> None:
    ends = Ends(0)
    seen: list[tuple[str, int]] = []

    async def work(name: str, item: int) -> int:
        seen.append((name, item))
        await trio.sleep(1)
        return item

    lines = [
        Child(name, pipeline(Stage("work", partial(work, name)), **ends.options()))
        for name in ("left", "right")
    ]
    children = [child.replace(restart="transient") for child in lines]
    async with open_system(children) as root, trio.open_nursery() as nursery:
        nursery.start_soon(put_all, ends.feed, 4)
        for _ in range(4):
            await ends.drain.receive()
        ends.feed.close()
        for child in children:
            await root.child(child.key).wait()
    assert sorted(item for _, item in seen) == [1, 2, 3, 4]
    assert {name for name, _ in seen} == {"left", "right"}


async def put_all(feed: trio.MemorySendChannel[int], last: int) -> None:
    for number in range(1, last + 1):
        await feed.send(number)
