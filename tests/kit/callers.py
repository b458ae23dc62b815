"""What the stories about calls share: callers in tasks of their own, and their answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Container
from typing import Any, Literal

import trio

from spry_py import (
    Child,
    Context,
    Ignore,
    SpryError,
    SystemHandle,
    TerminationReport,
    current_context,
)
from stories import Actor, Boom, Record

Way = Literal["stop", "die", "kill"]


async def answer(call: Awaitable[object]) -> str:
    """What comes of a call: `ok`, or the name of the error."""
    try:
        await call
    except SpryError as error:
        return type(error).__name__
    return "ok"


class Desk:
    """Calls made by tasks of their own; the answer to each is a fact, `name:answer`."""

    def __init__(self, record: Record, nursery: trio.Nursery) -> None:
        self._record = record
        self._nursery = nursery

    def call(
        self, name: str, function: Callable[..., Awaitable[object]], *args: Any, **options: Any
    ) -> trio.CancelScope:
        """Begin a call; cancelling the scope makes its answer `cancelled`."""
        scope = trio.CancelScope()
        call = functools.partial(function, *args, **options)
        self._nursery.start_soon(self._call, name, call, scope, name=name)
        return scope

    async def _call(
        self, name: str, call: Callable[[], Awaitable[object]], scope: trio.CancelScope
    ) -> None:
        with scope:
            self._record(f"{name}:{await answer(call())}")
        if scope.cancelled_caught:
            self._record(f"{name}:cancelled")


class Shy(Actor):
    """An actor some of whose starts answer `Ignore`, written `/an`."""

    def __init__(
        self, record: Record, key: str, *, ignores: Container[int] = (), **options: Any
    ) -> None:
        super().__init__(record, key, fails_starts=ignores, **options)

    async def _begin(self, me: str, fails: bool) -> None:
        await super()._begin(me, False)
        if fails:
            self.record(f"/{me}")
            raise Ignore


def listed(handle: SystemHandle) -> str:
    """Every child listed, in order, with its status: `a=running b=done`."""
    return " ".join(f"{info.key}={info.status}" for info in handle.which_children())


def status_of(handle: SystemHandle, key: str) -> str:
    """The status of a direct child, `gone` if it is not listed."""
    statuses = {info.key: info.status for info in handle.which_children()}
    return statuses.get(key, "gone")


class Puppets:
    """Children that end when and as the story wants: by themselves, or killed from outside."""

    def __init__(self) -> None:
        self._contexts: dict[str, Context] = {}
        self._orders: dict[str, trio.MemorySendChannel[str]] = {}

    def child(self, key: str, **options: Any) -> Child[Any]:
        return Child(key, self._live, **options)

    async def end(self, key: str, way: Way) -> None:
        """End one, and wait until that has had all its consequences."""
        if way == "kill":
            self._contexts[key].fail(Boom(f"{key} is killed"))
        else:
            self._orders[key].send_nowait(way)
        await trio.testing.wait_all_tasks_blocked()

    async def _live(self, *, task_status: trio.TaskStatus[str]) -> str:
        context = current_context()
        self._contexts[context.key] = context
        self._orders[context.key], orders = trio.open_memory_channel[str](1)
        me = f"{context.key}#{context.incarnation}"
        task_status.started(me)
        if await orders.receive() == "die":
            raise Boom(me)
        return me


def busy(record: Record, seconds: float = 5.0) -> Child[Any]:
    """A child that has ended, and whose hook takes its time.

    While the child is being terminated its supervisor does nothing else: what happens to it lies
    in its mailbox. ``seconds`` are those between the call and its return.
    """

    async def clings(report: TerminationReport) -> None:
        record("hook")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    async def ends() -> None:
        await trio.lowlevel.checkpoint()

    return Child("busy", ends, on_termination=clings)
