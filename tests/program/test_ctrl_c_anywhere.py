"""Ctrl-C at any instant of what the library does in a caller's task ends the program, bare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from spry_py import (
    Child,
    DynamicSupervisor,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
    current_context,
    open_system,
)
from struck import Program, places_in, strike_everywhere

PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


async def forever() -> None:
    await trio.sleep_forever()


async def listens() -> None:
    with cancel_on_settle():
        await trio.sleep_forever()


async def calls() -> None:
    await trio.sleep(1)
    tree = HERE[-1]
    context = current_context()
    context.heartbeat()
    with context.cancel_on_settle():
        await tree.start_child(EXTRA)
        await tree.terminate_child("extra")
        with trio.move_on_after(1):
            await context.settled()
        await tree.stop()


async def fails_itself() -> None:
    await trio.lowlevel.checkpoint()
    current_context().fail(OSError())
    await trio.sleep_forever()


async def opens_a_tree() -> None:
    async with open_system(TREE):
        await trio.sleep(1)


def with_a_child(start: Callable[[], Awaitable[None]]) -> SystemSupervisor:
    return SystemSupervisor([Child("child", start, restart="temporary")])


# made here: what a program makes itself is struck as well
CHILDREN = [Child("a", forever), Child("b", listens)]
TREE = SystemSupervisor(CHILDREN, strategy="one_for_one")
POOL = DynamicSupervisor()
EXTRA = Child("extra", forever)
# the tree that a child finds itself in
HERE: list[SystemHandle] = []
CALLS, FAILS, OPENS = map(with_a_child, (calls, fails_itself, opens_a_tree))


@program
async def leaves() -> None:
    async with open_system(TREE):
        pass


@program
async def waits() -> None:
    async with open_system(TREE):
        await trio.sleep(1)


@program
async def takes_a_bare_system() -> None:
    async with open_system(CHILDREN, name="top"):
        pass


@program
async def stops() -> None:
    async with open_system(TREE) as tree:
        await tree.stop()


@program
async def aborts() -> None:
    async with open_system(TREE) as tree:
        tree.abort()
        await tree.wait()


@program
async def terminates() -> None:
    async with open_system(TREE) as tree:
        await tree.terminate_child("a")
        await tree.restart_child("a")
        await tree.child("b").terminate()
        await tree.delete_child("b")


@program
async def restarts() -> None:
    async with open_system(TREE) as tree:
        child = tree.child("a")
        await child.restart()
        await child.wait_started()


@program
async def starts() -> None:
    async with open_system(TREE) as tree:
        handle = await tree.start_child(EXTRA)
        await handle.terminate()
        await handle.wait()


@program
async def replays() -> None:
    async with open_system(TREE) as tree:
        await tree.replay()


@program
async def runs() -> None:
    async with open_system(POOL) as pool:
        await pool.run(trio.sleep, 1)


@program
async def maps() -> None:
    async with open_system(POOL) as pool, pool.map(trio.sleep, [1, 2], limit=2) as results:
        async for _ in results:
            pass


@program
async def leaves_a_map() -> None:
    async with open_system(POOL) as pool, pool.map(trio.sleep, [1, 2], limit=2):
        pass


@program
async def listens_to_events() -> None:
    async with open_system(TREE) as tree, tree.events() as events:
        await tree.child("a").terminate()
        async for _ in events:
            break


@program
async def looks() -> None:
    async with open_system(TREE) as tree:
        tree.find("a")
        tree.which_children()
        tree.count_children()


@program
async def a_child_calls() -> None:
    async with open_system(CALLS) as tree:
        HERE[:] = [tree]
        await tree.wait()


@program
async def a_child_fails() -> None:
    async with open_system(FAILS) as tree:
        await tree.child("child").wait()


@program
async def a_child_opens_a_tree() -> None:
    async with open_system(OPENS) as tree:
        await tree.child("child").wait()


@program
async def runs_a_supervisor() -> None:
    with trio.move_on_after(1):
        await TREE()


# struck also while the tree comes up and is left; in the others that is no different
ENDS = {"leaves", "waits", "stops", "aborts"}


@pytest.mark.slow
# between the making of a coroutine and its await there are opcodes, but no signal lands there
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("which", PROGRAMS)
def test_ctrl_c_at_each_step_in_a_callers_task(which: str) -> None:
    struck_already = set() if which in ENDS else places_in(leaves)
    assert strike_everywhere(PROGRAMS[which], struck_already) == []
