"""The handles of a tree for code of asyncio: what is awaited hops into the run of trio and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import TrioToken

import spry_py
from spry_py import (
    Child,
    ChildCounts,
    ChildInfo,
    HistoryEntry,
    Kind,
    Reason,
    Snapshot,
    SpryError,
    Status,
    SupervisorStopped,
    TerminationReport,
)
from spry_py.events import Event
from spry_py.lowlevel import Block, check_async_function, token_of

from .call import Bridge, Call, in_trio
from .held import Held
from .place import ask
from .source import read
from .tasks import TaskStart, task
from .waiting import raise_instead

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Handle:
    """A path of a tree. Queries return at once, from every thread."""

    __slots__ = ("_theirs",)

    def __init__(self, handle: spry_py.ChildHandle | spry_py.SystemHandle | Handle) -> None:
        self._theirs: Any = handle._theirs if isinstance(handle, Handle) else handle

    @property
    def path(self) -> str:
        """The keys from the root on, joined by ``/``."""
        path: str = self._theirs.path
        return path

    @property
    def key(self) -> str:
        """The last part of the path."""
        key: str = self._theirs.key
        return key

    @property
    def kind(self) -> Kind:
        """``"supervisor"``, ``"worker"`` and so on."""
        kind: Kind = self._theirs.kind
        return kind

    @property
    def status(self) -> Status:
        """What it is doing, in one word."""
        status: Status = self._theirs.status
        return status

    @property
    def value(self) -> Any:
        """The started value of the present incarnation; ``None`` while there is none.

        That of a supervisor is a handle for asyncio, here and where it is waited for.
        """
        return wrapped(self._theirs.value)

    @property
    def incarnation(self) -> int:
        """The number of the present incarnation, else of the last: 1, 2, …"""
        number: int = self._theirs.incarnation
        return number

    @property
    def restarts(self) -> int:
        """How often its supervisor has started it again, in the supervisor's own incarnation."""
        restarts: int = self._theirs.restarts
        return restarts

    @property
    def last_report(self) -> TerminationReport | None:
        """The report of the last incarnation that has ended."""
        report: TerminationReport | None = self._theirs.last_report
        return report

    def info(self) -> ChildInfo:
        """All that is known of it at this moment, frozen."""
        info: ChildInfo = self._theirs.info()
        return info

    def stack(self) -> str:
        """Where each task of the living incarnation stands; empty if none is alive."""
        stack: str = self._theirs.stack()
        return stack

    def history(self) -> tuple[HistoryEntry, ...]:
        """What has happened at and below this path, once `SystemHandle.follow` was asked for it."""
        history: tuple[HistoryEntry, ...] = self._theirs.history()
        return history

    async def wait_started(self) -> Any:
        """Wait until it is running, and return the started value of that incarnation.

        Raises as `spry_py.ChildHandle.wait_started`.
        """
        return wrapped(await self._in_trio(self._theirs.wait_started))

    async def wait(self) -> TerminationReport:
        """Wait for its end for good, and return the report of that.

        Cancelling this only stops the waiting.
        """
        try:
            report: TerminationReport = await self._in_trio(self._theirs.wait)
        except SupervisorStopped:
            # with its tree, the run of trio may have ended
            if self.status != "stopped" or self.last_report is None:
                raise
            return self.last_report
        return report

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}, {self.status}>"

    async def _in_trio(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        try:
            return await in_trio(token_of(self._theirs), fn, *args)
        except trio.RunFinishedError:
            raise self._over() from None

    def _ask(self, fn: Callable[..., T], *args: Any) -> T:
        try:
            return ask(token_of(self._theirs), fn, *args)
        except trio.RunFinishedError:
            raise self._over() from None

    def _over(self) -> SupervisorStopped:
        return SupervisorStopped(f"the tree of {self.path!r} has ended, and its run of trio, too")


class ChildHandle(Handle):
    """A child of a tree, for code of asyncio: `spry_py.ChildHandle` with awaitable methods.

    ``ChildHandle(handle)`` makes one of trio's kind of handle.
    """

    __slots__ = ()

    @property
    def as_system(self) -> SystemHandle | None:
        """The same child as a `SystemHandle`, if it is a supervisor, else ``None``."""
        handle = self._theirs.as_system
        return SystemHandle(handle) if handle is not None else None

    def fail(self, exception: Exception) -> None:
        """Cancel its living incarnation and make it end `Failed` with ``exception``."""
        self._ask(self._theirs.fail, exception)

    async def wait_incarnation(self, n: int) -> Any:
        """Wait until incarnation ``n`` or a later one is running, and return its started value.

        Raises as `spry_py.ChildHandle.wait_incarnation`.
        """
        return wrapped(await self._in_trio(self._theirs.wait_incarnation, n))

    async def terminate(self) -> None:
        """Stop it, as its supervisor's ``terminate_child`` does."""
        await self._in_trio(self._theirs.terminate)

    async def restart(self) -> None:
        """Stop it and restart it by its supervisor's strategy; no breaker is asked."""
        await self._in_trio(self._theirs.restart)


class SystemHandle(Handle):
    """A supervisor, for code of asyncio: `spry_py.SystemHandle` with awaitable methods.

    Each raises what trio's raises. ``SystemHandle(handle)`` makes one of trio's kind of handle, as
    a system function hands it on, or `spry_py.Context.system` does.
    """

    __slots__ = ()

    @property
    def host(self) -> ChildHandle | None:
        """The child of another tree in whose code this tree was opened, as long as that runs."""
        host = self._theirs.host
        return ChildHandle(host) if host is not None else None

    def child(self, key: str) -> ChildHandle:
        """The handle of a direct child. Raises `ChildNotFound`."""
        return ChildHandle(self._theirs.child(key))

    def find(self, path: str) -> ChildHandle:
        """The handle of a child further down: ``find("a/b/c")``. Raises `ChildNotFound`."""
        return ChildHandle(self._theirs.find(path))

    def system(self, path: str) -> SystemHandle:
        """The handle of a supervisor further down. Raises `ChildNotFound`."""
        return SystemHandle(self._theirs.system(path))

    def which_children(self) -> list[ChildInfo]:
        """The direct children in start order."""
        children: list[ChildInfo] = self._theirs.which_children()
        return children

    def count_children(self) -> ChildCounts:
        """How many direct children are known and alive."""
        counts: ChildCounts = self._theirs.count_children()
        return counts

    def snapshot(self) -> Snapshot:
        """The whole subtree, frozen."""
        snapshot: Snapshot = self._theirs.snapshot()
        return snapshot

    def render(self) -> str:
        """The whole subtree as text, a line for each child."""
        text: str = self._theirs.render()
        return text

    def new_key(self, prefix: str = "child") -> str:
        """A key that nothing in this tree was given before: ``prefix-1``, ``prefix-2``, …"""
        key: str = self._ask(self._theirs.new_key, prefix)
        return key

    def events(self, capacity: float = 1024) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """The events at and below this path, from entering on.

        As trio's handle gives them::

            async with handle.events() as events:
                async for event in events:
                    print(event)
        """
        block = self._ask(self._theirs.events, capacity)
        return _Events(token_of(self._theirs), block)

    def follow(
        self, capacity: float = 1024, history: bool = False
    ) -> AbstractAsyncContextManager[tuple[Snapshot, AsyncIterator[Event]]]:
        """The whole subtree, and the events from exactly there on.

        As trio's handle gives them::

            async with handle.follow() as (snapshot, events):
                async for event in events:
                    ...
        """
        block = self._ask(self._theirs.follow, capacity, history)
        return _Following(token_of(self._theirs), block)

    async def start_child(
        self,
        child: Child[Any],
        on_conflict: Literal["raise", "replace", "queue", "ignore"] = "raise",
    ) -> ChildHandle:
        """Add a child behind all others and start it; returns its handle once it is started.

        Cancelling it takes the start back, queued or begun.
        """
        theirs = self._theirs
        return await self._started_child(
            lambda: theirs.start_child(child, on_conflict), forget=True
        )

    async def restart_child(self, key: str) -> ChildHandle:
        """Start a child that is known but down, alone; returns its handle once it is started.

        Cancelling it takes the start back.
        """
        theirs = self._theirs
        return await self._started_child(lambda: theirs.restart_child(key), forget=False)

    async def _started_child(
        self, begin: Callable[[], Awaitable[spry_py.ChildHandle]], forget: bool
    ) -> ChildHandle:
        async def undo(child: spry_py.ChildHandle) -> None:
            with suppress(SupervisorStopped):
                await self._in_trio(_take_back, self._theirs, child.key, forget)

        try:
            return ChildHandle(await Call(token_of(self._theirs), begin).result(undo))
        except trio.RunFinishedError:
            raise self._over() from None

    async def terminate_child(self, key: str) -> None:
        """Stop a child in its ``shutdown`` seconds; it stays known, unless it is temporary.

        Cancelling it stops the waiting, not the termination.
        """
        await self._in_trio(self._theirs.terminate_child, key)

    async def delete_child(self, key: str) -> None:
        """Forget a child that is down."""
        await self._in_trio(self._theirs.delete_child, key)

    async def replay(self) -> None:
        """Run the system function again, and make the children what it declares now."""
        await self._in_trio(self._theirs.replay)

    async def run(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run ``fn(*args)``, a coroutine function of asyncio, as a temporary child; its value.

        What it raises is raised here, the very exception, and touches nothing else. Cancelling this
        terminates the task and waits until it has ended.
        """
        value: T = await self._in_trio(self._theirs.run, task(fn, *args))
        return value

    def map(
        self,
        fn: Callable[[T], Awaitable[object]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        limit: int | None = None,
        ordered: bool = True,
        timeout: float = math.inf,
    ) -> AbstractAsyncContextManager[AsyncIterator[Reason]]:
        """Run ``fn(item)``, of asyncio, as a task for each item, and iterate over how they ended.

        As `spry_py.SystemHandle.map`; an async iterable is one of asyncio, and is read there.
        """
        check_async_function("map", "fn", fn)
        token = token_of(self._theirs)
        if isinstance(items, AsyncIterable):
            items = read(items, Bridge(token), copy_context())

        async def one(item: T) -> object:
            return await TaskStart(fn, (item,))()

        begin = partial(self._theirs.map, limit=limit, ordered=ordered, timeout=timeout)
        return _Results(token, self._ask(begin, one, items))

    async def stop(self) -> None:
        """Stop the present incarnation in reverse start order, and wait until it has ended.

        Cancelling this stops the waiting, not the stop.
        """
        if self.status != "stopped":
            await self._in_trio(self._theirs.stop)

    def abort(self) -> None:
        """Cancel the present incarnation with all that lives below it; returns at once."""
        if self.status != "stopped":
            self._ask(self._theirs.abort)


class PartitionHandle(SystemHandle):
    """A partition supervisor, for code of asyncio: `spry_py.PartitionHandle`."""

    __slots__ = ()

    @property
    def partitions(self) -> int:
        """How many partitions there are now, between 0 and the initial number."""
        partitions: int = self._theirs.partitions
        return partitions

    def partition(self, key: Any) -> ChildHandle:
        """The child that serves ``key``. Raises as `spry_py.PartitionHandle.partition`."""
        return ChildHandle(self._theirs.partition(key))

    async def resize(self, partitions: int) -> int:
        """Have so many partitions from now on; returns how many there were."""
        before: int = await self._in_trio(self._theirs.resize, partitions)
        return before


async def _take_back(handle: spry_py.SystemHandle, key: str, forget: bool) -> None:
    """End a child whose start has succeeded, for a caller who does not want it any more."""
    with trio.CancelScope(shield=True), suppress(SpryError):  # it may be gone by now
        await handle.terminate_child(key)
        if forget:
            await handle.delete_child(key)


def wrapped(handle: object) -> Any:
    """What a supervisor's started value is for asyncio."""
    if isinstance(handle, spry_py.PartitionHandle):
        return PartitionHandle(handle)
    return SystemHandle(handle) if isinstance(handle, spry_py.SystemHandle) else handle


class _Entered(Block[T]):
    """A block of trio's that gives an iterator, for asyncio."""

    def __init__(self, token: TrioToken, block: AbstractAsyncContextManager[Any]) -> None:
        self._token = token
        self._block = block
        self._held: Held[Any] | None = None

    def _given(self, theirs: Any) -> T:
        """What trio's block has given, for asyncio."""
        raise NotImplementedError  # pragma: no cover - said by subclasses

    async def __aenter__(self) -> T:
        self._held = Held(self._token, self._block, f"spry_py {self.call}")
        return self._given(await self._held.enter())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        assert self._held is not None
        failure, cancelled = await self._held.leave()
        try:
            if failure is not None:
                raise_instead(failure, cancelled is not None)
            if cancelled is not None:
                raise cancelled
        finally:
            del failure, cancelled, exception, place


class _Events(_Entered[AsyncIterator[Event]]):
    call: ClassVar[str] = "handle.events"
    target: ClassVar[str] = "events"

    def _given(self, theirs: AsyncIterator[Event]) -> AsyncIterator[Event]:
        return _Iterator(self._token, theirs)


class _Following(_Entered[tuple[Snapshot, AsyncIterator[Event]]]):
    call: ClassVar[str] = "handle.follow"
    target: ClassVar[str] = "(snapshot, events)"

    def _given(
        self, theirs: tuple[Snapshot, AsyncIterator[Event]]
    ) -> tuple[Snapshot, AsyncIterator[Event]]:
        return theirs[0], _Iterator(self._token, theirs[1])


class _Results(_Entered[AsyncIterator[Reason]]):
    call: ClassVar[str] = "handle.map"
    target: ClassVar[str] = "results"

    def _given(self, theirs: AsyncIterator[Reason]) -> AsyncIterator[Reason]:
        return _Iterator(self._token, theirs)


class _Iterator(AsyncIterator[T]):
    """Each step is a call. One that is cancelled loses nothing."""

    __slots__ = ("_kept", "_theirs", "_token")

    def __init__(self, token: TrioToken, theirs: AsyncIterator[T]) -> None:
        self._token = token
        self._theirs = theirs
        # came when the one who waited for it had been cancelled
        self._kept: deque[T] = deque()

    async def __anext__(self) -> T:
        if self._kept:
            return self._kept.popleft()
        return await Call(self._token, self._theirs.__anext__).result(self._keep)

    async def _keep(self, item: T) -> None:
        self._kept.append(item)
