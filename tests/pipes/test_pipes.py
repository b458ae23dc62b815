"""Workers on pipes: what becomes of an item, what comes through, in which order, and when."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio

from pipelines import Noted, collected, counting
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    Normal,
    UnrecoverableFailure,
    current_context,
    open_system,
)
from spry_py.pipes import DROP, Pipe, Stage, Worker, pipeline
from stories import Boom, Record, story

# Workers that fail


@story
async def test_s7_a_worker_fails_with_an_item_in_hand_and_nothing_is_lost() -> None:
    record = Record()
    arrived: list[int] = []
    worker = Worker("work", Noted(record, {2: 1}).work)
    line = pipeline(Worker("source", counting(3)), worker, collected(arrived))
    async with open_system(line) as handle:
        report = await handle.wait()
    assert report.reason == Normal()
    assert arrived == [1, 2, 3]
    assert record.order == "start 1 <1 1> <2 start 2 <2 2> <3 3> end"


@story
async def test_forwarded_an_item_is_worked_on_once_and_goes_on_as_it_is() -> None:
    record = Record()
    arrived: list[int] = []
    worker = Worker("work", Noted(record, {2: 1}).work, on_crash="forward")
    line = pipeline(Worker("source", counting(3)), worker, collected(arrived))
    async with open_system(line) as handle:
        await handle.wait()
    assert arrived == [1, 2, 3]
    assert record.order == "start 1 <1 1> <2 start 2 <3 3> end"


@story
async def test_forwarded_is_what_the_worker_had_said_before_it_failed() -> None:
    arrived: list[str] = []

    async def work(pipe: Pipe[int, str]) -> None:
        async for item in pipe:
            if item == 2:
                pipe.drop()
            else:
                pipe.replace(f"{item}a", f"{item}b")
            raise Boom

    line = pipeline(
        Worker("source", counting(3)),
        Worker("work", work, on_crash="forward"),
        collected(arrived),
    )
    async with open_system(line) as handle:
        await handle.wait()
    assert arrived == ["1a", "1b", "3a", "3b"]


@story
async def test_redelivered_what_the_failed_worker_had_said_is_forgotten() -> None:
    arrived: list[int] = []
    deliveries: list[int] = []

    async def work(pipe: Pipe[int, int]) -> None:
        async for item in pipe:
            deliveries.append(pipe.deliveries)
            if pipe.deliveries < 3:
                pipe.replace(-item)
                raise Boom

    line = pipeline(Worker("source", counting(1)), Worker("work", work), collected(arrived))
    async with open_system(line) as handle:
        await handle.wait()
    assert (arrived, deliveries) == ([1], [1, 2, 3])


@story
async def test_s1_a_restart_after_its_delay_has_the_same_channels_and_loses_local_state() -> None:
    record = Record()
    sums: list[int] = []

    async def add_up(pipe: Pipe[int, int]) -> None:
        total = 0
        async for item in pipe:
            total += item
            record(f"{item}: {total}")
            if record.order.count("2:") == 1 and item == 2:
                raise Boom
            pipe.replace(total)

    wait = Backoff(tenacity.wait_fixed(7))
    adder = Worker("add up", add_up, backoff=wait)
    line = pipeline(Worker("source", counting(3)), adder, collected(sums))
    async with open_system(line) as handle:
        await trio.sleep(1)
        assert handle.child("add up").status == "restarting"
        await handle.wait()
    assert record.facts == [(0.0, "1: 1"), (0.0, "2: 3"), (7.0, "2: 2"), (7.0, "3: 5")]
    assert sums == [1, 2, 5]


@story
async def test_s5_the_delays_of_workers_that_fail_together_differ() -> None:
    record = Record()

    async def work(pipe: Pipe[int, int]) -> None:
        if current_context().incarnation == 1:
            raise Boom
        record(current_context().key)
        await pipe.finish()

    wait = Backoff(tenacity.wait_random(1, 2))
    line = pipeline(Worker("work", work, workers=3, backoff=wait), breaker=AlwaysRestart())
    async with open_system(line) as handle:
        await handle.wait()
    assert sorted(key for _, key in record.facts) == ["work-1", "work-2", "work-3"]
    assert len({at for at, _ in record.facts}) == 3
    assert all(1 <= at <= 2 for at, _ in record.facts)


@story
async def test_an_item_that_hangs_counts_as_one_that_fails() -> None:
    record = Record()

    async def hang(item: int) -> int:
        record(f"<{item}")
        if item == 2:
            await trio.sleep_forever()
        return item

    arrived: list[int] = []
    stage = Stage("hang", hang, run_timeout=5, max_deliveries=2)
    async with open_system(
        pipeline(Worker("source", counting(3)), stage, collected(arrived))
    ) as handle:
        await handle.wait()
    assert record.facts == [(0.0, "<1"), (0.0, "<2"), (5.0, "<2"), (10.0, "<3")]
    assert arrived == [1, 3]


@story
async def test_a_delivery_cut_short_by_a_stop_does_not_count() -> None:
    deliveries: list[int] = []

    async def slow(pipe: Pipe[int, int]) -> None:
        async for _ in pipe:
            deliveries.append(pipe.deliveries)
            await trio.sleep(10)

    line = pipeline(
        Worker("source", counting(1)), Worker("slow", slow, shutdown=0, max_deliveries=1)
    )
    async with open_system([Child("line", line, restart="transient")]) as handle:
        for _ in range(3):
            await trio.sleep(1)
            await handle.child("line").restart()
        report = await handle.child("line").wait()
    assert deliveries == [1, 1, 1, 1]
    assert report.reason == Normal()


# A header before the loop


async def header_and_items(pipe: Pipe[Any, Any], record: Record) -> None:
    record(f"header {await anext(pipe)} ({pipe.deliveries})")
    pipe.drop()
    async for item in pipe:
        record(f"{item} ({pipe.deliveries})")


@pytest.mark.parametrize("most", [1, 3])
@story
async def test_a_header_is_delivered_once(most: int) -> None:
    record, arrived = Record(), list[int]()

    async def work(pipe: Pipe[int, int]) -> None:
        await header_and_items(pipe, record)

    worker = Worker("work", work, max_deliveries=most)
    line = pipeline(Worker("source", counting(3)), worker, collected(arrived))
    async with open_system(line) as handle:
        await handle.wait()
    assert record.order == "header 1 (1) 2 (1) 3 (1)"
    assert arrived == [2, 3]


@pytest.mark.parametrize("alone", [False, True])
@story
async def test_a_header_whose_worker_fails_is_redelivered(alone: bool) -> None:
    record, arrived = Record(), list[int]()

    async def work(pipe: Pipe[int, int]) -> None:
        record(f"header {await anext(pipe)} ({pipe.deliveries})")
        if current_context().incarnation < 3:
            raise Boom
        async for item in pipe:
            record(f"{item} ({pipe.deliveries})")
        await pipe.finish()

    if alone:
        feed, upstream = trio.open_memory_channel[int](9)
        downstream, drain = trio.open_memory_channel[int](9)
        pipe = Pipe("work", upstream, downstream)
        with feed:
            for number in (1, 2, 3):
                feed.send_nowait(number)
        async with open_system([Child("work", work, pipe, restart="transient")]):
            arrived.extend([item async for item in drain])
    else:
        line = pipeline(Worker("source", counting(3)), Worker("work", work), collected(arrived))
        async with open_system(line) as handle:
            await handle.wait()
    assert record.order == "header 1 (1) header 1 (2) header 1 (3) 2 (1) 3 (1)"
    assert arrived == [1, 2, 3]


@story
async def test_a_loop_that_was_left_may_be_entered_again() -> None:
    record, arrived = Record(), list[int]()

    async def work(pipe: Pipe[int, int]) -> None:
        async for header in pipe:
            record(f"header {header}")
            break
        async for item in pipe:
            record(f"{item} ({pipe.deliveries})")

    line = pipeline(Worker("source", counting(3)), Worker("work", work), collected(arrived))
    async with open_system(line) as handle:
        await handle.wait()
    assert (record.order, arrived) == ("header 1 2 (1) 3 (1)", [1, 2, 3])


@story
async def test_outside_a_tree_a_header_is_delivered_once_too() -> None:
    record = Record()
    feed, upstream = trio.open_memory_channel[int](9)
    with feed:
        for number in (1, 2, 3):
            feed.send_nowait(number)
    await header_and_items(Pipe("alone", upstream, max_deliveries=1), record)
    assert record.order == "header 1 (1) 2 (1) 3 (1)"


# What passes, and what does not


@story
async def test_s8_a_full_downstream_holds_the_upstream_back() -> None:
    record = Record()

    async def source(pipe: Pipe[Any, int]) -> None:
        for item in range(1, 7):
            await pipe.put(item)
            record(f"+{item}")

    end = Stage("end", Noted(record, lasts=10).apply, capacity=2)
    async with open_system(pipeline(Worker("source", source), end)):
        await trio.sleep(5)
        # one in hand, two in front of it
        assert sorted(record.take_order().split()) == ["+1", "+2", "+3", "<1"]
        await trio.sleep(10)
        assert sorted(record.take_order().split()) == ["+4", "1>", "<2"]


@story
async def test_s9_a_closed_upstream_ends_each_stage_after_what_it_had_in_hand() -> None:
    record = Record()
    first, second = Noted(record, lasts=5), Noted(record, lasts=5)
    line = pipeline(
        Worker("source", counting(1)), Worker("first", first.work), Worker("second", second.work)
    )
    async with open_system([Child("line", line, restart="transient")]) as handle:
        told = handle.find("line")
        for seconds, statuses in ((1, "running running"), (5, "running done"), (5, "done done")):
            await trio.sleep(seconds)
            if told.status == "running":
                children = handle.find("line/second"), handle.find("line/first")
                assert " ".join(child.status for child in children) == statuses
        assert (told.status, told.last_report and told.last_report.reason) == ("done", Normal())
    assert sorted(record.facts) == [
        (0.0, "<1"),
        (0.0, "start 1"),
        (0.0, "start 1"),
        (5.0, "1>"),
        (5.0, "<1"),
        (5.0, "end"),
        (10.0, "1>"),
        (10.0, "end"),
    ]


@story
async def test_s9_a_closed_downstream_is_an_error_that_names_the_stage() -> None:
    async def first_only(pipe: Pipe[int, Any]) -> None:
        async for _ in pipe:
            break

    async def main() -> None:
        same = Stage("same", lambda item: item)
        line = pipeline(Worker("source", counting(9)), same, Worker("head", first_only))
        async with open_system(line) as handle:
            await handle.wait()

    with pytest.raises(UnrecoverableFailure) as caught:
        await main()
    told = "stage 'same' has something to pass on, but its downstream is closed"
    assert repr(caught.value.__cause__) == f'DownstreamClosed("{told}")'
    assert caught.value.path == "pipeline/same"


@story
async def test_s10_a_worker_can_take_an_item_out() -> None:
    arrived: list[int] = []

    async def odd(pipe: Pipe[int, int]) -> None:
        async for item in pipe:
            if item % 2 == 0:
                pipe.drop()

    line = pipeline(
        Worker("source", counting(9)),
        Worker("odd", odd),
        Stage("no fives", lambda item: DROP if item == 5 else item),
        collected(arrived),
    )
    async with open_system(line) as handle:
        await handle.wait()
    assert arrived == [1, 3, 7, 9]


@story
async def test_functions_may_be_sync_or_async_and_none_is_a_result() -> None:
    arrived: list[object] = []

    async def halve(item: int) -> float | None:
        await trio.sleep(1)
        return item / 2 if item % 2 else None

    line = pipeline(
        Worker("source", counting(4)),
        Stage("halve", halve),
        Stage("text", repr),
        collected(arrived),
    )
    async with open_system(line) as handle:
        report = await handle.wait()
    assert arrived == ["0.5", "None", "1.5", "None"]
    assert report.ended_at - (report.started_at or 0) == 4


@story
async def test_a_worker_may_put_more_and_something_at_its_end() -> None:
    arrived: list[object] = []

    async def pairs(pipe: Pipe[int, object]) -> None:
        pair: list[int] = []
        async for item in pipe:
            pipe.drop()
            pair.append(item)
            if len(pair) == 2:
                pipe.replace(tuple(pair))
                pair = []
        await pipe.put(pair)

    line = pipeline(Worker("source", counting(5)), Worker("pairs", pairs), collected(arrived))
    async with open_system(line) as handle:
        await handle.wait()
    assert arrived == [(1, 2), (3, 4), [5]]


@story
async def test_workers_of_one_stage_share_the_work_and_fail_alone() -> None:
    record = Record()
    arrived: list[int] = []
    stage = Stage("work", Noted(record, {3: 1}, lasts=10).apply, workers=3)
    async with open_system(
        pipeline(Worker("source", counting(6)), stage, collected(arrived))
    ) as handle:
        await trio.sleep(5)
        assert [info.key for info in handle.which_children()] == [
            "end",
            "work-3",
            "work-2",
            "work-1",
            "source",
        ]
        await handle.wait()
    assert sorted(arrived) == [1, 2, 3, 4, 5, 6]
    begun = [(at, fact) for at, fact in record.facts if fact.startswith("<")]
    assert sorted(begun) == [
        *[(0.0, f"<{item}") for item in (1, 2, 3)],
        *[(10.0, f"<{item}") for item in (3, 4, 5)],
        (20.0, "<6"),
    ]


@story
async def test_several_sources_end_one_by_one() -> None:
    arrived: list[int] = []
    line = pipeline(Worker("source", counting(2), workers=3), collected(arrived))
    async with open_system(line) as handle:
        await handle.wait()
    assert sorted(arrived) == [1, 1, 1, 2, 2, 2]
