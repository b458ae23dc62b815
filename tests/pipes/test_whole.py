"""Whole pipelines, where they stand and what they outlive; pipes that stand alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from pipelines import Noted, collected, counting
from spry_py import (
    Child,
    DynamicSupervisor,
    Normal,
    RateLimited,
    Scope,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py.pipes import DownstreamClosed, Pipe, Stage, Worker, pipeline
from stories import Boom, Record, story


@story
async def test_a_pipeline_of_one_stage_and_one_that_ended_normal_begins_anew() -> None:
    runs: list[int] = []

    async def source(pipe: Pipe[Any, Any]) -> None:
        runs.append(pipe.passed_on)
        await trio.sleep(1)

    async with open_system([Child("line", pipeline(Worker("source", source)))]):
        await trio.sleep(2.5)
    assert runs == [0, 0, 0]


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("made", ["once", "each time"])
@story
async def test_items_outlive_every_restart_above_them(levels: int, made: str) -> None:
    arrived: list[int] = []
    runs = 0
    stages = [
        Worker("source", counting(5)),
        Stage("work", Noted(Record(), lasts=10).apply, capacity=2, shutdown=0),
        collected(arrived),
    ]
    once = pipeline(*stages)

    async def system(scope: Scope) -> None:
        line = once if made == "once" else pipeline(*stages)
        await scope.start(Child("line", line, restart="transient"))
        await scope.start(Child("crash", crash))

    async def crash() -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(15 if runs == 1 else 1000)
        raise Boom

    tree: Any = SystemSupervisor(system, breaker=RateLimited(int(levels == 1), 1.0))
    for level in range(2, levels + 1):
        breaker = RateLimited(int(level == levels), 1.0)
        tree = SystemSupervisor([Child("inner", tree)], breaker=breaker, name="system")
    async with open_system(tree):
        await trio.sleep(100)
    assert (arrived, runs) == ([1, 2, 3, 4, 5], 2)


@story
async def test_one_value_at_two_places_and_in_two_trees_shares_nothing() -> None:
    arrived: list[tuple[str, int]] = []

    async def end(pipe: Pipe[int, Any]) -> None:
        async for item in pipe:
            arrived.append((current_context().path, item))
            await trio.sleep(1)

    line = pipeline(Worker("source", counting(2)), Worker("end", end, capacity=9))
    left, right = (Child(key, line, restart="transient") for key in ("left", "right"))
    async with open_system([left, right], name="a"), open_system([left, right], name="a"):
        await trio.sleep(0.5)
        # a third tree, inside a child of a fourth, that is over before it has come to the second
        async with open_system(DynamicSupervisor(name="b")) as pool:
            await pool.run(open_shortly, line)
            await pool.run(open_shortly, line)
        await trio.sleep(10)
    assert sorted(arrived) == [
        *[(path, item) for path in ("a/left/end",) for item in (1, 1, 2, 2)],
        *[(path, item) for path in ("a/right/end",) for item in (1, 1, 2, 2)],
        *[("pipeline/end", item) for item in (1, 1)],
    ]


async def open_shortly(line: SystemSupervisor) -> None:
    async with open_system(line) as handle:
        await trio.sleep(0.2)
        handle.abort()


@story
async def test_a_tree_inside_a_child_of_another_one_is_a_tree_of_its_own() -> None:
    begins: list[int] = []

    async def source(pipe: Pipe[Any, int]) -> None:
        begins.append(pipe.passed_on)
        await counting(2)(pipe)

    line = pipeline(Worker("source", source), Stage("end", trio.sleep, capacity=9))
    async with open_system(DynamicSupervisor(name="pool")) as pool:
        await pool.run(open_shortly, line)
        await pool.run(open_shortly, line)
    assert begins == [0, 0]


@story
async def test_a_worker_that_is_done_has_nothing_to_do_when_it_is_started_again() -> None:
    record = Record()

    async def source(pipe: Pipe[Any, int]) -> None:
        record("begins")
        await pipe.put(3)

    line = pipeline(Worker("source", source), Stage("end", trio.sleep))
    async with open_system(line) as handle:
        await trio.sleep(1)
        await handle.restart_child("source")
        report = await handle.wait()
    assert (report.reason, report.ended_at) == (Normal(), 3)
    assert record.facts == [(0.0, "begins")]


@story
async def test_stopped_behind_its_upstream_a_worker_comes_to_its_end_once() -> None:
    arrived: list[object] = []

    async def work(pipe: Pipe[int, object]) -> None:
        async for _ in pipe:
            await trio.sleep(2)
        await pipe.put("the end")

    line = pipeline(Worker("source", counting(1)), Worker("work", work), collected(arrived))
    async with open_system([Child("line", line, restart="transient")]) as handle:
        await trio.sleep(1)
        assert handle.find("line/source").status == "done"
        await handle.terminate_child("line")
        await handle.restart_child("line")
        report = await handle.child("line").wait()
    assert (report.reason, arrived) == (Normal(), [1, "the end"])


@story
async def test_another_pipeline_at_the_same_place_begins_empty_and_says_what_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lines() -> Iterator[SystemSupervisor]:
        for size in (3, 4):
            yield pipeline(
                Worker("source", counting(size)),
                Stage("end", Noted(record, lasts=10).apply, capacity=size, shutdown=0),
            )

    record = Record()
    different = lines()

    async def system(scope: Scope) -> None:
        await scope.start(Child("line", next(different), restart="transient"))

    outer = SystemSupervisor(system, name="outer")
    async with open_system([Child("outer", outer)], name="root") as handle:
        await trio.sleep(5)
        await handle.child("outer").restart()
        await trio.sleep(5)
    told = [line.getMessage() for line in caplog.records if "lost" in line.getMessage()]
    assert told == ["root/outer/line is another pipeline now: 3 items of the former one are lost"]
    assert record.order == "<1 <1"


@story
async def test_a_pipe_without_a_pipeline_serves_a_child_of_any_tree() -> None:
    arrived: list[int] = []
    feed, upstream = trio.open_memory_channel[int](9)
    downstream, drain = trio.open_memory_channel[int](9)
    pipe = Pipe("double", upstream, downstream)

    async def double(pipe: Pipe[int, int]) -> None:
        async for item in pipe:
            pipe.replace(2 * item)
            if pipe.deliveries < item:
                raise Boom
        await pipe.finish()

    with feed:
        for item in (1, 2, 3):
            feed.send_nowait(item)
    async with open_system([Child("double", double, pipe, restart="transient")]):
        arrived.extend([item async for item in drain])
    assert (arrived, pipe.passed_on, pipe.is_finished) == ([2, 4, 6], 3, True)
    assert pipe.deliveries == 0, "nothing is in hand"
    assert repr(pipe) == "Pipe('double', passed_on=3)"


@story
async def test_asked_to_settle_a_worker_finishes_its_item_and_takes_no_more() -> None:
    record = Record()
    line = pipeline(Worker("source", counting(9)), Worker("end", Noted(record, lasts=2).work))
    async with open_system([Child("line", line, restart="transient")]) as handle:
        await trio.sleep(3)
        await handle.find("line/end").terminate()
        record("terminated")
        await trio.sleep(3)
        assert record.take_order() == "start 1 <1 1> <2 2> end terminated"


@story
async def test_a_pipe_serves_one_worker_at_a_time() -> None:
    _, upstream = trio.open_memory_channel[int](0)
    pipe = Pipe[int, int]("one", upstream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(anext, pipe)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="pipe of stage 'one' is busy: it serves one worker"):
            await anext(pipe)
        nursery.cancel_scope.cancel()


@story
async def test_what_a_stage_cannot_do_is_said() -> None:
    pipe = Pipe[int, int]("lonely")
    with pytest.raises(RuntimeError, match="stage 'lonely' has no upstream: it can only put"):
        await anext(pipe)
    with pytest.raises(RuntimeError, match="stage 'lonely' has no downstream: nothing takes what"):
        await pipe.put(1)
    with pytest.raises(RuntimeError, match="drop: stage 'lonely' has no item in hand"):
        pipe.drop()
    send, receive = trio.open_memory_channel[int](0)
    receive.close()
    with pytest.raises(DownstreamClosed, match="stage 'source' has something to pass on, but its"):
        await Pipe[int, int]("source", None, send).put(1)
