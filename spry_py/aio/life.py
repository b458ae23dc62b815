"""One task of asyncio that runs as a child: what its code does, and what trio does to it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import trio

from spry_py import Context
from spry_py.lowlevel import add_stack

from .place import Place, ask
from .stack import stack_of_task

# How long a task may swallow a cancellation before it is cancelled again: a second, and a little,
# so that the report of it after a second shows where it stands, not what it does about this.
AGAIN_AFTER: Final = 1.05

_current: contextvars.ContextVar[Life] = contextvars.ContextVar("spry_py_aio_life")


def current_life(what: str) -> Life:
    """The life of the task that calls, or of the one that it is nested in."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            f"{what} was called outside a task of asyncio that is a child: only the function given "
            "to spry_py.aio.task (and what it calls, and its nested tasks) has it"
        ) from None


class Life:
    """A task of asyncio, from before its first step to its end.

    Trio's side waits in `run` for news. All that crosses over is a call into the other thread, or
    where both share one, a call.
    """

    __slots__ = (
        "_args",
        "_calls_started",
        "_context",
        "_failure",
        "_fn",
        "_has_started",
        "_is_cancelled",
        "_is_over",
        "_listens",
        "_news",
        "_place",
        "_status",
        "_token",
        "_value",
        "is_settling",
        "loop",
        "on_settle",
        "path",
        "task",
    )

    def __init__(
        self,
        fn: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        calls_started: bool,
        status: trio.TaskStatus[Any],
        context: Context,
        place: Place,
    ) -> None:
        self._fn = fn
        self._args = args
        self._calls_started = calls_started
        self._status = status
        self._context = context
        self._place = place
        self._token = trio.lowlevel.current_trio_token()
        self.path: str = context.path
        # written in trio's thread
        self._news = trio.Event()
        self._listens = self._is_over = self._is_cancelled = self._has_started = False
        # written in the loop's thread
        self.task: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._value: object = None
        self._failure: BaseException | None = None
        self.is_settling: bool = False
        self.on_settle: set[Callable[[], object]] = set()

    # In trio's thread

    async def run(self) -> object:
        """Run the task to its very end; returns and raises what it does, in the words of trio."""
        take_back = add_stack(self.stack, self._context)
        cancelled: trio.Cancelled | None = None
        try:
            birth = contextvars.copy_context()
            birth.run(_current.set, self)
            self._place.begin(self, birth)
            del birth
            try:
                while not self._is_over:
                    await self._next_news()
            except trio.Cancelled as exception:
                cancelled = exception
                await self._end_it()
            return self._result(cancelled)
        finally:
            take_back()
            del cancelled

    async def _next_news(self) -> None:
        self._news = trio.Event()
        waits_for_settling = self._listens and not self.is_settling
        scope = self._context.cancel_on_settle() if waits_for_settling else trio.CancelScope()
        with scope:
            await self._news.wait()
        if scope.cancelled_caught:
            self.is_settling = True
            self._place.soon(self._settle)

    async def _end_it(self) -> None:
        with trio.CancelScope(shield=True):
            while not self._is_over:
                self._is_cancelled = True
                self._place.soon(self._cancel)
                self._news = trio.Event()
                with trio.move_on_after(AGAIN_AFTER):
                    await self._news.wait()

    def _result(self, cancelled: trio.Cancelled | None) -> object:
        failure, self._failure = self._failure, None
        value, self._value = self._value, None
        try:
            if failure is None:
                if not self._calls_started:
                    self._start(None)
                return value
            rest = without_cancelled(failure)
            if rest is not None:
                raise rest
            if cancelled is not None:
                raise cancelled
            raise RuntimeError(
                "an asyncio.CancelledError was raised that no one has asked for: the task, or one "
                "that it awaited, was cancelled by other code than its supervisor"
            ) from failure
        finally:
            del failure, cancelled

    def over(self, failure: BaseException | None = None) -> None:
        """The task has ended, and with it the loop if that was its own, which may have failed."""
        if failure is not None and self._failure is None:
            self._failure = failure
        self.task = None
        self._is_over = True
        self._news.set()

    def _listen(self) -> None:
        self._context.cancel_on_settle()
        self._listens = True
        self._news.set()

    def _start(self, value: object) -> None:
        """The first suspension, or the end: the task is started, if it is still wanted."""
        if not self._has_started:
            self._has_started = True
            with suppress(RuntimeError):  # its start has been cancelled meanwhile
                self._status.started(value)

    def _started(self, value: object) -> None:
        if self._has_started and not self._calls_started:
            raise RuntimeError(
                f"child {self.path!r} called started() after its first suspension, which counted "
                "as its start, since nothing in its code names started(); write "
                "task(..., calls_started=True)"
            )
        self._has_started = True
        self._status.started(value)

    def stack(self) -> str:
        """Where the task stands, and those that it awaits."""
        task = self.task
        return stack_of_task(task) if task is not None else ""

    # In the loop's thread

    async def main(self) -> None:
        """The task itself. What it ends with is kept here, whatever asyncio would make of it."""
        self.task, self.loop = asyncio.current_task(), asyncio.get_running_loop()
        assert self.task is not None
        self.task.set_name(self.path)
        try:
            if self._is_cancelled:
                raise asyncio.CancelledError
            if not self._calls_started:
                # comes after the first step of this task
                self.loop.call_soon(self._first_suspension)
            self._value = await self._fn(*self._args)
        except GeneratorExit:  # the loop is gone
            raise
        except BaseException as exception:
            self._failure = exception

    def _first_suspension(self) -> None:
        task = self.task
        if task is not None and not task.done():
            ask(self._token, self._start, None)

    def _cancel(self) -> None:
        task = self.task
        if task is not None and not task.done():
            task.cancel()

    def _settle(self) -> None:
        for call in list(self.on_settle):
            call()

    def started(self, value: object) -> None:
        """The child is up. May be called in other threads as well."""
        ask(self._token, self._started, value)

    def listen(self) -> None:
        """From now on the task is asked to settle before it is cancelled."""
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("only tasks in the loop of the child itself can be asked to settle")
        if not self._listens:
            ask(self._token, self._listen)


def without_cancelled(exception: BaseException) -> BaseException | None:
    """What is left without the cancellations of asyncio."""
    if isinstance(exception, asyncio.CancelledError):
        return None
    if isinstance(exception, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exception)
        cancelled, rest = group.split(asyncio.CancelledError)
        return group if cancelled is None else rest
    return exception
