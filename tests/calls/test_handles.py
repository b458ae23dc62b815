"""`ChildHandle.terminate()` and `restart()`, and how long a handle is good for."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, listed
from pools import open_pool
from spry_py import (
    Aborted,
    Child,
    NeverRestart,
    Normal,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import Ledger, Record, story
from workers import STRATEGIES

FIVE = tenacity.wait_fixed(5)

# terminate


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_terminate_ends_that_child_as_terminate_child_does(strategy: Strategy) -> None:
    record = Record()
    a, c = cast(record, "ac", LISTENS)
    b = Actor(record, "b", LISTENS, cleanup=2)
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)) as tree:
        handle = tree.child("b")
        await handle.terminate()
        assert (handle.status, trio.current_time()) == ("stopped", 2)
        report = await handle.wait()
        assert (report.reason, report.burden) == (Normal(None), "settling")
        assert listed(tree) == "a=running b=stopped c=running"
        assert await answer(handle.terminate()) == "ok"
    assert record.order == "+a1 +b1 +c1 -b1 -c1 -a1"


@story
async def test_terminate_cancels_a_backoff() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child(backoff=FIVE)], strategy="one_for_one") as tree:
        a.die()
        await trio.sleep(1)
        handle = tree.child("a")
        assert handle.status == "restarting"
        await handle.terminate()
        await trio.sleep(9)
        assert (handle.status, record.order) == ("stopped", "+a1 -a1")


@story
async def test_terminate_from_far_above() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    inner = SystemSupervisor([a.child(), b.child()])
    middle = SystemSupervisor([Child("inner", inner)])
    async with open_system([Child("middle", middle)]) as tree:
        await tree.find("middle/inner/b").terminate()
        assert record.take_order() == "+a1 +b1 -b1"
        await tree.find("middle/inner").terminate()
        assert record.take_order() == "-a1"
        assert tree.find("middle/inner/a").status == "stopped"
        assert tree.find("middle").status == "running"


@story
async def test_a_handle_of_a_deleted_child_finds_nothing_until_the_key_is_back() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_system([a.child()]) as tree:
        handle = tree.child("a")
        await handle.terminate()
        await tree.delete_child("a")
        assert await answer(handle.terminate()) == "ChildNotFound"
        assert await answer(handle.restart()) == "ChildNotFound"
        assert handle.status == "stopped"
        await tree.start_child(a.child())
        assert (handle.status, handle.value) == ("running", "a#2")
        assert await answer(handle.terminate()) == "ok"
    assert record.order == "+a1 -a1 +a2 -a2"


# restart


@story
async def test_restart_under_one_for_one_stops_the_child_and_starts_it_again() -> None:
    record = Record()
    a, c = cast(record, "ac", LISTENS)
    b = Actor(record, "b", [3, *LISTENS], cleanup=2)
    children = [a.child(), b.child("x"), c.child()]
    async with open_system(children, strategy="one_for_one", breaker=Ledger(record)) as tree:
        record.take()
        begin = trio.current_time()
        handle = tree.child("b")
        await handle.restart()
        assert (handle.status, handle.value, handle.incarnation) == ("running", "b#2", 2)
        assert record.take() == [(begin + 2, "-b1"), (begin + 2, "~b2"), (begin + 5, "+b2(x)")]
        assert listed(tree) == "a=running b=running c=running"


@pytest.mark.parametrize(
    ("strategy", "down", "up"),
    [
        ("rest_for_one", ["-b1", "-c1", "-d1"], "+b2 +c2 +d2"),
        ("one_for_all", ["-a1", "-b1", "-c1", "-d1"], "+a2 +b2 +c2 +d2"),
    ],
)
@story
async def test_restart_takes_along_whom_the_strategy_says(
    strategy: Strategy, down: list[str], up: str
) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd", LISTENS)
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)) as tree:
        await tree.start_child(d.child())
        record.take()
        await tree.child("b").restart()
        facts = record.take_order().split()
        assert sorted(facts[: len(down)]) == down
        assert " ".join(facts[len(down) :]) == up
        assert listed(tree) == "a=running b=running c=running d=running"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@story
async def test_restart_asks_no_breaker_and_waits_for_no_backoff_of_others(
    restart: str, strategy: Strategy
) -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    children = [a.child(restart=restart)]
    async with open_system(children, strategy=strategy, breaker=NeverRestart) as tree:
        for _ in range(5):
            await tree.child("a").restart()
        assert (tree.child("a").value, tree.status) == ("a#6", "running")
        assert trio.current_time() == 0


@story
async def test_restart_of_a_subsystem_restarts_all_of_it() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    sub = Child("sub", SystemSupervisor([a.child(), b.child()]))
    async with open_system([sub, c.child()], strategy="one_for_one") as tree:
        await tree.child("sub").restart()
        assert record.take_order() == "+a1 +b1 +c1 -b1 -a1 +a2 +b2"
        assert (tree.child("sub").incarnation, tree.find("sub/a").incarnation) == (2, 1)


@story
async def test_two_restarts_at_once_never_overlap() -> None:
    record = Record()
    a = Actor(record, "a", [1, *LISTENS], cleanup=1)
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        handle = tree.child("a")
        desk = Desk(record, nursery)
        desk.call("first", handle.restart)
        desk.call("second", handle.restart)
        await trio.sleep(20)
        assert "overlap" not in record.order
        assert (handle.status, a.is_running) == ("running", True)
        assert (record.order.count("first:ok"), record.order.count("second:ok")) == (1, 1)


@story
async def test_a_restart_that_is_stopped_on_its_way_does_not_start() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("again", tree.child("a").restart)
        await trio.sleep(1)
        await tree.stop()
        await trio.sleep(9)
        assert record.facts[:2] == [(0, "+a1"), (3, "-a1")]
        assert a.runs == 1


# how long they are good for


@story
async def test_a_handle_from_start_child_follows_the_restarts_of_its_child() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([], strategy="one_for_one") as tree:
        handle = await tree.start_child(a.child())
        a.die()
        await trio.sleep(1)
        assert (handle.status, handle.value, handle.incarnation) == ("running", "a#2", 2)
        await tree.terminate_child("a")
        again = await tree.restart_child("a")
        assert (handle.value, again.value) == ("a#3", "a#3")


@story
async def test_calls_follow_the_path_over_restarts_of_the_supervisor() -> None:
    record = Record()
    a, d = cast(record, "ad", LISTENS)
    sub = SystemSupervisor([a.child()], breaker=NeverRestart)
    async with open_system([Child("sub", sub)], strategy="one_for_one") as tree:
        inner = tree.child("sub").value
        assert isinstance(inner, SystemHandle)
        leaf = tree.find("sub/a")
        a.die()
        await trio.sleep(1)
        assert tree.child("sub").incarnation == 2
        handle = await inner.start_child(d.child())
        assert handle.path == "system/sub/d"
        await leaf.terminate()
        assert listed(inner) == "a=stopped d=running"
        await inner.restart_child("a")
        assert leaf.value == "a#3"


@story
async def test_wait_ends_with_a_termination_by_call() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child()]) as tree, trio.open_nursery() as nursery:

        async def wait() -> None:
            report = await tree.child("a").wait()
            record(f"{report.incarnation} {type(report.reason).__name__} {report.burden}")

        nursery.start_soon(wait)
        await trio.sleep(2)
        await tree.terminate_child("a")
        await trio.sleep(1)
        assert record.facts == [(0, "+a1"), (2, "-a1"), (2, "1 Aborted aborted")]
        report = tree.child("a").last_report
        assert report is not None
        assert (report.reason, report.started_at, report.ended_at) == (Aborted(), 0, 2)


@story
async def test_wait_started_waits_for_the_start_by_a_call_of_somebody_else() -> None:
    record = Record()
    slow = Actor(record, "s", [4, *STAYS])
    async with open_system([], strategy="one_for_one") as tree, trio.open_nursery() as nursery:
        Desk(record, nursery).call("start", tree.start_child, slow.child())
        await trio.sleep(1)
        assert await tree.child("s").wait_started() == "s#1"
        assert trio.current_time() == 4


@story
async def test_after_the_end_every_call_of_a_handle_is_refused() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child()]) as tree:
        handle = tree.child("a")
    assert await answer(handle.terminate()) == "SupervisorStopped"
    assert await answer(handle.restart()) == "SupervisorStopped"
    assert (handle.status, handle.incarnation) == ("stopped", 1)


@pytest.mark.parametrize("dynamic", [False, True])
@story
async def test_a_restart_of_one_that_is_being_started_for_the_first_time(dynamic: bool) -> None:
    """The call that started it has come to nothing; the child is there all the same."""
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    tree: Any
    pool = open_pool() if dynamic else open_system([], strategy="one_for_one")
    async with pool as tree, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("start", tree.start_child, a.child())
        await trio.sleep(1)
        desk.call("again", tree.child("a").restart)
        await trio.sleep(1)
        assert listed(tree) == "a=starting"
        await trio.sleep(2)
        assert listed(tree) == "a=running"
        assert record.facts[:2] == [(0, "~a1"), (1, "-a1")]
        assert sorted(record.facts[2:4]) == [(1, "start:Interrupted"), (1, "~a2")]
        assert record.facts[4:] == [(3, "+a2"), (3, "again:ok")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_restart_by_handle_and_one_of_its_group_are_one(strategy: Strategy) -> None:
    record = Record()
    a, x = Actor(record, "a"), Actor(record, "x", LISTENS, cleanup=2)
    async with (
        open_system([a.child(), x.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("again", tree.child("x").restart)
        await trio.sleep(1)
        a.die()
        await trio.sleep(9)
        assert record.facts[:4] == [(0, "+a1"), (0, "+x1"), (1, "-a1"), (2, "-x1")]
        assert sorted(record.facts[4:]) == [(2, "+a2"), (2, "+x2"), (2, "again:ok")]


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a_termination_wins_over_a_restart_by_handle(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=2)
    async with (
        open_system([a.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        desk.call("again", tree.child("a").restart)
        await trio.sleep(1)
        desk.call("end", tree.terminate_child, "a")
        await trio.sleep(9)
        assert record.facts[:2] == [(0, "+a1"), (2, "-a1")]
        assert "end:ok" in record.order
        assert [moment for moment, _ in record.facts[2:]] == [2, 2]
        assert (listed(tree), a.runs) == ("a=stopped", 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("state", ["stopped", "done", "restarting"])
@story
async def test_restart_of_one_that_is_down_starts_it_now(state: str, strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    children = [a.child(restart="transient", backoff=FIVE)]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)) as tree:
        handle = tree.child("a")
        if state == "stopped":
            await handle.terminate()
        elif state == "done":
            a.stop()
        else:
            a.die()
        await trio.sleep(1)
        assert handle.status == state
        record.take()
        await handle.restart()
        assert (handle.status, handle.value) == ("running", "a#2")
        await trio.sleep(9)
        assert record.take() == [(1, "+a2")]


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a_restart_by_handle_that_cannot_start_is_tried_again(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, [no_start], LISTENS)
    async with open_system([a.child()], strategy=strategy, breaker=Ledger(record)) as tree:
        await answer(tree.child("a").restart())
        await trio.sleep(1)
        assert record.take_order() == "+a1 -a1 !a2 ?a +a3"
        assert listed(tree) == "a=running"
