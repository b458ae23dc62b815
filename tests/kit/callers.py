"""What the stories about calls share: callers in tasks of their own, and their answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from spry_py import (
    Child,
    SpryError,
    SystemHandle,
    TerminationReport,
)
from stories import Record


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


def listed(handle: SystemHandle) -> str:
    """Every child listed, in order, with its status: `a=running b=done`."""
    return " ".join(f"{info.key}={info.status}" for info in handle.which_children())


def status_of(handle: SystemHandle, key: str) -> str:
    """The status of a direct child, `gone` if it is not listed."""
    statuses = {info.key: info.status for info in handle.which_children()}
    return statuses.get(key, "gone")


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
