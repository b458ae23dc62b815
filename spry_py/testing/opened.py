"""`started`: a tree for the duration of a block, with the record of all that happens in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ClassVar, TypeVar, Unpack, overload

from spry_py import Child, System, SystemHandle, SystemOptions
from spry_py.lowlevel import Block, Supervisor, open_subscribed

from .chaos import ChaosFailure
from .live_record import LiveRecord

H = TypeVar("H")


@overload
def started(system: Supervisor[H]) -> AbstractAsyncContextManager[tuple[H, LiveRecord]]: ...


@overload
def started(
    system: System | Sequence[Child[Any]], **options: Unpack[SystemOptions]
) -> AbstractAsyncContextManager[tuple[SystemHandle, LiveRecord]]: ...


def started(
    system: System | Sequence[Child[Any]] | Supervisor[H], **options: Any
) -> AbstractAsyncContextManager[tuple[Any, LiveRecord]]:
    """Run a tree for the duration of a block, as `spry_py.open_system` does, and record it::

        async with started(shop, strategy="rest_for_one") as (handle, record):
            crash(handle, "shop/db", OSError("gone"))
            await record.wait_for(ChildStarted, "shop/api", count=2)

    The record begins with the first event of the boot. At the end of the block the tree is stopped
    in order. Then `AssertionError` is raised if, at any time, a child that listens has outlived its
    ``shutdown``, was reported as stuck, or raised while it was being stopped, unless the block has
    waited for that event (`LiveRecord.wait_for`). If the block or the tree has failed, that failure
    comes out as from `open_system`, and this is not looked at. After ExUnit's ``start_supervised``.
    """
    return Started(system, options)


class Started(Block[tuple[Any, LiveRecord]]):
    """What `started` returns. No generator: that would assign to exceptions that pass through."""

    call: ClassVar[str] = "started"
    target: ClassVar[str] = "(handle, record)"

    def __init__(self, system: Any, options: dict[str, Any]) -> None:
        self.record: LiveRecord = LiveRecord()
        self._opened: AbstractAsyncContextManager[Any, bool | None]
        self._opened = open_subscribed(system, self.record, **options)

    async def __aenter__(self) -> tuple[Any, LiveRecord]:
        __tracebackhide__ = True
        self.record.handle = await self._opened.__aenter__()
        return self.record.handle, self.record

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> bool | None:
        __tracebackhide__ = True
        try:
            if isinstance(exception, ChaosFailure) and exception.__cause__ is not None:
                await self._leave_after(exception)
                return False
            is_over = await self._opened.__aexit__(kind, exception, place)
            if exception is None or is_over:
                self.record.check_stops()
            return is_over
        finally:
            del exception, place

    async def _leave_after(self, chaos: ChaosFailure) -> None:
        """The failure of chaos stands for the one of the tree that it comes from."""
        try:
            await self._opened.__aexit__(None, None, None)
        except BaseException as error:
            if error is not chaos.__cause__:
                raise  # pragma: no cover - a Ctrl-C in this very moment
        finally:
            del chaos
