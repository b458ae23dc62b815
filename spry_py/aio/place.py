"""Where tasks of asyncio run: in the loop that trio is a guest of, or in a loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio
from trio.lowlevel import RunVar, TrioToken

if TYPE_CHECKING:
    from contextvars import Context

    from outcome import Outcome

    from .life import Life

T = TypeVar("T")

# Of each run of trio: the loop that it is a guest of. Written by `place_of_tasks` alone.
_host: RunVar[asyncio.AbstractEventLoop | None] = RunVar("spry_py_aio_host")


class Place(Protocol):
    """A loop of asyncio, as a run of trio sees it. Its methods are for trio's thread."""

    def begin(self, life: Life, birth: Context) -> None:
        """Run ``life.main()`` as a task in ``birth``; at last ``life.over()`` in trio's thread."""
        ...  # pragma: no cover - the body of a protocol

    def soon(self, function: Callable[[], object]) -> None:
        """Call it in the loop, unless that is over; for a loop that has not begun, nothing."""
        ...  # pragma: no cover - the body of a protocol


class HostLoop:
    """The loop that this run of trio is a guest of: both have one thread, in turn."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, life: Life, birth: Context) -> None:
        # not here, inside a step of trio's: an eager task would run its first steps at once
        self._loop.call_soon(self._create, life, context=birth)

    def _create(self, life: Life) -> None:
        main = life.main()
        try:
            task = self._loop.create_task(main, name=life.path)
        except BaseException as exception:  # there are task factories that may
            main.close()
            life.over(exception)
            return
        # asyncio.run cancels all tasks that it knows, at once; this one ends in its tree's order
        asyncio.tasks._unregister_task(task)
        task.add_done_callback(lambda task: life.over(_failure_of(task)))

    def soon(self, function: Callable[[], object]) -> None:
        self._loop.call_soon(function)


def _failure_of(task: asyncio.Task[None]) -> BaseException | None:
    """What has ended a task from outside, perhaps before its first step."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class OwnLoop:
    """A loop for one task, in a thread for one loop; its other tasks end with that one."""

    __slots__ = ("_factory", "_loop")

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
        self._factory = factory
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, life: Life, birth: Context) -> None:
        token = trio.lowlevel.current_trio_token()

        def deliver(outcome: Outcome[None]) -> None:
            failure: BaseException | None = getattr(outcome, "error", None)
            token.run_sync_soon(life.over, failure)

        trio.lowlevel.start_thread_soon(lambda: birth.run(self._run, life), deliver, life.path)

    def _run(self, life: Life) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            self._loop = runner.get_loop()
            runner.run(life.main())

    def soon(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed by now
                self._loop.call_soon_threadsafe(function)


async def host_of_run() -> asyncio.AbstractEventLoop | None:
    """The loop that this run of trio is a guest of, also if others have begun it; else ``None``.

    A loop may also be running without serving this run: below a blocking `trio.run` that was called
    in one of its callbacks. Then nothing that it is given comes to pass meanwhile.
    """
    try:
        return _host.get()
    except LookupError:
        pass
    _host.set(await _found())
    return _host.get()


async def _found() -> asyncio.AbstractEventLoop | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    served: list[None] = []
    loop.call_soon(served.append, None)
    # a guest's next step stands behind that in the line
    for _ in range(2):
        await trio.lowlevel.cancel_shielded_checkpoint()
    return loop if served else None


def is_here(token: TrioToken) -> bool:
    """Whether this thread is that of the run of trio that ``token`` stands for."""
    try:
        return trio.lowlevel.current_trio_token() is token
    except RuntimeError:
        return False


def ask(token: TrioToken, function: Callable[..., T], *args: Any) -> T:
    """Call it in trio's thread: at once if this is that, as in a guest run, else by waiting."""
    if is_here(token):
        return function(*args)
    return trio.from_thread.run_sync(function, *args, trio_token=token)
