"""A dynamic supervisor gives up, stops, or is stopped; and what becomes of its children."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tenacity
import trio
import trio.testing

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, listed, status_of
from pools import open_pool
from spry_py import (
    Aborted,
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    NeverRestart,
    TerminationReport,
    TooManyRestarts,
    UnrecoverableFailure,
    cancel_on_settle,
    open_system,
)
from stories import Boom, Ledger, Record, story

FIVE = tenacity.wait_fixed(5)


# giving up


@story
async def test_it_escalates_when_its_breaker_refuses() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    with pytest.raises(TooManyRestarts) as caught:
        async with open_pool(breaker=Ledger(record, allows=1)) as pool:
            await pool.start_child(a.child())
            await pool.start_child(b.child())
            a.die()
            await trio.sleep(1)
            b.die()
            await trio.sleep_forever()
    assert (caught.value.path, caught.value.restarts) == ("pool/b", 0)
    assert record.order == "+a1 +b1 -a1 ?a +a2 -b1 ?b:no -a2"


@story
async def test_the_default_breaker_lets_three_through() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    with pytest.raises(TooManyRestarts):
        async with open_system(DynamicSupervisor()) as pool:
            await pool.start_child(a.child())
            for _ in range(4):
                a.die()
                await trio.sleep(1)
            await trio.sleep_forever()
    assert a.runs == 4


@story
async def test_a_restart_that_fails_over_and_over_escalates() -> None:
    record = Record()
    a, b = (
        Actor(record, "a", STAYS, [no_start], [no_start], [no_start], STAYS),
        Actor(record, "b", LISTENS),
    )
    with pytest.raises(TooManyRestarts) as caught:
        async with open_pool(breaker=Ledger(record, allows=2)) as pool:
            await pool.start_child(a.child())
            await pool.start_child(b.child())
            a.die()
            await trio.sleep_forever()
    assert caught.value.path == "pool/a"
    assert record.order == "+a1 +b1 -a1 ?a !a2 ?a !a3 ?a:no -b1"


@story
async def test_unrecoverable_ends_it_or_is_discarded() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_pool() as pool:
            await pool.start_child(a.child(breaker=NeverRestart, on_unrecoverable="discard"))
            await pool.start_child(b.child(breaker=NeverRestart))
            a.die()
            await trio.sleep(1)
            assert listed(pool) == "b=running"
            b.die()
            await trio.sleep_forever()
    assert caught.value.path == "pool/b"


@story
async def test_restarted_by_its_parent_it_begins_empty() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    pools = Child("pool", DynamicSupervisor(breaker=NeverRestart))
    async with open_system([pools], strategy="one_for_one") as tree:
        pool: Any = tree.child("pool").value
        handle = await pool.start_child(a.child())
        a.die()
        await trio.sleep(1)
        assert (tree.child("pool").incarnation, listed(pool)) == (2, "")
        assert handle.status == "stopped"
        assert (await pool.start_child(a.child())).incarnation == 1
    assert record.order == "+a1 -a1 +a2 -a2"


# stopping


@story
async def test_all_children_stop_at_the_same_time_each_with_its_own_time() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    b = Actor(record, "b", LISTENS, cleanup=1)
    c = Actor(record, "c")
    async with open_pool() as pool:
        for actor in (a, b, c):
            await pool.start_child(actor.child(shutdown=10))
        await pool.start_child(Child("d", deaf, record, shutdown=2))
        record.take()
    assert record.facts == [(0, "-c1"), (1, "-b1"), (2, "-d"), (3, "-a1")]
    assert listed(pool) == "a=stopped b=stopped c=stopped d=stopped"


async def deaf(record: Record, *, task_status: trio.TaskStatus[None]) -> None:
    try:
        with cancel_on_settle():
            pass
        task_status.started()
        await trio.sleep_forever()
    finally:
        record("-d")


@story
async def test_a_stop_ends_starts_and_backoffs_at_once() -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b", [5, *STAYS])
    async with trio.open_nursery() as nursery:
        async with open_pool() as pool:
            await pool.start_child(a.child(backoff=FIVE))
            a.die()
            Desk(record, nursery).call("start b", pool.start_child, b.child())
            await trio.sleep(1)
            assert listed(pool) == "a=restarting b=starting"
        assert trio.current_time() == 1
        await trio.sleep(9)
        assert record.facts[:4] == [(0, "+a1"), (0, "-a1"), (0, "~b1"), (1, "-b1")]
        assert record.facts[4:] == [(1, "start b:Interrupted")]


@story
async def test_an_abort_ends_all_at_once() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS, cleanup=0)
    async with open_pool() as pool:
        handles = [await pool.start_child(actor.child(shutdown=math.inf)) for actor in (a, b)]
        pool.abort()
        await pool.wait()
        reports = [await handle.wait() for handle in handles]
        assert [(report.reason, report.burden) for report in reports] == [
            (Aborted(), "aborted"),
            (Aborted(), "aborted"),
        ]


@story
async def test_cancelled_from_outside_the_children_still_have_their_time() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=2)
    b = Actor(record, "b", LISTENS, cleanup=1)
    with trio.move_on_after(5):
        async with open_pool() as pool:
            await pool.start_child(a.child())
            await pool.start_child(b.child())
            record.take()
            await trio.sleep_forever()
    assert record.facts == [(6, "-b1"), (7, "-a1")]


@story
async def test_a_cancelled_caller_takes_its_start_back() -> None:
    record = Record()
    a = Actor(record, "a", [5, *STAYS])
    async with open_pool(max_children=1) as pool:
        with trio.move_on_after(1):
            await pool.start_child(a.child())
        await trio.sleep(1)
        assert (listed(pool), record.order) == ("", "~a1 -a1")
        assert (await pool.start_child(a.child())).value == "a#2"


@story
async def test_a_cancelled_caller_takes_no_termination_back() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    async with open_pool() as pool:
        await pool.start_child(a.child())
        with trio.move_on_after(1):
            await pool.terminate_child("a")
        assert status_of(pool, "a") == "stopping"
        await trio.sleep(5)
        assert (listed(pool), record.facts[1:]) == ("", [(3, "-a1")])


# handles


@story
async def test_handles_of_dynamic_children() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=1)
    async with open_pool(breaker=NeverRestart) as pool:
        handle = await pool.start_child(a.child())
        await handle.restart()
        assert (handle.status, handle.value, handle.incarnation) == ("running", "a#2", 2)
        await handle.terminate()
        assert (handle.status, listed(pool)) == ("stopped", "")
        assert (await handle.wait()).incarnation == 2
    assert record.facts == [(0, "+a1"), (1, "-a1"), (1, "+a2"), (2, "-a2")]


# bad values


@pytest.mark.parametrize("field", ["max_children", "max_running"])
@pytest.mark.parametrize("value", [-1, 1.5, "many", None, math.nan, True])
def test_a_limit_must_be_a_count(field: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=field):
        DynamicSupervisor(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("breaker", [None, 3, "x"])
def test_a_breaker_must_be_a_factory(breaker: object) -> None:
    with pytest.raises(TypeError, match="breaker"):
        DynamicSupervisor(breaker=breaker)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a/b", 3])
def test_a_name_must_be_a_key(name: object) -> None:
    with pytest.raises((TypeError, ValueError), match="name"):
        DynamicSupervisor(name=name)  # type: ignore[arg-type]


def test_its_name_is_the_root_of_every_path() -> None:
    @story
    async def tell() -> None:
        async with open_system(DynamicSupervisor(breaker=AlwaysRestart)) as pool:
            assert pool.path == "system"

    tell()


@pytest.mark.parametrize("option", ["strategy", "auto_shutdown"])
def test_it_has_neither_a_strategy_nor_an_auto_shutdown(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        DynamicSupervisor(**{option: "never"})  # type: ignore[arg-type]


@story
async def test_options_do_not_belong_to_a_supervisor() -> None:
    with pytest.raises(TypeError, match="max_children"):
        async with open_system(DynamicSupervisor(), max_children=3):  # type: ignore[call-overload]
            raise AssertionError("options belong to a bare system")


def test_no_pool_can_do_with_nobody_running() -> None:
    with pytest.raises(ValueError, match="max_running"):
        DynamicSupervisor(max_running=0)


# on_termination


@story
async def test_on_termination_runs_before_the_decision_and_holds_up_nobody_else() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)

    async def hook(report: TerminationReport) -> None:
        record(f"{report.path} {report.incarnation}")
        await trio.sleep(2)

    async with open_pool() as pool:
        await pool.start_child(a.child(on_termination=hook))
        a.die()
        await trio.sleep(1)
        await pool.start_child(b.child())
        await trio.sleep(3)
        assert record.take() == [
            (0, "+a1"),
            (0, "-a1"),
            (0, "pool/a 1"),
            (1, "+b1"),
            (2, "+a2"),
        ]


@story
async def test_on_termination_that_raises_escalates() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)

    async def hook(report: TerminationReport) -> None:
        raise LookupError("no such ledger")

    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_pool() as pool:
            await pool.start_child(b.child())
            await pool.start_child(a.child(on_termination=hook))
            a.die()
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, LookupError)
    assert isinstance(caught.value.__cause__.__context__, Boom)
    assert record.order == "+b1 +a1 -a1 -b1"


@pytest.mark.parametrize("way", ["stop", "terminate"])
@story
async def test_on_termination_is_cancelled_when_the_child_shall_stay_down(way: str) -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)

    async def hook(report: TerminationReport) -> None:
        try:
            await trio.sleep(4)
        except trio.Cancelled:
            record("cancelled")
            raise

    async with open_pool() as pool:
        await pool.start_child(a.child(on_termination=hook))
        a.die()
        await trio.sleep(1)
        if way == "stop":
            await pool.stop()
        else:
            await pool.terminate_child("a")
            assert listed(pool) == ""
        await trio.sleep(9)
    assert record.facts == [(0, "+a1"), (0, "-a1"), (1, "cancelled")]
