"""Starting, after supervisor_SUITE and SupervisorTest: each test bears its scenario's number."""

from __future__ import annotations

import traceback

import pytest
import trio

from spry_py import (
    Child,
    ChildFailure,
    Ignore,
    NonChildFailure,
    Normal,
    RateLimited,
    ReusedKey,
    Scope,
    SystemSupervisor,
    open_system,
)
from stories import story
from workers import Crew, Refusal, causes, counts, die, listing, refuse, subsystem, supervise


@story
async def test_a01_sup_start_normal() -> None:
    empty = SystemSupervisor([], strategy="one_for_one")
    async with open_system(supervise([Child("empty", empty)], "one_for_one")) as handle:
        inner = subsystem(handle, "empty")
        assert counts(inner) == (0, 0, 0, 0)
        assert listing(inner) == []
        assert listing(handle) == [("empty", "running", 1)]
    report = await inner.wait()
    assert (report.path, report.reason, report.burden) == (
        "system/empty",
        Normal(None),
        "settling",
    )
    report = await handle.wait()
    assert (report.path, report.reason, report.burden) == ("system", Normal(None), "settling")


@story
async def test_a02_sup_start_ignore_init() -> None:
    crew = Crew()

    async def declines(scope: Scope) -> None:
        await scope.start(crew.worker("child1"))
        raise Ignore

    async with open_system(
        [Child("sub", SystemSupervisor(declines)), crew.worker("child2")]
    ) as handle:
        assert crew.news() == ["child1 start", "child1 returned", "child2 start"]
        assert handle.child("sub").status == "ignored"
        assert handle.child("sub").value is None
        assert counts(handle) == (2, 1, 1, 1)
        await trio.sleep(0.1)
        assert crew.news() == []


@story
async def test_a03_sup_start_ignore_child() -> None:
    crew = Crew()
    children = [crew.ignore1("child1"), crew.worker("child2")]
    async with open_system(supervise(children, "one_for_one")) as handle:
        assert crew.news() == ["child1 raised Ignore", "child2 start"]
        assert [(info.key, info.status, info.value) for info in handle.which_children()] == [
            ("child1", "ignored", None),
            ("child2", "running", "child2#1"),
        ]
        assert counts(handle) == (2, 1, 0, 2)
    assert crew.news() == ["child2 returned"]


@story
async def test_a03_an_ignored_child_is_tried_again_by_a_replay() -> None:
    crew = Crew()
    child1, child2 = crew.ignore1("child1"), crew.worker("child2")
    values: list[object] = []

    async def system(scope: Scope) -> None:
        values.append(await scope.start(child1))
        values.append(await scope.start(child2))

    async with open_system(system, strategy="one_for_all") as handle:
        assert crew.news() == ["child1 raised Ignore", "child2 start"]
        assert await crew.tell("child2", die) == [
            "child2 raised Crash",
            "child1 start #2",
            "child2 start #2",
        ]
        assert values == [None, "child2#1", "child1#2", "child2#2"]
        assert counts(handle) == (2, 2, 0, 2)


@story
async def test_a04_sup_start_ignore_temporary_child() -> None:
    crew = Crew()
    children = [
        crew.ignore1("child1", restart="temporary"),
        crew.worker("child2", restart="temporary"),
    ]
    async with open_system(supervise(children, "one_for_one")) as handle:
        assert crew.news() == ["child1 raised Ignore", "child2 start"]
        assert listing(handle) == [("child2", "running", 1)]
        assert counts(handle) == (1, 1, 0, 1)


@story
async def test_a08_sup_start_error_return() -> None:
    crew = Crew()

    async def rubbish(scope: Scope) -> object:
        await scope.start(crew.worker("child1"))
        return "rubbish"

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(rubbish):  # type: ignore[arg-type]
            raise AssertionError("a system that returns rubbish has not started")
    assert crew.news() == ["child1 start", "child1 returned"]
    assert "'rubbish'" in str(caught.value)
    assert [type(error) for error in causes(caught.value)] == [NonChildFailure, TypeError]


@story
async def test_a09_sup_start_fail() -> None:
    crew = Crew()
    error = LookupError("no such table")

    async def broken(scope: Scope) -> None:
        await scope.start(crew.worker("child1"))
        await scope.start(crew.worker("child2"))
        raise error

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(broken):
            raise AssertionError("a system that raised has not started")
    assert crew.news() == ["child1 start", "child2 start", "child2 returned", "child1 returned"]
    assert causes(caught.value) == [caught.value, error]
    assert str(caught.value) == (
        "the system function of 'broken' failed: LookupError: no such table"
    )


@story
async def test_a09_a_nested_start_fails_in_turn() -> None:
    crew = Crew()
    error = LookupError("no such table")

    async def broken(scope: Scope) -> None:
        await scope.start(crew.worker("child2"))
        raise error

    children = [
        crew.worker("child1"),
        Child("sub", SystemSupervisor(broken)),
        crew.worker("child3"),
    ]
    with pytest.raises(ChildFailure) as caught:
        async with open_system(children):
            raise AssertionError("a system whose child raised has not started")
    assert crew.news() == ["child1 start", "child2 start", "child2 returned", "child1 returned"]
    assert [type(cause) for cause in causes(caught.value)] == [
        ChildFailure,
        NonChildFailure,
        LookupError,
    ]
    assert causes(caught.value)[-1] is error
    assert (caught.value.key, caught.value.path) == ("sub", "system/sub")


