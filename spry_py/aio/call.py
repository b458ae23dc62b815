"""Calls from asyncio into a run of trio: of this thread, as its guest, or of another thread."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import TrioToken

from spry_py import SupervisorStopped

from .place import is_here
from .waiting import raise_instead, until

T = TypeVar("T")


class Bridge:
    """The two ways between a loop of asyncio, that of the caller, and a run of trio."""

    __slots__ = ("_loop", "_token")

    def __init__(self, token: TrioToken) -> None:
        self._token = token
        self._loop = asyncio.get_running_loop()

    @property
    def is_open(self) -> bool:
        """Whether the loop is still there."""
        return not self._loop.is_closed()

    def to_trio(self, function: Callable[..., object], *args: Any) -> None:
        """Call it in trio's thread; at once if this is that. Raises `trio.RunFinishedError`."""
        if is_here(self._token):
            function(*args)
        else:
            self._token.run_sync_soon(function, *args)

    def begin(self, main: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task of trio's in the context of the caller. ``main`` must not raise."""
        context = contextvars.copy_context()

        def spawn() -> None:
            trio.lowlevel.spawn_system_task(main, name=name, context=context)

        self.to_trio(spawn)

    def to_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call it in the loop's thread, unless the loop is over."""
        try:
            is_ours = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_ours = False
        if is_ours:
            function(*args)
        else:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *args)

    def soon(self, function: Callable[[], object]) -> bool:
        """Let the loop call it, after the present step of trio's; false if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True


class Call(Generic[T]):
    """A trio-style function that is called from asyncio."""

    __slots__ = ("_bridge", "_ended", "_failure", "_fn", "_scope", "_value")

    def __init__(self, token: TrioToken, fn: Callable[[], Awaitable[T]]) -> None:
        self._bridge = Bridge(token)
        self._fn = fn
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # written in trio's thread, before the end is
        self._scope = trio.CancelScope()
        self._value: list[T] = []
        self._failure: BaseException | None = None

    async def result(self, undo: Callable[[T], Awaitable[object]] | None = None) -> T:
        """Call it, and return or raise what it does. Cancelling this cancels the call, and waits.

        Where the call comes to its end all the same, its value goes to ``undo``, which is called as
        it is. Raises `trio.RunFinishedError` if that run is over, and `SupervisorStopped` if it
        ends meanwhile.
        """
        self._bridge.begin(self._run, f"spry_py call of {self._fn!r}")
        cancelled = await until({self._ended}, self.cancel)
        try:
            if self._failure is not None:
                raise_instead(self._failure, cancelled is not None)
            if cancelled is None and self._value:
                return self._value.pop()
            if cancelled is not None and self._value and undo is not None:
                await undo(self._value.pop())
            if cancelled is not None:
                raise cancelled
            raise SupervisorStopped("the run of trio in which this tree lives is over")
        finally:
            self._failure = None
            del cancelled

    def cancel(self) -> None:
        """Cancel the call."""
        with suppress(trio.RunFinishedError):
            self._bridge.to_trio(self._scope.cancel)

    async def _run(self) -> None:
        try:
            with self._scope:
                self._value.append(await self._fn())
        except trio.Cancelled:  # this whole run ends
            pass
        except BaseException as exception:
            self._failure = exception
        self._bridge.to_loop(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def in_trio(token: TrioToken, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Call a trio-style function from asyncio; see `Call`."""
    return await Call(token, lambda: fn(*args)).result()
