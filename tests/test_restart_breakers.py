"""The supervisor's breaker: when it is asked, for whom, and what a refusal does."""

from __future__ import annotations

import pytest
import trio

from spry_py import (
    AlwaysRestart,
    Child,
    RateLimited,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Actor, Boom, Ledger, Record, cast, story, told_by

AFTER = {
    # strategy: what happens after the middle one of three has ended and is to be restarted
    "one_for_one": "?b +b2 -c1 -b2 -a1",
    "rest_for_one": "?b -c1 +b2 +c2 -c2 -b2 -a1",
    "one_for_all": "?b -c1 -a1 +a2 +b2 +c2 -c2 -b2 -a2",
}
WANTED = {
    ("permanent", "normal"): True,
    ("permanent", "failed"): True,
    ("transient", "normal"): False,
    ("transient", "failed"): True,
    ("temporary", "normal"): False,
    ("temporary", "failed"): False,
}


@story
async def test_every_failed_attempt_asks_again_with_the_key_that_failed() -> None:
    record = Record()
    a = Actor(record, "a", fails_starts=(2, 3))
    b = Actor(record, "b")
    async with open_system([a.child(), b.child()], strategy="one_for_one", breaker=Ledger(record)):
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 +b1 -a1 ?a !a2 ?a !a3 ?a +a4 -b1 -a4"


@story
async def test_a_failed_attempt_that_is_refused_escalates_with_the_failure_of_the_start() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", fails_starts=(2, 3))
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            [a.child(), b.child()],
            name="top",
            strategy="one_for_one",
            breaker=Ledger(record, allows=2),
        ):
            b.die()
            await trio.sleep(1)
    assert caught.value.path == "top/b"
    assert str(caught.value.root_cause) == "no start of b3"
    assert record.order == "+a1 +b1 -b1 ?b !b2 ?b !b3 ?b:no -a1"


@story
async def test_each_supervisor_incarnation_has_a_breaker_of_its_own() -> None:
    record = Record()
    (b,) = cast(record, "b")
    ledger = Ledger(record, allows=1)
    sub = Child("sub", SystemSupervisor([b.child()], breaker=ledger))
    async with open_system([sub], breaker=AlwaysRestart) as tree:
        for _ in range(4):
            b.die()
            await trio.sleep(1)
        assert tree.child("sub").incarnation == 3
    assert ledger.made == 3
    assert record.order == "+b1 -b1 ?b +b2 -b2 ?b:no +b3 -b3 ?b +b4 -b4 ?b:no +b5 -b5"


@story
async def test_a_childs_own_breaker_lives_as_long_as_its_supervisor() -> None:
    record = Record()
    a, b = cast(record, "ab")
    own = Ledger(record)
    children = [a.child(breaker=own), b.child(breaker=own)]
    async with open_system(children, breaker=AlwaysRestart):
        for _ in range(2):
            a.die()
            await trio.sleep(1)
        b.die()
        await trio.sleep(1)
    assert own.made == 2


@story
async def test_rate_limited_lets_through_so_many_in_its_window() -> None:
    record = Record()
    (a,) = cast(record, "a")
    error = Boom("one too many")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], breaker=RateLimited(2, 10.0)):
            for _ in range(4):
                a.die()
                await trio.sleep(5)
            a.die()
            await trio.sleep(1)
            a.die(error)
            await trio.sleep(1)
    assert caught.value.root_cause is error
    times = [time for time, fact in record.facts if fact.startswith("+")]
    assert times == [0, 0, 5, 10, 15, 20]


@story
async def test_the_default_breaker_lets_three_through_in_ten_seconds() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()]):
            for _ in range(4):
                a.die()
                await trio.sleep(1)
            record("never")
    assert caught.value.restarts == 3
    assert any(isinstance(error, Boom) for error in told_by(caught.value))
    assert record.order == "+a1 -a1 +a2 -a2 +a3 -a3 +a4 -a4"
