"""Waiting before a restart, and what may happen meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import trio
import trio.lowlevel

from actors import STAYS, Actor, cast, no_start
from spry_py import AlwaysRestart, Backoff, Child, Strategy, SystemSupervisor, open_system
from stories import Boom, Ledger, Record, story

TWO = tenacity.wait_fixed(2)
ONE_MORE_EACH_TIME = tenacity.wait_incrementing(start=1, increment=1)


@story
async def test_a_restart_waits_and_its_status_is_restarting() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child(backoff=TWO)]) as tree:
        a.die()
        await trio.sleep(1)
        handle = tree.child("a")
        assert (handle.status, handle.incarnation, handle.restarts) == ("restarting", 1, 0)
        await trio.sleep(2)
        assert (handle.status, handle.incarnation, handle.restarts) == ("running", 2, 1)
    assert record.facts == [(0, "+a1"), (0, "-a1"), (2, "+a2"), (3, "-a2")]


@story
async def test_the_wait_is_computed_from_the_restarts_in_a_row() -> None:
    record = Record()
    runs = 0

    async def dying() -> None:
        nonlocal runs
        runs += 1
        record(f"run {runs}")
        await trio.lowlevel.checkpoint()
        raise Boom

    child = Child("dying", dying, backoff=ONE_MORE_EACH_TIME)
    async with open_system([child], breaker=AlwaysRestart):
        await trio.sleep(12)
    assert record.facts == [(0, "run 1"), (1, "run 2"), (3, "run 3"), (6, "run 4"), (10, "run 5")]


def mortal(record: Record, lives: list[float], start_takes: float = 0) -> Callable[..., Any]:
    """A child each of whose incarnations lives as long as told, from started."""
    left = iter(lives)

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(start_takes)
        record("+")
        task_status.started()
        await trio.sleep(next(left))
        raise Boom

    return child


@story
async def test_the_count_starts_over_once_a_life_was_long_enough() -> None:
    record = Record()
    backoff = Backoff(ONE_MORE_EACH_TIME, reset_after=4)
    child = Child("a", mortal(record, [3, 3, 4, 3, 50], start_takes=1), backoff=backoff)
    async with open_system([child], breaker=AlwaysRestart):
        await trio.sleep(30)
    waits = [1, 2, 1, 2]
    ups = [1.0]
    for life, wait in zip([3, 3, 4, 3], waits, strict=True):
        ups.append(ups[-1] + life + wait + 1)
    assert record.facts == [(up, "+") for up in ups]


@story
async def test_a_bare_strategy_is_reset_after_sixty_seconds() -> None:
    record = Record()
    child = Child("a", mortal(record, [59.5, 59.5, 60, 99]), backoff=ONE_MORE_EACH_TIME)
    async with open_system([child], breaker=AlwaysRestart):
        await trio.sleep(200)
    assert record.facts == [(0, "+"), (60.5, "+"), (122, "+"), (183, "+")]


@story
async def test_failed_attempts_wait_too() -> None:
    record = Record()
    a = Actor(record, "a", STAYS, [no_start], [no_start], STAYS)
    child = a.child(backoff=ONE_MORE_EACH_TIME)
    async with open_system([child], strategy="one_for_one", breaker=Ledger(record)):
        a.die()
        await trio.sleep(9)
    assert record.facts == [
        (0, "+a1"),
        (0, "-a1"),
        (0, "?a"),
        (1, "!a2"),
        (1, "?a"),
        (3, "!a3"),
        (3, "?a"),
        (6, "+a4"),
        (9, "-a4"),
    ]


@story
async def test_siblings_under_one_for_one_are_served_meanwhile() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(backoff=TWO), b.child(), c.child(backoff=TWO)]
    async with open_system(children, strategy="one_for_one"):
        record.take()
        a.die()
        await trio.sleep(1)
        b.die()
        c.die()
        await trio.sleep(5)
        facts = record.take()
    assert sorted(facts[1:3]) == [(1, "-b1"), (1, "-c1")]
    assert facts[:1] + facts[3:] == [(0, "-a1"), (1, "+b2"), (2, "+a2"), (3, "+c2")]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_stopping_the_tree_cancels_the_wait_at_once(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(backoff=tenacity.wait_fixed(50)), c.child()]
    async with open_system(children, strategy=strategy) as tree:
        b.die()
        await trio.sleep(1)
        assert tree.child("b").status == "restarting"
        await tree.stop()
        record("stopped")
    down = {
        "one_for_one": [(0, "-b1"), (1, "-c1"), (1, "-a1"), (1, "stopped")],
        "rest_for_one": [(0, "-b1"), (0, "-c1"), (1, "-a1"), (1, "stopped")],
        "one_for_all": [(0, "-b1"), (0, "-c1"), (0, "-a1"), (1, "stopped")],
    }[strategy]
    assert record.facts == [(0, "+a1"), (0, "+b1"), (0, "+c1"), *down]


@story
async def test_a_stop_during_the_backoff_of_a_nested_child_keeps_the_order() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd", cleanup=1)
    sub = SystemSupervisor([b.child(backoff=tenacity.wait_fixed(50)), c.child()])
    async with open_system([a.child(), Child("sub", sub), d.child()]):
        record.take()
        b.die()
        await trio.sleep(5)
    assert record.facts == [(1, "-b1"), (2, "-c1"), (6, "-d1"), (7, "-a1")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_siblings_go_down_at_once_then_comes_the_wait_then_the_replay(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b, c = cast(record, "abc", cleanup=1)
    children = [a.child(), b.child(backoff=TWO), c.child()]
    async with open_system(children, strategy=strategy) as tree:
        record.take()
        b.die()
        await trio.sleep(3.5)
        assert tree.child("b").status == "restarting"
        await trio.sleep(3.5)
        facts = record.take()
    if strategy == "rest_for_one":
        assert facts == [(1, "-b1"), (2, "-c1"), (4, "+b2"), (4, "+c2")]
    else:
        assert facts == [(1, "-b1"), (2, "-c1"), (3, "-a1"), (5, "+a2"), (5, "+b2"), (5, "+c2")]


@pytest.mark.parametrize(("later", "first", "end"), [(4, 2, 5), (2, 8, 8)])
@story
async def test_an_end_during_the_wait_of_a_group_asks_for_itself_and_the_later_end_counts(
    later: float, first: float, end: float
) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [
        a.child(backoff=tenacity.wait_fixed(later)),
        b.child(),
        c.child(backoff=tenacity.wait_fixed(first)),
    ]
    async with open_system(children, strategy="rest_for_one", breaker=Ledger(record)):
        record.take()
        c.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(19)
        asked = [(0, "-c1"), (0, "?c"), (1, "-a1"), (1, "?a"), (1, "-b1")]
        assert record.take() == [*asked, (end, "+a2"), (end, "+b2"), (end, "+c2")]


@story
async def test_a_refused_end_during_the_wait_escalates_at_once() -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a.child(), b.child(backoff=tenacity.wait_fixed(50))]
    with pytest.raises(Exception, match=r"top/a"):
        async with open_system(
            children, name="top", strategy="rest_for_one", breaker=Ledger(record, allows=1)
        ):
            record.take()
            b.die()
            await trio.sleep(1)
            a.die()
            await trio.sleep(99)
    assert record.facts == [(0, "-b1"), (0, "?b"), (1, "-a1"), (1, "?a:no")]


@story
async def test_a_child_that_wants_no_restart_ends_quietly_during_the_wait_of_a_group() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(restart="transient"), b.child(), c.child(backoff=TWO)]
    async with open_system(children, strategy="rest_for_one", breaker=Ledger(record)) as tree:
        record.take()
        c.die()
        await trio.sleep(1)
        a.stop()
        await trio.sleep(9)
        assert tree.child("a").status == "done"
        assert record.take() == [(0, "-c1"), (0, "?c"), (1, "-a1"), (2, "+c2")]


@story
async def test_a_whole_subsystem_may_be_given_a_backoff() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child(
        "sub", SystemSupervisor([a.child(), b.child()], breaker=Ledger(record, 0)), backoff=TWO
    )
    async with open_system([sub], breaker=Ledger(record)):
        a.die()
        await trio.sleep(3)
    assert record.facts == [
        (0, "+a1"),
        (0, "+b1"),
        (0, "-a1"),
        (0, "?a:no"),
        (0, "-b1"),
        (0, "?sub"),
        (2, "+a2"),
        (2, "+b2"),
        (3, "-b2"),
        (3, "-a2"),
    ]
