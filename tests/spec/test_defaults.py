"""Defaults: options that a supervisor gives to those of its children that do not say otherwise."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import trio
import trio.testing

from spry_py import (
    AlwaysRestart,
    Child,
    ChildOptions,
    DynamicSupervisor,
    RateLimited,
    RunTimeout,
    Scope,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import story

SHORT: ChildOptions = {"run_timeout": 0.05, "restart": "temporary"}


async def idle() -> None:
    await trio.sleep_forever()


async def ends_of(tree: Any, *added: Child[Any], **how: Any) -> list[tuple[str, str]]:
    """Key and kind of failure of all that has ended within a second."""
    ends: list[tuple[str, str]] = []

    async def listen(handle: SystemHandle) -> None:
        async with handle.events() as events:
            async for event in events:
                report = getattr(event, "report", None)
                if report is not None:
                    ends.append((report.key, type(report.exception).__name__))

    async with open_system(tree) as handle, trio.open_nursery() as nursery:
        nursery.start_soon(listen, handle)
        await trio.testing.wait_all_tasks_blocked()
        for child in added:
            await handle.start_child(child, **how)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return ends


@story
async def test_d1_a_child_added_later_has_them() -> None:
    timed_out = [("a", "RunTimeout")]
    assert await ends_of(DynamicSupervisor(defaults=SHORT), Child("a", idle)) == timed_out
    assert await ends_of(SystemSupervisor([], defaults=SHORT), Child("a", idle)) == timed_out


@story
async def test_d2_the_children_of_a_list_have_them() -> None:
    tree = SystemSupervisor([Child("a", idle), Child("b", idle)], defaults=SHORT)
    assert sorted(await ends_of(tree)) == [("a", "RunTimeout"), ("b", "RunTimeout")]


@story
async def test_d3_a_child_that_is_admitted_by_its_key_has_them() -> None:
    pool = DynamicSupervisor(defaults=SHORT)
    twice = Child("a", idle), Child("a", idle)
    assert await ends_of(pool, *twice, on_conflict="queue") == [("a", "RunTimeout")] * 2


@story
async def test_d4_one_that_says_nothing_obeys_them_all() -> None:
    runs: list[int] = []

    async def fails() -> None:
        runs.append(len(runs))
        raise ValueError("boom")

    tree = SystemSupervisor([], defaults={"restart": "temporary"})
    async with open_system(tree) as handle:
        with pytest.raises(Exception, match="failed to start"):
            await handle.start_child(Child("a", fails))
        await trio.sleep(1)
    assert runs == [0]


@story
async def test_d5_what_a_child_says_beats_them() -> None:
    child = Child("a", idle, run_timeout=math.inf)
    assert await ends_of(SystemSupervisor([child], defaults={"run_timeout": 0.02})) == []


@story
async def test_d6_a_budget_for_all_and_one_without() -> None:
    runs: list[str] = []

    async def flaky(name: str, good: int) -> None:
        runs.append(name)
        await trio.sleep(0.01)
        if runs.count(name) < good:
            raise ValueError("boom")

    budget: ChildOptions = {
        "restart": "transient",
        "breaker": RateLimited(1, math.inf),
        "on_unrecoverable": "discard",
    }
    children = [
        Child("a", flaky, "a", 9),
        Child("b", flaky, "b", 3, breaker=AlwaysRestart()),
    ]
    tree = SystemSupervisor(
        children, strategy="one_for_one", breaker=AlwaysRestart(), defaults=budget
    )
    async with open_system(tree) as handle:
        await trio.sleep(1)
        assert [handle.child(key).status for key in "ab"] == ["done", "done"]
    assert (runs.count("a"), runs.count("b")) == (2, 3)


@story
async def test_those_started_together_and_those_of_a_replay_have_them() -> None:
    async def system(scope: Scope) -> None:
        await scope.start_together(Child("a", idle), Child("b", idle))

    limits: ChildOptions = {"run_timeout": 0.4}
    tree = SystemSupervisor(system, breaker=AlwaysRestart(), defaults=limits)
    ends = await ends_of(tree)
    assert {name for _, name in ends} <= {"RunTimeout", "NoneType"}
    assert len([name for _, name in ends if name == "RunTimeout"]) >= 2


@story
async def test_a_supervisor_among_the_children_stays_as_it_is() -> None:
    inner = SystemSupervisor([Child("leaf", idle)])
    tree = SystemSupervisor([Child("sub", inner), Child("a", idle)], defaults=SHORT)
    assert await ends_of(tree) == [("a", "RunTimeout")]


def test_a_child_knows_what_it_was_given() -> None:
    child = Child("a", idle, shutdown=5.0)
    other = child.with_defaults({"shutdown": 1.0, "restart": "transient"})
    assert (other.shutdown, other.restart) == (5.0, "transient")
    assert other.replace(key="b").with_defaults({"restart": "temporary"}).restart == "transient"
    assert child == Child("a", idle)
    assert child.with_defaults({}) is child
    assert child.with_defaults({"shutdown": 9.0}) is child


@pytest.mark.parametrize(
    ("defaults", "error", "text"),
    [
        ({"patience": 1}, TypeError, "SystemSupervisor: defaults: there is no option patience"),
        ({"shutdown": -1}, ValueError, "SystemSupervisor: defaults: shutdown must be 0 or more"),
        ({"restart": "often"}, ValueError, "SystemSupervisor: defaults: restart must be"),
        ([("restart", "transient")], TypeError, "defaults must be a mapping of Child options"),
    ],
)
def test_bad_defaults_are_refused_where_they_are_written(
    defaults: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        SystemSupervisor([], defaults=defaults)
    with pytest.raises(error, match=text.replace("System", "Dynamic")):
        DynamicSupervisor(defaults=defaults)


def test_an_option_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"Child 'a': there is no option patience .*; there are r"):
        Child("a", idle, patience=1)  # type: ignore[call-overload]


def test_the_signature_names_all_options_with_their_defaults() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Child).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    child = Child("a", idle)
    assert defaults == {name: getattr(child, name) for name in defaults}
    assert list(defaults)[:3] == ["restart", "shutdown", "start_timeout"]


@story
async def test_the_limit_of_a_default_names_the_child() -> None:
    with pytest.raises(Exception, match="sub") as caught:
        async with open_system([Child("sub", idle)], defaults={"run_timeout": 1.0}, name="top"):
            await trio.sleep(100)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, RunTimeout):
        cause = cause.__cause__
    assert str(cause) == "child 'top/sub' ran longer than 1 s"
