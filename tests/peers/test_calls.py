"""Calls on a supervisor, after supervisor_SUITE: each test bears its scenario's number."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from callers import answer
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    RestartType,
    Strategy,
    SupervisorStopped,
    SystemSupervisor,
    open_system,
)
from stories import story
from workers import (
    ORDERS,
    RESTARTS,
    STRATEGIES,
    Crew,
    Refusal,
    Way,
    be_killed,
    calm,
    counts,
    die,
    listing,
    open_empty,
    supervise,
)


@story
async def test_a03_sup_start_ignore_child() -> None:
    crew = Crew()
    async with open_empty() as handle:
        child1 = await handle.start_child(crew.ignore1("child1"))
        child2 = await handle.start_child(crew.worker("child2"))
        assert (child1.status, child1.value) == ("ignored", None)
        assert (child2.status, child2.value) == ("running", "child2#1")
        assert [(info.key, info.value) for info in handle.which_children()] == [
            ("child1", None),
            ("child2", "child2#1"),
        ]
        assert counts(handle) == (2, 1, 0, 2)
    assert crew.news() == ["child1 raised Ignore", "child2 start", "child2 returned"]


@story
async def test_a05_sup_start_ignore_temporary_child_start_child() -> None:
    crew = Crew()
    async with open_empty() as handle:
        child1 = await handle.start_child(crew.ignore1("child1", restart="temporary"))
        child2 = await handle.start_child(crew.worker("child2", restart="temporary"))
        assert (child1.value, child2.value) == (None, "child2#1")
        assert listing(handle) == [("child2", "running", 1)]
        assert counts(handle) == (1, 1, 0, 1)


@story
async def test_a10_sup_start_child_returns_error() -> None:
    errors = [Refusal("reason"), LookupError("some other term")]

    async def refuse(error: Exception, *, task_status: trio.TaskStatus[object]) -> None:
        raise error

    async with open_empty() as handle:
        for error in errors:
            with pytest.raises(ChildFailure) as caught:
                await handle.start_child(Child("child1", refuse, error))
            assert caught.value.__cause__ is error
            assert (caught.value.key, caught.value.path) == ("child1", "system/child1")
            assert listing(handle) == []
        assert counts(handle) == (0, 0, 0, 0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a11_sup_start_restart_child_returns_error(strategy: Strategy) -> None:
    crew = Crew()
    async with open_system(supervise([crew.fail2("child1")], strategy)) as handle:
        await handle.terminate_child("child1")
        with pytest.raises(ChildFailure) as caught:
            await handle.restart_child("child1")
        assert isinstance(caught.value.__cause__, Refusal)
        assert crew.news() == ["child1 start", "child1 returned", "child1 raised Refusal"]
        assert listing(handle) == [("child1", "stopped", 2)]
        assert counts(handle) == (1, 0, 0, 1)


@story
async def test_a23_child_adm() -> None:
    crew = Crew()
    child = crew.worker("child1")
    async with open_system(supervise([child], "one_for_one")) as handle:
        assert counts(handle) == (1, 1, 0, 1)
        assert await answer(handle.start_child(child)) == "ChildAlreadyStarted"
        assert await answer(handle.terminate_child("child2")) == "ChildNotFound"
        assert await answer(handle.terminate_child("child1")) == "ok"
        assert crew.news() == ["child1 start", "child1 returned"]
        assert listing(handle) == [("child1", "stopped", 1)]
        assert counts(handle) == (1, 0, 0, 1)
        assert await answer(handle.terminate_child("child1")) == "ok"
        assert await answer(handle.start_child(child)) == "ChildAlreadyPresent"
        assert (await handle.restart_child("child1")).value == "child1#2"
        assert await answer(handle.restart_child("child1")) == "ChildRunning"
        assert await answer(handle.restart_child("child2")) == "ChildNotFound"
        assert await answer(handle.delete_child("child1")) == "ChildRunning"
        assert await answer(handle.delete_child("child2")) == "ChildNotFound"
        assert await answer(handle.terminate_child("child1")) == "ok"
        assert await answer(handle.delete_child("child1")) == "ok"
        assert await answer(handle.restart_child("child1")) == "ChildNotFound"
        assert (listing(handle), counts(handle)) == ([], (0, 0, 0, 0))
        crew.news()
        await handle.start_child(child)
        assert await answer(handle.terminate_child("system/child1")) == "ChildNotFound"
        assert (len(crew.news()), counts(handle)) == (1, (1, 1, 0, 1))


@story
async def test_a23_calls_on_a_supervisor_that_is_no_more() -> None:
    crew = Crew()
    async with open_empty() as handle:
        pass
    for call in (
        handle.start_child(crew.worker("child1")),
        handle.terminate_child("child1"),
        handle.restart_child("child1"),
        handle.delete_child("child1"),
    ):
        with pytest.raises(SupervisorStopped, match="system"):
            await call
    assert crew.news() == []


@story
async def test_a25_extra_return() -> None:
    crew = Crew()
    children = [crew.worker("child1")]
    async with open_system(supervise(children, "one_for_one")) as handle:
        assert handle.child("child1").value == "child1#1"
        await handle.terminate_child("child1")
        again = await handle.restart_child("child1")
        assert (again.value, await again.wait_started()) == ("child1#2", "child1#2")
        await handle.terminate_child("child1")
        await handle.delete_child("child1")
        assert counts(handle) == (0, 0, 0, 0)
        new = await handle.start_child(crew.worker("child1"))
        first = new.value
        crew.news()
        assert await crew.tell("child1", die) == ["child1 raised Crash", "child1 start #2"]
        assert (new.status, new.value != first) == ("running", True)
        assert counts(handle) == (1, 1, 0, 1)


@pytest.mark.parametrize("wrong", [{}, "child1", ("child1", print), [], None])
@story
async def test_a26_c14_what_is_no_child_is_refused(wrong: object) -> None:
    async with open_empty() as handle:
        with pytest.raises(TypeError, match="Child"):
            await handle.start_child(wrong)
        assert counts(handle) == (0, 0, 0, 0)


@story
async def test_a48_permanent_shutdown() -> None:
    """What is stopped from within its own tree is, for its supervisor, an end by itself."""
    crew = Crew()
    child = Child("child1", supervise([crew.worker("leaf")], "one_for_one"))
    async with open_empty() as handle:
        await handle.start_child(child)
        inner = handle.child("child1").value
        await inner.stop()
        await calm()
        assert listing(handle) == [("child1", "running", 2)]
        inner.abort()
        await calm()
        assert listing(handle) == [("child1", "running", 3)]
        assert counts(handle) == (1, 1, 1, 0)


@story
async def test_a49_transient_shutdown() -> None:
    crew = Crew()
    child = Child("child1", supervise([crew.worker("leaf")], "one_for_one"), restart="transient")
    async with open_empty() as handle:
        await handle.start_child(child)
        inner = handle.child("child1").value
        await inner.stop()
        await calm()
        assert listing(handle) == [("child1", "done", 1)]
        await handle.restart_child("child1")
        assert listing(handle) == [("child1", "running", 2)]
        inner.abort()
        await calm()
        assert listing(handle) == [("child1", "done", 2)]
        assert counts(handle) == (1, 0, 1, 0)


@story
async def test_a50_temporary_shutdown() -> None:
    crew = Crew()
    child = Child("child1", supervise([crew.worker("leaf")], "one_for_one"), restart="temporary")
    async with open_empty() as handle:
        for way in ("stop", "abort"):
            await handle.start_child(child)
            inner = handle.child("child1").value
            if way == "stop":
                await inner.stop()
            else:
                inner.abort()
            await calm()
            assert (listing(handle), counts(handle)) == ([], (0, 0, 0, 0))


@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("way", ["stop", "die"])
@story
async def test_a45_a46_a47_a52_a53_a54_for_children_that_were_added(
    way: str, restart: RestartType
) -> None:
    crew = Crew()
    async with open_empty() as handle:
        await handle.start_child(crew.worker("child1", restart=restart))
        await crew.tell("child1", ORDERS[way])
        expected = {
            ("permanent", "stop"): [("child1", "running", 2)],
            ("permanent", "die"): [("child1", "running", 2)],
            ("transient", "stop"): [("child1", "done", 1)],
            ("transient", "die"): [("child1", "running", 2)],
        }
        assert listing(handle) == expected.get((restart, way), [])


@story
async def test_a55_child_unlink() -> None:
    """A child that does not react at all holds up its own caller, and nobody else."""
    crew = Crew()
    release = trio.Event()

    async def unlinked(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await release.wait()

    children = [Child("child1", unlinked, shutdown=0), crew.worker("child2")]
    async with (
        open_system(supervise(children, "one_for_one")) as handle,
        trio.open_nursery() as nursery,
    ):
        crew.news()
        nursery.start_soon(handle.terminate_child, "child1")
        await trio.sleep(1)
        assert (await handle.start_child(crew.worker("child3"))).value == "child3#1"
        await handle.terminate_child("child2")
        assert trio.current_time() == 1
        assert listing(handle) == [
            ("child1", "stopping", 1),
            ("child2", "stopped", 1),
            ("child3", "running", 1),
        ]
        release.set()
        await calm()
        assert handle.child("child1").status == "stopped"


WAYS: tuple[Way, ...] = ("kill", "stop", "die")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("way", [*WAYS, "terminate_child"])
@story
async def test_a76_do_not_save_child_specs_for_temporary_children(
    way: Any, restart: RestartType, strategy: Strategy
) -> None:
    crew = Crew()
    child = crew.worker("child1", restart=restart)
    async with open_empty(strategy) as handle:
        await handle.start_child(child)
        if way == "terminate_child":
            await handle.terminate_child("child1")
        else:
            await crew.tell("child1", ORDERS[way])
        if restart == "temporary":
            expected = "ok"
        elif way == "terminate_child" or (restart, way) == ("transient", "stop"):
            expected = "ChildAlreadyPresent"
        else:
            expected = "ChildAlreadyStarted"
        assert await answer(handle.start_child(child)) == expected


@story
async def test_a79_simple_global_supervisor() -> None:
    """By path instead of by registered name."""
    crew = Crew()
    middle = SystemSupervisor([crew.worker("worker")], breaker=AlwaysRestart)
    async with open_system([Child("middle", middle)], strategy="one_for_one") as top:
        before = top.child("middle").value
        worker = top.find("middle/worker")
        before.abort()
        await calm()
        assert (top.child("middle").incarnation, worker.value) == (2, "worker#2")
        await crew.tell("worker", be_killed)
        assert worker.value == "worker#3"
        await crew.tell("worker", die)
        assert worker.value == "worker#4"
        await before.terminate_child("worker")
        assert worker.status == "stopped"
        await before.restart_child("worker")
        assert (worker.status, worker.value) == ("running", "worker#5")
        await top.terminate_child("middle")
        assert (worker.status, top.child("middle").status) == ("stopped", "stopped")
        await top.restart_child("middle")
        assert (top.child("middle").incarnation, worker.value) == (3, "worker#6")
    assert await answer(worker.terminate()) == "SupervisorStopped"
    assert await answer(before.start_child(crew.worker("x"))) == "SupervisorStopped"


@story
async def test_a91_already_started_outside_supervisor() -> None:
    """A start that finds its address taken: the very error comes out."""
    error = OSError(98, "Address already in use")

    async def bind(*, task_status: trio.TaskStatus[object]) -> None:
        raise error

    async with open_empty() as handle:
        with pytest.raises(ChildFailure) as caught:
            await handle.start_child(Child("child1", bind))
        assert caught.value.__cause__ is error
        assert listing(handle) == []
