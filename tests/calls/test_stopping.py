"""Calls from outside while a supervisor stops, between its incarnations, and after its end."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, listed
from spry_py import (
    Child,
    ChildFailure,
    NeverRestart,
    Strategy,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Ledger, Record, story
from workers import STRATEGIES

FIVE = tenacity.wait_fixed(5)


async def all_calls(tree: SystemHandle, present: str, new: Child[object]) -> list[str]:
    """The answers to one call of each kind."""
    child = tree.child(present)
    return [
        await answer(tree.start_child(new)),
        await answer(tree.terminate_child(present)),
        await answer(tree.restart_child(present)),
        await answer(tree.delete_child(present)),
        await answer(child.terminate()),
        await answer(child.restart()),
    ]


STOPPED = ["SupervisorStopped"] * 6


# while stopping, between incarnations, after the end


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_while_it_stops_and_afterwards_every_call_is_refused_at_once(
    strategy: Strategy,
) -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=4)
    b, d = cast(record, "bd")
    async with (
        open_system([a.child(), b.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        nursery.start_soon(tree.stop)
        await trio.sleep(1)
        assert listed(tree) == "a=stopping b=stopped"
        assert await all_calls(tree, "b", d.child()) == STOPPED
        assert trio.current_time() == 1
        await trio.sleep(9)
        assert await all_calls(tree, "a", d.child()) == STOPPED
    assert await all_calls(tree, "b", d.child()) == STOPPED
    assert listed(tree) == "a=stopped b=stopped"
    assert record.order == "-b1 -a1"


@story
async def test_a_stop_takes_along_what_is_being_started_by_a_call() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [5, *STAYS])
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        desk.call("start b", tree.start_child, b.child())
        await trio.sleep(1)
        await tree.stop()
        await trio.sleep(9)
        assert record.facts[:3] == [(0, "+a1"), (0, "~b1"), (1, "-b1")]
        assert sorted(record.facts[3:]) == [(1, "-a1"), (1, "start b:Interrupted")]


@story
async def test_a_stop_does_not_lose_who_waits_for_an_end() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        desk.call("end a", tree.terminate_child, "a")
        await trio.sleep(1)
        await tree.stop()
        await trio.sleep(9)
        assert record.facts == [(0, "+a1"), (3, "-a1"), (3, "end a:ok")]


@story
async def test_between_incarnations_every_call_is_refused_and_afterwards_served() -> None:
    record = Record()
    a, b, d, e = cast(record, "abde")
    sub = SystemSupervisor([a.child(), b.child()], breaker=NeverRestart)
    async with open_system([Child("sub", sub, backoff=FIVE)], name="top") as tree:
        inner = tree.child("sub").value
        await inner.start_child(d.child())
        record.take()
        b.die()
        await trio.sleep(1)
        assert tree.child("sub").status == "restarting"
        with pytest.raises(SupervisorStopped, match="'top/sub'"):
            await inner.start_child(e.child())
        assert await all_calls(inner, "a", e.child()) == STOPPED
        await trio.sleep(5)
        assert listed(inner) == "a=running b=running"
        assert (await inner.start_child(d.child())).incarnation == 1
        await inner.terminate_child("a")
        assert listed(inner) == "a=stopped b=running d=running"
    assert record.order == "-b1 -d1 -a1 +a2 +b2 +d2 -a2 -d2 -b2"


@story
async def test_calls_on_a_subsystem_that_boots_again_wait_until_it_is_up() -> None:
    record = Record()
    a, d = cast(record, "ad")
    b = Actor(record, "b", [3, *STAYS])
    sub = SystemSupervisor([a.child(), b.child()], breaker=NeverRestart)
    async with (
        open_system([Child("sub", sub)], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        inner = tree.child("sub").value
        desk = Desk(record, nursery)
        a.die()
        await trio.sleep(1)
        record.take()
        assert tree.child("sub").status == "starting"
        desk.call("start d", inner.start_child, d.child())
        desk.call("end a", inner.terminate_child, "a")
        await trio.sleep(1)
        assert record.take() == []
        await trio.sleep(5)
        assert {moment for moment, _ in record.facts} == {6}
        assert sorted(record.order.replace("start d", "start").replace("end a", "end").split()) == [
            "+b2",
            "+d1",
            "-a2",
            "end:ok",
            "start:ok",
        ]
        assert listed(inner) == "a=stopped b=running d=running"


@story
async def test_calls_on_a_subsystem_whose_boot_fails_are_refused() -> None:
    record = Record()
    a, d = cast(record, "ad")
    b = Actor(record, "b", [3, *STAYS], [3, no_start], [3, *STAYS])
    sub = SystemSupervisor([a.child(), b.child()], breaker=NeverRestart)
    async with trio.open_nursery() as nursery:
        with pytest.raises(TooManyRestarts):
            async with open_system(
                [Child("sub", sub)], strategy="one_for_one", breaker=Ledger(record, allows=1)
            ) as tree:
                inner = tree.child("sub").value
                a.die()
                await trio.sleep(1)
                record.take()
                Desk(record, nursery).call("start d", inner.start_child, d.child())
                await trio.sleep_forever()
    assert sorted(record.facts) == sorted(
        [(6, "!b2"), (6, "-a2"), (6, "?sub:no"), (6, "start d:SupervisorStopped")]
    )


@story
async def test_a_subsystem_that_is_gone_says_so() -> None:
    record = Record()
    a, d = cast(record, "ad")
    children = [Child("sub", SystemSupervisor([a.child()]))]
    async with open_system(children, strategy="one_for_one") as tree:
        inner = tree.child("sub").value
        leaf = tree.find("sub/a")
        await tree.terminate_child("sub")
        assert await all_calls(inner, "a", d.child()) == STOPPED
        await tree.delete_child("sub")
        assert await all_calls(inner, "a", d.child()) == STOPPED
        assert await answer(leaf.terminate()) == "SupervisorStopped"
        assert (leaf.status, listed(inner), inner.status) == ("stopped", "a=stopped", "stopped")
        await tree.start_child(children[0])
        assert await answer(inner.start_child(d.child())) == "ok"
        assert tree.find("sub/d").value == "d#1"


@story
async def test_a_supervisor_that_has_shut_itself_down_refuses_calls() -> None:
    record = Record()
    a, d = cast(record, "ad")
    async with open_system(
        [a.child(restart="temporary", significant=True)], auto_shutdown="any_significant"
    ) as tree:
        a.stop()
        await tree.wait()
        assert await answer(tree.start_child(d.child())) == "SupervisorStopped"
        assert await answer(tree.terminate_child("a")) == "SupervisorStopped"
    assert record.order == "+a1 -a1"


@story
async def test_one_that_is_stopped_while_it_boots_was_interrupted() -> None:
    """For whoever starts it: it has been told to stop by its own handle, not by them."""
    record = Record()
    slow = Actor(record, "s", [5, *STAYS])
    sub = Child("sub", SystemSupervisor([slow.child()]))
    async with open_system([], strategy="one_for_one") as tree, trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(ChildFailure) as caught:
                await tree.start_child(sub)
            record(type(caught.value.__cause__).__name__)

        nursery.start_soon(start)
        await trio.sleep(1)
        await tree.system("sub").stop()
        await trio.sleep(9)
    assert record.facts == [(0, "~s1"), (1, "-s1"), (1, "Interrupted")]


@story
async def test_one_that_is_aborted_while_it_boots_is_stopping() -> None:
    record = Record()
    slow = Actor(record, "s", [5, *STAYS], cleanup=5)
    sub = Child("sub", SystemSupervisor([slow.child()]))
    async with open_system([], strategy="one_for_one") as tree, trio.open_nursery() as nursery:
        Desk(record, nursery).call("sub", tree.start_child, sub)
        await trio.sleep(1)
        assert tree.child("sub").status == "starting"
        tree.system("sub").abort()
        await trio.sleep(1)
        assert tree.child("sub").status == "stopping"
    assert record.facts == [(0, "~s1"), (6, "-s1"), (6, "sub:ChildFailure")]
