"""Slow subscribers: which events they lose, and how they are told."""

from __future__ import annotations

import math

import trio
import trio.lowlevel

from actors import Actor, cast
from listeners import one_by_one, rest_of
from spry_py import (
    AlwaysRestart,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.events import Event, EventsLost, SystemStopped
from stories import Record, story


@story
async def test_a_full_buffer_loses_the_oldest_and_says_how_many_at_the_gap() -> None:
    a, b = cast(Record(), "ab")
    async with open_system(one_by_one(a, b)) as tree, tree.events(capacity=4) as events:
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(1)
        assert await rest_of(events) == [
            "8 1 EventsLost top 8",
            "9 1 RestartScheduled top/b in 0 attempt 1",
            "10 1 ChildStarting top/b #2",
            "11 1 ChildStarted top/b #2",
            "12 1 IncidentClosed top/b cured",
        ]


@story
async def test_each_gap_is_told_once() -> None:
    a, b = cast(Record(), "ab")
    async with open_system(one_by_one(a, b)) as tree, tree.events(capacity=1) as events:
        a.die()
        await trio.sleep(1)
        assert await rest_of(events) == ["5 0 EventsLost top 5", "6 0 IncidentClosed top/a cured"]
        b.die()
        await trio.sleep(1)
        assert await anext(events) == EventsLost(11, 2.0, "top", 5)
        # what is missing behind a gap that has been told is another gap
        a.die()
        await trio.sleep(1)
        assert await rest_of(events) == ["17 3 EventsLost top 6", "18 3 IncidentClosed top/a cured"]


@story
async def test_what_fits_is_not_lost() -> None:
    a, b = cast(Record(), "ab")
    async with open_system(one_by_one(a, b)) as tree, tree.events(capacity=6) as events:
        a.die()
        await trio.sleep(1)
        assert len(await rest_of(events)) == 6
        b.die()
        await trio.sleep(1)
        assert [text.split()[0] for text in await rest_of(events)] == [
            "7",
            "8",
            "9",
            "10",
            "11",
            "12",
        ]


@story
async def test_a_buffer_without_bounds() -> None:
    a = Actor(Record(), "a")
    system = SystemSupervisor([a.child()], strategy="one_for_one", breaker=AlwaysRestart)
    async with open_system(system) as tree, tree.events(math.inf) as events:
        for _ in range(500):
            a.die()
            await trio.sleep(1)
        assert [int(text.split()[0]) for text in await rest_of(events)] == list(range(1, 3001))


@story
async def test_the_end_is_heard_even_by_who_has_lost_everything_else() -> None:
    actors = list(cast(Record(), "abcdefgh"))
    async with trio.open_nursery() as nursery:
        seen: list[Event] = []

        async def doze(tree: SystemHandle, *, task_status: trio.TaskStatus[None]) -> None:
            async with tree.events(1) as events:
                task_status.started()
                await trio.sleep(100)
                seen.extend([event async for event in events])

        async with open_system(one_by_one(*actors)) as tree:
            await nursery.start(doze, tree)
    assert seen == [EventsLost(17, 0.0, "top", 17), SystemStopped(18, 0.0, "top")]
