"""Entry points of a program of asyncio: `open_system` for a block of it, `run` for the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Unpack, overload

import spry_py
from spry_py import Child, System, SystemOptions, TerminationReport
from spry_py.lowlevel import Block, Supervisor, out_of_group, run_to_end

from .call import Call
from .guest import Stay, stay
from .handles import PartitionHandle, SystemHandle, wrapped
from .held import Held
from .waiting import cancel_again, raise_instead

if TYPE_CHECKING:
    from types import TracebackType


@overload
def open_system(
    system: spry_py.PartitionSupervisor,
) -> AbstractAsyncContextManager[PartitionHandle]: ...


@overload
def open_system(system: Supervisor[Any]) -> AbstractAsyncContextManager[SystemHandle]: ...


@overload
def open_system(
    system: System | Sequence[Child[Any]], **options: Unpack[SystemOptions]
) -> AbstractAsyncContextManager[SystemHandle]: ...


def open_system(
    system: System | Sequence[Child[Any]] | Supervisor[Any], **options: Any
) -> AbstractAsyncContextManager[Any]:
    """Run a tree for a block of asyncio's code: ``async with open_system(shop) as handle:``.

    As `spry_py.open_system`, with a handle whose methods asyncio can await. Trio runs as a guest of
    the loop: one run for all trees of the loop, begun by the first and ended after the last. Where
    trio is a guest of this loop already, the tree joins that run.

    A tree that fails cancels the block, and its failure comes out, bare; if the block fails as
    well, an exception group of the two. Cancelling the task that opened the tree ends the block,
    stops the tree in order, and then the `asyncio.CancelledError` goes on. Signals are left to the
    host. A tree that is still open when `asyncio.run` ends is stopped in order before the loop is
    closed.
    """
    return _OpenSystem(spry_py.open_system(system, **options))


class _OpenSystem(Block[Any]):
    """A tree, for the duration of a block of asyncio's."""

    call, target = "open_system", "handle"

    def __init__(self, block: AbstractAsyncContextManager[Any]) -> None:
        self._block = block
        self._stay: Stay | None = None
        self._held: Held[Any] | None = None
        self._task: asyncio.Task[Any] | None = None
        # how many had asked for a cancellation of the task when the block began
        self._before = 0
        # the tree has failed, and so has cancelled the task that runs the block
        self._has_cancelled = False

    async def __aenter__(self) -> Any:
        if self._stay is not None:
            raise RuntimeError("a block of open_system() may be entered only once")
        self._stay = await stay()
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0
        try:
            self._held = Held(self._stay.token, self._block, "spry_py tree", self._failed)
            return wrapped(await self._held.enter())
        except BaseException:
            await self._stay.leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        assert self._held is not None
        assert self._stay is not None
        failure, first = await self._held.leave()
        second = await self._stay.leave()
        cancelled = first if first is not None else second
        others = self._others()
        try:
            _raise_out(exception, failure, cancelled, others)
            return False
        finally:
            del exception, place, failure, cancelled, first, second

    def _others(self) -> bool:
        """Whether others have cancelled the task, beside a failing tree; that is over now."""
        task = self._task
        if task is not None and self._has_cancelled:
            task.uncancel()
        return task is not None and task.cancelling() > self._before

    def _failed(self) -> None:
        if self._task is not None:
            self._has_cancelled = True
            self._task.cancel()


def _raise_out(
    block: BaseException | None,
    tree: BaseException | None,
    cancelled: asyncio.CancelledError | None,
    others: bool,
) -> None:
    """Raise what comes out of a block, unless that is the block's own exception.

    What went wrong is of more weight than a cancellation.
    """
    own = None if isinstance(block, asyncio.CancelledError) else block
    again = others and (own is None or cancelled is not None)
    try:
        if tree is not None and own is not None and tree is not own:
            group = BaseExceptionGroup("both the block and its tree failed", [own, tree])
            raise_instead(out_of_group(group), again)
        if tree is not None and tree is not block:
            raise_instead(tree, again)
        if own is not None and cancelled is not None:
            cancel_again()
        if block is None and cancelled is not None:
            raise cancelled
    finally:
        del block, tree, cancelled, own


async def run(
    system: System | Sequence[Child[Any]] | Supervisor[Any], **options: Any
) -> TerminationReport:
    """Run a tree until it ends; returns the report of its root.

    What `spry_py.run` is to a whole program, in one of asyncio; raises what the root raises.
    Cancelling it stops the tree in order, and then the `asyncio.CancelledError` goes on. Options as
    for `open_system`. Signals are left to the host.
    """
    place = await stay()
    report: TerminationReport | None = None
    failure: BaseException | None = None
    try:
        report = await Call(place.token, lambda: run_to_end(system, **options)).result()
    except BaseException as exception:
        failure = exception
    cancelled = await place.leave()
    try:
        if failure is not None:
            raise_instead(failure, cancelled is not None)
        if cancelled is not None:
            raise cancelled
        assert report is not None
        return report
    finally:
        del failure, cancelled