@story
async def test_a10_sup_start_child_returns_error() -> None:
    crew = Crew()
    refusals: list[BaseException] = []

    async def refuse(*, task_status: trio.TaskStatus[object]) -> None:
        raise Refusal("one")

    async def never_starts(*, task_status: trio.TaskStatus[object]) -> str:
        return "some other term"

    async def system(scope: Scope) -> None:
        for start in (refuse, never_starts):
            try:
                await scope.start(Child("child1", start))
            except ChildFailure as failure:
                refusals.append(failure)
        await scope.start(crew.worker("child2"))

    async with open_system(system) as handle:
        assert listing(handle) == [("child2", "running", 1)]
        assert counts(handle) == (1, 1, 0, 1)
    assert [(error.key, error.path) for error in refusals if isinstance(error, ChildFailure)] == [
        ("child1", "system/child1"),
        ("child1", "system/child1"),
    ]
    assert isinstance(refusals[0].__cause__, Refusal)
    assert "started" in str(refusals[1])


@story
async def test_a10_uncaught_it_takes_the_earlier_ones_with_it() -> None:
    crew = Crew()
    children = [
        crew.worker("child1"),
        crew.worker("child2"),
        crew.gate("child3"),
        crew.worker("child4"),
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.tell_soon, "child3", refuse)
        with pytest.raises(ChildFailure) as caught:
            async with open_system(children):
                raise AssertionError("a system whose child refused has not started")
    assert crew.news() == [
        "child1 start",
        "child2 start",
        "child3 raised Refusal",
        "child2 returned",
        "child1 returned",
    ]
    assert isinstance(caught.value.__cause__, Refusal)


@story
async def test_a26_duplicate_ids() -> None:
    crew = Crew()

    async def twice(scope: Scope) -> None:
        await scope.start(crew.worker("child1"))
        await scope.start(crew.worker("child1"))

    with pytest.raises(ReusedKey) as caught:
        async with open_system(twice):
            raise AssertionError("a system that uses a key twice has not started")
    assert (caught.value.key, caught.value.path) == ("child1", "twice/child1")
    assert crew.news() == ["child1 start", "child1 returned"]


@story
async def test_a26_the_key_of_a_start_that_failed_and_was_caught_is_free() -> None:
    crew = Crew()

    async def refuse(*, task_status: trio.TaskStatus[object]) -> None:
        raise Refusal

    async def system(scope: Scope) -> None:
        with pytest.raises(ChildFailure):
            await scope.start(Child("child1", refuse))
        await scope.start(crew.worker("child1"))

    async with open_system(system) as handle:
        assert [info.key for info in handle.which_children()] == ["child1"]
        assert handle.child("child1").status == "running"


@story
async def test_a28_options_belong_to_a_bare_system() -> None:
    with pytest.raises(TypeError, match="strategy"):
        async with open_system(SystemSupervisor([]), strategy="one_for_one"):  # type: ignore[call-overload]
            raise AssertionError("options of a supervisor were not refused")


@story
async def test_a51_faulty_application_shutdown() -> None:
    crew = Crew()

    async def undefined(*, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(no_such_function())  # type: ignore[name-defined]  # noqa: F821

    children = [crew.worker("child1"), Child("faulty", undefined)]
    with pytest.raises(ChildFailure) as caught:
        async with open_system(supervise(children, "one_for_one")):
            raise AssertionError("a faulty system has not started")
    assert (caught.value.key, caught.value.path) == ("faulty", "system/faulty")
    cause = caught.value.__cause__
    assert isinstance(cause, NameError)
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "undefined"
    assert str(caught.value) == (
        "child 'system/faulty' failed to start: NameError: name 'no_such_function' is not defined"
    )
    assert crew.news() == ["child1 start", "child1 returned"]


@story
async def test_c03_init_defaults() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.worker("child2")]
    async with open_system(SystemSupervisor(children, breaker=RateLimited())) as handle:
        assert crew.news() == ["child1 start", "child2 start"]
        assert await crew.tell("child1", die) == [
            "child1 raised Crash",
            "child2 returned",
            "child1 start #2",
            "child2 start #2",
        ]
        assert handle.path == "system"
    assert (RateLimited().max_restarts, RateLimited().within) == (3, 10.0)


@story
async def test_c05_c06_c07_a_supervisor_is_addressable_by_its_path() -> None:
    crew = Crew()

    async def registry(scope: Scope) -> None:
        await scope.start(crew.worker("agent"))

    tree = [Child("left", SystemSupervisor(registry)), Child("right", SystemSupervisor([]))]
    async with open_system(tree, name="shop") as handle:
        assert handle.path == "shop"
        assert handle.find("left").path == "shop/left"
        assert handle.find("left/agent").path == "shop/left/agent"
        assert subsystem(handle, "left").child("agent").value == "agent#1"
        assert subsystem(handle, "right").path == "shop/right"
    async with open_system(registry) as handle:
        assert handle.path == "registry"


@story
async def test_c08_start_link() -> None:
    async def stack(items: tuple[str, ...], *, task_status: trio.TaskStatus[list[str]]) -> None:
        task_status.started(list(items))
        await trio.sleep(2)

    child = Child("stack", stack, ("hello",))
    async with open_system(supervise([child], "one_for_one")) as handle:
        state = handle.child("stack").value
        assert isinstance(state, list)
        assert (state.pop(), state) == ("hello", [])
        await trio.sleep(3)
        assert listing(handle) == [("stack", "running", 2)]
        assert handle.child("stack").value == ["hello"]
