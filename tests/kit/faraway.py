"""What runs on the other side in the tests of remote children, and what it has done.

Functions are sent by their names, so they and their record stand in a module. `RECORD` belongs to
the story of this process that is under way: `begin` empties it.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import time
from collections.abc import Callable
from typing import NoReturn

import trio
import trio.lowlevel
from opentelemetry import trace

from spry_py import (
    Child,
    Ignore,
    Scope,
    SystemSupervisor,
    Unrecoverable,
    cancel_on_settle,
    current_context,
)
from spry_py.remote import fencing_number

RECORD: list[tuple[float, str]] = []
FENCES: list[int] = []
# the code that is at work now, by its name
AT_WORK: dict[str, int] = {}
OVERLAPS: list[tuple[float, str]] = []


class Broken(Exception):
    """What breaks far away."""


class Secretive(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("secret")
        self.lock = open
        self.inner = lambda: None


def begin() -> None:
    """A new story begins."""
    RECORD.clear()
    FENCES.clear()
    AT_WORK.clear()
    OVERLAPS.clear()


def note(fact: str) -> None:
    RECORD.append((trio.current_time(), fact))


async def serve(name: str, *, task_status: trio.TaskStatus[str]) -> str:
    """Start at once, wait to be asked, and finish within a second."""
    note(f"+{name}")
    FENCES.append(fencing_number())
    AT_WORK[name] = AT_WORK.get(name, 0) + 1
    try:
        task_status.started(f"{name} is up")
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(1)
        return f"{name} is done"
    finally:
        AT_WORK[name] -= 1
        note(f"-{name}")


async def deaf(name: str) -> None:
    """Never listen."""
    note(f"+{name}")
    try:
        await trio.sleep_forever()
    finally:
        note(f"-{name}")


async def slow_to_settle(name: str, *, task_status: trio.TaskStatus[None]) -> None:
    """Listen, and take longer than allowed."""
    task_status.started()
    try:
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(1000)
    finally:
        note(f"-{name}")


async def stubborn(name: str, seconds: float, *, task_status: trio.TaskStatus[None]) -> None:
    """Swallow the cancellation for so many seconds."""
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        note(f"-{name}")


async def break_after(seconds: float, *, task_status: trio.TaskStatus[None]) -> NoReturn:
    task_status.started()
    await trio.sleep(seconds)
    raise Broken("it broke", seconds)


async def break_at_start() -> NoReturn:
    raise Broken("no start")


async def break_in_clean_up(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        raise Broken("clean-up")


async def keep_secret(*, task_status: trio.TaskStatus[object]) -> None:
    task_status.started(lambda: None)
    await trio.sleep_forever()


async def raise_secret() -> NoReturn:
    await trio.sleep(1)
    raise Secretive


async def leave_out() -> NoReturn:
    raise Ignore


async def give_up() -> NoReturn:
    await trio.sleep(1)
    raise Unrecoverable("do not restart me")


async def exit_it() -> NoReturn:
    await trio.sleep(1)
    raise SystemExit(3)


async def add(a: int, b: int) -> int:
    await trio.sleep(1)
    return a + b


async def beat_for(seconds: int, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    for _ in range(seconds):
        current_context().heartbeat()
        await trio.sleep(1)
    await trio.sleep_forever()


async def fail_itself(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep(1)
    current_context().fail(Broken("by itself"))
    await trio.sleep_forever()


async def talk(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep(1)
    logging.getLogger("shop").warning("out of %s", "milk")
    await trio.sleep_forever()


def talk_in_a_thread() -> None:
    logging.getLogger("shop").warning("out of milk in a thread")


async def talk_in_asyncio() -> None:
    logging.getLogger("shop").warning("out of milk in asyncio")


async def shelves(scope: Scope) -> None:
    await scope.start(Child("milk", serve, "milk"))
    await scope.start(Child("bread", serve, "bread"))


async def fragile_shelves(scope: Scope) -> None:
    await scope.start(Child("milk", serve, "milk"))
    await scope.start(Child("glass", break_after, 7))


def subtree() -> SystemSupervisor:
    return SystemSupervisor(shelves)


async def watched(name: str, *, task_status: trio.TaskStatus[None]) -> None:
    """Note an overlap with another incarnation; finish at once when asked."""
    note(f"+{name}")
    AT_WORK[name] = AT_WORK.get(name, 0) + 1
    if AT_WORK[name] > 1:
        OVERLAPS.append((trio.current_time(), name))
    try:
        task_status.started()
        with cancel_on_settle():
            await trio.sleep_forever()
    finally:
        AT_WORK[name] -= 1
        note(f"-{name}")


async def hold_up_the_loop(flag: str, seconds: float, *, task_status: trio.TaskStatus[int]) -> None:
    """Hold up the event loop of the whole process as soon as there is a file, and take it away."""
    current_context().heartbeat()
    task_status.started(os.getpid())
    while not os.path.exists(flag):  # noqa: ASYNC240
        await trio.sleep(0.01)
    os.unlink(flag)
    time.sleep(seconds)  # noqa: ASYNC251 - that is what it is for


async def hold_the_interpreter(flag: str, *, task_status: trio.TaskStatus[int]) -> None:
    """As soon as there is a file, let no thread run any more, and take it away before."""
    task_status.started(os.getpid())
    while not os.path.exists(flag):  # noqa: ASYNC240
        await trio.sleep(0.01)
    os.unlink(flag)
    # unlike those of CDLL, these calls do not let go of the interpreter
    ctypes.PyDLL(None).sleep(600)


async def say_pid(*, task_status: trio.TaskStatus[int]) -> str:
    task_status.started(os.getpid())
    with cancel_on_settle():
        await trio.sleep_forever()
    return "settled"


async def in_asyncio(a: int) -> int:
    await asyncio.sleep(0.01)
    return a + 1


async def with_a_span(*, task_status: trio.TaskStatus[str]) -> None:
    task_status.started(str(trace.get_current_span().get_span_context().trace_id))
    await trio.sleep_forever()


async def in_a_span(name: str) -> None:
    with trace.get_tracer("there").start_as_current_span(name):
        await trio.sleep(1)


def refuse_to_be_read() -> NoReturn:
    raise Broken("not to be read here")


class Unreadable:
    def __reduce__(self) -> tuple[Callable[[], NoReturn], tuple[()]]:
        return refuse_to_be_read, ()


async def start_with_what_cannot_be_read(*, task_status: trio.TaskStatus[Unreadable]) -> None:
    note("+")
    try:
        task_status.started(Unreadable())
        await trio.sleep_forever()
    finally:
        note("-")
