"""Calls from outside at every moment: during starts, waits and restarts, while stopping, after."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, busy, listed, status_of
from replays import Wanted
from spry_py import (
    Strategy,
    open_system,
)
from stories import Ledger, Record, story
from workers import calm

FIVE = tenacity.wait_fixed(5)


# during the start of another child


@story
async def test_under_one_for_one_nobody_waits_for_a_start() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    slow = Actor(record, "s", [5, *STAYS])
    children = [a.child(), b.child()]
    async with (
        open_system(children, strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        desk = Desk(record, nursery)
        desk.call("slow", tree.start_child, slow.child())
        await trio.sleep(1)
        assert listed(tree) == "a=running b=running s=starting"
        assert (await tree.start_child(c.child())).value == "c#1"
        await tree.terminate_child("a")
        assert (await tree.restart_child("a")).value == "a#2"
        await tree.terminate_child("b")
        await tree.delete_child("b")
        assert await answer(tree.start_child(slow.child())) == "ChildAlreadyStarted"
        assert await answer(tree.restart_child("s")) == "ChildRunning"
        assert await answer(tree.delete_child("s")) == "ChildRunning"
        a.die()
        await trio.sleep(5)
        assert record.take() == [
            (0, "~s1"),
            (1, "+c1"),
            (1, "-a1"),
            (1, "+a2"),
            (1, "-b1"),
            (1, "-a2"),
            (1, "+a3"),
            (5, "+s1"),
            (5, "slow:ok"),
        ]
        assert listed(tree) == "a=running s=running c=running"


@story
async def test_under_one_for_one_nobody_waits_for_an_end() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=5)
    b, c = cast(record, "bc")
    children = [a.child(shutdown=10), b.child()]
    async with (
        open_system(children, strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        desk = Desk(record, nursery)
        desk.call("slow", tree.terminate_child, "a")
        await trio.sleep(1)
        assert listed(tree) == "a=stopping b=running"
        await tree.start_child(c.child())
        await tree.terminate_child("b")
        await tree.restart_child("b")
        b.die()
        assert await answer(tree.restart_child("a")) == "ChildRunning"
        assert await answer(tree.delete_child("a")) == "ChildRunning"
        assert await answer(tree.start_child(a.child())) == "ChildAlreadyStarted"
        await trio.sleep(5)
        assert record.take() == [
            (1, "+c1"),
            (1, "-b1"),
            (1, "+b2"),
            (1, "-b2"),
            (1, "+b3"),
            (5, "-a1"),
            (5, "slow:ok"),
        ]
        assert listed(tree) == "a=stopped b=running c=running"


@story
async def test_a_child_being_started_can_be_terminated() -> None:
    """It is shut down, its caller is told, and the start has come to nothing."""
    record = Record()
    (a,) = cast(record, "a")
    slow = Actor(record, "s", [5, *STAYS])
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        desk = Desk(record, nursery)
        desk.call("slow", tree.start_child, slow.child())
        await trio.sleep(1)
        assert await answer(tree.terminate_child("s")) == "ok"
        await trio.sleep(9)
        assert [fact for _, fact in record.facts[:2]] == ["~s1", "-s1"]
        moment, told = record.facts[2]
        assert (moment, told) in [(1, "slow:Interrupted"), (1, "slow:ChildFailure")]
        assert len(record.take()) == 3
        assert status_of(tree, "s") in ("gone", "stopped")


@story
async def test_a_child_being_started_again_can_be_terminated() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    async with open_system([a.child()], strategy="one_for_one") as tree:
        a.die()
        await trio.sleep(1)
        assert listed(tree) == "a=starting"
        assert await answer(tree.start_child(a.child())) == "ChildAlreadyStarted"
        assert await answer(tree.restart_child("a")) == "ChildRunning"
        assert await answer(tree.delete_child("a")) == "ChildRunning"
        await tree.terminate_child("a")
        await trio.sleep(5)
        assert listed(tree) == "a=stopped"
        assert (await tree.restart_child("a")).value == "a#3"
    assert record.facts == [
        (0, "~a1"),
        (2, "+a1"),
        (2, "-a1"),
        (2, "~a2"),
        (3, "-a2"),
        (8, "~a3"),
        (10, "+a3"),
        (10, "-a3"),
    ]


# during a backoff


@story
async def test_calls_are_served_during_a_backoff() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(backoff=FIVE), b.child()]
    async with open_system(children, strategy="one_for_one") as tree:
        record.take()
        a.die()
        await trio.sleep(1)
        assert listed(tree) == "a=restarting b=running"
        await tree.start_child(c.child())
        await tree.terminate_child("b")
        await tree.restart_child("b")
        await trio.sleep(5)
        assert record.take() == [
            (0, "-a1"),
            (1, "+c1"),
            (1, "-b1"),
            (1, "+b2"),
            (5, "+a2"),
        ]


@story
async def test_terminating_a_child_in_its_backoff_cancels_the_wait() -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a.child(backoff=FIVE), b.child()]
    async with open_system(children, strategy="one_for_one") as tree:
        record.take()
        a.die()
        await trio.sleep(1)
        await tree.terminate_child("a")
        assert trio.current_time() == 1
        assert listed(tree) == "a=stopped b=running"
        await trio.sleep(9)
        assert record.take() == [(0, "-a1")]
        assert (await tree.restart_child("a")).value == "a#2"
        await trio.sleep(9)
        assert record.take() == [(10, "+a2")]


@story
async def test_one_deleted_after_its_backoff_was_cancelled_can_be_added_anew() -> None:
    record = Record()
    a = Actor(record, "a")
    async with open_system([a.child(backoff=FIVE)], strategy="one_for_one") as tree:
        a.die()
        await trio.sleep(1)
        await tree.terminate_child("a")
        await tree.delete_child("a")
        await tree.start_child(a.child())
        await trio.sleep(9)
        assert record.take() == [(0, "+a1"), (0, "-a1"), (1, "+a2")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_terminating_the_pivot_of_a_waiting_group_cancels_that_restart(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(backoff=FIVE), c.child()]
    async with open_system(children, strategy=strategy) as tree:
        record.take()
        b.die()
        await trio.sleep(1)
        down = {"rest_for_one": "-b1 -c1", "one_for_all": "-b1 -c1 -a1"}[strategy]
        assert record.take_order() == down
        await tree.terminate_child("b")
        await trio.sleep(9)
        assert record.take() == []
        first = "running" if strategy == "rest_for_one" else "stopped"
        assert listed(tree) == f"a={first} b=stopped c=stopped"
        assert (await tree.restart_child("c")).value == "c#2"
        assert listed(tree) == f"a={first} b=stopped c=running"


@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_the_replay_starts_also_those_terminated_while_it_was_waited_for_unless_deleted(
    strategy: Strategy, deletes: bool
) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(backoff=FIVE), c.child()]
    async with open_system(children, strategy=strategy) as tree:
        b.die()
        await trio.sleep(1)
        record.take()
        assert await answer(tree.restart_child("c")) == "ChildRestarting"
        assert await answer(tree.delete_child("c")) == "ChildRestarting"
        await tree.terminate_child("c")
        assert status_of(tree, "c") == "stopped"
        if deletes:
            await tree.delete_child("c")
        await trio.sleep(9)
        up = {"rest_for_one": ["+b2"], "one_for_all": ["+a2", "+b2"]}[strategy]
        assert record.take_order().split() == (up if deletes else [*up, "+c2"])
        assert listed(tree) == "a=running b=running" + ("" if deletes else " c=running")


@story
async def test_an_end_is_decided_if_the_one_who_wanted_it_down_has_gone_before_that() -> None:
    """All of it while the supervisor was busy, and then with a replay that takes its time."""
    record = Record()
    a = Actor(record, "a")
    slow = Actor(Record(), "slow", [5, *STAYS])
    wanted = Wanted((a, ""))
    async with (
        open_system(wanted, strategy="one_for_one", breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(Record(), nursery)
        await tree.start_child(busy(Record()))
        desk.call("busy", tree.terminate_child, "busy")
        await trio.sleep(1)
        a.die()
        wanted.lines = ((a, ""), slow.child())
        await calm()
        desk.call("replay", tree.replay)
        await calm()
        down = desk.call("down", tree.terminate_child, "a")
        await trio.sleep(6)
        down.cancel()
        await trio.sleep(9)
        assert record.take() == [(0, "+a1"), (1, "-a1"), (10, "?a"), (10, "+a2")]
        assert listed(tree) == "a=running slow=running busy=stopped"


@story
async def test_a_start_that_fails_is_the_callers_at_once_however_busy_the_loop_is() -> None:
    record = Record()
    a = Actor(record, "a", [2, no_start], [2, *STAYS])
    async with (
        open_system([busy(Record())], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        desk.call("start", tree.start_child, a.child())
        await trio.sleep(1)
        desk.call("busy", tree.terminate_child, "busy")
        await trio.sleep(9)
        assert record.take() == [
            (0, "~a1"),
            (2, "!a1"),
            (2, "start:ChildFailure"),
            (6, "busy:ok"),
        ]
