"""Group restarts: what goes down, what is declared again, and which values are handed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from spry_py import (
    Child,
    RateLimited,
    Scope,
    Strategy,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Boom, Ledger, Record, story


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_new_value_reaches_every_later_sibling(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")

    async def system(scope: Scope) -> None:
        one = await scope.start(a.child())
        two = await scope.start(b.child(one))
        three = await scope.start(c.child(one, two))
        await scope.start(d.child(one, two, three))

    async with open_system(system, strategy=strategy):
        assert record.take_order() == "+a1 +b1(a#1) +c1(a#1,b#1) +d1(a#1,b#1,c#1)"
        b.die()
        await trio.sleep(1)
        again = {
            "rest_for_one": "-b1 -d1 -c1 +b2(a#1) +c2(a#1,b#2) +d2(a#1,b#2,c#2)",
            "one_for_all": "-b1 -d1 -c1 -a1 +a2 +b2(a#2) +c2(a#2,b#2) +d2(a#2,b#2,c#2)",
        }[strategy]
        assert record.take_order() == again


class Connection:
    """A value that goes bad when its owner dies."""

    def __init__(self) -> None:
        self.is_open = True

    def ask(self) -> str:
        assert self.is_open, "asked a connection whose owner is dead"
        return "answer"


@asynccontextmanager
async def _connected() -> AsyncIterator[Connection]:
    connection = Connection()
    try:
        yield connection
    finally:
        connection.is_open = False


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_nobody_is_left_with_a_value_whose_owner_is_dead(strategy: Strategy) -> None:
    asked: list[int] = []

    async def owner(*, task_status: trio.TaskStatus[Connection]) -> None:
        async with _connected() as connection:
            task_status.started(connection)
            await trio.sleep(4.5)
            raise Boom

    async def user(number: int, connection: Connection) -> None:
        while True:
            connection.ask()
            asked.append(number)
            await trio.sleep(1)

    async def system(scope: Scope) -> None:
        connection = await scope.start(Child("owner", owner))
        users = [Child(f"user{n}", user, n, connection) for n in range(3)]
        await scope.start(users[0])
        await scope.start_together(*users[1:])

    async with open_system(system, strategy=strategy, breaker=RateLimited(3, 1.0)) as tree:
        await trio.sleep(20.5)
        infos = {info.key: info.restarts for info in tree.which_children()}
    assert infos["owner"] == 4
    assert [asked.count(number) for number in range(3)] == [23, 23, 23]


@story
async def test_one_for_one_does_not_run_the_system_again() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        record("system")
        value = await scope.start(a.child())
        await scope.start(b.child(value))

    async with open_system(system, strategy="one_for_one"):
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(1)
    assert record.order == "system +a1 +b1(a#1) -a1 +a2 -b1 +b2(a#1) -b2 -a2"


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@pytest.mark.parametrize("key", ["a", "b", "c"])
@story
async def test_one_termination_asks_the_breaker_once(key: str, strategy: Strategy) -> None:
    record = Record()
    actors = {actor.key: actor for actor in cast(record, "abc")}
    children = [actor.child() for actor in actors.values()]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)):
        actors[key].die()
        await trio.sleep(1)
    asked = [fact for fact in record.order.split() if fact.startswith("?")]
    assert asked == [f"?{key}"]


@story
async def test_keys_kept_alive_but_not_declared_by_the_replay_are_shut_down_after_it() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        await scope.start(a.child())
        if runs == 1:
            await scope.start(b.child())
            await scope.start(c.child())
        await scope.start(d.child())
        record("declared")

    async with open_system(system, strategy="rest_for_one") as tree:
        assert record.take_order() == "+a1 +b1 +c1 +d1 declared"
        d.die()
        await trio.sleep(1)
        assert record.take_order() == "-d1 +d2 declared -c1 -b1"
        assert [info.key for info in tree.which_children()] == ["a", "d"]
    assert record.order == "-d2 -a1"


@story
async def test_a_replay_may_declare_children_anew() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        await scope.start(a.child())
        if runs == 2:
            await scope.start(b.child())
        await scope.start(c.child())

    async with open_system(system, strategy="rest_for_one"):
        c.die()
        await trio.sleep(1)
    assert record.order == "+a1 +c1 -c1 +b1 +c2 -c2 -b1 -a1"


@story
async def test_a_key_keeps_its_place_in_the_order() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, strategy="one_for_one") as tree:
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(1)
        assert [info.key for info in tree.which_children()] == ["a", "b", "c"]
    assert record.order == "+a1 +b1 +c1 -a1 +a2 -b1 +b2 -c1 -b2 -a2"


@story
async def test_a_failing_attempt_of_one_for_all_tears_down_what_it_had_started() -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", STAYS, [no_start], [no_start], STAYS)
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, breaker=Ledger(record)):
        assert record.take_order() == "+a1 +b1 +c1"
        c.die()
        await trio.sleep(1)
        again = "-c1 ?c -b1 -a1 +a2 !b2 -a2 ?b +a3 !b3 -a3 ?b +a4 +b4 +c2"
        assert record.order == again or record.order == again.replace("-a2 ?b", "?b -a2").replace(
            "-a3 ?b", "?b -a3"
        )


@story
async def test_a_failing_attempt_of_rest_for_one_keeps_it_and_goes_on_from_there() -> None:
    record = Record()
    a, b, d = cast(record, "abd")
    c = Actor(record, "c", STAYS, [no_start], [no_start], STAYS)

    async def system(scope: Scope) -> None:
        one = await scope.start(a.child())
        two = await scope.start(b.child(one))
        three = await scope.start(c.child(two))
        await scope.start(d.child(three))

    async with open_system(system, strategy="rest_for_one", breaker=Ledger(record)):
        record.take()
        b.die()
        await trio.sleep(1)
        again = "-b1 ?b -d1 -c1 +b2(a#1) !c2 ?c !c3 ?c +c4(b#2) +d2(c#4)"
        assert record.take_order() == again


@story
async def test_a_replay_whose_system_raises_is_a_failed_attempt() -> None:
    record = Record()
    (a,) = cast(record, "a")
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        await scope.start(a.child())
        if runs == 2:
            record("raises")
            raise Boom("in the second run")

    async with open_system(system, name="top"):
        a.die()
        await trio.sleep(1)
        assert runs == 3
    assert record.order == "+a1 -a1 +a2 raises -a2 +a3 -a3"


@story
async def test_a_replay_whose_system_always_raises_escalates_with_its_error() -> None:
    record = Record()
    (a,) = cast(record, "a")
    error = Boom("from the second run on")
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        await scope.start(a.child())
        if runs > 1:
            raise error

    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(system, breaker=RateLimited(2, 10)):
            a.die()
            await trio.sleep(1)
    assert caught.value.root_cause is error
    assert runs == 3


@story
async def test_ends_seen_together_are_one_restart_from_the_earliest() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    children = [a.child(), b.child(), c.child(), d.child()]
    async with open_system(children, strategy="rest_for_one"):
        record.take()
        d.die()
        b.die()
        await trio.sleep(1)
        facts = record.take_order().split()
        assert sorted(facts[:2]) == ["-b1", "-d1"]
        assert facts[2:] == ["-c1", "+b2", "+c2", "+d2"]


@story
async def test_ends_seen_together_are_each_classified_by_their_own_type() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    children = [
        a.child(),
        b.child(),
        c.child(restart="temporary"),
        d.child(restart="transient"),
    ]
    async with open_system(children, strategy="rest_for_one") as tree:
        record.take()
        d.stop()
        c.die()
        b.die()
        await trio.sleep(1)
        assert [info.key for info in tree.which_children()] == ["a", "b", "d"]
        assert tree.child("d").status == "done"
        assert record.take_order().endswith("+b2")
    assert record.order == "-b2 -a1"


@story
async def test_an_end_during_the_sweep_of_a_sibling_joins_that_restart() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", cleanup=3)
    async with open_system([a.child(), b.child(), c.child()], strategy="rest_for_one"):
        record.take()
        b.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(9)
        assert record.take() == [
            (0, "-b1"),
            (1, "-a1"),
            (3, "-c1"),
            (3, "+a2"),
            (3, "+b2"),
            (3, "+c2"),
        ]


@story
async def test_an_end_during_a_replay_is_decided_after_it() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", [2, *STAYS])
    async with open_system([a.child(), b.child(), c.child()], strategy="rest_for_one"):
        record.take()
        b.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(9)
        assert record.take() == [
            (2, "-b1"),
            (2, "-c1"),
            (2, "+b2"),
            (2, "~c2"),
            (3, "-a1"),
            (4, "+c2"),
            (4, "-c2"),
            (4, "-b2"),
            (4, "+a2"),
            (4, "+b3"),
            (4, "~c3"),
            (6, "+c3"),
        ]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_a_subsystem_is_replayed_like_any_other_child(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")

    async def system(scope: Scope) -> None:
        value = await scope.start(a.child())
        sub = SystemSupervisor([b.child(value), c.child(value)])
        await scope.start(Child("sub", sub))
        await scope.start(d.child(value))

    async with open_system(system, strategy=strategy):
        record.take()
        a.die()
        await trio.sleep(1)
        if strategy == "one_for_one":
            assert record.take_order() == "-a1 +a2"
        else:
            assert record.take_order() == "-a1 -d1 -c1 -b1 +a2 +b2(a#2) +c2(a#2) +d2(a#2)"
