"""Replays that callers ask for and that go wrong before they have changed anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from callers import Desk, answer, listed
from replays import Wanted, every_strategy
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    ChildFailure,
    Ignore,
    Interrupted,
    NonChildFailure,
    ReusedKey,
    Scope,
    StartupFailure,
    Strategy,
    SystemHandle,
    open_system,
)
from stories import Boom, Ledger, Record, story
from workers import calm

Way = Callable[[Scope, Callable[[str], Child[object]]], Awaitable[object]]


async def raises_first(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    raise Boom("bad config")


async def raises_last(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    for key in "ab":
        await scope.start(child(key))
    raise Boom("bad config")


async def leaves_itself_out(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    raise Ignore


async def was_interrupted_elsewhere(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    raise Interrupted("the start of a child of another tree")


async def uses_a_key_twice(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    for key in "aa":
        await scope.start(child(key))


async def declares_a_bad_child(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    await scope.start(child("a"))
    await scope.start(child("bad"))


async def declares_it_together(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    await scope.start(child("a"))
    await scope.start_together(child("new"), child("bad"))


async def takes_a_start_back(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    with trio.CancelScope() as within:
        within.cancel()
        await scope.start(child("slow"))
    raise Boom("bad config")


async def has_one_left_out(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    await scope.start(child("shy"))
    raise Boom("bad config")


async def goes_on_without_it(scope: Scope, child: Callable[[str], Child[object]]) -> None:
    with pytest.raises(ChildFailure):
        await scope.start(child("bad"))
    raise Boom("bad config")


WAYS: dict[Way, type[StartupFailure]] = {
    raises_first: NonChildFailure,
    raises_last: NonChildFailure,
    leaves_itself_out: NonChildFailure,
    was_interrupted_elsewhere: NonChildFailure,
    uses_a_key_twice: ReusedKey,
    declares_a_bad_child: ChildFailure,
    declares_it_together: ChildFailure,
    takes_a_start_back: NonChildFailure,
    has_one_left_out: NonChildFailure,
    goes_on_without_it: NonChildFailure,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@every_strategy
@story
async def test_it_goes_to_the_caller_alone(strategy: Strategy, way: Way) -> None:
    record = Record()
    a, b, x = cast(record, "abx")
    actors = {
        "a": a,
        "b": b,
        "new": Actor(Record(), "new", [0.5, *STAYS]),
        "slow": Actor(Record(), "slow", [0.5, *STAYS]),
        "bad": Actor(Record(), "bad", [1, no_start]),
        "shy": Actor(Record(), "shy", [Ignore]),
    }
    is_bad = False

    async def system(scope: Scope) -> None:
        if is_bad:
            await way(scope, lambda key: actors[key].child())
        else:
            for key in "ab":
                await scope.start(actors[key].child())

    async with open_system(system, strategy=strategy, breaker=Ledger(record, 1)) as tree:
        await tree.start_child(x.child())
        before = tree.snapshot()
        is_bad = True
        with pytest.raises(StartupFailure) as caught:
            await tree.replay()
        await trio.sleep(9)
        assert type(caught.value) is WAYS[way]
        assert tree.snapshot() == before
        assert record.take_order() == "+a1 +b1 +x1"
        # and what comes later is what it would have been
        is_bad = False
        await tree.replay()
        assert record.take() == []
        b.die()
        await calm()
        assert record.take_order().startswith("-b1 ?b")
        assert listed(tree) == "a=running b=running x=running"
    assert not any(actor.is_running for actor in actors.values())


@pytest.mark.parametrize("fails", ["the system", "the start", "the start of what it becomes"])
@every_strategy
@story
async def test_a_waiting_restart_keeps_its_due_time(strategy: Strategy, fails: str) -> None:
    record = Record()
    (a,) = cast(record, "a")
    second = [no_start] if "start" in fails else STAYS
    b = Actor(record, "b", STAYS, second, STAYS)
    slow = Backoff(lambda _: 100.0)
    lines: tuple[Child[Any], ...] = (a.child(), b.child(backoff=slow))
    wanted = Wanted(*lines)
    if strategy == "one_for_all":
        # with all of them down, only a start that fails at once changes nothing
        lines = wanted.lines = (b.child(backoff=slow),)
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree:
        b.die()
        await trio.sleep(1)
        record.take()
        before = listed(tree)
        if fails == "the system":
            wanted.error, wanted.lines = Boom("bad config"), lines[:-1]
        elif fails != "the start":
            wanted.lines = (*lines[:-1], b.child("new"))
        failure = "NonChildFailure" if fails == "the system" else "ChildFailure"
        assert await answer(tree.replay()) == failure
        assert listed(tree) == before
        assert tree.child("b").status == "restarting"
        wanted.error, wanted.lines = None, lines
        tried = [(1, "!b2")] if "start" in fails else []
        number = 3 if tried else 2
        await trio.sleep(50)
        assert record.facts == tried
        await trio.sleep(100)
        assert record.take() == [*tried, (100, f"+b{number}")]
        await trio.sleep(500)
        assert record.take() == []


@story
async def test_a_restart_that_becomes_due_while_it_goes_wrong_begins_then() -> None:
    record = Record()
    b = Actor(record, "b", [4, *STAYS], [4, no_start], [4, *STAYS])
    wanted = Wanted(b.child(backoff=Backoff(lambda _: 3.0)))
    async with open_system(wanted, strategy="one_for_one", breaker=Ledger(record)) as tree:
        b.die()
        await trio.sleep(1)
        record.take()
        assert await answer(tree.replay()) == "ChildFailure"
        await trio.sleep(9)
        assert record.take() == [(5, "~b2"), (9, "!b2"), (9, "~b3"), (13, "+b3")]


@story
async def test_of_those_started_together_the_one_that_waited_goes_on_waiting() -> None:
    record = Record()
    (a,) = cast(record, "a")
    bad = Actor(record, "bad", [1, no_start])
    slow = a.child(backoff=Backoff(lambda _: 100.0))
    is_bad = False

    async def system(scope: Scope) -> None:
        if is_bad:
            await scope.start_together(slow, bad.child())
        else:
            await scope.start(slow)

    async with open_system(system, strategy="one_for_one", breaker=Ledger(record)) as tree:
        a.die()
        await trio.sleep(1)
        record.take()
        is_bad = True
        assert await answer(tree.replay()) == "ChildFailure"
        assert listed(tree) == "a=restarting"
        await trio.sleep(500)
        told = record.take()
        assert sorted(told[:2]) == [(1, "+a2"), (1, "~bad1")]
        assert told[2:] == [(2, "!bad1"), (2, "-a2"), (100, "+a3")]


@pytest.mark.parametrize("was", ["stopped", "done", "ignored"])
@every_strategy
@story
async def test_one_that_is_down_stays_what_it_was(strategy: Strategy, was: str) -> None:
    record = Record()
    a = Actor(record, "a", [Ignore] if was == "ignored" else STAYS, STAYS)
    (b,) = cast(record, "b")
    wanted = Wanted(a.child(restart="transient"), b.child())
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree:
        if was == "stopped":
            await tree.terminate_child("a")
        elif was == "done":
            a.stop()
            await calm()
        before = listed(tree)
        assert before == f"a={was} b=running"
        wanted.lines = (Child("a", _broken), b.child())
        assert await answer(tree.replay()) == "ChildFailure"
        assert listed(tree) == before
        record.take()
        wanted.lines = (a.child(restart="transient"), b.child())
        await tree.replay()
        assert listed(tree) == ("a=done b=running" if was == "done" else "a=running b=running")


async def _broken() -> None:
    raise Boom("cannot start")


@every_strategy
@story
async def test_a_child_added_by_a_call_stays_one(strategy: Strategy) -> None:
    record = Record()
    a, x = cast(record, "ax")
    wanted = Wanted((a, ""))
    async with open_system(wanted, strategy=strategy) as tree:
        await tree.start_child(x.child())
        wanted.lines, wanted.error = ((a, ""), x.child()), Boom("bad config")
        assert await answer(tree.replay()) == "NonChildFailure"
        wanted.lines, wanted.error = ((a, ""),), None
        await tree.replay()
        assert (record.order, listed(tree)) == ("+a1 +x1", "a=running x=running")


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
@story
async def test_an_added_child_that_does_not_come_back_is_no_change(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    x = Actor(record, "x", STAYS, [no_start], STAYS)
    async with open_system(Wanted((a, "")), strategy=strategy, breaker=Ledger(record)) as tree:
        await tree.start_child(x.child(backoff=Backoff(lambda _: 100.0)))
        x.die()
        await trio.sleep(1)
        record.take()
        assert await answer(tree.replay()) == "ChildFailure"
        assert listed(tree) == "a=running x=restarting"
        await trio.sleep(500)
        assert record.take() == [(1, "!x2"), (100, "+x3")]


@story
async def test_a_restart_under_way_that_it_waited_for_is_decided_as_without_it() -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS], [3, no_start], [3, *STAYS])
    (b,) = cast(record, "b")
    wanted = Wanted((a, ""), (b, ""))
    async with open_system(wanted, strategy="one_for_one", breaker=Ledger(record)) as tree:
        record.take()
        a.die()
        await trio.sleep(1)
        assert await answer(tree.replay()) == "ChildFailure"
        await trio.sleep(9)
        begin = 3.0
        assert record.take() == [
            (begin, "-a1"),
            (begin, "?a"),
            (begin, "~a2"),
            (begin + 3, "!a2"),
            (begin + 3, "?a"),
            (begin + 3, "~a3"),
            (begin + 6, "+a3"),
        ]
        assert listed(tree) == "a=running b=running"


@pytest.mark.parametrize("by", ["terminate", "restart"])
@story
async def test_one_that_a_call_is_stopping_becomes_what_the_call_wants(by: str) -> None:
    record = Record()
    a = Actor(record, "a", STAYS, [no_start], STAYS, cleanup=3)
    (b,) = cast(record, "b")
    wanted = Wanted((a, ""), (b, ""))

    def call(tree: SystemHandle) -> Callable[[], Awaitable[object]]:
        child = tree.child("a")
        return child.terminate if by == "terminate" else child.restart

    async with (
        open_system(wanted, strategy="one_for_one", breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        Desk(record, nursery).call("call", call(tree))
        await trio.sleep(1)
        assert await answer(tree.replay()) == "ChildFailure"
        await trio.sleep(9)
        assert listed(tree) == f"a={'stopped' if by == 'terminate' else 'running'} b=running"
        again = [(6, "+a3")] if by == "restart" else []
        facts = [fact for fact in record.take() if fact[1] != "call:ok"]
        assert facts == [(3, "-a1"), (6, "!a2"), *again]


@pytest.mark.parametrize(
    ("strategy", "after"), [("rest_for_one", "+b2"), ("one_for_all", "+a2(new) +b2")]
)
@story
async def test_the_restart_that_waited_makes_no_changes_of_its_own(
    strategy: Strategy, after: str
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    config: list[str] | None = []

    async def system(scope: Scope) -> None:
        if config is None:
            raise Boom("bad config")
        await scope.start(a.child(*config))
        await scope.start(b.child(backoff=Backoff(lambda _: 100.0)))

    async with open_system(system, strategy=strategy, breaker=AlwaysRestart) as tree:
        b.die()
        await trio.sleep(1)
        record.take()
        config = None
        assert await answer(tree.replay()) == "NonChildFailure"
        assert record.take() == []
        config = ["new"]
        await trio.sleep(100)
        assert record.take_order() == after


@pytest.mark.parametrize("goes_on", [False, True], ids=["raises", "goes on"])
@every_strategy
@story
async def test_what_was_declared_together_and_never_begun_is_let_go_of(
    strategy: Strategy, goes_on: bool
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    x = Actor(record, "x", [9, *STAYS])
    calls = 0

    async def system(scope: Scope) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await scope.start(a.child())
            return
        with trio.move_on_after(2):
            # the one that a call has begun is waited for first
            new = Child("new", trio.sleep_forever)
            await scope.start_together(a.child(), new, x.child())
        if not goes_on:
            raise Boom("bad config")

    async with open_system(system, strategy=strategy) as tree, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("start", tree.start_child, x.child())
        await calm()
        desk.call("replay", tree.replay)
        await trio.sleep(1)
        assert tree.child("new").status == "starting"
        for name in ("wait", "wait_started"):
            desk.call(name, getattr(tree.child("new"), name))
        await trio.sleep(9)
        told = [fact for _, fact in record.take()]
        assert told[:2] == ["+a1", "~x1"]
        assert sorted(told[2:]) == [
            "-x1",
            "replay:ok" if goes_on else "replay:NonChildFailure",
            "start:Interrupted",
            "wait:SupervisorStopped",
            "wait_started:SupervisorStopped",
        ]
        assert listed(tree) == "a=running"


@pytest.mark.parametrize("was", ["stopped", "done", "ignored"])
@every_strategy
@story
async def test_those_who_wait_for_one_that_was_tried_hear_that_it_is_down_again(
    strategy: Strategy, was: str
) -> None:
    record = Record()
    a = Actor(record, "a", [Ignore] if was == "ignored" else STAYS, STAYS)
    wanted = Wanted(a.child(restart="transient"))
    async with (
        open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        if was == "stopped":
            await tree.terminate_child("a")
        elif was == "done":
            a.stop()
            await calm()
        bad = Actor(record, "a", [2, no_start], [2, *STAYS])
        wanted.lines = (bad.child(),)
        desk = Desk(record, nursery)
        desk.call("replay", tree.replay)
        await trio.sleep(1)
        record.take()
        for name in ("wait", "wait_started"):
            desk.call(name, getattr(tree.child("a"), name))
        await trio.sleep(5)
        facts = record.take()
        assert facts.pop(0) == (2, "!a1")
        started = "ok" if was == "ignored" else "SupervisorStopped"
        assert sorted(facts) == [
            (2, "replay:ChildFailure"),
            (2, "wait:ok"),
            (2, f"wait_started:{started}"),
        ]
        assert listed(tree) == f"a={was}"


@every_strategy
@story
async def test_a_temporary_one_that_left_itself_out_may_come_with_the_next(
    strategy: Strategy,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    shy = Actor(record, "shy", [Ignore], STAYS)
    wanted = Wanted(a.child())
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree:
        wanted.lines = (a.child(), shy.child(restart="temporary"))
        wanted.error = Boom("bad config")
        assert await answer(tree.replay()) == "NonChildFailure"
        assert listed(tree) == "a=running"
        wanted.error = None
        await tree.replay()
        assert record.take_order() == "+a1 /shy1 +shy2"
        assert listed(tree) == "a=running shy=running"
