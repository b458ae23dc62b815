"""An exit exception has come out of a child: from there to the root, nothing is restarted any more.

In each story `slow`, started last, holds the root's stop for 4 s. Until then the subsystem that
the exception came out of runs on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast
from callers import Desk, answer, listed
from replays import Wanted
from spry_py import (
    Backoff,
    Child,
    DynamicSupervisor,
    Strategy,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import Ledger, Record, story
from workers import STRATEGIES, calm

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@asynccontextmanager
async def leaving(record: Record, *subs: Any) -> AsyncIterator[list[SystemHandle]]:
    """Subsystems in a root that ends with KeyboardInterrupt; the first of them is used most."""
    slow = Actor(Record(), "slow", LISTENS, cleanup=4)
    children = [Child(f"sub{n}", sub) for n, sub in enumerate(subs)]
    with pytest.raises(KeyboardInterrupt):
        async with open_system([*children, slow.child()], strategy="one_for_one") as tree:
            record.take()
            yield [tree.child(child.key).value for child in children]
            await trio.sleep_forever()


async def stay_and_interrupt() -> None:
    """A step of an actor: it raises KeyboardInterrupt in its clean-up."""
    try:
        await trio.sleep_forever()
    finally:
        raise KeyboardInterrupt


def system(record: Record, strategy: Strategy, *children: Child[Any]) -> SystemSupervisor:
    return SystemSupervisor(children, strategy=strategy, breaker=Ledger(record))


@pytest.mark.parametrize("way", ["sweep", "restart", "changed", "missing", "terminate"])
@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_one_that_raises_it_in_its_clean_up_is_not_started_again(
    strategy: Strategy, way: str
) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    bad = Actor(record, "bad", ["start", stay_and_interrupt], STAYS)
    lines = (a.child(), b.child(), bad.child(), c.child())
    wanted = Wanted(*lines)
    sub = SystemSupervisor(wanted, strategy=strategy, breaker=Ledger(record))
    async with leaving(record, sub) as (handle,):
        if way == "sweep":
            b.die()
            await calm()
            # the sweep is abandoned half-way: what it had not come to runs on
            assert record.take_order() == "-b1 ?b -c1 -bad1"
            assert listed(handle) == "a=running b=stopped bad=stopped c=stopped"
        elif way == "restart":
            assert await answer(handle.child("bad").restart()) == "SupervisorStopped"
            await calm()
            assert record.take_order() == "-bad1"
            assert listed(handle) == "a=running b=running bad=stopped c=running"
        elif way == "terminate":
            await handle.terminate_child("bad")
            await calm()
            assert record.take_order() == "-bad1"
            assert listed(handle) == "a=running b=running bad=stopped c=running"
        else:
            changed = [bad.child("new")] if way == "changed" else []
            wanted.lines = (*lines[:2], *changed, lines[3])
            told = await answer(handle.replay())
            assert told in ("Interrupted", "SupervisorStopped")
            await calm()
            assert record.take_order() == "-bad1"
            assert listed(handle) == "a=running b=running bad=stopped c=running"
    assert trio.current_time() == 4
    assert record.order == ("-a1" if way == "sweep" else "-c1 -b1 -a1")


@pytest.mark.parametrize("end", ["die", "stop"])
@every_strategy
@story
async def test_what_ends_later_stays_down_and_no_breaker_is_asked(
    strategy: Strategy, end: str
) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    sub = system(record, strategy, a.child(), b.child(restart="transient"), c.child())
    async with leaving(record, sub) as (handle,):
        c.die(KeyboardInterrupt())
        await calm()
        (b.die if end == "die" else b.stop)()
        await calm()
        a.die()
        await calm()
        assert record.take_order() == "-c1 -b1 -a1"
        status = "stopped" if end == "die" else "done"
        assert listed(handle) == f"a=stopped b={status} c=stopped"
        assert handle.status == "running"
    assert (record.facts, trio.current_time()) == ([], 4)


@every_strategy
@story
async def test_those_that_wait_for_their_restart_wait_no_more(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    waits = Backoff(lambda _: 1.0)
    sub = system(record, strategy, a.child(), b.child(backoff=waits), c.child())
    async with leaving(record, sub) as (handle,):
        b.die()
        await calm()
        down = {"one_for_one": "", "rest_for_one": " -c1", "one_for_all": " -c1 -a1"}[strategy]
        assert record.take_order() == f"-b1 ?b{down}"
        await handle.start_child(Child("exit", _leave, restart="temporary"))
        await calm()
        status = ["stopped" if f"-{key}1" in down else "running" for key in "ac"]
        assert listed(handle) == f"a={status[0]} b=stopped c={status[1]}"
    assert (
        record.order
        == {"one_for_one": "-c1 -a1", "rest_for_one": "-a1", "one_for_all": ""}[strategy]
    )


async def _leave() -> None:
    await trio.lowlevel.checkpoint()
    raise KeyboardInterrupt


@story
async def test_a_start_under_way_by_a_restart_alone_is_given_up() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS], cleanup=1)
    (b,) = cast(record, "b")
    sub = system(record, "one_for_one", a.child(), b.child())
    async with leaving(record, sub) as (handle,):
        record.take()
        begin = trio.current_time()
        a.die()
        await trio.sleep(2)
        b.die(KeyboardInterrupt())
        await trio.sleep(2)
        assert handle.child("a").status == "stopped"
        facts = [(moment - begin, fact) for moment, fact in record.take()]
        assert facts == [(1, "-a1"), (1, "?a"), (1, "~a2"), (2, "-b1"), (3, "-a2")]
    assert record.facts == []


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_replay_under_way_is_interrupted(strategy: Strategy) -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", [2, *STAYS])
    sub = system(record, strategy, a.child(), b.child(), c.child())
    async with leaving(record, sub) as (handle,):
        b.die()
        await trio.sleep(1)
        record.take()
        a.die(KeyboardInterrupt())
        await calm()
        number = 2 if strategy == "one_for_all" else 1
        assert sorted(record.take_order().split()) == [f"-a{number}", "-b2"]
        assert listed(handle) == "a=stopped b=stopped c=stopped"
        assert handle.status == "running"
    assert record.order == ""


@story
async def test_so_it_is_for_each_supervisor_up_to_the_root_and_for_no_other() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    waits = Backoff(lambda _: 1.0)
    deep = system(record, "one_for_one", a.child())
    middle = system(record, "one_for_one", Child("deep", deep), b.child(backoff=waits), c.child())
    beside = system(record, "one_for_one", d.child(backoff=waits))
    async with leaving(record, middle, beside) as (handle, other):
        b.die()
        d.die()
        await calm()
        # two ends in one tick: which comes first is trio's choice
        assert sorted(record.take_order().split()) == ["-b1", "-d1", "?b", "?d"]
        a.die(KeyboardInterrupt())
        await calm()
        c.die()
        await trio.sleep(2)
        assert record.take_order() == "-a1 -c1 +d2"
        assert listed(handle) == "deep=running b=stopped c=stopped"
        assert listed(other) == "d=running"
    assert record.order == "-d2"


@story
async def test_a_dynamic_supervisor_forgets_those_that_do_not_come_back() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    pool = DynamicSupervisor(max_running=3, breaker=Ledger(record))
    async with leaving(record, pool) as (handle,), trio.open_nursery() as nursery:
        waits = Backoff(lambda _: 1.0)
        for actor in (a, b, c):
            await handle.start_child(actor.child(backoff=waits))
        b.die()
        await calm()
        Desk(record, nursery).call("d", handle.start_child, d.child())
        await calm()
        record.take()
        await trio.sleep(1)
        await calm()
        # its turn comes when somebody makes room
        assert handle.child("b").status == "waiting"
        a.die(KeyboardInterrupt())
        await calm()
        assert listed(handle) == "c=running d=running"
        assert record.take_order() == "-a1"
    assert sorted(record.order.split()) == ["-c1", "-d1"]


@story
async def test_calls_are_served_but_for_those_that_ask_for_a_restart() -> None:
    record = Record()
    a, b, c, x = cast(record, "abcx")
    sub = system(record, "one_for_all", a.child(), b.child(), c.child())
    async with leaving(record, sub) as (handle,):
        c.die(KeyboardInterrupt())
        await calm()
        record.take()
        await handle.start_child(x.child())
        await handle.terminate_child("b")
        await handle.restart_child("b")
        await handle.terminate_child("b")
        await handle.delete_child("b")
        assert record.take_order() == "+x1 -b1 +b2 -b2"
        assert await answer(handle.replay()) == "SupervisorStopped"
        assert await answer(handle.child("a").restart()) == "SupervisorStopped"
        with pytest.raises(SupervisorStopped, match=r"system/sub0.*the program ends"):
            await handle.child("a").restart()
        assert (record.take(), listed(handle)) == ([], "a=running c=stopped x=running")
    assert record.order == "-x1 -a1"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_of_those_that_no_system_has_declared_the_next_is_not_begun(
    strategy: Strategy,
) -> None:
    record = Record()
    a, y = cast(record, "ay")

    x = Actor(record, "x", STAYS, ["start", KeyboardInterrupt], STAYS)
    async with leaving(record, system(record, strategy, a.child())) as (sub,):
        for actor in (x, y):
            await sub.start_child(actor.child())
        record.take()
        a.die()
        await trio.sleep(1)
        assert record.take_order() == "-a1 ?a -y1 -x1 +a2 +x2 -x2"
        assert listed(sub) == "a=running x=stopped y=stopped"
    assert record.take() == [(4, "-a2")]
