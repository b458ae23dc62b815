"""What the code of a task has of its supervisor: `started`, `settled` and `cancel_on_settle`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from .life import Life, current_life

if TYPE_CHECKING:
    from types import TracebackType


def started(value: object = None) -> None:
    """This child is up; ``value`` is its started value.

    For the function given to `task`, for what it calls, for its nested tasks, and for threads that
    have its context, as those of `asyncio.to_thread` do. Raises `RuntimeError` if it has been said
    before, after the start was cancelled, and outside such a task. What ``task_status.started`` is
    to trio.
    """
    current_life("started()").started(value)


async def settled() -> None:
    """Wait until this child is asked to finish; it then has its ``shutdown`` seconds for that.

    Calling this counts as listening: a task that never listens is cancelled at once. Cancelling it
    has no effect but to stop waiting. Raises `RuntimeError` outside a task of `task`.
    """
    life = current_life("settled()")
    life.listen()
    if life.is_settling:
        await asyncio.sleep(0)
        return
    asked = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not asked.done():
            asked.set_result(None)

    life.on_settle.add(wake)
    try:
        await asked
    finally:
        life.on_settle.discard(wake)


def cancel_on_settle() -> CancelOnSettle:
    """A block that is cancelled as soon as this child is asked to finish::

        async with cancel_on_settle():
            await accept_work()

    Counts as listening, as `settled` does. The cancellation ends with the block, as that of
    `asyncio.timeout` does; any other one goes on. A plain ``with`` does the same. May be entered
    once. Raises `RuntimeError` outside a task of `task`.
    """
    return CancelOnSettle(current_life("cancel_on_settle()"))


class CancelOnSettle:
    """The block of `cancel_on_settle`."""

    __slots__ = ("_before", "_has_cancelled", "_life", "_task")

    def __init__(self, life: Life) -> None:
        self._life = life
        self._task: asyncio.Task[object] | None = None
        # how many others had asked for a cancellation of the task when the block began
        self._before = 0
        self._has_cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether the block has been cancelled, since the child was asked to finish."""
        return self._has_cancelled

    def __enter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a block of cancel_on_settle() may be entered only once")
        self._task = asyncio.current_task()
        assert self._task is not None, "listen() wants a running loop, so there is a task"
        self._life.listen()
        self._before = self._task.cancelling()
        self._life.on_settle.add(self._cancel)
        if self._life.is_settling:
            asyncio.get_running_loop().call_soon(self._cancel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        task = self._task
        assert task is not None
        self._life.on_settle.discard(self._cancel)
        if not self._has_cancelled or task.uncancel() > self._before:
            return False
        return kind is not None and issubclass(kind, asyncio.CancelledError)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        return self.__exit__(kind, exception, place)

    def _cancel(self) -> None:
        if self._cancel in self._life.on_settle and not self._has_cancelled:
            assert self._task is not None
            self._has_cancelled = True
            self._task.cancel()
