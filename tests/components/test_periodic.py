"""Periodic children: the same function again and again, within one incarnation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from actors import LISTENS, Actor
from listeners import ended, listened
from spry_py import (
    Child,
    NeverRestart,
    RateLimited,
    RunTimeout,
    TooManyRestarts,
    open_system,
)
from spry_py.periodic import Periodic, periodic
from stories import Boom, Record, story


class Poll:
    """Takes so many seconds, run by run, and raises what it is given; the last stands for all."""

    def __init__(self, record: Record, *plans: float | Exception) -> None:
        self.record = record
        self.plans = plans
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        plan = self.plans[min(self.runs, len(self.plans)) - 1]
        self.record(f"+{self.runs}")
        if isinstance(plan, Exception):
            raise plan
        try:
            await trio.sleep(plan)
        except trio.Cancelled:
            self.record(f"cancelled {self.runs}")
            raise
        self.record(f"-{self.runs}")


@story
async def test_the_pause_counts_from_the_end_of_a_run_and_no_breaker_is_asked() -> None:
    record = Record()
    poll = Poll(record, 1, 3, 0)
    child = Child("poll", periodic(poll, every=5))
    async with listened([child], breaker=NeverRestart) as (tree, heard):
        await trio.sleep(20)
        assert tree.child("poll").incarnation == 1
        assert heard.take() == []
    assert record.facts == [
        (0, "+1"),
        (1, "-1"),
        (6, "+2"),
        (9, "-2"),
        (14, "+3"),
        (14, "-3"),
        (19, "+4"),
        (19, "-4"),
    ]


@story
async def test_asked_during_a_pause_it_ends_at_once() -> None:
    poll = Poll(Record(), 0)
    async with listened([Child("poll", periodic(poll, every=50))]) as (tree, heard):
        await trio.sleep(3)
        await tree.stop()
    assert heard.take()[1:3] == [
        "3 ChildSettling top/poll #1",
        "3 ChildTerminated top/poll #1 Normal settling",
    ]


@pytest.mark.parametrize("begun", [0, 5])
@story
async def test_asked_during_a_run_it_lets_that_come_to_its_end(begun: float) -> None:
    record = Record()
    poll = Poll(record, 4)
    async with listened([Child("poll", periodic(poll, every=1))]) as (tree, heard):
        await trio.sleep(begun + 2)
        await tree.stop()
    runs = [(0.0, "+1"), (4.0, "-1"), (5.0, "+2"), (9.0, "-2")]
    assert record.facts == (runs if begun else runs[:2])
    assert heard.take()[1:3] == [
        f"{begun + 2:g} ChildSettling top/poll #1",
        f"{begun + 4:g} ChildTerminated top/poll #1 Normal settling",
    ]


@story
async def test_a_run_that_takes_too_long_to_end_is_aborted() -> None:
    record = Record()
    poll = Poll(record, 60)
    async with listened([Child("poll", periodic(poll, every=1), shutdown=2)]) as (tree, heard):
        await trio.sleep(1)
        await tree.stop()
    assert record.facts == [(0, "+1"), (3, "cancelled 1")]
    assert heard.take()[2:4] == [
        "3 ChildAborted top/poll #1",
        "3 ChildTerminated top/poll #1 Aborted aborted",
    ]


@story
async def test_a_run_that_fails_is_a_crash_of_the_child() -> None:
    record = Record()
    poll = Poll(record, 0, Boom("second"), 0)
    child = Child("poll", periodic(poll, every=2))
    async with listened([child], breaker=RateLimited(1)) as (_, heard):
        await trio.sleep(5)
        assert heard.take() == [
            "2 ChildTerminated top/poll #1 Boom('second') none",
            "2 RestartScheduled top/poll in 0 attempt 1",
            "2 ChildStarting top/poll #2",
            "2 ChildStarted top/poll #2",
        ]
    assert record.order == "+1 -1 +2 +3 -3 +4 -4"


@story
async def test_a_first_run_that_fails_is_no_failed_start() -> None:
    poll = Poll(Record(), Boom("first"), 0)
    async with open_system([Child("poll", periodic(poll, every=2))]) as tree:
        await trio.sleep(1)
        child = tree.child("poll")
        assert (child.incarnation, child.value, poll.runs) == (2, None, 2)


@story
async def test_each_run_has_its_time() -> None:
    record = Record()
    poll = Poll(record, 2.5, 60, 0)
    child = Child("poll", periodic(poll, every=2, timeout=3))
    async with listened([child]) as (tree, heard):
        await trio.sleep(8)
        told = heard.take()[0]
        last = tree.child("poll").last_report
        assert last is not None
        assert type(last.exception) is RunTimeout
    assert told == (
        "7.5 ChildTerminated top/poll #1 "
        "RunTimeout(\"a run of 'top/poll' took longer than 3 s\") none"
    )
    assert record.order == "+1 -1 +2 cancelled 2 +3 -3"


@pytest.mark.parametrize("way", ["returns", "raises"])
@story
async def test_a_run_past_its_time_has_failed_whatever_it_makes_of_that(way: str) -> None:
    theirs = Boom("of the run")

    async def stubborn() -> None:
        try:
            await trio.sleep(60)
        except trio.Cancelled:
            if way == "raises":
                raise theirs from None

    child = Child("poll", periodic(stubborn, every=2, timeout=3), restart="temporary")
    async with open_system([child]) as tree:
        end = await tree.child("poll").wait()
    assert type(end.exception) is RunTimeout
    assert end.exception.__cause__ is (theirs if way == "raises" else None)
    assert end.ended_at == 3


@story
async def test_a_run_that_fails_in_time_has_not_timed_out() -> None:
    ours = TimeoutError("of its own")
    poll = periodic(Poll(Record(), 0, ours), every=2, timeout=3)
    async with open_system([Child("poll", poll, restart="temporary")]) as tree:
        end = await tree.child("poll").wait()
    assert end.exception is ours


@story
async def test_without_a_pause_others_still_get_their_turn() -> None:
    runs = 0

    async def spin() -> None:
        nonlocal runs
        runs += 1

    async with open_system([Child("spin", periodic(spin, every=0))]) as tree:
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        await tree.stop()
        report = tree.child("spin").last_report
        assert report is not None
        assert ended(report) == "#1 Normal settling"
    assert 10 < runs < 1000


@story
async def test_cancelled_from_outside_it_ends_in_its_turn() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS)
    with trio.move_on_after(1) as outside:
        async with open_system([a.child(), Child("poll", periodic(Poll(record, 3), every=2))]):
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert record.facts == [(0, "+a1"), (0, "+1"), (3, "-1"), (3, "-a1")]


def test_it_is_a_value() -> None:
    async def poll(url: str) -> None: ...

    same = periodic(poll, "a", every=5, timeout=1)
    assert same == periodic(poll, "a", every=5.0, timeout=1.0)
    assert hash(same) == hash(periodic(poll, "a", every=5, timeout=1))
    assert same == Periodic(poll, ("a",), 5, 1)
    assert Child("poll", same) == Child("poll", periodic(poll, "a", every=5, timeout=1))
    for other in (periodic(poll, "b", every=5), periodic(poll, "a", every=6, timeout=1)):
        assert same != other


async def sound() -> None: ...


def unsound() -> None: ...


@pytest.mark.parametrize(
    ("function", "seconds", "kind", "said"),
    [
        (unsound, {"every": 1}, TypeError, "periodic: function must be an async function"),
        (7, {"every": 1}, TypeError, "periodic: function must be an async function, not 7"),
        (sound, {"every": -1}, ValueError, "periodic: every must be 0 or more seconds"),
        (sound, {"every": "1"}, TypeError, "periodic: every must be a number of seconds"),
        (sound, {"every": 1, "timeout": 0}, ValueError, "periodic: timeout must be more than 0"),
        (sound, {}, TypeError, "every"),
    ],
)
def test_bad_values_are_refused(
    function: Any, seconds: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        periodic(function, **seconds)


# A budget of retries is a breaker that never forgets.


@story
async def test_a_budget_for_a_whole_life() -> None:
    record = Record()
    a = Actor(record, "a")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], breaker=RateLimited(2, math.inf)):
            for _ in range(3):
                await trio.sleep(10_000)
                a.die()
            await trio.sleep_forever()
    assert caught.value.restarts == 2
    assert record.order == "+a1 -a1 +a2 -a2 +a3 -a3"


@story
async def test_a_budget_of_one_child_alone() -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b")
    budget = RateLimited(1, math.inf)
    children = [a.child(breaker=budget, on_unrecoverable="discard"), b.child()]
    async with open_system(children, strategy="one_for_one") as tree:
        for actor in (a, b, a, b):
            await trio.sleep(10_000)
            actor.die()
        await trio.sleep(1)
        assert [info.status for info in tree.which_children()] == ["done", "running"]
    assert record.order == "+a1 +b1 -a1 +a2 -b1 +b2 -a2 -b2 +b3 -b3"
