"""Calls from outside on a supervisor that runs: every answer, and what it does."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import answer, listed, status_of
from spry_py import (
    Child,
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildFailure,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    Ignore,
    Normal,
    StartTimeout,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Ledger, Record, story
from workers import STRATEGIES

TWO = tenacity.wait_fixed(2)

ANSWERS = {
    # state of c: the answers, and the list afterwards, for start, terminate, restart, delete
    "unknown": (
        ("ok", "a=running c=running"),
        ("ChildNotFound", "a=running"),
        ("ChildNotFound", "a=running"),
        ("ChildNotFound", "a=running"),
    ),
    "running": (
        ("ChildAlreadyStarted", "a=running c=running"),
        ("ok", "a=running c=stopped"),
        ("ChildRunning", "a=running c=running"),
        ("ChildRunning", "a=running c=running"),
    ),
    "restarting": (
        ("ChildAlreadyPresent", "a=running c=restarting"),
        ("ok", "a=running c=stopped"),
        ("ChildRestarting", "a=running c=restarting"),
        ("ChildRestarting", "a=running c=restarting"),
    ),
    "stopped": (
        ("ChildAlreadyPresent", "a=running c=stopped"),
        ("ok", "a=running c=stopped"),
        ("ok", "a=running c=running"),
        ("ok", "a=running"),
    ),
    "done": (
        ("ChildAlreadyPresent", "a=running c=done"),
        ("ok", "a=running c=done"),
        ("ok", "a=running c=running"),
        ("ok", "a=running"),
    ),
    "ignored": (
        ("ChildAlreadyPresent", "a=running c=ignored"),
        ("ok", "a=running c=ignored"),
        ("ok", "a=running c=running"),
        ("ok", "a=running"),
    ),
}
CALLS = ("start", "terminate", "restart", "delete")


async def make(tree: SystemHandle, call: str, actor: Actor) -> str:
    """One of the four calls about the key of the actor."""
    if call == "start":
        return await answer(tree.start_child(actor.child(restart="transient")))
    if call == "terminate":
        return await answer(tree.terminate_child(actor.key))
    if call == "restart":
        return await answer(tree.restart_child(actor.key))
    return await answer(tree.delete_child(actor.key))


async def bring_about(tree: SystemHandle, actor: Actor, state: str) -> None:
    """Let the child of the actor get into that state."""
    if state == "unknown":
        assert await make(tree, "terminate", actor) == "ok"
        assert await make(tree, "delete", actor) == "ok"
    elif state == "stopped":
        assert await make(tree, "terminate", actor) == "ok"
    elif state == "restarting":
        actor.die()
    elif state == "done":
        actor.stop()
    await trio.sleep(0.5)
    assert status_of(tree, actor.key) == ("gone" if state == "unknown" else state)


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", list(ANSWERS))
@story
async def test_every_call_has_an_answer_in_every_state(
    state: str, call: str, added: bool, strategy: Strategy
) -> None:
    """For declared children and for added ones; the last one, so that no sibling goes along."""
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    first = [Ignore] if state == "ignored" else LISTENS
    c = Actor(record, "c", first, LISTENS)
    child = c.child(restart="transient", backoff=TWO)
    declared = [a.child()] if added else [a.child(), child]
    async with open_system(declared, strategy=strategy) as tree:
        if added:
            await tree.start_child(child)
        await bring_about(tree, c, state)
        expected = ANSWERS[state][CALLS.index(call)]
        assert (await make(tree, call, c), listed(tree)) == expected


@story
async def test_the_errors_name_the_child() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child(backoff=TWO)], name="top", strategy="one_for_one") as tree:
        with pytest.raises(ChildAlreadyStarted, match="'top/a'"):
            await tree.start_child(a.child())
        with pytest.raises(ChildRunning, match="'top/a'"):
            await tree.restart_child("a")
        with pytest.raises(ChildRunning, match="'top/a'"):
            await tree.delete_child("a")
        with pytest.raises(ChildNotFound, match="'x'"):
            await tree.terminate_child("x")
        a.die()
        await trio.sleep(1)
        with pytest.raises(ChildRestarting, match="'top/a'"):
            await tree.restart_child("a")
        await tree.terminate_child("a")
        with pytest.raises(ChildAlreadyPresent, match="'top/a'"):
            await tree.start_child(a.child())


# start_child


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_start_child_gives_a_handle_once_it_is_started(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", [3, *STAYS])
    async with open_system([a.child(), b.child()], name="top", strategy=strategy) as tree:
        handle = await tree.start_child(c.child("x"))
        assert (handle.key, handle.path, handle.kind) == ("c", "top/c", "worker")
        assert (handle.status, handle.value, handle.incarnation) == ("running", "c#1", 1)
        assert listed(tree) == "a=running b=running c=running"
        assert tree.child("c").value == "c#1"
    assert record.facts == [
        (0, "+a1"),
        (0, "+b1"),
        (0, "~c1"),
        (3, "+c1(x)"),
        (3, "-c1"),
        (3, "-b1"),
        (3, "-a1"),
    ]


@story
async def test_a_child_of_any_kind_can_be_started() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([a.child(), b.child()]))
    async with open_system([], name="top") as tree:
        handle = await tree.start_child(sub)
        assert isinstance(handle.value, SystemHandle)
        assert (handle.kind, handle.value.path) == ("supervisor", "top/sub")
        assert tree.find("sub/b").value == "b#1"
        await tree.terminate_child("sub")
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_a_function_without_task_status_can_be_started() -> None:
    done: list[str] = []

    async def brief() -> str:
        done.append("brief")
        return "over"

    async with open_system([]) as tree:
        handle = await tree.start_child(Child("c", brief, restart="transient"))
        await trio.sleep(1)
        assert (handle.status, handle.value, done) == ("done", None, ["brief"])
        report = await handle.wait()
        assert (report.reason, report.burden) == (Normal("over"), "none")


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a_start_that_fails_leaves_nothing_behind(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    c = Actor(record, "c", [1, no_start], [1, *STAYS])
    ledger = Ledger(record)
    async with open_system([a.child()], name="top", strategy=strategy, breaker=ledger) as tree:
        with pytest.raises(ChildFailure) as caught:
            await tree.start_child(c.child())
        assert (caught.value.key, caught.value.path) == ("c", "top/c")
        assert isinstance(caught.value.__cause__, Boom)
        assert str(caught.value) == "child 'top/c' failed to start: Boom: no start of c1"
        assert listed(tree) == "a=running"
        handle = await tree.start_child(c.child())
        assert handle.value == "c#2"
    assert record.order == "+a1 ~c1 !c1 ~c2 +c2 -c2 -a1"


@story
async def test_a_subsystem_that_fails_to_start_is_torn_down_and_left_out() -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", [no_start], STAYS)
    sub = Child("sub", SystemSupervisor([a.child(), b.child()]))
    async with open_system([], name="top") as tree:
        with pytest.raises(ChildFailure) as caught:
            await tree.start_child(sub)
        assert caught.value.path == "top/sub"
        cause = caught.value.__cause__
        assert isinstance(cause, ChildFailure)
        assert cause.path == "top/sub/b"
        assert listed(tree) == ""
    assert record.order == "+a1 !b1 -a1"


@story
async def test_a_start_that_takes_too_long_fails() -> None:
    record = Record()
    c = Actor(record, "c", [9, *STAYS])
    async with open_system([]) as tree:
        with pytest.raises(ChildFailure) as caught:
            await tree.start_child(c.child(start_timeout=2))
        assert isinstance(caught.value.__cause__, StartTimeout)
        assert listed(tree) == ""
    assert record.facts == [(0, "~c1"), (2, "-c1")]


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_one_that_is_left_out_is_kept_unless_temporary(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    c, d = Actor(record, "c", [Ignore], STAYS), Actor(record, "d", [Ignore], STAYS)
    async with open_system([a.child()], strategy=strategy) as tree:
        kept = await tree.start_child(c.child())
        assert (kept.status, kept.value) == ("ignored", None)
        spent = await tree.start_child(d.child(restart="temporary"))
        assert (spent.key, spent.value) == ("d", None)
        assert listed(tree) == "a=running c=ignored"
        assert await answer(tree.restart_child("d")) == "ChildNotFound"
        again = await tree.restart_child("c")
        assert (again.status, again.value) == ("running", "c#2")
    assert record.order == "+a1 /c1 /d1 +c2 -c2 -a1"


@story
async def test_an_added_child_is_restarted_as_its_child_says() -> None:
    record = Record()
    p, t, q = cast(record, "ptq")
    async with open_system([], strategy="one_for_one", breaker=Ledger(record)) as tree:
        await tree.start_child(p.child())
        await tree.start_child(t.child(restart="transient", backoff=TWO))
        await tree.start_child(q.child(restart="temporary"))
        record.take()
        p.stop()
        t.die()
        q.die()
        await trio.sleep(3)
        assert listed(tree) == "p=running t=running"
        assert sorted(record.take()) == [
            (0, "+p2"),
            (0, "-p1"),
            (0, "-q1"),
            (0, "-t1"),
            (0, "?p"),
            (0, "?t"),
            (2, "+t2"),
        ]


@pytest.mark.parametrize("wrong", ["a", None, 3])
@story
async def test_only_a_child_can_be_started(wrong: object) -> None:
    async with open_system([]) as tree:
        with pytest.raises(TypeError, match="Child"):
            await tree.start_child(wrong)  # type: ignore[arg-type]


@story
async def test_a_significant_child_is_refused_where_nothing_ends_with_it() -> None:
    record = Record()
    (a,) = cast(record, "a")
    child = a.child(restart="transient", significant=True)
    async with open_system([]) as tree:
        with pytest.raises(ValueError, match="significant"):
            await tree.start_child(child)
    async with open_system([], auto_shutdown="any_significant") as tree:
        await tree.start_child(child)
        a.stop()
        assert (await tree.wait()).reason == Normal(None)
    assert record.order == "+a1 -a1"


@story
async def test_a_child_whose_start_says_ignore_from_within_its_tasks_is_left_out() -> None:
    async def shy(*, task_status: trio.TaskStatus[None]) -> None:
        raise ExceptionGroup("of its tasks", [Ignore()])

    async with open_system([]) as tree:
        handle = await tree.start_child(Child("a", shy))
        assert (handle.status, handle.value) == ("ignored", None)
