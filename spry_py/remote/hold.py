"""`Hold`: a `Running` on top of whatever carries letters, however badly."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import trio

from .grant import Grant
from .messages import Done, Lost, Message, Report, Wish, Word
from .order import Order
from .tenancy import again_after

Letter: TypeAlias = Order | Word


class Hold:
    """The near end of one incarnation, for engines: it needs no task of its own.

    ``send`` posts a letter to the machine, at once; it may be lost. The engine calls `hear` with
    what comes from there, `dead` when it knows that no code of it runs any more, and `cut` when no
    letter can come through any more, all in trio's thread. ``destroy``, if there is one, kills the
    process of a child that has it to itself: it is called once, and `dead` should follow.
    ``on_end``, if there is one, is called once, when there is nothing left to wait for. Letters may
    still be sent after that, in return for those that come late.
    """

    def __init__(
        self,
        order: Order,
        send: Callable[[Letter], object],
        destroy: Callable[[], object] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self.order: Order = order
        self._grant = Grant(order)
        self._send = send
        self._destroy = destroy
        self._on_end = on_end
        # what has not been read yet; ends with the one `Done` or `Lost` that there is
        self._queue: deque[Message] = deque()
        # written by `_end`
        self.is_over: bool = False
        self._why_silent = ""
        self._news = trio.lowlevel.ParkingLot()
        self._send_at = -math.inf

    # What the engine calls

    def hear(self, report: Report) -> None:
        """Take a letter from the machine."""
        if self.is_over:
            # renews nothing, but so it need not be sent again
            self._grant.hear(report, -math.inf)
            self._send(self._grant.word())
            return
        for message in self._grant.hear(report, trio.current_time()):
            self._add(message)
        self._post()
        self._news.unpark_all()

    def dead(self, why: str) -> None:
        """No code of it runs any more."""
        self._end(Lost(why))

    def cut(self, why: str) -> None:
        """No letter comes through any more: its lease has to run out, if it has one."""
        self._why_silent = why
        if not self._grant.run:
            self._end(Lost(why))
        self._news.unpark_all()

    # Running

    @property
    def messages(self) -> AsyncIterator[Message]:
        """What is reported of it, in order, each once."""
        return _Messages(self.next)

    async def settle(self) -> None:
        """Have the child asked to finish; returns at once."""
        self._ask("settle")

    async def kill(self) -> None:
        """End it; returns when it is surely dead, or its lease is over."""
        self._ask("kill")
        if self._destroy is not None and not self.is_over:
            destroy, self._destroy = self._destroy, None
            destroy()
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.is_over:
            await self._wait()

    async def next(self) -> Message:
        """The next message, or `StopAsyncIteration` behind the last. Cancelled, it takes none."""
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self.is_over:
                raise StopAsyncIteration
            await self._wait()
        return self._queue.popleft()

    # Within

    def _ask(self, wish: Wish) -> None:
        if self.is_over or not self._grant.ask(wish):
            return
        if not self._grant.run:
            # nothing has the right to run, and nothing will have
            self._end(Done("aborted"))
        else:
            self._post()

    def _add(self, message: Message) -> None:
        if isinstance(message, Done):
            self._end(message)
        elif not self.is_over:
            self._queue.append(message)

    def _end(self, message: Done | Lost) -> None:
        """The first end counts."""
        if not self.is_over:
            self.is_over = True
            self._grant.ask("kill")
            self._queue.append(message)
            self._news.unpark_all()
            if self._on_end is not None:
                self._on_end()

    def _post(self) -> None:
        self._send_at = trio.current_time() + again_after(self.order.lease)
        self._send(self._grant.word() if self._grant.run else self.order)

    async def _wait(self) -> None:
        """Wait for news, and do what is due meanwhile."""
        now = trio.current_time()
        until = self._grant.until
        if -math.inf < until <= now:
            why = self._why_silent or "nothing was heard of it"
            self._end(Lost(f"{why}, and its lease of {self.order.lease:g} s has run out"))
            return
        if self._must_repeat() and self._send_at <= now:
            self._post()
        due = until if until > -math.inf else math.inf
        if self._must_repeat():
            due = min(due, self._send_at)
        with trio.move_on_at(due):
            await self._news.park()

    def _must_repeat(self) -> bool:
        return not self._grant.run or self._grant.wish != "run"


class _Messages:
    """No generator: one that is left alone in the midst would have to be closed."""

    def __init__(self, following: Callable[[], Awaitable[Message]]) -> None:
        self._following = following

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await self._following()
