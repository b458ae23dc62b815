"""Many at once: taskvisor's scenarios of concurrency, and what else its suite asks, by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from callers import answer
from jobs import double, open_desk
from spry_py import Child, Normal
from stories import Record, story


async def idle() -> None:
    await trio.sleep_forever()


async def all_at_once(calls: list[Callable[[], Awaitable[object]]]) -> Counter[str]:
    """Make the calls from a task each, and count the answers."""
    answers: Counter[str] = Counter()

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        answers[await answer(call())] += 1

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(one, call)
    return answers


def starts(desk: Any, keys: list[str], start: Any = idle, **how: Any) -> list[Any]:
    return [
        lambda key=key: desk.start_child(Child(key, start, restart="temporary"), **how)
        for key in keys
    ]


def ends(desk: Any, keys: list[str]) -> list[Any]:
    return [lambda key=key: desk.terminate_child(key) for key in keys]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@story
async def test_i3_one_that_ends_at_once_was_started_all_the_same() -> None:
    async def at_once() -> str:
        return "value"

    async with open_desk() as desk:
        child = await desk.start_child(Child("a", at_once, restart="temporary"))
        report = await child.wait()
        assert (report.reason, desk.which_children()) == (Normal("value"), [])


@story
async def test_w12_whoever_stops_waiting_stops_nothing_else() -> None:
    async with open_desk() as desk:
        child = await desk.start_child(Child("a", double, 5, restart="temporary"))
        with trio.move_on_after(1) as scope:
            await child.wait()
        assert (scope.cancelled_caught, child.status) == (True, "running")
        assert (await child.wait()).reason == Normal(10)


@story
async def test_c1_c5_many_are_added_and_ended_at_once() -> None:
    async with open_desk() as desk:
        assert await all_at_once(starts(desk, numbers(256))) == {"ok": 256}
        assert desk.count_children().active == 256
        assert await all_at_once(ends(desk, numbers(256))) == {"ok": 256}
        assert desk.count_children().specs == 0


@story
async def test_c2_of_many_with_one_key_one_is_started() -> None:
    async with open_desk() as desk:
        answers = await all_at_once(starts(desk, ["a"] * 64))
        assert answers == {"ok": 1, "ChildAlreadyStarted": 63}
        assert desk.count_children().active == 1


@story
async def test_c3_added_and_removed_in_turns_nothing_is_left() -> None:
    async def come_and_go(key: str) -> None:
        for call in (*starts(desk, [key]), *ends(desk, [key])):
            await call()

    async with open_desk() as desk:
        async with trio.open_nursery() as nursery:
            for key in numbers(200):
                nursery.start_soon(come_and_go, key)
        assert desk.count_children().specs == 0


@story
async def test_c4_c6_many_who_end_the_same_one() -> None:
    """Those that come while it ends wait for that end, too."""
    async with open_desk() as desk:
        await desk.start_child(Child("a", idle, restart="temporary"))
        answers = await all_at_once(ends(desk, ["a"] * 32))
        assert sum(answers.values()) == 32
        assert set(answers) <= {"ok", "ChildNotFound"}
        assert desk.count_children().specs == 0


@story
async def test_c7_many_that_end_at_once_leave_nothing() -> None:
    async with open_desk() as desk:
        assert await all_at_once(starts(desk, numbers(300), trio.lowlevel.checkpoint)) == {
            "ok": 300
        }
        await trio.sleep(1)
        assert (desk.which_children(), desk.count_children().specs) == ([], 0)


@story
async def test_c8_many_take_turns_and_a_stop_ends_them_all() -> None:
    running = [0]
    most = [0]

    async def job() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            await trio.sleep(1)
        finally:
            running[0] -= 1

    async with trio.open_nursery() as nursery:
        async with open_desk(max_running=4) as desk:
            nursery.start_soon(all_at_once, starts(desk, numbers(100), job))
            await trio.sleep(10.5)
            assert desk.count_children().specs == 60
        assert (running, most, trio.current_time()) == ([0], [4], 10.5)


@story
async def test_c9_whoever_comes_with_the_stop_gets_an_answer() -> None:
    answers: Counter[str] = Counter()

    async def adders(desk: Any) -> None:
        answers.update(await all_at_once(starts(desk, numbers(150))))

    async with trio.open_nursery() as nursery, open_desk() as desk:
        nursery.start_soon(adders, desk)
        nursery.start_soon(desk.stop)
    assert sum(answers.values()) == 150
    assert set(answers) <= {"ok", "SupervisorStopped", "Interrupted"}


@story
async def test_c10_many_queues_are_all_worked_off() -> None:
    record = Record()

    async def job() -> None:
        await trio.sleep(1)
        record("done")

    async with open_desk() as desk:
        keys = numbers(10) * 5
        assert await all_at_once(starts(desk, keys, job, on_conflict="queue")) == {"ok": 50}
        await trio.sleep(2)
        assert desk.which_children() == []
    assert Counter(at for at, _ in record.facts) == {1: 10, 2: 10, 3: 10, 4: 10, 5: 10}


@story
async def test_k2_a_key_can_be_known_before_anything_happens() -> None:
    async with open_desk() as desk:
        key = desk.new_key("job")
        assert (key, desk.which_children()) == ("job-1", [])
        await desk.start_child(Child(key, idle))
        assert [info.key for info in desk.which_children()] == [key]
        assert desk.new_key("job") == "job-2"


@pytest.mark.parametrize(("count", "expected"), [(1024, {}), (1026, {"MaxChildrenReached": 2})])
@story
async def test_k20_so_many_may_queue_for_a_key_and_no_more(
    count: int, expected: dict[str, int]
) -> None:
    answers: Counter[str] = Counter()

    async def queue(desk: Any) -> None:
        calls = starts(desk, ["a"] * count, on_conflict="queue")
        answers.update(await all_at_once(calls))

    async with open_desk() as desk, trio.open_nursery() as nursery:
        await desk.start_child(Child("a", idle, restart="temporary"))
        nursery.start_soon(queue, desk)
        await trio.sleep(1)
        await desk.stop()
    assert answers == {"SupervisorStopped": 1024, **expected}
