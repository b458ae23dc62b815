"""`DynamicSupervisor`: children that are only known at run time."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio
import trio.testing

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, listed
from pools import open_pool
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Ignore,
    Normal,
    Scope,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Ledger, Record, story

FIVE = tenacity.wait_fixed(5)


@story
async def test_it_starts_empty_and_starts_what_it_is_asked_to() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool() as pool:
        assert (pool.path, listed(pool), pool.status) == ("pool", "", "running")
        handle = await pool.start_child(a.child("x"))
        assert (handle.key, handle.path, handle.kind) == ("a", "pool/a", "worker")
        assert (handle.status, handle.value, handle.incarnation) == ("running", "a#1", 1)
        await pool.start_child(b.child())
        assert listed(pool) == "a=running b=running"
        counts = pool.count_children()
        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (2, 2, 0, 2)
        assert pool.child("b").value == pool.find("b").value == "b#1"
    assert sorted(record.order.split()) == ["+a1(x)", "+b1", "-a1", "-b1"]


@story
async def test_as_a_child_its_started_value_is_its_handle() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)

    async def client(workers: Any, *, task_status: trio.TaskStatus[None]) -> None:
        await workers.start_child(a.child())
        task_status.started()
        await trio.sleep_forever()

    async def shop(scope: Scope) -> None:
        workers = await scope.start(Child("workers", DynamicSupervisor(max_children=64)))
        assert isinstance(workers, SystemHandle)
        await scope.start(Child("client", client, workers))

    async with open_system(shop) as tree:
        assert tree.find("workers/a").value == "a#1"
        assert (tree.child("workers").kind, tree.child("workers").status) == (
            "supervisor",
            "running",
        )
        snapshot = tree.snapshot()
        assert [(depth, node.key) for depth, node in snapshot.walk()] == [
            (0, "shop"),
            (1, "workers"),
            (2, "a"),
            (1, "client"),
        ]
    assert record.order == "+a1 -a1"


@story
async def test_it_runs_in_any_trio_program() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with trio.open_nursery() as nursery:
        pool: Any = await nursery.start(DynamicSupervisor(name="pool"))
        await pool.start_child(a.child())
        await pool.stop()
        report = await pool.wait()
        assert (report.reason, report.burden) == (Normal(None), "settling")
    assert record.order == "+a1 -a1"


@story
async def test_a_dynamic_supervisor_may_hold_supervisors() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool() as pool:
        handle = await pool.start_child(Child("s", SystemSupervisor([a.child()])))
        assert isinstance(handle.value, SystemHandle)
        inner = await pool.start_child(Child("d", DynamicSupervisor()))
        await inner.value.start_child(b.child())
        counts = pool.count_children()
        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (2, 2, 2, 0)
        assert (pool.find("s/a").value, pool.find("d/b").value) == ("a#1", "b#1")
    assert sorted(record.order.split()) == ["+a1", "+b1", "-a1", "-b1"]


# answers


@story
async def test_the_answers_of_a_dynamic_supervisor() -> None:
    record = Record()
    a = Actor(record, "a")
    async with open_pool() as pool:
        assert await answer(pool.terminate_child("a")) == "ChildNotFound"
        assert await answer(pool.restart_child("a")) == "ChildNotFound"
        assert await answer(pool.delete_child("a")) == "ChildNotFound"
        await pool.start_child(a.child(backoff=FIVE))
        assert await answer(pool.start_child(a.child())) == "ChildAlreadyStarted"
        assert await answer(pool.restart_child("a")) == "ChildRunning"
        assert await answer(pool.delete_child("a")) == "ChildRunning"
        a.die()
        await trio.sleep(1)
        assert listed(pool) == "a=restarting"
        assert await answer(pool.start_child(a.child())) == "ChildAlreadyPresent"
        assert await answer(pool.restart_child("a")) == "ChildRestarting"
        assert await answer(pool.delete_child("a")) == "ChildRestarting"
        assert await answer(pool.terminate_child("a")) == "ok"
        assert listed(pool) == ""
        await trio.sleep(9)
        assert await answer(pool.terminate_child("a")) == "ChildNotFound"
        assert await answer(pool.start_child(a.child())) == "ok"
    assert await answer(pool.start_child(a.child())) == "SupervisorStopped"
    assert await answer(pool.terminate_child("a")) == "SupervisorStopped"
    assert record.order == "+a1 -a1 +a2 -a2"


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@story
async def test_a_terminated_child_is_forgotten(restart: str) -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=2)
    ledger = Ledger(record)
    async with open_pool(breaker=ledger) as pool:
        handle = await pool.start_child(a.child(restart=restart))
        await pool.terminate_child("a")
        assert trio.current_time() == 2
        assert (handle.status, listed(pool)) == ("stopped", "")
        report = await handle.wait()
        assert (report.reason, report.burden) == (Normal(None), "settling")
        counts = pool.count_children()
        assert (counts.specs, counts.active) == (0, 0)
    assert record.order == "+a1 -a1"


@pytest.mark.parametrize(
    ("restart", "order", "left"),
    [
        ("permanent", "die", "a=running"),
        ("permanent", "stop", "a=running"),
        ("transient", "die", "a=running"),
        ("transient", "stop", ""),
        ("temporary", "die", ""),
        ("temporary", "stop", ""),
    ],
)
@story
async def test_restart_types(restart: str, order: str, left: str) -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool() as pool:
        await pool.start_child(a.child("x", restart=restart))
        await pool.start_child(b.child())
        a.die() if order == "die" else a.stop()
        await trio.sleep(1)
        assert listed(pool) == f"{left} b=running".strip()
        assert record.order == ("+a1(x) +b1 -a1 +a2(x)" if left else "+a1(x) +b1 -a1")


@story
async def test_a_start_that_fails_leaves_nothing_behind() -> None:
    record = Record()
    a = Actor(record, "a", [no_start], STAYS)
    async with open_pool(max_children=1) as pool:
        with pytest.raises(ChildFailure) as caught:
            await pool.start_child(a.child())
        assert (caught.value.path, type(caught.value.__cause__)) == ("pool/a", Boom)
        assert listed(pool) == ""
        assert (await pool.start_child(a.child())).value == "a#2"


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@story
async def test_one_that_is_left_out_is_not_kept(restart: str) -> None:
    record = Record()
    shy = Actor(record, "a", [Ignore], STAYS)
    async with open_pool(max_children=1) as pool:
        handle = await pool.start_child(shy.child(restart=restart))
        assert (handle.key, handle.value) == ("a", None)
        assert listed(pool) == ""
        assert (await pool.start_child(shy.child())).value == "a#2"


@story
async def test_one_left_out_in_a_restart_is_not_kept() -> None:
    record = Record()
    shy = Actor(record, "a", STAYS, [Ignore], STAYS)
    async with open_pool() as pool:
        await pool.start_child(shy.child())
        shy.die()
        await trio.sleep(1)
        assert (record.order, listed(pool)) == ("+a1 -a1 /a2", "")


@pytest.mark.parametrize("wrong", ["a", None, 3])
@story
async def test_only_a_child_can_be_started(wrong: object) -> None:
    async with open_pool() as pool:
        with pytest.raises(TypeError, match="Child"):
            await pool.start_child(wrong)


@story
async def test_a_significant_child_is_refused() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_pool() as pool:
        with pytest.raises(ValueError, match="significant"):
            await pool.start_child(a.child(restart="transient", significant=True))


# nobody waits for one child


@story
async def test_nobody_waits_for_a_slow_start_or_a_slow_end() -> None:
    record = Record()
    a = Actor(record, "a", [5, *STAYS])
    b = Actor(record, "b", LISTENS, cleanup=4)
    c = Actor(record, "c", LISTENS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("start a", pool.start_child, a.child())
        await trio.testing.wait_all_tasks_blocked()
        await pool.start_child(b.child())
        await trio.sleep(1)
        desk.call("end b", pool.terminate_child, "b")
        await trio.sleep(1)
        assert listed(pool) == "a=starting b=stopping"
        await pool.start_child(c.child())
        c.die()
        await trio.sleep(1)
        await pool.terminate_child("c")
        await trio.sleep(9)
        assert sorted(record.take()) == [
            (0, "+b1"),
            (0, "~a1"),
            (2, "+c1"),
            (2, "+c2"),
            (2, "-c1"),
            (3, "-c2"),
            (5, "+a1"),
            (5, "-b1"),
            (5, "end b:ok"),
            (5, "start a:ok"),
        ]


@story
async def test_many_start_at_the_same_time() -> None:
    record = Record()
    actors = [Actor(record, f"w{number}", [3, *STAYS]) for number in range(50)]
    async with open_pool() as pool:
        async with trio.open_nursery() as nursery:
            for actor in actors:
                nursery.start_soon(pool.start_child, actor.child())
        assert trio.current_time() == 3
        assert pool.count_children().active == 50


@story
async def test_each_waits_for_its_own_backoff() -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with open_pool() as pool:
        await pool.start_child(a.child(backoff=FIVE))
        await pool.start_child(b.child(backoff=tenacity.wait_fixed(2)))
        record.take()
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(9)
        assert record.take() == [(0, "-a1"), (1, "-b1"), (3, "+b2"), (5, "+a2")]
