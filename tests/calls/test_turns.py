"""Calls that wait for nothing are served at once where the loop is idle, and nobody can tell."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
import trio
from trio.testing import assert_checkpoints

from callers import answer
from spry_py import (
    Child,
    ChildAlreadyStarted,
    DynamicSupervisor,
    SystemHandle,
    UnrecoverableFailure,
    open_system,
)
from stories import Boom, story

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


async def serve() -> None:
    await trio.sleep_forever()


class Forgetful:
    """A breaker that keeps in mind where it was told to forget a key; one key is too much."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, str]] = []

    def __call__(self) -> Forgetful:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        return True

    def forget(self, key: str) -> None:
        self.forgotten.append((key, whose.get()))
        if key == "bad":
            raise Boom
        if key == "worst":
            raise KeyboardInterrupt


async def deleted(tree: SystemHandle, key: str) -> None:
    await tree.terminate_child(key)
    await tree.delete_child(key)


@story
async def test_what_a_call_begins_or_asks_stands_in_the_context_of_the_supervisor() -> None:
    breaker = Forgetful()
    seen: list[str] = []

    async def look() -> None:
        seen.append(whose.get())

    whose.set("the tree's")
    async with open_system([Child("a", serve)], breaker=breaker) as tree:
        whose.set("the caller's")
        await tree.start_child(Child("b", look, restart="temporary"))
        await trio.sleep(1)
        await deleted(tree, "a")
    assert seen == ["the tree's"]
    assert breaker.forgotten == [("b", "the tree's"), ("a", "the tree's")]


@pytest.mark.parametrize("calls", [10, 100])
@story
async def test_a_crowd_of_calls_is_served_in_its_order(calls: int) -> None:
    order: list[str] = []
    answers: list[str] = []

    async def call(tree: SystemHandle, key: str) -> None:
        order.append(key)
        answers.append(await answer(tree.start_child(Child(key, serve))))

    async with open_system(DynamicSupervisor()) as tree, trio.open_nursery() as nursery:
        for number in range(calls):
            nursery.start_soon(call, tree, str(number))
        await trio.sleep(1)
        assert [child.key for child in tree.which_children()] == order
        assert answers == ["ok"] * calls


@story
async def test_a_call_that_is_answered_at_once_is_a_checkpoint() -> None:
    async with open_system([Child("a", serve)]) as tree:
        with assert_checkpoints(), pytest.raises(ChildAlreadyStarted):
            await tree.start_child(Child("a", serve))
        with assert_checkpoints():
            await tree.start_child(Child("b", serve))


@story
async def test_what_a_breaker_raises_in_a_call_makes_the_supervisor_give_up() -> None:
    with pytest.raises(UnrecoverableFailure, match="bad"):
        async with open_system([Child("bad", serve)], breaker=Forgetful()) as tree:
            await deleted(tree, "bad")
            await trio.sleep_forever()


@story
async def test_an_exit_exception_of_a_breaker_in_a_call_ends_the_program() -> None:
    with pytest.raises(KeyboardInterrupt):
        async with open_system([Child("worst", serve)], breaker=Forgetful()) as tree:
            await deleted(tree, "worst")
            await trio.sleep_forever()
