"""Corners where several things happen at once."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import STAYS, Actor, cast, no_start
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    Ignore,
    ReusedKey,
    RunTimeout,
    Scope,
    Strategy,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Ledger, Record, story, warnings_of


@story
async def test_a_limit_that_has_struck_stands_though_a_stop_comes_before_the_end() -> None:
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    async with open_system([Child("slow", slow, run_timeout=2)]) as tree:
        handle = tree.child("slow")
        await trio.sleep(4)
    report = handle.last_report
    assert report is not None
    assert isinstance(report.exception, RunTimeout)
    assert report.ended_at == 6


@story
async def test_a_system_that_raises_when_interrupted_from_outside_lets_only_cancelled_out() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [9, *STAYS])

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        try:
            await scope.start(b.child())
        finally:
            raise Boom

    with trio.move_on_after(1) as outside:
        async with open_system(system):
            record("never")
    assert outside.cancelled_caught
    assert record.order == "+a1 ~b1 -b1 -a1"


@story
async def test_a_start_given_up_by_the_system_itself_is_taken_back_first() -> None:
    record = Record()
    a = Actor(record, "a", [9, *STAYS], [1, *STAYS], cleanup=2)

    async def system(scope: Scope) -> None:
        with trio.move_on_after(1):
            await scope.start(a.child())
        record("given up")
        record(f"got {await scope.start(a.child())}")

    async with open_system(system):
        pass
    assert record.facts == [
        (0, "~a1"),
        (3, "-a1"),
        (3, "given up"),
        (3, "~a2"),
        (4, "+a2"),
        (4, "got a#2"),
        (6, "-a2"),
    ]


@story
async def test_a_group_given_up_by_the_system_itself_is_taken_back_in_reverse() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=1)
    b = Actor(record, "b", [9, *STAYS], cleanup=1)

    async def system(scope: Scope) -> None:
        with trio.move_on_after(1):
            await scope.start_together(a.child(), b.child())
        record("given up")

    async with open_system(system) as tree:
        assert tree.which_children() == []
    assert record.facts[2:] == [(2, "-b1"), (3, "-a1"), (3, "given up")]


async def clinging() -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)


@pytest.mark.parametrize("nested", [False, True])
@story
async def test_a_child_stuck_after_an_abort_by_handle_is_named(nested: bool) -> None:
    sub = SystemSupervisor([Child("stuck", clinging)])
    with warnings_of("top") as heard:
        async with open_system([Child("sub", sub, restart="temporary")], name="top") as tree:
            await trio.sleep(1)
            if nested:
                tree.child("sub").value.abort()
            else:
                tree.abort()
            await trio.sleep(9)
    named = [time for time, _, text in heard if "top/sub/stuck" in text and "clinging" in text]
    assert named == [2, 4]


@story
async def test_an_end_during_a_sweep_brings_its_own_wait_along() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", cleanup=3)
    children = [a.child(backoff=tenacity.wait_fixed(9)), b.child(), c.child()]
    async with open_system(children, strategy="rest_for_one"):
        record.take()
        b.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(20)
        facts = record.take()
    assert facts[:3] == [(0, "-b1"), (1, "-a1"), (3, "-c1")]
    assert [fact for _, fact in facts[3:]] == ["+a2", "+b2", "+c2"]
    assert facts[3][0] >= 10


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_one_that_fails_in_the_moment_it_has_started_had_started(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    runs = 0

    async def hasty(*, task_status: trio.TaskStatus[int]) -> None:
        nonlocal runs
        runs += 1
        record(f"hasty{runs}")
        task_status.started(runs)
        if runs == 1:
            raise Boom
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        record(f"got {await scope.start(Child('hasty', hasty))}")
        await scope.start(a.child())

    async with open_system(system, strategy=strategy) as tree:
        await trio.sleep(1)
        assert tree.child("hasty").value == 2
    first = "hasty1 got 1 +a1 "
    if strategy == "one_for_one":
        assert record.order == f"{first}hasty2 -a1"
    else:
        assert record.order == f"{first}-a1 hasty2 got 2 +a2 -a2"


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_ignore_in_a_restart_leaves_the_child_out(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    runs = 0

    async def shy(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            record("ignored")
            raise Ignore
        task_status.started()
        await trio.sleep(1)
        raise Boom

    children = [a.child(), Child("shy", shy), b.child()]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        await trio.sleep(5)
        assert tree.child("shy").status == "ignored"
    again = {
        "one_for_one": "?shy ignored -b1 -a1",
        "rest_for_one": "?shy -b1 ignored +b2 -b2 -a1",
        "one_for_all": "?shy -b1 -a1 +a2 ignored +b2 -b2 -a2",
    }
    assert record.order == again[strategy]


@story
async def test_a_child_that_ends_at_once_over_and_over_can_be_stopped() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def instant() -> None:
        pass

    children = [a.child(), Child("instant", instant)]
    async with open_system(children, strategy="one_for_one", breaker=AlwaysRestart) as tree:
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        await tree.stop()
        assert tree.child("instant").restarts > 1
    assert record.order == "+a1 -a1"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_replay_that_fails_over_and_over_can_be_stopped(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", STAYS, [no_start])
    async with open_system(
        [a.child(), b.child()], strategy=strategy, breaker=AlwaysRestart
    ) as tree:
        b.die()
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        await tree.stop()
    assert b.runs > 2
    downs = [fact for _, fact in record.facts if fact.startswith("-a")]
    assert downs == [f"-a{n + 1}" for n in range(a.runs)]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_system_may_catch_a_failed_start_in_a_replay_too(strategy: Strategy) -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", STAYS, [no_start], STAYS)

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        try:
            await scope.start(b.child())
        except ChildFailure:
            record("without b")
        await scope.start(c.child())

    async with open_system(system, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        b.die()
        await trio.sleep(1)
        again = {
            "rest_for_one": "-b1 ?b -c1 !b2 without b +c2",
            "one_for_all": "-b1 ?b -c1 -a1 +a2 !b2 without b +c2",
        }
        assert record.take_order() == again[strategy]
        c.die()
        await trio.sleep(1)
        assert tree.child("b").status == "running"
        again = {
            "rest_for_one": "-c2 ?c +b3 +c3",
            "one_for_all": "-c2 ?c -a2 +a3 +b3 +c3",
        }
        assert record.take_order() == again[strategy]


@story
async def test_a_group_that_fails_in_a_replay_is_taken_back_whole_and_tried_again() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", [1, *STAYS], [1, no_start], [1, *STAYS])

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        await scope.start_together(b.child(), c.child())

    async with open_system(system, strategy="rest_for_one", breaker=Ledger(record)):
        record.take()
        b.die()
        await trio.sleep(9)
        facts = record.take()
    assert facts[:3] == [(1, "-b1"), (1, "?b"), (1, "-c1")]
    assert sorted(facts[3:5]) == [(1, "+b2"), (1, "~c2")]
    assert sorted(facts[5:8]) == [(2, "!c2"), (2, "-b2"), (2, "?c")]
    assert sorted(facts[8:10]) == [(2, "+b3"), (2, "~c3")]
    assert facts[10:] == [(3, "+c3")]


@story
async def test_a_group_with_a_key_used_twice_starts_nothing() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        for group in ([b.child(), b.child()], [b.child(), a.child()]):
            with pytest.raises(ReusedKey):
                await scope.start_together(*group)
        record(f"got {await scope.start(b.child())}")

    async with open_system(system):
        pass
    assert record.order == "+a1 +b1 got b#1 -b1 -a1"
