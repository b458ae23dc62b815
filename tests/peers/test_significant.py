"""Significant children and calls, after supervisor_SUITE: each test bears its scenario's number."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import trio

from callers import listed
from spry_py import (
    Child,
    DynamicSupervisor,
    NonChildFailure,
    Normal,
    RateLimited,
    RestartType,
    Scope,
    Strategy,
    SystemHandle,
    open_system,
)
from stories import story
from workers import ORDERS, STRATEGIES, Crew, Way, be_killed, die

Mode = Literal["never", "any_significant", "all_significant"]
MODES: tuple[Mode, ...] = ("never", "any_significant", "all_significant")
FAILURES: tuple[Way, ...] = ("kill", "die")
WAYS: tuple[Way, ...] = ("kill", "die", "stop")


def open_three(crew: Crew, restart: RestartType, mode: Mode, strategy: Strategy) -> Any:
    """Two significant children of that type, and one that is not."""
    children = [
        crew.worker("s1", restart=restart, significant=True),
        crew.worker("s2", restart=restart, significant=True),
        crew.worker("child", restart="temporary" if restart == "temporary" else "transient"),
    ]
    breaker = RateLimited(100, 10.0)
    return open_system(children, strategy=strategy, breaker=breaker, auto_shutdown=mode)


async def alive(tree: SystemHandle) -> bool:
    await trio.sleep(1)
    return tree.status == "running"


async def expect_end(tree: SystemHandle) -> None:
    with trio.fail_after(1):
        report = await tree.wait()
    assert report.reason == Normal(None)
    assert tree.count_children().active == 0


@pytest.mark.parametrize("mode", MODES)
@story
async def test_a57_nonsignificant_temporary(mode: Mode) -> None:
    crew = Crew()
    child = crew.worker("child", restart="temporary")
    async with open_system([child], auto_shutdown=mode) as tree:
        await tree.terminate_child("child")
        assert (await alive(tree), listed(tree)) == (True, "")
        for way in WAYS:
            await tree.start_child(child)
            await crew.tell("child", ORDERS[way])
            assert (await alive(tree), listed(tree)) == (True, "")


@pytest.mark.parametrize("mode", MODES)
@story
async def test_a58_nonsignificant_transient(mode: Mode) -> None:
    crew = Crew()
    child = crew.worker("child", restart="transient")
    async with open_system([child], auto_shutdown=mode) as tree:
        await tree.terminate_child("child")
        assert (await alive(tree), listed(tree)) == (True, "child=stopped")
        await tree.restart_child("child")
        for way in FAILURES:
            await crew.tell("child", ORDERS[way])
            assert (await alive(tree), listed(tree)) == (True, "child=running")
        await crew.tell("child", None)
        assert (await alive(tree), listed(tree)) == (True, "child=done")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("way", WAYS)
@story
async def test_a59_significant_temporary_any(way: Way, strategy: Strategy) -> None:
    crew = Crew()
    async with open_three(crew, "temporary", "any_significant", strategy) as tree:
        await tree.terminate_child("s2")
        assert (await alive(tree), listed(tree)) == (True, "s1=running child=running")
        await crew.tell("s1", ORDERS[way])
        await expect_end(tree)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("way", WAYS)
@story
async def test_a59_significant_temporary_all(way: Way, strategy: Strategy) -> None:
    crew = Crew()
    async with open_three(crew, "temporary", "all_significant", strategy) as tree:
        await crew.tell("s1", ORDERS[way])
        assert (await alive(tree), listed(tree)) == (True, "s2=running child=running")
        await crew.tell("s2", ORDERS[way])
        await expect_end(tree)


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a60_significant_transient_any(strategy: Strategy) -> None:
    crew = Crew()
    async with open_three(crew, "transient", "any_significant", strategy) as tree:
        await tree.terminate_child("s2")
        assert (await alive(tree), listed(tree)) == (True, "s1=running s2=stopped child=running")
        await tree.restart_child("s2")
        for way in FAILURES:
            await crew.tell("s1", ORDERS[way])
            assert await alive(tree)
            assert listed(tree) == "s1=running s2=running child=running"
        await crew.tell("s1", None)
        await expect_end(tree)


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a60_significant_transient_all(strategy: Strategy) -> None:
    crew = Crew()
    async with open_three(crew, "transient", "all_significant", strategy) as tree:
        await crew.tell("s1", None)
        assert (await alive(tree), listed(tree)) == (True, "s1=done s2=running child=running")
        await crew.tell("s2", None)
        await expect_end(tree)


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@story
async def test_a60_terminating_the_last_of_them_ends_nothing(mode: Mode) -> None:
    crew = Crew()
    async with open_three(crew, "transient", mode, "one_for_one") as tree:
        await tree.terminate_child("s1")
        await tree.terminate_child("s2")
        assert await alive(tree)
        assert listed(tree) == "s1=stopped s2=stopped child=running"
        await tree.delete_child("s2")
        await tree.restart_child("s1")
        await crew.tell("s1", None)
        await expect_end(tree)


@story
async def test_a60_those_that_were_terminated_are_not_waited_for() -> None:
    crew = Crew()
    async with open_three(crew, "transient", "all_significant", "one_for_one") as tree:
        await tree.terminate_child("s1")
        await crew.tell("s2", None)
        await expect_end(tree)


@story
async def test_a60_a_significant_child_that_was_added_counts() -> None:
    crew = Crew()
    added = crew.worker("s3", restart="temporary", significant=True)
    async with open_three(crew, "transient", "all_significant", "one_for_one") as tree:
        await tree.start_child(added)
        await crew.tell("s1", None)
        await crew.tell("s2", None)
        assert await alive(tree)
        await crew.tell("s3", be_killed)
        await expect_end(tree)


@pytest.mark.parametrize("mode", MODES)
def test_a61_significant_simple(mode: Mode) -> None:
    """A dynamic supervisor has no `auto_shutdown` to combine with anything."""
    with pytest.raises(TypeError, match="auto_shutdown"):
        DynamicSupervisor(auto_shutdown=mode)  # type: ignore[call-arg]


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@story
async def test_a27_significant_under_never_is_refused_by_calls_and_at_the_start(
    restart: RestartType,
) -> None:
    crew = Crew()
    child = crew.worker("s", restart=restart, significant=True)

    async def system(scope: Scope) -> None:
        await scope.start(child)

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            raise AssertionError("a system with a child that is refused has not started")
    assert isinstance(caught.value.__cause__, ValueError)
    async with open_system([]) as tree:
        with pytest.raises(ValueError, match="significant"):
            await tree.start_child(child)
        assert listed(tree) == ""


@pytest.mark.parametrize("emptied", ["terminate", "stop", "die", "delete"])
@story
async def test_when_empty_whatever_emptied_it(emptied: str) -> None:
    crew = Crew()
    children = [crew.worker("a"), crew.worker("b", restart="temporary")]
    async with open_system(children, strategy="one_for_one", auto_shutdown="when_empty") as tree:
        await tree.terminate_child("a")
        assert (await alive(tree), listed(tree)) == (True, "a=stopped b=running")
        if emptied == "terminate":
            await tree.terminate_child("b")
        elif emptied == "delete":
            await tree.delete_child("a")
            await tree.terminate_child("b")
        elif emptied == "stop":
            await crew.tell("b", None)
        else:
            await crew.tell("b", die)
        await expect_end(tree)


@story
async def test_when_empty_a_child_being_started_by_a_call_is_somebody() -> None:
    crew = Crew()

    async def slow(*, task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(3)
        task_status.started("up")
        await trio.sleep(3)

    children = [crew.worker("a", restart="temporary")]
    async with (
        open_system(children, strategy="one_for_one", auto_shutdown="when_empty") as tree,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(tree.start_child, Child("slow", slow, restart="temporary"))
        await trio.sleep(1)
        await crew.tell("a", None)
        assert (await alive(tree), listed(tree)) == (True, "slow=starting")
        await trio.sleep(2)
        assert listed(tree) == "slow=running"
        assert (await tree.wait()).reason == Normal(None)
        assert trio.current_time() == 6
