"""Replays that callers ask for and that fail: told to them, and then tried again."""

from __future__ import annotations

import pytest
import trio

from callers import answer, listed
from replays import Script, every_strategy, soon
from spry_py import (
    Backoff,
    Child,
    ChildFailure,
    NonChildFailure,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Actor, Boom, Ledger, Record, Strategy, cast, story


@pytest.mark.parametrize(
    ("strategy", "after"),
    [
        ("one_for_one", "!b1 ?b b:ChildFailure +b2(a1) +c1"),
        ("rest_for_one", "!b1 ?b b:ChildFailure +b2(a1) +c1"),
        ("one_for_all", "!b1 -a1 ?b b:ChildFailure +a2 +b2(a2) +c1"),
    ],
)
@story
async def test_a_failed_start_is_raised_and_then_tried_again(
    strategy: Strategy, after: str
) -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", fails_starts=(1,))
    script = Script((a, ""))
    async with open_system(script, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        script.lines = ((a, ""), (b, "a"), (c, ""))
        record(f"b:{await answer(tree.replay())}")
        await soon()
        facts = record.take_order().split()
        facts.remove("b:ChildFailure")
        assert facts == [fact for fact in after.split() if fact != "b:ChildFailure"]
        assert listed(tree) == "a=running b=running c=running"


@every_strategy
@story
async def test_the_failure_has_the_cause_and_the_next_attempt_waits_for_the_backoff(
    strategy: Strategy,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", fails_starts=(2,))
    wait = Backoff(lambda _: 3.0)
    script = Script((a, ""), b.child(backoff=wait))
    async with open_system(script, strategy=strategy) as tree:
        record.take()
        script.lines = ((a, ""), b.child("new", backoff=wait))
        with pytest.raises(ChildFailure) as caught:
            await tree.replay()
        assert isinstance(caught.value.__cause__, Boom)
        assert trio.current_time() == 0
        await trio.sleep(9)
        assert (3, "+b3(new)") in record.facts
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_the_next_attempt_goes_on_with_the_changes(strategy: Strategy) -> None:
    """What lies behind the child that failed has not been looked at yet."""
    record = Record()
    a = Actor(record, "a", fails_starts=(2,))
    (b,) = cast(record, "b")
    script = Script(a.child(), b.child())
    async with open_system(script, strategy=strategy) as tree:
        script.lines = (a.child("new"), b.child("new"))
        assert await answer(tree.replay()) == "ChildFailure"
        await soon()
        assert record.take_order().endswith("+b2(new)")
        assert (a.runs, b.runs) == (3, 2)
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_a_refused_attempt_escalates(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", fails_starts=(1,))
    script = Script((a, ""))
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(script, strategy=strategy, breaker=Ledger(record, 0)) as tree:
            script.lines = ((a, ""), (b, ""))
            record(await answer(tree.replay()))
            await trio.sleep_forever()
    assert caught.value.path == "system/b"
    assert sorted(record.order.split()) == sorted(["+a1", "!b1", "?b:no", "ChildFailure", "-a1"])


@every_strategy
@story
async def test_a_system_function_that_raises_is_a_failed_attempt(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    script = Script((a, ""), (b, ""))
    async with open_system(script, strategy=strategy, breaker=Ledger(record)) as tree:
        script.error = Boom("in the system")
        with pytest.raises(NonChildFailure) as caught:
            await tree.replay()
        assert caught.value.__cause__ is script.error
        script.error = None
        await soon()
        assert record.order.split().count("?a") == 1
        assert listed(tree) == "a=running b=running"


class Faulty:
    """A breaker that cannot answer."""

    def __call__(self) -> Faulty:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        raise LookupError(key)


@every_strategy
@story
async def test_a_breaker_that_raises_about_a_replay_escalates(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", fails_starts=(1,))
    script = Script((a, ""))
    inner = SystemSupervisor(script, strategy=strategy, breaker=Faulty())
    async with open_system([Child("inner", inner, restart="temporary")]) as tree:
        handle = tree.child("inner").value
        script.lines = ((a, ""), (b, ""))
        child = tree.child("inner")
        assert await answer(handle.replay()) == "ChildFailure"
        report = await child.wait()
        assert type(report.exception).__name__ == "UnrecoverableFailure"
        assert record.order == "+a1 !b1 -a1"
