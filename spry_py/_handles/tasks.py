"""Tasks: temporary children with a generated key, whose end a caller waits for."""

from __future__ import annotations

import math
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import AbstractAsyncContextManager, aclosing
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from spry_py._kernel.life import failure_of, without_cancelled
from spry_py._spec.check import (
    Block,
    check_async_function,
    check_awaitable,
    check_count,
    check_seconds,
    check_type,
)
from spry_py._spec.child import Child
from spry_py._spec.errors import Interrupted, SpryError, is_exit, out_of_group
from spry_py._spec.termination import Normal, Reason, TerminationReport

if TYPE_CHECKING:
    from types import TracebackType

    from .child import ChildHandle
    from .system import SystemHandle

T = TypeVar("T")
Items: TypeAlias = Iterable[T] | AsyncIterable[T]
Results: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Reason]]


async def run_task(
    handle: SystemHandle, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]
) -> T:
    """Run ``fn(*args)`` as a task and return its value, or raise what it raised."""
    check_async_function("run", "fn", fn, plain=True)
    # nothing in this frame may hold the report, whose exception will hold this frame
    value: T = _value_of(await _end_of(await _begin(handle, fn, args, math.inf)))
    return value


def map_tasks(
    handle: SystemHandle,
    fn: Callable[[T], Awaitable[object]],
    items: Items[T],
    limit: int | None,
    ordered: bool,
    timeout: float,
) -> Results:
    """Run ``fn(item)`` as a task for each item; a block with an iterator of their ends."""
    check_async_function("map", "fn", fn)
    _check_items(items)
    check_type("map", "ordered", ordered, bool, "a bool")
    check_seconds("map", "timeout", timeout, zero=False)
    limit = _limit(limit)

    async def begin(item: T) -> ChildHandle:
        return await _begin(handle, fn, (item,), timeout)

    return _Mapping(_Stream(begin, limit, ordered), items)


def _check_items(items: object) -> None:
    if not isinstance(items, Iterable | AsyncIterable):
        raise TypeError(f"map: items must be an iterable or an async iterable, not {items!r}")


def _limit(limit: int | None) -> int:
    if limit is None:
        return os.cpu_count() or 1
    check_count("map", "limit", limit, least=1)
    return limit


# One task


async def _begin(
    handle: SystemHandle, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...], limit: float
) -> ChildHandle:
    key = handle.new_key("task")
    child = Child(key, _call, fn, args, restart="temporary", run_timeout=limit)
    return await handle.start_child(child)


async def _call(
    fn: Callable[..., Awaitable[object]],
    args: tuple[Any, ...],
    *,
    task_status: trio.TaskStatus[None],
) -> object:
    # started before its first step: whatever that raises is the end of a task, not a failed start
    task_status.started()
    awaitable = fn(*args)
    if awaitable.__class__ is not CoroutineType:
        check_awaitable("what runs as a task", fn, awaitable)
    return await awaitable


async def _end_of(child: ChildHandle) -> TerminationReport:
    """Wait for the end of a task; a caller that is cancelled takes the task along."""
    try:
        return await child.wait()
    except BaseException:
        with trio.CancelScope(shield=True):
            await _terminate(child)
        raise


async def _terminate(child: ChildHandle) -> None:
    try:
        await child.terminate()
    except SpryError:
        # its supervisor is stopping: the task ends in its turn, or has ended already
        await child.wait()


def _value_of(report: TerminationReport) -> Any:
    if isinstance(report.reason, Normal):
        return report.reason.value
    exception = report.exception
    if exception is None or is_exit(exception):
        raise Interrupted(f"the task {report.path!r} was stopped before it had a value")
    try:
        raise exception
    finally:
        del exception, report


# Many tasks


