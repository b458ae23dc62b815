"""What happens in one tick: trio wakes its tasks in an order of its own, and the outcome is one.

Each story is told under several orders of trio's scheduler.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import Actor, cast
from callers import Desk, listed, status_of
from logged import kept
from spry_py import (
    Child,
    DynamicSupervisor,
    Ignore,
    RestartType,
    Scope,
    SpryError,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import Ledger, Record, story
from workers import STRATEGIES, calm

End = Callable[[Actor], object]


@pytest.fixture(params=range(8))
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of trio's orders, the same each time."""
    run = trio._core._run
    monkeypatch.setattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(run, "_r", random.Random(request.param))


def normal(actor: Actor) -> None:
    actor.stop()


def failed(actor: Actor) -> None:
    actor.die()


async def _called(go: trio.Event, call: Callable[[], Awaitable[object]]) -> None:
    await go.wait()
    await call()


@pytest.mark.parametrize("end", [normal, failed])
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.usefixtures("order")
@story
async def test_one_that_ends_in_the_tick_in_which_it_is_terminated(
    strategy: Strategy, restart: RestartType, end: End
) -> None:
    """It has ended by itself, and is down: nobody has to restart it in order to stop that."""
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(restart=restart), c.child()]
    go = trio.Event()
    async with (
        open_system(children, strategy=strategy, breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        desk.call("call", _called, go, tree.child("b").terminate)
        await calm()
        record.take()
        go.set()
        end(b)
        await calm()
        assert sorted(record.take_order().split()) == ["-b1", "call:ok"]
        report = tree.child("b").last_report
        assert report is not None
        assert report.burden == "none"
        is_done = restart == "transient" and end is normal
        assert listed(tree) == f"a=running b={'done' if is_done else 'stopped'} c=running"


@pytest.mark.parametrize("end", [normal, failed])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.usefixtures("order")
@story
async def test_one_that_ends_in_the_tick_in_which_it_is_restarted(
    strategy: Strategy, end: End
) -> None:
    """The call has it restarted: no breaker is asked, and it is started once."""
    record = Record()
    a, b = cast(record, "ab")
    go = trio.Event()
    async with (
        open_system([a.child(), b.child()], strategy=strategy, breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("call", _called, go, tree.child("b").restart)
        await calm()
        record.take()
        go.set()
        end(b)
        await calm()
        again = "-b1 -a1 +a2 +b2" if strategy == "one_for_all" else "-b1 +b2"
        assert sorted(record.take_order().split()) == sorted([*again.split(), "call:ok"])
        assert listed(tree) == "a=running b=running"


@pytest.mark.parametrize("second", ["terminate", "restart"])
@pytest.mark.usefixtures("order")
@story
async def test_one_that_a_call_has_stopped_in_the_tick_in_which_another_call_comes(
    second: str,
) -> None:
    """The supervisor sleeps over the end, since nothing follows it: the second call wakes it."""
    record = Record()
    go = trio.Event()

    async def lingers() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await go.wait()
            record("-")

    async with (
        open_system([Child("a", lingers)], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        child = tree.child("a")
        desk = Desk(record, nursery)
        desk.call("first", child.terminate)
        desk.call("second", _called, go, getattr(child, second))
        await calm()
        go.set()
        await calm()
        assert sorted(record.take_order().split()) == ["-", "first:ok", "second:ok"]
        assert (child.status, child.incarnation) in [
            ("stopped", 1),
            *([("running", 2)] if second == "restart" else []),
        ]


@pytest.mark.usefixtures("order")
@story
async def test_one_that_is_terminated_is_not_where_a_restart_begins_that_a_sibling_needs() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    go = trio.Event()
    async with (
        open_system(
            [a.child(), b.child(), c.child()], strategy="rest_for_one", breaker=Ledger(record)
        ) as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("call", _called, go, tree.child("a").terminate)
        await calm()
        record.take()
        go.set()
        a.die()
        c.die()
        await calm()
        # the replay brings it back, as it brings back all that are down; b need not go along
        facts = sorted(record.take_order().split())
        assert facts == ["+a2", "+c2", "-a1", "-c1", "?c", "call:ok"]
        assert listed(tree) == "a=running b=running c=running"


@pytest.mark.usefixtures("order")
@story
async def test_one_that_ends_in_the_tick_in_which_a_sibling_is_terminated() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(), c.child()]
    async with (
        open_system(children, strategy="one_for_one", breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        go = trio.Event()
        desk.call("call", _called, go, tree.child("a").terminate)
        await calm()
        record.take()
        go.set()
        b.die()
        # one that ends in the tick in which that is decided, or the next
        await trio.lowlevel.checkpoint()
        c.die()
        await calm()
        facts = sorted(record.take_order().split())
        assert facts == ["+b2", "+c2", "-a1", "-b1", "-c1", "?b", "?c", "call:ok"]
        assert listed(tree) == "a=stopped b=running c=running"


@pytest.mark.usefixtures("order")
@story
async def test_a_caller_who_gives_up_leaves_the_end_to_be_decided() -> None:
    record = Record()
    (a,) = cast(record, "a")
    go = trio.Event()
    async with (
        open_system([a.child()], strategy="one_for_one", breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        scope = Desk(record, nursery).call("call", _called, go, tree.child("a").terminate)
        await calm()
        record.take()
        go.set()
        a.die()
        while trio.lowlevel.current_statistics().tasks_runnable > 1:
            await trio.lowlevel.cancel_shielded_checkpoint()
            scope.cancel()
        await calm()
        # taken back before it was served, or served in spite of that, or even in time
        facts = " ".join(sorted(record.take_order().split()))
        served, taken_back = "-a1 call:cancelled", "+a2 -a1 ?a call:cancelled"
        status = {served: "a=stopped", "-a1 call:ok": "a=stopped", taken_back: "a=running"}
        assert listed(tree) == status[facts]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.usefixtures("order")
@story
async def test_one_that_ends_in_the_tick_in_which_its_system_is_stopped(
    restart: RestartType,
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a.child(), b.child(restart=restart)]
    go = trio.Event()
    handle: SystemHandle | None = None
    async with open_system(children, breaker=Ledger(record)) as tree:
        handle = tree
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_called, go, tree.stop)
            await calm()
            record.take()
            go.set()
            b.stop()
    assert record.take_order() == "-b1 -a1"
    child = handle.child("b")
    assert child.last_report is not None
    by_itself = child.last_report.burden == "none"
    is_done = by_itself and restart == "transient"
    assert (child.status, child.incarnation) == ("done" if is_done else "stopped", 1)


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.usefixtures("order")
@story
async def test_one_of_a_pool_that_ends_in_the_tick_in_which_it_is_terminated(
    restart: RestartType,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    go = trio.Event()
    async with (
        open_system(DynamicSupervisor(breaker=Ledger(record))) as pool,
        trio.open_nursery() as nursery,
    ):
        await pool.start_child(a.child(restart=restart))
        nursery.start_soon(_called, go, pool.child("a").terminate)
        await calm()
        go.set()
        a.die()
        await calm()
        assert record.order == "+a1 -a1"
        assert status_of(pool, "a") == "gone"


@pytest.mark.parametrize("way", ["list", "one after the other", "together"])
@pytest.mark.parametrize("later", range(6))
@pytest.mark.usefixtures("order")
@story
async def test_one_that_is_left_out_in_the_tick_in_which_its_system_is_stopped(
    later: int, way: str
) -> None:
    """One that has begun is logged once when it ends, also if no one waits for its start now."""
    go = trio.Event()
    begun: list[str] = []

    async def holds(*, task_status: trio.TaskStatus[None]) -> None:
        go.set()
        task_status.started()
        await trio.sleep_forever()

    async def left_out(*, task_status: trio.TaskStatus[None]) -> None:
        begun.append("top/tree/b left out: its start raised Ignore")
        raise Ignore

    children = [Child("a", holds), Child("b", left_out), Child("c", holds)]

    async def one_by_one(scope: Scope) -> None:
        for child in children:
            await scope.start(child)

    async def together(scope: Scope) -> None:
        await scope.start_together(*children)

    async def stop(tree: SystemHandle) -> None:
        await go.wait()
        for _ in range(later):
            await trio.lowlevel.checkpoint()
        await tree.terminate_child("tree")

    systems: dict[str, Any] = {
        "list": children,
        "one after the other": one_by_one,
        "together": together,
    }
    tree = Child("tree", SystemSupervisor(systems[way]))
    with kept() as book:
        async with (
            open_system(DynamicSupervisor(name="top")) as top,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(stop, top)
            with contextlib.suppress(SpryError):
                await top.start_child(tree)
    assert [one.getMessage() for one in book.records if one.name.endswith(".tree.b")] == begun
