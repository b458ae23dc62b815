"""The run of trio that is a guest of an asyncio loop: one for each loop, while a tree needs it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import TrioToken

from .place import is_here
from .waiting import until

if TYPE_CHECKING:
    from outcome import Outcome

# The guests that we have begun. Each entry is written in the thread of its loop.
_guests: Final[dict[asyncio.AbstractEventLoop, Guest]] = {}

# how often to look whether a thread of trio's has come back, a millisecond apart
_LOOKS: Final = 1000


class Stay:
    """The right of one tree to a run of trio; to be given back."""

    __slots__ = ("_guest", "token")

    def __init__(self, token: TrioToken, guest: Guest | None) -> None:
        self.token: TrioToken = token
        self._guest = guest

    async def leave(self) -> asyncio.CancelledError | None:
        """Give it back; the last one waits until the guest has gone.

        Whatever comes meanwhile; returns a cancellation that did.
        """
        guest, self._guest = self._guest, None
        if guest is None:
            return None
        guest.stays -= 1
        if guest.stays:
            return None
        guest.close()
        return await until({guest.keeper})


async def stay() -> Stay:
    """A stay in the run of trio that is a guest of this loop; one is begun if there is none.

    In a guest run that others have begun, too, which has to last as long as its trees.
    """
    loop = _loop_here()
    _forget_abandoned()
    while (guest := _guests.get(loop)) is not None and guest.is_closing:
        cancelled = await until({guest.keeper})
        if cancelled is not None:
            raise cancelled
    if guest is None:
        token = _token_here()
        if token is not None:
            return Stay(token, None)
        guest = _guests[loop] = Guest(loop)
    guest.stays += 1
    return Stay(guest.token, guest)


def _loop_here() -> asyncio.AbstractEventLoop:
    try:
        if not trio.lowlevel.in_trio_task():
            return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise RuntimeError(
        "spry_py.aio opens trees in code of asyncio, and this is none; in code of trio write "
        "spry_py.open_system, whose trees may have children of asyncio, too"
    )


def _token_here() -> TrioToken | None:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


class Guest:
    """One run of trio as the guest of a loop, and the task of the loop that watches over it.

    All trees of the loop share it. `asyncio.run` cancels the watching task when its main task has
    ended, and waits for it: so trees that are still open then are stopped before the loop is
    closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.thread: int = threading.get_ident()
        # how many trees have a stay here; written by `stay` and `Stay.leave`
        self.stays = 0
        self.is_closing: bool = False
        self._leave = trio.Event()
        self._over: asyncio.Future[BaseException | None] = loop.create_future()
        # what a thread of trio's wanted to be called in a loop that was closed
        self._orphan: list[Callable[[], object]] = []
        # born with nothing of the tree that happens to be the first
        nothing = contextvars.Context()
        nothing.run(self._begin)
        self.token: TrioToken = trio.lowlevel.current_trio_token()
        self.keeper: asyncio.Task[None] = nothing.run(loop.create_task, self._keep())
        self.keeper.set_name("spry_py guest")

    def _begin(self) -> None:
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._soon,
            run_sync_soon_not_threadsafe=self._loop.call_soon,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
        )

    async def _main(self) -> None:
        await self._leave.wait()

    async def _keep(self) -> None:
        cancelled = await until({self._over}, self.close)
        failure = self._over.result()
        if failure is not None:
            raise failure
        if cancelled is not None:
            raise cancelled

    def close(self) -> None:
        """Let the guest go, when all trees that are still open have been stopped in order."""
        self.is_closing = True
        self._leave.set()

    def _done(self, outcome: Outcome[Any]) -> None:
        _guests.pop(self._loop, None)
        failure: BaseException | None = getattr(outcome, "error", None)
        if not self._over.done():
            self._over.set_result(failure)

    def _soon(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            self._orphan.append(function)

    def forget(self) -> None:
        """The loop was closed before its guest could end: let trio notice, in this thread."""
        with suppress(trio.RunFinishedError, OSError):
            self.token.run_sync_soon(lambda: None)
        for _ in range(_LOOKS):
            if self._orphan or not is_here(self.token):
                break
            time.sleep(0.001)
        self._orphan.clear()


def _forget_abandoned() -> None:
    here = threading.get_ident()
    for loop, guest in list(_guests.items()):
        if loop.is_closed() and guest.thread == here:
            del _guests[loop]
            guest.forget()
