"""A block of trio that is entered and left from asyncio, and held open by a task of trio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Generic, TypeVar

import trio
from trio.lowlevel import TrioToken

from spry_py import SupervisorStopped

from .call import Bridge
from .waiting import raise_instead, until

T = TypeVar("T")


class Held(Generic[T]):
    """One block. A failure of its own ends it, also before it is left."""

    __slots__ = (
        "_block",
        "_bridge",
        "_entered",
        "_is_inside",
        "_leaving",
        "_name",
        "_on_failure",
        "_over",
        "_scope",
    )

    def __init__(
        self,
        token: TrioToken,
        block: AbstractAsyncContextManager[T],
        name: str,
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        self._block = block
        self._name = name
        # called in the loop when the block has failed before it was left
        self._on_failure = on_failure
        self._bridge = Bridge(token)
        self._scope = trio.CancelScope()
        self._leaving = trio.Event()
        self._is_inside = False
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[T] = loop.create_future()
        # with what the block has failed with, if it has
        self._over: asyncio.Future[BaseException | None] = loop.create_future()

    async def enter(self) -> T:
        """Enter the block; raises what that raises. Cancelled, it is left again first."""
        self._bridge.begin(self._hold, self._name)
        cancelled = await until({self._entered, self._over}, self._cancel)
        try:
            if cancelled is None and not self._over.done():
                self._is_inside = True
                return self._entered.result()
            self._cancel()
            await until({self._over})
            failure = self._over.result()
            if failure is not None:
                raise_instead(failure, cancelled is not None)
            if cancelled is None and self._entered.done():
                return self._entered.result()
            if cancelled is not None:
                raise cancelled
            raise SupervisorStopped("the run of trio in which this tree was to live is over")
        finally:
            del cancelled

    async def leave(self) -> tuple[BaseException | None, asyncio.CancelledError | None]:
        """Leave it, whatever comes; returns what the block has failed with, and what has come."""
        self._is_inside = False
        with suppress(trio.RunFinishedError):
            self._bridge.to_trio(self._leaving.set)
        cancelled = await until({self._over})
        return self._over.result(), cancelled

    def _cancel(self) -> None:
        with suppress(trio.RunFinishedError):
            self._bridge.to_trio(self._scope.cancel)

    async def _hold(self) -> None:
        failure: BaseException | None = None
        try:
            with self._scope:
                async with self._block as value:
                    self._bridge.to_loop(self._enter, value)
                    await self._leaving.wait()
        except trio.Cancelled:  # this whole run ends
            pass
        except BaseException as exception:
            failure = exception
        self._bridge.to_loop(self._end, failure)

    def _enter(self, value: T) -> None:
        if not self._entered.done():
            self._entered.set_result(value)

    def _end(self, failure: BaseException | None) -> None:
        if not self._over.done():
            self._over.set_result(failure)
            if failure is not None and self._is_inside:
                self._on_failure()
