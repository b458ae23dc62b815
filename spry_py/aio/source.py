"""An async iterable of asyncio, read by code of trio: each step is a task of asyncio's loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from typing import Generic, TypeVar, cast

import trio

from .call import Bridge
from .life import AGAIN_AFTER

T = TypeVar("T")


async def read(
    items: AsyncIterable[T], bridge: Bridge, context: Context
) -> AsyncGenerator[T, None]:
    """The items, for trio; they are asked for in the loop of ``bridge``, and in ``context``.

    Closing this closes an async generator that ``items`` is, while its loop is there.
    """
    iterator: AsyncIterator[T] | None = None
    try:
        iterator = await Step(bridge, context, lambda: _begun(items)).result()
        while True:
            try:
                item = await Step(bridge, context, iterator.__anext__).result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if isinstance(iterator, AsyncGenerator) and bridge.is_open:
            generator = cast("AsyncGenerator[T, None]", iterator)
            with trio.CancelScope(shield=True):
                await Step(bridge, context, generator.aclose).result()


async def _begun(items: AsyncIterable[T]) -> AsyncIterator[T]:
    return aiter(items)


class Step(Generic[T]):
    """A coroutine function of asyncio that is called from trio."""

    __slots__ = ("_bridge", "_context", "_ended", "_failure", "_fn", "_task", "_token", "_value")

    def __init__(self, bridge: Bridge, context: Context, fn: Callable[[], Awaitable[T]]) -> None:
        self._bridge = bridge
        self._context = context
        self._fn = fn
        self._token = trio.lowlevel.current_trio_token()
        # written in trio's thread
        self._ended = trio.Event()
        # written in the loop's thread, before the end is
        self._task: asyncio.Task[None] | None = None
        self._value: list[T] = []
        self._failure: BaseException | None = None

    async def result(self) -> T:
        """Call it, and return or raise what it does. Cancelling this cancels the call, and waits.

        Raises `RuntimeError` if the loop is closed.
        """
        self._to_loop(self._begin)
        try:
            await self._ended.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._end_it()
            raise
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
            return self._value.pop()
        finally:
            del failure

    async def _end_it(self) -> None:
        while not self._ended.is_set():
            try:
                self._to_loop(self._cancel)
            except RuntimeError:
                return
            with trio.move_on_after(AGAIN_AFTER):
                await self._ended.wait()

    def _to_loop(self, function: Callable[[], object]) -> None:
        if not self._bridge.soon(function):
            raise RuntimeError("the loop of asyncio that gives these items is closed")

    # In the loop's thread

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), context=self._context)

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _run(self) -> None:
        try:
            self._value.append(await self._fn())
        except BaseException as exception:
            self._failure = exception
        with suppress(trio.RunFinishedError):
            self._bridge.to_trio(self._ended.set)
