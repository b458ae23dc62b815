"""The life of one object of a component: its runs, what becomes of their failures, its clean-up.

The object belongs to the child ``object``, which outlives the incarnations of the child ``run``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, cast

import trio

from spry_py import (
    Breaker,
    Child,
    Context,
    RunTimeout,
    SpryError,
    TerminationReport,
    current_context,
)
from spry_py.lowlevel import allows, check_async_function, may_recover, sole_leaf_of

from .status import News

METHODS: Final = ("start", "run", "recover", "handle_irrecoverable", "cleanup")
HANDLER_SECONDS: Final = 5.0
RUN: Final = "run"


class Runs(Protocol):
    """What an object must have to be a component; all else is optional."""

    def run(self) -> Awaitable[object]: ...


def check_methods(owner: str, kind: type[Any]) -> None:
    """Refuse a class without ``run``, and methods that are not async."""
    if not hasattr(kind, "run"):
        raise TypeError(f"{owner}: {kind.__name__} must have an async method run(self)")
    for name in METHODS:
        method = getattr(kind, name, None)
        if method is not None:
            check_async_function(owner, f"{kind.__name__}.{name}", method)


class Life:
    """One object, from its making to its end. Also the live breaker of its runs."""

    def __init__(
        self,
        path: str,
        instance: Any,
        options: Child[Any],
        factory: Callable[[], Breaker],
        cleanup_timeout: float,
    ) -> None:
        check_methods(f"component {path!r}", cast("type[object]", type(instance)))
        self.path: str = path
        self.instance: Any = instance
        self.news: News = News()
        self.value: Any = None
        self._options = options
        self._breaker = factory()
        self._cleanup_timeout = cleanup_timeout
        # held by a run, by the handler of its failure, and by the clean-up: never two of them
        self._turn = trio.Lock()
        # what the last run has failed with, and whether there is to be another one
        self._error: BaseException | None = None
        self._is_granted = False
        # whether that has been decided, and whether `handle_irrecoverable` has been called
        self._is_judged = False
        self._is_reported = False
        self._has_been_up = False
        self._running: Context | None = None
        # whether it is cleaned up or about to be, and when that is done
        self._is_over = False
        self._ended = trio.Event()

    # The runs: the child's start function

    async def run(self, *, task_status: trio.TaskStatus[Any]) -> object:
        if self._is_over:
            await self._ended.wait()
            raise self._stopped_alone()
        async with self._turn:
            former, self._error = self._error, None
            self._is_granted = self._is_judged = False
            self._running = current_context()
            try:
                return await self._run(former, task_status)
            finally:
                self.value = self._running = None

    async def _run(self, former: BaseException | None, task_status: trio.TaskStatus[Any]) -> object:
        try:
            self.value = await self._begin(former)
        except Exception as error:
            await self._not_begun(error)
            raise
        task_status.started(self.value)
        self._has_been_up = True
        self.news.put("running")
        return await self.instance.run()

    async def _begin(self, former: BaseException | None) -> object:
        if former is not None:
            self.news.put("recovering", former)
            await self._call("recover", former)
        self.news.put("starting")
        return await self._call("start")

    async def _call(self, name: str, *args: object) -> object:
        method = getattr(self.instance, name, None)
        return None if method is None else await method(*args)

    async def _not_begun(self, error: Exception) -> None:
        """A start has failed: only the caller that waits for a first one sees that."""
        if current_context().is_settling:
            return
        self._error = sole_leaf_of(error)
        if self._has_been_up:
            self._judge(RUN, trio.current_time())
            if self._is_given_up:
                await self._tell_irrecoverable()

    # What becomes of their ends: the child's on_termination, recoverable and breaker

    async def decide(self, report: TerminationReport) -> None:
        """A run has ended by itself: decide about another one, or call `handle_irrecoverable`."""
        exception = report.exception
        self._error = sole_leaf_of(exception) if exception is not None else None
        self._judge(report.key, report.ended_at)
        if self._is_given_up:
            async with self._turn:
                await self._tell_irrecoverable()

    def note(self, error: BaseException) -> bool:
        """The kernel asks about a failed start, too, such as one past its time limit."""
        if not self._is_judged:
            self._error = error
        return True

    def may_restart(self, key: str, now: float) -> bool:
        if not self._is_judged:
            self._judge(key, now)
        return self._is_granted

    def as_breaker(self) -> Breaker:
        return self

    def _judge(self, key: str, now: float) -> None:
        self._is_judged = True
        if self._is_over:
            self._is_granted = True  # of a new object
            return
        self._is_granted = self._wants_another() and allows(self._breaker, key, now)
        if self._is_granted:
            self.news.put("restarting", self._error)

    def _wants_another(self) -> bool:
        if self._error is None:
            return self._options.restart == "permanent"
        if self._options.restart == "temporary":
            return False
        return may_recover(self._options.recoverable, self._error)

    @property
    def _is_given_up(self) -> bool:
        return self._error is not None and not self._is_granted

    async def _tell_irrecoverable(self) -> None:
        self._is_reported = True
        self.news.put("stopping", self._error)
        await self._call("handle_irrecoverable", self._error)

    # Its end

    def let_go(self) -> None:
        """The object is asked to end. Its run has ended before, unless a call stops it alone."""
        self._is_over = True
        if self._running is not None and not self._running.is_settling:
            self._running.fail(self._stopped_alone())

    async def end(self) -> None:
        """Let the object clean up, once its last run is over, whatever this is cancelled by."""
        self._is_over = True
        with trio.CancelScope(shield=True):
            async with self._turn:
                given_up_on = self._error if self._is_given_up else None
                self.news.put("stopping", given_up_on)
                try:
                    if given_up_on is not None and self._has_been_up and not self._is_reported:
                        await self._bounded(HANDLER_SECONDS, self._tell_irrecoverable)
                finally:
                    try:
                        await self._bounded(self._cleanup_timeout, self._call, "cleanup")
                    finally:
                        self.news.put("stopped", given_up_on)
                        self._ended.set()

    def _stopped_alone(self) -> SpryError:
        return SpryError(f"the object of component {self.path!r} was stopped, and its run with it")

    async def _bounded(
        self, seconds: float, method: Callable[..., Awaitable[object]], *args: object
    ) -> None:
        with trio.move_on_after(seconds) as scope:
            await method(*args)
        if scope.cancelled_caught:
            what = args[0] if args else "handle_irrecoverable"
            raise RunTimeout(f"{what}() of component {self.path!r} took longer than {seconds:g} s")