class _Mapping(Block[AsyncIterator[Reason]]):
    """The tasks of one `SystemHandle.map`, for the duration of a block. A class: see `_run`."""

    call, target = "handle.map", "results"

    def __init__(self, stream: _Stream, items: Items[Any]) -> None:
        self._stream = stream
        self._items = items

    @enable_ki_protection
    async def __aenter__(self) -> AsyncIterator[Reason]:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._stream.feed, self._items, self._nursery, name="spry_py map")
        return self._stream

    @enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self._stream.close()
        # what comes from outside while the tasks end must not take the place of `exception`
        self._nursery.cancel_scope.shield = True
        self._nursery.cancel_scope.cancel()
        interrupt: BaseException | None = None
        try:
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            # Ctrl-C, handed to the waiting main task
            interrupt = out_of_group(group)
        try:
            if interrupt is not None:
                raise interrupt
            self._stream.raise_beside(exception)
        finally:
            del exception, place, interrupt


class _Stream:
    """The ends of tasks, for the code that iterates over them."""

    __slots__ = (
        "_begin",
        "_begun",
        "_changed",
        "_ended",
        "_error",
        "_is_closed",
        "_is_fed",
        "_limit",
        "_ordered",
        "_taken",
    )

    def __init__(
        self, begin: Callable[[Any], Awaitable[ChildHandle]], limit: int, ordered: bool
    ) -> None:
        self._begin = begin
        self._limit = limit
        self._ordered = ordered
        self._begun = 0
        self._taken = 0
        # by the number of the task, in the order of their ends
        self._ended: dict[int, Reason] = {}
        # why there are no more tasks
        self._error: BaseException | None = None
        self._is_fed = False
        self._is_closed = False
        self._changed = trio.lowlevel.ParkingLot()

    # For the consumer

    def __aiter__(self) -> AsyncIterator[Reason]:
        return self

    @enable_ki_protection
    async def __anext__(self) -> Reason:
        await trio.lowlevel.checkpoint()
        while True:
            if self._is_closed:
                raise trio.ClosedResourceError("the block of this map is over")
            self.raise_beside(None)
            reason = self._take()
            if reason is not None:
                return reason
            if self._is_fed and self._taken == self._begun:
                raise StopAsyncIteration
            await self._changed.park()

    def _take(self) -> Reason | None:
        number = self._taken if self._ordered else next(iter(self._ended), -1)
        reason = self._ended.pop(number, None)
        if reason is not None:
            self._taken += 1
            self._changed.unpark_all()
        return reason

    def close(self) -> None:
        """The block is over: so is any iteration that another task is in."""
        self._is_closed = True
        self._changed.unpark_all()

    def raise_beside(self, failure: BaseException | None) -> None:
        """Raise what has kept the tasks from going on, if that has not been raised yet.

        Where ``failure`` is on its way already, that goes on, or both as a group.
        """
        error, self._error = self._error, None
        try:
            if error is None:
                return
            if failure is None:
                raise error
            if without_cancelled(failure) is not None:
                message = "both the block and its tasks failed"
                raise BaseExceptionGroup(message, [failure, error])
        finally:
            del failure, error

    # The tasks

    @enable_ki_protection
    async def feed(self, items: Items[Any], nursery: trio.Nursery) -> None:
        """Begin a task for each item, as the consumer goes on."""
        try:
            async with aclosing(_each(items)) as each:
                await self._may_begin()
                async for item in each:
                    child = await self._begin(item)
                    nursery.start_soon(self._watch, self._begun, child)
                    self._begun += 1
                    await self._may_begin()
        except BaseException as exception:
            self._error = failure_of(exception)
            if self._error is None:
                raise
        finally:
            self._is_fed = True
            self._changed.unpark_all()

    async def _may_begin(self) -> None:
        while self._begun - self._taken >= self._limit:
            await self._changed.park()

    @enable_ki_protection
    async def _watch(self, number: int, child: ChildHandle) -> None:
        report = await _end_of(child)
        self._ended[number] = report.reason
        self._changed.unpark_all()


@disable_ki_protection
async def _each(items: Items[T]) -> AsyncGenerator[T, None]:
    """The items; what gives them is closed when the rest is not wanted, if it can be.

    The user's code is called from here, and so Ctrl-C may land in it.
    """
    if isinstance(items, AsyncGenerator):
        generator = cast("AsyncGenerator[T, None]", items)
        async with aclosing(generator):
            async for item in generator:
                yield item
    elif isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
