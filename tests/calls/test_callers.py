"""Callers inside the tree that call about themselves, and callers that give up."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from actors import LISTENS, STAYS, Actor, cast
from callers import Desk, answer, listed, status_of
from spry_py import (
    Aborted,
    Child,
    ChildHandle,
    Strategy,
    SystemHandle,
    cancel_on_settle,
    open_system,
)
from stories import Record, story
from workers import STRATEGIES

# those who call about themselves


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("listens", [False, True])
@story
async def test_one_that_terminates_itself_is_aborted_and_stays_down(
    listens: bool, strategy: Strategy
) -> None:
    """As with `stop()` from inside the tree: while it waits it counts as not listening."""
    record = Record()
    go = trio.Event()
    known: list[SystemHandle] = []

    async def suicidal(*, task_status: trio.TaskStatus[None]) -> None:
        if listens:
            with cancel_on_settle():
                task_status.started()
                await go.wait()
        else:
            task_status.started()
            await go.wait()
        record(await answer(known[0].terminate_child("s")))

    async with open_system([Child("s", suicidal)], strategy=strategy) as tree:
        known.append(tree)
        go.set()
        await trio.sleep(9)
        report = tree.child("s").last_report
        assert report is not None
        assert (report.reason, report.burden, report.ended_at) == (Aborted(), "aborted", 0)
        assert (listed(tree), record.facts) == ("s=stopped", [])


@story
async def test_one_that_restarts_itself_is_aborted_and_comes_back() -> None:
    record = Record()
    go = trio.Event()
    known: list[ChildHandle] = []

    async def restless(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        record("up")
        await go.wait()
        if not record.order.startswith("up up"):
            record(await answer(known[0].restart()))
        await trio.sleep_forever()

    async with open_system([Child("r", restless)], strategy="one_for_one") as tree:
        known.append(tree.child("r"))
        go.set()
        await trio.sleep(9)
        assert (known[0].status, known[0].incarnation, record.order) == ("running", 2, "up up")


# callers that give up


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a_cancelled_caller_takes_its_start_back(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", [5, *STAYS], cleanup=1)
    async with (
        open_system([a.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        call = desk.call("start b", tree.start_child, b.child())
        await trio.sleep(2)
        call.cancel()
        await trio.sleep(8)
        facts = [fact for fact in record.take() if fact[1] != "start b:cancelled"]
        assert facts == [(0, "+a1"), (0, "~b1"), (3, "-b1")]
        assert listed(tree) == "a=running"
        handle = await tree.start_child(b.child())
        assert handle.value == "b#2"


@story
async def test_a_cancelled_restart_by_call_leaves_the_child_stopped() -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS])
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        await tree.terminate_child("a")
        call = Desk(record, nursery).call("again", tree.restart_child, "a")
        await trio.sleep(1)
        call.cancel()
        await trio.sleep(9)
        assert listed(tree) == "a=stopped"
        assert sorted(record.take()[3:]) == [(3, "~a2"), (4, "-a2"), (4, "again:cancelled")]
        assert (await tree.restart_child("a")).value == "a#3"


@story
async def test_a_cancelled_caller_takes_no_termination_back() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    async with (
        open_system([a.child()], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        call = Desk(record, nursery).call("end", tree.terminate_child, "a")
        await trio.sleep(1)
        call.cancel()
        await trio.sleep(9)
        assert record.facts == [(0, "+a1"), (1, "end:cancelled"), (3, "-a1")]
        assert listed(tree) == "a=stopped"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_cancelled_call_that_has_not_been_served_is_as_if_never_made(
    strategy: Strategy,
) -> None:
    record = Record()
    a, d = cast(record, "ad")
    b = Actor(record, "b", [3, *STAYS])
    async with (
        open_system([a.child(), b.child()], strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        b.die()
        await trio.sleep(1)
        call = Desk(record, nursery).call("start d", tree.start_child, d.child())
        await trio.sleep(1)
        record.take()
        call.cancel()
        await trio.sleep(8)
        assert d.runs == 0
        assert listed(tree) == "a=running b=running"
        assert (await tree.start_child(d.child())).value == "d#1"


@story
async def test_a_caller_that_gives_up_leaves_nothing_behind_though_its_supervisor_is_busy() -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS])
    d = Actor(record, "d")

    async def call(tree: SystemHandle) -> weakref.ref[Record]:
        brought = Record()
        with trio.move_on_after(1):
            await tree.start_child(d.child(brought))
        return weakref.ref(brought)

    async with open_system([a.child()]) as tree:
        a.die()
        await trio.sleep(1)
        left = await call(tree)
        await trio.lowlevel.checkpoint()  # trio itself holds on to the cancellation
        gc.collect()
        assert (left(), tree.child("a").status) == (None, "starting")


@story
async def test_a_caller_that_was_cancelled_before_changes_nothing() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    async with open_system([a.child(), b.child()], strategy="one_for_one") as tree:
        await tree.terminate_child("b")
        with trio.CancelScope() as scope:
            scope.cancel()
            await tree.start_child(c.child())
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await tree.restart_child("b")
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert listed(tree) == "a=running b=stopped"
        assert (b.is_running, c.is_running) == (False, False)


@story
async def test_a_caller_cancelled_in_the_moment_of_the_start_sees_one_or_the_other() -> None:
    """Either the call has succeeded and the child stays, or it is taken back."""
    record = Record()
    async with open_system([]) as tree:
        for number in range(40):
            actor = Actor(record, f"w{number}", [2, *STAYS])
            with trio.move_on_after(2) as scope:
                await tree.start_child(actor.child())
            await trio.sleep(1)
            expected = ("gone", False) if scope.cancelled_caught else ("running", True)
            assert (status_of(tree, actor.key), actor.is_running) == expected


@story
async def test_every_call_is_a_checkpoint_whatever_its_answer() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child()], strategy="one_for_one") as tree:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: tree.start_child(a.child()),
            lambda: tree.terminate_child("x"),
            lambda: tree.restart_child("a"),
            lambda: tree.delete_child("a"),
        ]
        for call in calls:
            with trio.testing.assert_checkpoints():
                assert await answer(call()) != "ok"


@story
async def test_a_child_started_by_a_call_outlives_its_caller() -> None:
    """It is born under its supervisor, whatever cancels or surrounds the caller."""
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([]) as tree:
        with trio.CancelScope() as scope:
            await tree.start_child(a.child())
            scope.cancel()
            await trio.sleep_forever()
        await trio.sleep(1)
        assert listed(tree) == "a=running"


@story
async def test_a_call_made_by_a_child_that_is_ended_meanwhile_is_cancelled_with_it() -> None:
    record = Record()
    b = Actor(record, "b", [5, *STAYS])
    known: list[SystemHandle] = []
    go = trio.Event()

    async def boss(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await go.wait()
        await known[0].start_child(b.child())

    children = [Child("boss", boss, restart="temporary")]
    async with open_system(children, strategy="one_for_one") as tree:
        known.append(tree)
        go.set()
        await trio.sleep(2)
        assert listed(tree) == "boss=running b=starting"
        await tree.terminate_child("boss")
        await trio.sleep(8)
        assert record.take() == [(0, "~b1"), (2, "-b1")]
        assert listed(tree) == ""
