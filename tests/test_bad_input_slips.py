"""Slips that everybody makes: each is an error where it was made, and says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio

from spry_py import Child, NonChildFailure, Scope, SystemSupervisor, open_system
from stories import Record, cast, story


async def fine(*_: object) -> None:
    await trio.sleep_forever()


# Blocks


@pytest.mark.parametrize("make", [open_system, SystemSupervisor], ids=["open_system", "supervisor"])
def test_a_tree_needs_trio(make: Callable[..., Any]) -> None:
    async def main() -> None:
        if make is open_system:
            async with open_system([Child("a", fine)]):
                raise AssertionError("never up")
        await SystemSupervisor([Child("a", fine)])()

    with pytest.raises(RuntimeError, match=r"needs trio.*trio\.run\(main\)"):
        asyncio.run(main())
    with pytest.raises(RuntimeError, match="needs trio"):
        main().send(None)


def block(name: str) -> Any:
    async def make() -> Any:
        if name == "open_system":
            return open_system([])
        async with open_system([]) as handle:
            return handle.events() if name == "events" else handle.map(fine, [])

    return trio.run(make)


async def awaits(it: Any) -> None:
    await it


async def iterates(it: Any) -> None:
    async for _ in it:
        raise AssertionError("never")


async def iterates_plainly(it: Any) -> None:
    for _ in it:
        raise AssertionError("never")


async def enters_plainly(it: Any) -> None:
    with it:
        raise AssertionError("never")


@pytest.mark.parametrize("slip", [awaits, iterates, iterates_plainly, enters_plainly])
@pytest.mark.parametrize("name", ["open_system", "events", "map"])
def test_a_block_is_for_async_with(
    name: str, slip: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    with pytest.raises(TypeError, match=rf"write `async with (handle\.)?{name}\(\.\.\.\) as "):
        trio.run(slip, block(name))


# A forgotten await


async def start_one(scope: Scope, child: Child[Any]) -> None:
    scope.start(child)  # type: ignore[unused-coroutine]


async def start_two(scope: Scope, child: Child[Any]) -> None:
    scope.start_together(child, child.replace(key="other"))  # type: ignore[unused-coroutine]


async def start_three(scope: Scope, child: Child[Any]) -> None:
    for key in "xyz":
        scope.start(child.replace(key=key))  # type: ignore[unused-coroutine]


async def go_on(scope: Scope, child: Child[Any]) -> None:
    pool = scope.start(child)
    await scope.start(Child("user", fine, pool))
    raise AssertionError("never comes to this")


@pytest.mark.parametrize("slip", [start_one, start_two, start_three, go_on])
@story
async def test_a_start_that_is_not_awaited_fails_the_startup(
    slip: Callable[[Scope, Child[Any]], Coroutine[Any, Any, None]],
) -> None:
    """Without the warning of Python, which comes later and names no child (here, it would fail)."""
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        await slip(scope, b.child())

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system, name="shop"):
            raise AssertionError("never up")
    assert isinstance(caught.value.__cause__, RuntimeError)
    name = "start_together" if slip is start_two else "start"
    assert f"'shop': scope.{name}(...) was called, but not awaited" in str(caught.value)
    assert f"write await scope.{name}(...)" in str(caught.value.__cause__)
    assert record.order == "+a1 -a1"


@story
async def test_starts_that_are_awaited_later_in_their_order_are_none_the_worse() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        starts = [scope.start(a.child()), scope.start(b.child())]
        record(",".join([await start for start in starts]))

    async with open_system(system):
        assert record.order == "+a1 +b1 a1,b1"


@story
async def test_what_the_system_raises_itself_comes_before_a_forgotten_await() -> None:
    async def system(scope: Scope) -> None:
        start = scope.start(Child("a", fine))
        start.close()
        raise ValueError("its own")

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            raise AssertionError("never up")
    assert isinstance(caught.value.__cause__, ValueError)


@story
async def test_a_startup_that_is_stopped_before_it_could_await_has_forgotten_nothing() -> None:
    forgets = False

    async def system(scope: Scope) -> None:
        start = scope.start(Child("a", fine))
        try:
            if forgets:
                await trio.sleep_forever()
            await start
        finally:
            start.close()  # else Python says that it was never awaited

    async with open_system(system) as tree:
        forgets = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_interrupted, tree.replay)
            await trio.sleep(1)
            await tree.stop()
    assert tree.last_report is not None
    assert not tree.last_report.failed


async def _interrupted(replay: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(Exception, match=r"interrupted|stopped"):
        await replay()
