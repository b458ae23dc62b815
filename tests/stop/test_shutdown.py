"""How children are stopped: in reverse, one after another, each with its own time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from spry_py import Aborted, Child, Normal, Strategy, SystemSupervisor, current_context, open_system
from stories import Ledger, Record, story


def stubborn(record: Record, key: str, listens: bool = True) -> Callable[..., Awaitable[None]]:
    """A child that listens when asked to settle, and then does not end until it is aborted."""

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        context = current_context()
        record(f"+{key}")
        task_status.started()
        try:
            await context.settled()
            record(f"{key} asked")
            await trio.sleep_forever()
        finally:
            record(f"-{key}")

    return child


@story
async def test_each_child_has_its_own_time_from_the_moment_it_is_asked() -> None:
    record = Record()
    children = [
        Child("a", stubborn(record, "a"), shutdown=3),
        Child("b", stubborn(record, "b")),
        Child("c", stubborn(record, "c"), shutdown=1),
    ]
    async with open_system(children) as tree:
        handles = [tree.child(key) for key in "abc"]
        await trio.sleep(1)
    assert record.facts == [
        (0, "+a"),
        (0, "+b"),
        (0, "+c"),
        (1, "c asked"),
        (2, "-c"),
        (2, "b asked"),
        (7, "-b"),
        (7, "a asked"),
        (10, "-a"),
    ]
    reports = [handle.last_report for handle in handles]
    assert [report and (report.reason, report.burden) for report in reports] == [
        (Aborted(), "aborted")
    ] * 3


@story
async def test_a_child_that_ends_in_time_is_not_aborted() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS, cleanup=2)
    async with open_system([a.child(), b.child()]) as tree:
        handles = [tree.child(key) for key in "ab"]
    assert record.facts == [(0, "+a1"), (0, "+b1"), (2, "-b1"), (4, "-a1")]
    reports = [handle.last_report for handle in handles]
    assert [report and (report.reason, report.burden) for report in reports] == [
        (Normal(None), "settling")
    ] * 2


@story
async def test_one_that_never_listened_is_aborted_at_once_however_long_its_time() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=2)
    async with open_system([a.child(shutdown=50)]):
        await trio.sleep(1)
    assert record.facts == [(0, "+a1"), (3, "-a1")]


@story
async def test_shutdown_zero_aborts_at_once_also_one_that_listens() -> None:
    record = Record()
    async with open_system([Child("a", stubborn(record, "a"), shutdown=0)]) as tree:
        handle = tree.child("a")
        await trio.sleep(1)
    assert record.facts[:1] == [(0, "+a")]
    assert record.facts[-1:] == [(1, "-a")]
    assert handle.last_report is not None
    assert handle.last_report.burden == "aborted"


@story
async def test_shutdown_infinity_waits_for_ever() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS)

    async def slow() -> None:
        await current_context().settled()
        await trio.sleep(10_000)
        record("slow ends")

    async with open_system([a.child(), Child("slow", slow, shutdown=math.inf)]):
        await trio.sleep(1)
    assert record.facts == [(0, "+a1"), (10_001, "slow ends"), (10_001, "-a1")]


@story
async def test_cancel_on_settle_makes_a_child_a_listener_only_where_it_is_used() -> None:
    record = Record()

    async def late_listener() -> None:
        await trio.sleep(5)
        context = current_context()
        with context.cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(1)
        record("settled")

    for stop_at in (1, 10):
        async with open_system([Child("late", late_listener)]) as tree:
            handle = tree.child("late")
            await trio.sleep(stop_at)
        record(f"{handle.last_report and handle.last_report.burden}")
    assert record.facts == [(1, "aborted"), (12, "settled"), (12, "settling")]


@story
async def test_settled_returns_and_cancel_on_settle_cancels_at_once_when_already_asked() -> None:
    record = Record()

    async def child() -> None:
        context = current_context()
        with context.cancel_on_settle():
            await trio.sleep_forever()
        assert context.is_settling
        await context.settled()
        record("settled again")
        with context.cancel_on_settle() as scope:
            await trio.sleep_forever()
        record(f"cancelled: {scope.cancelled_caught}")

    async with open_system([Child("child", child)]):
        await trio.sleep(1)
    assert record.facts == [(1, "settled again"), (1, "cancelled: True")]


@story
async def test_one_waits_for_a_shutdown_before_the_next_is_asked() -> None:
    record = Record()
    a, b, c = cast(record, "abc", cleanup=3)
    async with open_system([a.child(), b.child(), c.child()]):
        pass
    assert record.facts[3:] == [(3, "-c1"), (6, "-b1"), (9, "-a1")]


@story
async def test_a_subsystem_has_all_the_time_it_needs_unless_told_otherwise() -> None:
    record = Record()
    a = Actor(record, "a")
    b, c = cast(record, "bc", LISTENS, cleanup=40)
    sub = SystemSupervisor([b.child(shutdown=100), c.child(shutdown=100)])
    async with open_system([a.child(), Child("sub", sub)]):
        record.take()
    assert record.facts == [(40, "-c1"), (80, "-b1"), (80, "-a1")]


@story
async def test_an_expired_shutdown_of_a_subtree_cancels_it_whole() -> None:
    record = Record()
    a = Actor(record, "a")
    leaves = [Child(key, stubborn(record, key), shutdown=2) for key in "bcd"]
    sub = Child("sub", SystemSupervisor(leaves), shutdown=3)
    async with open_system([a.child(), sub]) as tree:
        handles = [tree.find(path) for path in ("sub/b", "sub/c", "sub/d", "sub")]
        record.take()
    assert record.facts[:3] == [(0, "d asked"), (2, "-d"), (2, "c asked")]
    assert record.facts[5:] == [(3, "-a1")]
    assert sorted(record.facts[3:5]) == [(3, "-b"), (3, "-c")]
    for handle in handles:
        assert handle.last_report is not None
        assert (handle.last_report.reason, handle.last_report.burden) == (Aborted(), "aborted")


@story
async def test_shutdown_zero_of_a_subtree_aborts_all_of_it_at_once() -> None:
    record = Record()
    leaves = [Child(key, stubborn(record, key), shutdown=2) for key in "ab"]
    inner = SystemSupervisor([Child("inner", SystemSupervisor(leaves))])
    async with open_system([Child("sub", inner, shutdown=0)]):
        await trio.sleep(1)
    downs = [(time, fact) for time, fact in record.facts if fact.startswith("-")]
    assert sorted(downs) == [(1, "-a"), (1, "-b")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_restart_shuts_siblings_down_in_order_with_their_time(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a")
    leaves = [Child(key, stubborn(record, key), shutdown=2) for key in "bc"]
    async with open_system([a.child(), *leaves], strategy=strategy):
        record.take()
        a.die()
        await trio.sleep(5)
        assert record.take() == [
            (0, "-a1"),
            (0, "c asked"),
            (2, "-c"),
            (2, "b asked"),
            (4, "-b"),
            (4, "+a2"),
            (4, "+b"),
            (4, "+c"),
        ]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_stop_during_the_sweep_of_a_restart_goes_on_in_order(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd", LISTENS, cleanup=2)
    children = [a.child(), b.child(), c.child(), d.child()]
    async with open_system(children, strategy=strategy):
        record.take()
        b.die()
        await trio.sleep(3)
    assert record.facts == [(2, "-b1"), (4, "-d1"), (6, "-c1"), (8, "-a1")]


@story
async def test_a_stop_during_a_restart_interrupts_the_start() -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", [10, *STAYS])
    async with open_system([a.child(), b.child(), c.child()], strategy="one_for_one"):
        record.take()
        b.die()
        await trio.sleep(1)
    assert record.facts == [(10, "-b1"), (10, "~b2"), (11, "-c1"), (11, "-b2"), (11, "-a1")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_stop_during_a_replay_interrupts_it(strategy: Strategy) -> None:
    record = Record()
    a, c = cast(record, "ac", cleanup=1)
    b = Actor(record, "b", [10, *STAYS])
    async with open_system([a.child(), b.child(), c.child()], strategy=strategy):
        record.take()
        a.die()
        await trio.sleep(3)
    assert record.facts == [
        (11, "-a1"),
        (12, "-c1"),
        (12, "-b1"),
        (12, "+a2"),
        (12, "~b2"),
        (13, "-b2"),
        (14, "-a2"),
    ]


@story
async def test_a_stop_between_failing_attempts_that_never_pause_is_served() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", STAYS, [no_start])
    children = [a.child(), b.child()]
    async with open_system(children, strategy="one_for_one", breaker=Endless) as tree:
        b.die()
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        await tree.stop()
    assert record.facts[:3] == [(0, "+a1"), (0, "+b1"), (0, "-b1")]
    assert {fact[:2] for _, fact in record.facts[3:-1]} <= {"!b"}
    assert record.facts[-1] == (0, "-a1")


class Endless:
    """A breaker that allows everything."""

    def may_restart(self, key: str, now: float) -> bool:
        return True


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@pytest.mark.parametrize("options", [{"run_timeout": 2}, {}])
@story
async def test_no_two_incarnations_of_a_key_overlap(strategy: Strategy, options: Any) -> None:
    record = Record()
    a = Actor(record, "a", cleanup=3)
    b = Actor(record, "b", [1, *STAYS], cleanup=5)
    c = Actor(record, "c", cleanup=1)
    children = [a.child(), b.child(**options), c.child()]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)):
        await trio.sleep(4)
        a.die()
        await trio.sleep(1)
        c.die()
        await trio.sleep(30)
    facts = record.order.split()
    for key in "abc":
        ours = [fact for fact in facts if fact[1] == key and fact[0] in "+-"]
        assert ours == [f"{sign}{key}{n}" for n in range(1, len(ours) // 2 + 1) for sign in "+-"]
    assert len(facts) > 12
    assert "overlap" not in record.order


@pytest.mark.parametrize("sub_strategy", ["one_for_one", "one_for_all"])
@story
async def test_nobody_waits_for_one_child_under_one_for_one(sub_strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", cleanup=10)
    b = Actor(record, "b", [10, *STAYS])
    c, d = cast(record, "cd")
    sub = Child("sub", SystemSupervisor([d.child()], strategy=sub_strategy))
    children = [a.child(run_timeout=20), b.child(), c.child(), sub]
    async with open_system(children, strategy="one_for_one", breaker=Ledger(record)):
        record.take()
        b.die()
        await trio.sleep(1)
        c.die()
        d.die()
        await trio.sleep(29)
        facts = record.take()
    assert sorted(facts) == sorted(
        [
            (10, "-b1"),
            (10, "?b"),
            (10, "~b2"),
            (11, "-c1"),
            (11, "?c"),
            (11, "+c2"),
            (11, "-d1"),
            (11, "+d2"),
            (20, "+b2"),
            (30, "-a1"),
            (30, "?a"),
            (30, "+a2"),
        ]
    )
