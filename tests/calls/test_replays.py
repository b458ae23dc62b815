"""Calls from outside while a group of children is restarted."""

from __future__ import annotations

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from callers import Desk, listed, status_of
from spry_py import (
    Child,
    Strategy,
    SystemSupervisor,
    open_system,
)
from stories import Ledger, Record, story

# during a restart of a group


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_calls_during_a_replay_are_served_after_it_in_their_order(
    strategy: Strategy,
) -> None:
    record = Record()
    a, c, d = cast(record, "acd")
    b = Actor(record, "b", [3, *STAYS])
    async with (
        open_system([a.child(), b.child(), c.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        b.die()
        await trio.sleep(1)
        assert status_of(tree, "b") == "starting"
        record.take()
        begin = trio.current_time()
        desk.call("start d", tree.start_child, d.child())
        await trio.sleep(0.25)
        desk.call("end c", tree.terminate_child, "c")
        await trio.sleep(0.5)
        assert (tree.count_children().specs, tree.child("b").status) == (3, "starting")
        assert record.take() == []
        await trio.sleep(5)
        assert listed(tree) == "a=running b=running c=stopped d=running"
        facts = record.take()
        assert {moment for moment, _ in facts} == {begin + 2}
        order = [fact for _, fact in facts]
        assert sorted(order) == sorted(["+b2", "+c2", "+d1", "start d:ok", "-c2", "end c:ok"])
        assert order[:2] == ["+b2", "+c2"]


@story
async def test_calls_during_a_sweep_are_served() -> None:
    """One that is terminated before its replay comes back with it, as one terminated earlier."""
    record = Record()
    a, b, d = cast(record, "abd")
    c = Actor(record, "c", cleanup=4)
    async with (
        open_system([a.child(), b.child(), c.child()], strategy="one_for_all") as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        a.die()
        await trio.sleep(1)
        record.take()
        desk.call("start d", tree.start_child, d.child())
        desk.call("end b", tree.terminate_child, "b")
        await trio.sleep(9)
        assert status_of(tree, "d") == "running"
        assert sorted(fact for _, fact in record.facts if fact.endswith("ok")) == [
            "end b:ok",
            "start d:ok",
        ]
        assert (a.is_running, c.is_running, d.is_running) == (True, True, True)
        assert status_of(tree, "b") == ("running" if b.is_running else "stopped")
        assert "overlap" not in record.order


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_stop_during_a_replay_turns_away_the_calls_that_wait(strategy: Strategy) -> None:
    record = Record()
    a, d = cast(record, "ad")
    b = Actor(record, "b", [3, *STAYS])
    async with (
        open_system([a.child(), b.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        b.die()
        await trio.sleep(1)
        record.take()
        desk.call("start d", tree.start_child, d.child())
        desk.call("end a", tree.terminate_child, "a")
        desk.call("again a", tree.restart_child, "a")
        desk.call("forget a", tree.delete_child, "a")
        await trio.sleep(1)
        begin = trio.current_time()
        await tree.stop()
        await trio.sleep(1)
        answers = [fact for fact in record.take() if ":" in fact[1]]
        assert sorted(answers) == [
            (begin, "again a:SupervisorStopped"),
            (begin, "end a:SupervisorStopped"),
            (begin, "forget a:SupervisorStopped"),
            (begin, "start d:SupervisorStopped"),
        ]
        assert d.runs == 0


@story
async def test_an_escalation_turns_away_the_calls_that_wait() -> None:
    record = Record()
    a, d = cast(record, "ad")
    b = Actor(record, "b", [3, *STAYS], [3, no_start], [3, *STAYS])
    sub = SystemSupervisor([a.child(), b.child()], breaker=Ledger(record, allows=1))
    async with (
        open_system([Child("sub", sub, restart="temporary")]) as tree,
        trio.open_nursery() as nursery,
    ):
        inner = tree.child("sub").value
        desk = Desk(record, nursery)
        a.die()
        await trio.sleep(1)
        desk.call("start d", inner.start_child, d.child())
        await trio.sleep(5)
        assert [fact for fact in record.facts if ":" in fact[1]] == [
            (6, "?b:no"),
            (6, "start d:SupervisorStopped"),
        ]
        assert d.runs == 0
