"""Replays that callers ask for and that fail after a change: told to them, and then tried again.

One that fails before it has changed anything is told in test_replay_call_costs_nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from callers import answer, listed
from replays import Wanted, every_strategy
from spry_py import (
    Backoff,
    Child,
    ChildFailure,
    NonChildFailure,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    UnrecoverableFailure,
    open_system,
)
from spry_py.events import Event, RestartRefused, RestartScheduled
from stories import Boom, Ledger, Record, story
from workers import calm


@pytest.mark.parametrize(
    ("strategy", "after"),
    [
        ("one_for_one", "-a1 +a2(new) !b1 ?b b:ChildFailure +b2(a#2) +c1"),
        ("rest_for_one", "-a1 +a2(new) !b1 ?b b:ChildFailure +b2(a#2) +c1"),
        ("one_for_all", "-a1 +a2(new) !b1 -a2 ?b b:ChildFailure +a3(new) +b2(a#3) +c1"),
    ],
)
@story
async def test_a_failed_start_is_raised_and_then_tried_again(
    strategy: Strategy, after: str
) -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", [no_start], STAYS)
    wanted = Wanted(a.child())
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        wanted.lines = (a.child("new"), (b, "a"), (c, ""))
        record(f"b:{await answer(tree.replay())}")
        await calm()
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
    b = Actor(record, "b", STAYS, [no_start], STAYS)
    wait = Backoff(lambda _: 3.0)
    wanted = Wanted((a, ""), b.child(backoff=wait))
    async with open_system(wanted, strategy=strategy) as tree:
        record.take()
        wanted.lines = ((a, ""), b.child("new", backoff=wait))
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
    a = Actor(record, "a", STAYS, [no_start], STAYS)
    (b,) = cast(record, "b")
    wanted = Wanted(a.child(), b.child())
    async with open_system(wanted, strategy=strategy) as tree:
        wanted.lines = (a.child("new"), b.child("new"))
        assert await answer(tree.replay()) == "ChildFailure"
        await calm()
        assert record.take_order().endswith("+b2(new)")
        assert (a.runs, b.runs) == (3, 2)
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_a_refused_attempt_escalates(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", [no_start], STAYS)
    wanted = Wanted(a.child())
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(wanted, strategy=strategy, breaker=Ledger(record, 0)) as tree:
            wanted.lines = (a.child("new"), (b, ""))
            record(await answer(tree.replay()))
            await trio.sleep_forever()
    assert caught.value.path == "system/b"
    facts = ["+a1", "-a1", "+a2(new)", "!b1", "?b:no", "ChildFailure", "-a2"]
    assert sorted(record.order.split()) == sorted(facts)


@every_strategy
@story
async def test_a_system_function_that_raises_is_a_failed_attempt(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    wanted = Wanted((a, ""))
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record), name="top") as tree:
        wanted.lines, wanted.error = ((a, ""), (b, "")), Boom("in the system")
        with pytest.raises(NonChildFailure) as caught:
            await tree.replay()
        assert caught.value.__cause__ is wanted.error
        wanted.error = None
        await calm()
        assert [fact for fact in record.order.split() if "?" in fact] == ["?top"]
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_a_child_that_the_system_function_does_without_is_not_blamed(
    strategy: Strategy,
) -> None:
    """What ends the attempt is what the breaker is asked about."""
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", [no_start], STAYS)
    version = 1

    async def system(scope: Scope) -> None:
        await scope.start(a.child(version))
        if version == 2 and not b.runs:
            with pytest.raises(ChildFailure):
                await scope.start(b.child())
            raise Boom("of its own")

    async with open_system(system, name="top", strategy=strategy, breaker=Ledger(record)) as tree:
        version = 2
        assert await answer(tree.replay()) == "NonChildFailure"
        await calm()
        assert [fact for fact in record.order.split() if "?" in fact] == ["?top"]
        assert listed(tree) == "a=running"


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("strategy", "by"),
    [
        ("one_for_one", "call"),
        ("rest_for_one", "call"),
        ("one_for_all", "call"),
        ("rest_for_one", "restart"),
        ("one_for_all", "restart"),
    ],
)
@story
async def test_what_failed_is_named_the_same_everywhere(
    strategy: Strategy, by: str, nested: bool
) -> None:
    """The breaker, the events and the error name the supervisor, and agree on the count."""
    record = Record()
    a, b = cast(record, "ab")
    wanted = Wanted((a, ""))
    breaker = Ledger(record, 3)
    sub = SystemSupervisor(wanted, name="own", strategy=strategy, breaker=breaker)
    path = "top/own" if nested else "own"
    top = SystemSupervisor([Child("own", sub, restart="temporary")], name="top")
    told: list[Event] = []
    errors: list[BaseException] = []
    try:
        async with open_system(top if nested else sub) as tree, trio.open_nursery() as nursery:
            nursery.start_soon(_listen, tree, told.append)
            await calm()
            handle = tree.child("own").value if nested else tree
            wanted.error = Boom("bad config")
            wanted.lines = ((a, ""), (b, "")) if by == "call" else ((a, ""),)
            if by == "call":
                assert await answer(handle.replay()) == "NonChildFailure"
            else:
                a.die()
            report = await handle.wait()
            assert report.exception is not None
            errors.append(report.exception)
            nursery.cancel_scope.cancel()
    except TooManyRestarts as error:
        errors.append(error)
    failed = 4 if by == "call" else 3
    first = [] if by == "call" else ["a"]
    asked = [fact for fact in record.order.split() if "?" in fact]
    assert asked == [*(f"?{key}" for key in first), *["?own"] * (failed - 1), "?own:no"]
    decided = [one for one in told if isinstance(one, RestartScheduled | RestartRefused)]
    assert [one.path for one in decided] == [*(f"{path}/{key}" for key in first), *[path] * failed]
    last = errors[-1]
    assert isinstance(last, TooManyRestarts)
    assert (last.path, last.restarts, last.root_cause) == (path, failed, wanted.error)
    assert f"the system function of {path!r} failed ({failed} attempts in a row)" in str(last)
    assert last.__cause__ is wanted.error


async def _listen(tree: SystemHandle, tell: Callable[[Event], object]) -> None:
    async with tree.events() as events:
        async for event in events:
            tell(event)


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
    b = Actor(record, "b", [no_start], STAYS)
    wanted = Wanted(a.child())
    inner = SystemSupervisor(wanted, strategy=strategy, breaker=Faulty())
    async with open_system([Child("inner", inner, restart="temporary")]) as tree:
        handle = tree.child("inner").value
        wanted.lines = (a.child("new"), (b, ""))
        child = tree.child("inner")
        assert await answer(handle.replay()) == "ChildFailure"
        report = await child.wait()
        assert type(report.exception).__name__ == "UnrecoverableFailure"
        assert record.order == "+a1 -a1 +a2(new) !b1 -a2"


@every_strategy
@story
async def test_a_breaker_that_raises_about_a_system_function_is_told_of_the_supervisor(
    strategy: Strategy,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    wanted = Wanted(a.child())
    inner = SystemSupervisor(wanted, strategy=strategy, breaker=Faulty())
    async with open_system([Child("inner", inner, restart="temporary")], name="top") as tree:
        child = tree.child("inner")
        wanted.lines, wanted.error = (a.child("new"),), Boom("bad config")
        assert await answer(child.value.replay()) == "NonChildFailure"
        failure = (await child.wait()).exception
        assert isinstance(failure, UnrecoverableFailure)
        assert failure.path == "top/inner"
        assert isinstance(failure.__cause__, LookupError)
        assert failure.__cause__.args == ("inner",)


@story
async def test_the_next_attempt_takes_along_what_waits_and_what_is_on_its_way() -> None:
    """After a change the reload is a restart, which no call waits for."""
    record = Record()
    waits, bad = Actor(record, "w"), Actor(record, "bad", [no_start], STAYS)
    late = Actor(record, "late", [3, *STAYS], [3, no_start], [3, *STAYS])
    wanted = Wanted((late, ""), waits.child(backoff=Backoff(lambda _: 100.0)))
    async with open_system(wanted, strategy="one_for_one", breaker=Ledger(record)) as tree:
        three = Backoff(lambda _: 3.0)
        wanted.lines = (*wanted.lines, Child("new", trio.sleep_forever), bad.child(backoff=three))
        assert await answer(tree.replay()) == "ChildFailure"
        record.take()
        waits.die()
        await trio.sleep(1)
        late.die()
        await trio.sleep(99)
        assert record.take() == [
            (3, "-w1"),
            (3, "?w"),
            (4, "-late1"),
            (4, "?late"),
            (4, "~late2"),
            # the attempt is due, and waits for what is being started already
            (7, "!late2"),
            (7, "?late"),
            (7, "~late3"),
            (10, "+late3"),
            (10, "+w2"),
            (10, "+bad2"),
        ]
        await trio.sleep(500)
        assert record.take() == []
