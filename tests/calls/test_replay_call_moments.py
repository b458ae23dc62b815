"""Replays that callers ask for while something else is going on."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from callers import Desk, answer, busy, listed
from replays import Wanted, every_strategy
from spry_py import (
    Backoff,
    Child,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    current_context,
    open_system,
)
from stories import Ledger, Record, story
from workers import calm


@every_strategy
@story
async def test_a_replay_cures_what_waits_for_a_backoff(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    slow = Backoff(lambda _: 100.0)
    lines = (a.child(), b.child(backoff=slow), c.child())
    async with open_system(Wanted(*lines), strategy=strategy) as tree:
        b.die()
        await trio.sleep(1)
        record.take()
        await tree.replay()
        up = {"one_for_one": "+b2", "rest_for_one": "+b2 +c2", "one_for_all": "+a2 +b2 +c2"}
        assert record.take() == [(1, fact) for fact in up[strategy].split()]
        await trio.sleep(500)
        assert record.take() == []


@every_strategy
@story
async def test_one_that_waits_for_a_backoff_and_is_missing_never_comes_back(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    wanted = Wanted(a.child(), b.child(backoff=Backoff(lambda _: 100.0)))
    async with open_system(wanted, strategy=strategy) as tree:
        b.die()
        await trio.sleep(1)
        wanted.lines = (a.child(),)
        await tree.replay()
        await trio.sleep(500)
        assert (b.runs, listed(tree)) == (1, "a=running")


@story
async def test_a_child_that_is_being_restarted_is_waited_for() -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS])
    (b,) = cast(record, "b")
    async with open_system(Wanted((a, ""), (b, "a")), strategy="one_for_one") as tree:
        record.take()
        a.die()
        await trio.sleep(1)
        await tree.replay()
        assert record.take_order() == "-a1 ~a2 +a2 -b1 +b2(a#2)"


# What a call does with a child when a replay comes, what takes three seconds, and how it goes on.
UNDER_WAY = [
    ("restart_child", {"starts": 3.0}, ["~a2", "+a2"]),
    ("terminate_child", {"cleanup": 3.0}, ["-a1", "+a2"]),
]


@pytest.mark.parametrize(("call", "takes", "facts"), UNDER_WAY)
@every_strategy
@story
async def test_a_child_that_a_call_starts_or_ends_is_waited_for(
    strategy: Strategy, call: str, takes: dict[str, float], facts: list[str]
) -> None:
    record = Record()
    run = [takes["starts"], *STAYS] if "starts" in takes else STAYS
    a = Actor(record, "a", run, cleanup=takes.get("cleanup", 0))
    (b,) = cast(record, "b")
    async with (
        open_system(Wanted((a, ""), (b, "a")), strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        if call == "restart_child":
            await tree.terminate_child("a")
        record.take()
        Desk(record, nursery).call("call", getattr(tree, call), "a")
        await trio.sleep(1)
        await tree.replay()
        told = record.take_order().split()
        told.remove("call:ok")
        assert told == [*facts, "-b1", "+b2(a#2)"]


@pytest.mark.parametrize("cancels", [False, True])
@every_strategy
@story
async def test_a_start_that_a_replay_waits_for_may_come_to_nothing(
    strategy: Strategy, cancels: bool
) -> None:
    """It fails, which is a failure of the replay, too; or its caller takes it back."""
    record = Record()
    a = Actor(record, "a", [3, *STAYS] if cancels else [3, no_start], [3, *STAYS])
    (b,) = cast(record, "b")
    wanted = Wanted((b, ""))
    async with (
        open_system(wanted, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        scope = Desk(record, nursery).call("start", tree.start_child, a.child())
        await trio.sleep(1)
        wanted.lines = ((b, ""), (a, ""))
        Desk(record, nursery).call("replay", tree.replay)
        await trio.sleep(1)
        if cancels:
            scope.cancel()
        await trio.sleep(9)
        facts = [fact for _, fact in record.facts if ":" in fact]
        told = ["start:ChildFailure", "replay:ChildFailure"]
        assert sorted(facts) == sorted(["start:cancelled", "replay:ok"] if cancels else told)
        # it was the caller's to start, and nothing has changed
        assert listed(tree) == ("b=running a=running" if cancels else "b=running")
    assert (a.is_running, b.is_running) == (False, False)


async def calls_when_started_again(
    record: Record, seconds: float, *, task_status: trio.TaskStatus[None]
) -> None:
    """A child that has its supervisor terminate `b` when its second start has taken so long."""
    context = current_context()
    if context.incarnation > 1:
        await trio.sleep(seconds)
        record(f"terminate:{await answer(context.system.terminate_child('b'))}")
    task_status.started()
    await trio.sleep_forever()


@story
async def test_a_start_that_a_replay_waits_for_cannot_call_the_supervisor() -> None:
    record = Record()
    (b,) = cast(record, "b")
    lines = (b.child(), Child("caller", calls_when_started_again, record, 2))
    async with (
        open_system(Wanted(*lines), strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        await tree.terminate_child("caller")
        nursery.start_soon(tree.restart_child, "caller")
        await trio.sleep(1)
        await tree.replay()
        assert record.take() == [(2, "terminate:WouldDeadlock")]


@pytest.mark.parametrize("stays", [True, False])
@every_strategy
@story
async def test_one_that_is_being_restarted_by_hand_when_it_changes_or_goes(
    strategy: Strategy, stays: bool
) -> None:
    record = Record()
    (b,) = cast(Record(), "b")
    a = Actor(record, "a", cleanup=3)
    wanted = Wanted(a.child(), b.child())
    async with (
        open_system(wanted, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("again", tree.child("a").restart)
        await trio.sleep(1)
        wanted.lines = (a.child("new"), b.child()) if stays else (b.child(),)
        await tree.replay()
        await trio.sleep(9)
        told = record.take_order().split()
        told.remove("again:ok" if stays else "again:SupervisorStopped")
        assert told == ["+a1", "-a1", *(["+a2(new)"] if stays else [])]
        assert listed(tree) == ("a=running b=running" if stays else "b=running")


@every_strategy
@story
async def test_a_stop_interrupts_it(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", [5, *STAYS])
    wanted = Wanted((a, ""))
    async with (
        open_system(wanted, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        wanted.lines = ((a, ""), (b, ""))
        desk = Desk(record, nursery)
        desk.call("one", tree.replay)
        await trio.sleep(1)
        desk.call("two", tree.replay)
        await trio.sleep(1)
        await tree.stop()
        desk.call("three", tree.replay)
        await trio.sleep(9)
        answers = [fact for fact in record.order.split() if ":" in fact]
        assert sorted(answers) == [
            "one:Interrupted",
            "three:SupervisorStopped",
            "two:SupervisorStopped",
        ]


@every_strategy
@story
async def test_an_abort_answers_it(strategy: Strategy) -> None:
    record = Record()
    b = Actor(record, "b", [5, *STAYS])
    wanted = Wanted()
    async with (
        open_system(wanted, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        wanted.lines = ((b, ""),)
        Desk(record, nursery).call("one", tree.replay)
        await trio.sleep(1)
        tree.abort()
        await trio.sleep(9)
        assert record.facts[0] == (0, "~b1")
        assert sorted(fact for _, fact in record.facts[1:]) in (
            ["-b1", "one:SupervisorStopped"],
            ["-b1", "one:Interrupted"],
        )


@every_strategy
@story
async def test_two_at_once_are_both_answered(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    wanted = Wanted()
    async with open_system(wanted, strategy=strategy) as tree, trio.open_nursery() as nursery:
        wanted.lines = ((a, ""),)
        desk = Desk(record, nursery)
        desk.call("r", tree.replay)
        desk.call("r", tree.replay)
        await trio.sleep(1)
        wanted.lines = (a.child("new"),)
        desk.call("last", tree.replay)
        await trio.sleep(9)
        starts = [fact for fact in record.facts if ":" not in fact[1]]
        assert starts == [(0, "~a1"), (2, "+a1"), (2, "-a1"), (2, "~a2"), (4, "+a2(new)")]
        answers = [fact for fact in record.facts if ":" in fact[1]]
        assert answers[-1] == (4, "last:ok")
        assert [fact for _, fact in answers] == ["r:ok", "r:ok", "last:ok"]


@every_strategy
@story
async def test_a_cancelled_caller_leaves_nothing_half_changed(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    (b,) = cast(record, "b")
    wanted = Wanted()
    async with open_system(wanted, strategy=strategy) as tree:
        wanted.lines = ((a, ""), (b, "a"))
        with trio.move_on_after(1):
            await tree.replay()
        assert trio.current_time() == 1
        await trio.sleep(9)
        assert record.facts == [(0, "~a1"), (2, "+a1"), (2, "+b1(a#1)")]
        with trio.CancelScope() as scope:
            scope.cancel()
            wanted.lines = ()
            await tree.replay()
        await trio.sleep(9)
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_the_system_function_cannot_ask_for_it(strategy: Strategy) -> None:
    record = Record()
    known: list[SystemHandle] = []

    async def system(scope: Scope) -> None:
        for handle in known:
            record(await answer(handle.replay()))

    async with open_system(system, strategy=strategy) as tree:
        known.append(tree)
        await tree.replay()
        assert record.take_order() == "WouldDeadlock"


@every_strategy
@story
async def test_a_nested_system_is_replayed_alone(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    wanted = Wanted((b, ""))
    inner = SystemSupervisor(wanted, strategy=strategy)
    async with open_system([a.child(), Child("inner", inner)], strategy=strategy) as tree:
        record.take()
        wanted.lines = ((c, ""),)
        await tree.replay()
        assert record.take() == []
        await tree.child("inner").value.replay()
        assert record.take_order() == "+c1 -b1"


@story
async def test_the_breaker_of_a_changed_child_is_the_new_one() -> None:
    record = Record()
    (a,) = cast(record, "a")
    wanted = Wanted(a.child(breaker=Ledger(record, 1), on_unrecoverable="discard"))
    async with open_system(wanted, strategy="one_for_one") as tree:
        a.die()
        await calm()
        wanted.lines = (a.child(breaker=Ledger(record, 1), on_unrecoverable="discard"),)
        await tree.replay()
        record.take()
        a.die()
        await calm()
        assert record.take_order() == "-a3 ?a +a4"


@story
async def test_an_end_that_is_still_to_be_decided_about_is_not_decided_twice() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    (x,) = cast(record, "x")
    wanted = Wanted()
    async with open_system(wanted, strategy="one_for_one") as tree:
        await tree.start_child(x.child())
        wanted.lines = ((a, ""),)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.replay)
            await trio.sleep(1)
            x.die()
        await calm()
        assert record.order == "+x1 ~a1 -x1 +a1 +x2"
        assert listed(tree) == "a=running x=running"


@every_strategy
@story
async def test_a_temporary_one_that_is_being_terminated_stays_away(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", cleanup=3)
    wanted = Wanted(a.child(restart="temporary"))
    async with open_system(wanted, strategy=strategy) as tree, trio.open_nursery() as nursery:
        Desk(record, nursery).call("end", tree.terminate_child, "a")
        await trio.sleep(1)
        await tree.replay()
        await calm()
        assert (a.runs, listed(tree)) == (1, "")


@every_strategy
@story
async def test_a_changed_child_whose_on_termination_runs_is_started_at_once(
    strategy: Strategy,
) -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def dawdle(report: TerminationReport) -> None:
        with trio.move_on_after(3) as within:
            await trio.sleep_forever()
        record(f"told of a{report.incarnation} {within.cancelled_caught}")

    wanted = Wanted(a.child(on_termination=dawdle))
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree:
        a.die()
        await trio.sleep(1)
        record.take()
        wanted.lines = (a.child("new"),)
        await tree.replay()
        assert record.take() == [(1, "+a2(new)")]
        await trio.sleep(9)
        assert record.take() == []
        assert listed(tree) == "a=running"


@story
async def test_an_attempt_that_lies_behind_a_replay_in_the_mailbox_is_not_made_any_more() -> None:
    """The start of a restart has failed, and a replay has come, while the supervisor was busy."""
    record = Record()
    a = Actor(record, "a", [2, *STAYS], [2, no_start], [2, *STAYS])
    async with (
        open_system(Wanted(a.child()), strategy="one_for_one", breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        await tree.start_child(busy(record))
        a.die()
        await trio.sleep(1)
        desk.call("terminate", tree.terminate_child, "busy")
        await trio.sleep(2)
        assert record.take()[-1] == (4, "!a2")
        desk.call("replay", tree.replay)
        await trio.sleep(99)
        facts = record.take()
        assert sorted(facts[:3]) == [(8, "?a"), (8, "terminate:ok"), (8, "~a3")]
        assert sorted(facts[3:]) == [(10, "+a3"), (10, "replay:ok")]
        assert listed(tree) == "a=running busy=stopped"


@story
async def test_a_replay_cures_a_restart_that_is_due_behind_it() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=3)
    (b,) = cast(record, "b")
    async with (
        open_system(Wanted((a, ""), (b, "a")), strategy="one_for_all") as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        b.die()
        await trio.sleep(1)
        Desk(record, nursery).call("replay", tree.replay)
        await trio.sleep(9)
        facts = record.take()
        facts.remove((3, "replay:ok"))
        assert facts == [(0, "-b1"), (3, "-a1"), (3, "+a2"), (3, "+b2(a#2)")]


@every_strategy
@story
async def test_a_child_whose_caller_has_gone_stays_once_it_is_declared(strategy: Strategy) -> None:
    record = Record()
    (b,) = cast(record, "b")
    calling = trio.CancelScope()
    runs = 0

    async def late(*, task_status: trio.TaskStatus[int]) -> None:
        nonlocal runs
        runs += 1
        # in the very moment in which it has started the caller is not there any more
        calling.cancel()
        task_status.started(runs)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    child = Child("late", late)
    wanted = Wanted(b.child())
    async with (
        open_system(wanted, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):

        async def call() -> None:
            with calling:
                await tree.start_child(child)

        nursery.start_soon(call)
        await trio.sleep(1)
        assert listed(tree) == "b=running late=stopping"
        wanted.lines = (b.child(), child)
        await tree.replay()
        assert trio.current_time() == 3
        assert listed(tree) == "b=running late=running"
        assert tree.child("late").value == 2


@story
async def test_what_is_refused_since_it_could_only_come_too_late_is_not_done_then() -> None:
    """The call lies behind a replay, which begins to wait for the start of the caller."""
    record = Record()
    (b,) = cast(record, "b")
    lines = (b.child(), Child("caller", calls_when_started_again, record, 3))
    async with (
        open_system(Wanted(*lines), strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        await tree.start_child(busy(Record()))
        await tree.terminate_child("caller")
        desk.call("again", tree.restart_child, "caller")
        await trio.sleep(1)
        desk.call("busy", tree.terminate_child, "busy")
        await trio.sleep(1)
        desk.call("replay", tree.replay)
        await trio.sleep(9)
        told = record.take()
        assert told[0] == (0, "+b1")
        # five seconds after it was asked the supervisor is free again
        assert sorted(told[1:]) == [
            (6, "again:ok"),
            (6, "busy:ok"),
            (6, "replay:ok"),
            (6, "terminate:WouldDeadlock"),
        ]
        assert listed(tree) == "b=running caller=running busy=stopped"


@pytest.mark.parametrize("way", ["waits", "runs"])
@story
async def test_one_that_is_to_become_another_has_not_ended_for_good(
    way: str,
) -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [5, *STAYS])
    wanted: list[Any] = []

    async def system(scope: Scope) -> None:
        await scope.start_together(b.child(), a.child(*wanted, backoff=Backoff(lambda _: 100.0)))

    async with (
        open_system(system, strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        if way == "waits":
            a.die()
        b.die()
        await trio.sleep(1)
        wanted.append("new")
        record.take()
        desk.call("replay", tree.replay)
        await trio.sleep(1)
        desk.call("wait", tree.child("a").wait)
        assert record.take() == ([] if way == "waits" else [(6, "-a1")])
        desk.call("wait_started", tree.child("a").wait_started)
        assert tree.child("a").status == "restarting"
        await trio.sleep(9)
        assert sorted(record.take()) == [
            (10, "+a2(new)"),
            (10, "+b2"),
            (10, "replay:ok"),
            (10, "wait_started:ok"),
        ]
        nursery.cancel_scope.cancel()
