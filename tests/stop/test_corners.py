"""Stopping a tree from unusual places, and trees that are embedded by hand."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from spry_py import (
    Child,
    ChildFailure,
    NeverRestart,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    TooManyRestarts,
    current_context,
    open_system,
)
from stories import Boom, Record, story


@story
async def test_stop_called_by_the_system_function_in_a_replay() -> None:
    record = Record()
    a, b = cast(record, "ab")
    trees: list[SystemHandle] = []

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        if trees:
            await trees[0].stop()
            record("never")
        await scope.start(b.child())

    async with open_system(system) as tree:
        trees.append(tree)
        a.die()
        await tree.wait()
    assert record.order == "+a1 +b1 -a1 -b1 +a2 -a2"


@story
async def test_stop_called_by_on_termination() -> None:
    record = Record()
    a, b = cast(record, "ab")
    trees: list[SystemHandle] = []

    async def leave(report: TerminationReport) -> None:
        await trees[0].stop()

    async with open_system([a.child(), b.child(on_termination=leave)]) as tree:
        trees.append(tree)
        b.die()
        await tree.wait()
    assert record.facts == [(0, "+a1"), (0, "+b1"), (0, "-b1"), (0, "-a1")]


@story
async def test_stop_of_a_subsystem_called_by_its_own_child() -> None:
    record = Record()
    a, b = cast(record, "ab")
    subs: list[SystemHandle] = []

    async def leaver() -> None:
        await trio.sleep(1)
        try:
            await subs.pop().stop()
        finally:
            record("leaver ends")

    async def top(scope: Scope) -> None:
        await scope.start(a.child())
        sub = SystemSupervisor([b.child(), Child("leaver", leaver, shutdown=50)])
        subs.append(await scope.start(Child("sub", sub, restart="transient")))

    async with open_system(top) as tree:
        await trio.sleep(2)
        assert tree.child("sub").status == "done"
    assert record.facts == [
        (0, "+a1"),
        (0, "+b1"),
        (1, "leaver ends"),
        (1, "-b1"),
        (2, "-a1"),
    ]


@story
async def test_a_child_that_settles_and_then_stops_its_tree_does_not_wait_for_itself() -> None:
    record = Record()
    (a,) = cast(record, "a")
    trees: list[SystemHandle] = []

    async def leaver() -> None:
        await current_context().settled()
        try:
            await trees[0].stop()
        finally:
            record("leaver ends")

    async with open_system([a.child(), Child("leaver", leaver, shutdown=50)]) as tree:
        trees.append(tree)
        await trio.sleep(1)
    assert record.facts == [(0, "+a1"), (1, "leaver ends"), (1, "-a1")]


# Embedded by hand


@story
async def test_a_failing_first_start_comes_out_of_nursery_start() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [no_start], STAYS)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ChildFailure) as caught:
            await nursery.start(SystemSupervisor([a.child(), b.child()], name="top"))
    assert caught.value.path == "top/b"
    assert record.order == "+a1 !b1 -a1"


@story
async def test_a_startup_cancelled_inside_nursery_start_is_stopped_in_order() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=1)
    b = Actor(record, "b", [9, *STAYS], cleanup=1)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await nursery.start(SystemSupervisor([a.child(), b.child()]))
        record("given up")
    assert scope.cancelled_caught
    assert record.facts == [(0, "+a1"), (0, "~b1"), (2, "-b1"), (3, "-a1"), (3, "given up")]


@story
async def test_a_wrapper_around_a_supervisor_is_a_child_whose_tree_is_its_own() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", LISTENS, cleanup=2)

    async def wrapped(*, task_status: trio.TaskStatus[SystemHandle]) -> None:
        await SystemSupervisor([b.child(), c.child()], name="inner")(task_status=task_status)

    async with open_system([a.child(), Child("wrapped", wrapped, shutdown=9)], name="top") as tree:
        inner = tree.child("wrapped").value
        assert isinstance(inner, SystemHandle)
        assert (inner.path, tree.child("wrapped").kind) == ("inner", "worker")
        record.take()
        await trio.sleep(1)
    assert record.facts == [(3, "-c1"), (3, "-b1"), (3, "-a1")]


# A tree inside a child that is cancelled


@pytest.mark.parametrize("by", ["run_timeout", "fail", "start_timeout"])
@story
async def test_a_tree_inside_a_child_is_cancelled_with_it_whatever_the_cause(by: str) -> None:
    record = Record()

    async def patient() -> None:
        await current_context().settled()
        try:
            await trio.sleep(40)
        finally:
            record("patient gone")

    async def own(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_system([Child("patient", patient, shutdown=50)]):
            if by != "start_timeout":
                task_status.started()
            await trio.sleep(2)
            if by == "fail":
                current_context().fail(Boom("told"))
            await trio.sleep_forever()

    options: dict[str, Any] = {} if by == "fail" else {by: 2}

    async def system(scope: Scope) -> None:
        with suppress(ChildFailure):
            await scope.start(Child("own", own, restart="temporary", **options))

    async with open_system(system):
        await trio.sleep(99)
    # Never asked: it was cancelled where it was waiting to be.
    assert record.facts == []


# Exits and escalations in the midst of other things


@pytest.mark.parametrize("nested", [False, True])
@story
async def test_an_exit_during_a_startup_interrupts_it(nested: bool) -> None:
    record = Record()
    error = KeyboardInterrupt()
    a, b = cast(record, "ab")
    c = Actor(record, "c", [9, *STAYS])

    async def leave() -> None:
        await trio.sleep(1)
        raise error

    async def system(scope: Scope) -> None:
        await scope.start(b.child())
        await scope.start(Child("leaver", leave))
        await scope.start(c.child())

    inner: Any = [a.child(), Child("sub", SystemSupervisor(system))] if nested else system
    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system(inner):
            record("never")
    assert caught.value is error
    downs = [fact for _, fact in record.facts if fact.startswith("-")]
    assert downs == (["-c1", "-b1", "-a1"] if nested else ["-c1", "-b1"])


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_exit_during_a_sweep_restarts_nothing(strategy: Strategy) -> None:
    record = Record()
    error = SystemExit(3)
    a, b = cast(record, "ab")
    c = Actor(record, "c", cleanup=3)
    with pytest.raises(SystemExit) as caught:
        async with open_system([a.child(), b.child(), c.child()], strategy=strategy):
            record.take()
            b.die()
            await trio.sleep(1)
            a.die(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert record.facts == [(0, "-b1"), (1, "-a1"), (3, "-c1")]


@story
async def test_an_exit_during_a_backoff_restarts_nothing() -> None:
    record = Record()
    error = KeyboardInterrupt()
    a, b = cast(record, "ab")
    children = [a.child(), b.child(backoff=tenacity.wait_fixed(9))]
    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system(children, strategy="one_for_one"):
            b.die()
            await trio.sleep(1)
            a.die(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert record.facts == [(0, "+a1"), (0, "+b1"), (0, "-b1"), (1, "-a1")]


@story
async def test_an_escalation_does_not_wait_for_on_termination_of_another() -> None:
    record = Record()
    a, b, c = cast(record, "abc")

    async def dawdle(report: TerminationReport) -> None:
        try:
            await trio.sleep(4)
        finally:
            record("hook over")

    children = [a.child(), b.child(on_termination=dawdle), c.child()]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(children, name="top", strategy="one_for_one", breaker=NeverRestart):
            record.take()
            b.die()
            await trio.sleep(1)
            c.die()
            await trio.sleep_forever()
    assert caught.value.path == "top/c"
    assert record.facts == [(0, "-b1"), (1, "-c1"), (1, "hook over"), (1, "-a1")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_abort_in_the_middle_of_a_sweep_ends_it(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc", cleanup=2)
    sub = SystemSupervisor([a.child(), b.child(), c.child()], strategy=strategy)
    async with open_system([Child("sub", sub, restart="temporary")], name="top") as tree:
        handle = tree.child("sub")
        record.take()
        a.die()
        await trio.sleep(3)
        handle.value.abort()
        report = await handle.wait()
    assert (type(report.reason).__name__, report.burden) == ("Aborted", "none")
    facts = record.take()
    assert sorted(facts) == [(2, "-a1"), (4, "-c1"), (5, "-b1")]
