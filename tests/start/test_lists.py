"""Lists of children: it is known beforehand what comes next, so a start begins the next one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

import pytest
import trio

from actors import Actor, cast
from spry_py import Child, ChildOptions, NonChildFailure, SystemSupervisor, open_system
from stories import Boom, Record, story

MANY: Final = 40
MOOD: Final = ContextVar("mood", default="none")


class Passes(trio.abc.Instrument):
    """How often trio has gone through all tasks that can run."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


async def ready(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def passes_to_start(count: int) -> int:
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    async with open_system([Child(f"child-{number}", ready) for number in range(count)]):
        trio.lowlevel.remove_instrument(passes)
    return passes.number


@story
async def test_each_child_of_a_list_takes_one_pass_of_the_scheduler() -> None:
    few, many = await passes_to_start(MANY), await passes_to_start(2 * MANY)
    assert many - few == MANY


@story
async def test_a_child_of_a_list_sees_nothing_of_the_context_of_the_one_before_it() -> None:
    seen: list[str] = []

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        seen.append(MOOD.get())
        MOOD.set("the child's own")
        task_status.started()
        await trio.sleep_forever()

    token = MOOD.set("the supervisor's")
    async with open_system([Child("a", child), Child("b", child)]):
        assert seen == ["the supervisor's"] * 2
    MOOD.reset(token)


@story
async def test_a_child_that_may_not_be_started_fails_the_boot_before_any_other_has_begun() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    significant: ChildOptions = {"restart": "transient", "significant": True}
    children = [a.child(significant=False), b.child(), c.child()]
    with pytest.raises(NonChildFailure, match="system function of 'top'") as failure:
        await SystemSupervisor(children, name="top", defaults=significant)()
    assert str(failure.value.__cause__).startswith("top: significant must be False for child 'b'")
    assert record.order == ""


@story
async def test_a_replay_of_a_list_leaves_out_what_is_spent_and_starts_the_rest() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    async with open_system([a.child(), b.child(restart="temporary"), c.child()]):
        b.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        assert record.order == "+a1 +b1 +c1 -b1 -a1 -c1 +a2 +c2"


@story
async def test_a_child_that_falls_as_soon_as_it_is_started_does_not_keep_the_next_one() -> None:
    record = Record()
    b = Actor(record, "b")
    falls = [True]

    async def a(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        if falls.pop():
            falls.append(False)
            raise Boom
        falls.append(False)
        await trio.sleep_forever()

    async with open_system([Child("a", a), b.child()], strategy="one_for_one") as tree:
        await trio.sleep(1)
        assert (record.order, tree.child("a").incarnation) == ("+b1", 2)
