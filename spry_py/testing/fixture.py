"""`Spry`: the trees of one test, stopped in reverse order at its end. The fixture ``spry``."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, Unpack, overload

import trio

from spry_py import Child, System, SystemHandle, SystemOptions, telemetry
from spry_py.lowlevel import Supervisor, meter_provider, tracer_provider

from .chaos import ChaosFailure
from .live_record import LiveRecord
from .opened import Started

H = TypeVar("H")


class Spry:
    """Starts trees for the rest of a test, and shows them if it fails.

    ``sections`` has the tree, the record and the incidents of each, as titles and texts, as they
    were when the test had failed.
    """

    def __init__(self) -> None:
        self.sections: list[tuple[str, str]] = []
        self._trees: list[_Tree] = []
        # both while the test runs
        self._nursery: trio.Nursery | None = None
        self._test = trio.CancelScope()

    @overload
    async def start(self, system: Supervisor[H]) -> tuple[H, LiveRecord]: ...

    @overload
    async def start(
        self, system: System | Sequence[Child[Any]], **options: Unpack[SystemOptions]
    ) -> tuple[SystemHandle, LiveRecord]: ...

    async def start(
        self, system: System | Sequence[Child[Any]] | Supervisor[H], **options: Any
    ) -> tuple[Any, LiveRecord]:
        """Open a tree as `started` does; returns when it is up, with its handle and its record.

        It lives until the test has ended. Then all trees are stopped in order, the last one first,
        and fail the test as `started` fails its block. A tree that fails before cancels the test.
        Raises what `started` raises, `RuntimeError` in a test that trio does not run. Cancelling it
        stops the tree.
        """
        __tracebackhide__ = True
        if self._nursery is None:
            raise RuntimeError(
                "spry.start is for async tests that trio runs: mark the test @pytest.mark.spry, or "
                "have pytest-trio or anyio run it"
            )
        tree = _Tree(Started(system, options), self._test.cancel)
        self._trees.append(tree)
        self._nursery.start_soon(tree.live, name="spry_py tree of a test")
        return await tree.wait_up()

    def around(self, test: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[None]]:
        """The same test, and the life of its trees around it."""

        @functools.wraps(test)
        async def within(**fixtures: object) -> None:
            __tracebackhide__ = True
            if not trio.lowlevel.in_trio_run():
                await test(**fixtures)  # as another plugin wants it, without any tree
                return
            failures: list[BaseException] = []
            async with trio.open_nursery() as self._nursery:
                with self._test:
                    try:
                        await test(**fixtures)
                    except BaseException as error:
                        _keep(error, failures)
                if failures or any(tree.failure is not None for tree in self._trees):
                    self._draw()
                await self._stop(failures)
            self._nursery = None
            if failures and not self.sections:
                self._draw()
            _raise(failures)

        return within

    async def _stop(self, failures: list[BaseException]) -> None:
        for tree in reversed(self._trees):
            await tree.stop()
            if tree.failure is not None:
                failures.append(tree.failure)

    def _draw(self) -> None:
        self.sections = [section for tree in self._trees for section in tree.drawn()]


class _Tree:
    """One tree, in a task of its own: the test need not leave it in any order."""

    def __init__(self, opened: Started, on_failure: Callable[[], object]) -> None:
        self._opened = opened
        self._on_failure = on_failure
        self._scope = trio.CancelScope()
        self._is_up = trio.Event()
        self._leave = trio.Event()
        self._has_ended = trio.Event()
        # all written by `live`: what `started` gives; what came out later, or instead
        self._pair: tuple[Any, LiveRecord] | None = None
        self.failure: BaseException | None = None
        self._no_start: BaseException | None = None
        self._captured: telemetry.Captured | None = None

    async def live(self) -> None:
        __tracebackhide__ = True
        try:
            with self._scope, self._capture():
                async with self._opened as self._pair:
                    self._is_up.set()
                    await self._leave.wait()
        except trio.Cancelled:
            raise
        except BaseException as error:
            if self._pair is None:
                self._no_start = error
            else:
                self.failure = error
                self._on_failure()
        finally:
            self._is_up.set()
            self._has_ended.set()

    def _capture(self) -> AbstractContextManager[object]:
        """Keep what it emits, unless that goes somewhere already."""
        if tracer_provider() is not None or meter_provider() is not None:
            return nullcontext()
        self._captured = telemetry.capture()
        return self._captured

    async def wait_up(self) -> tuple[Any, LiveRecord]:
        __tracebackhide__ = True
        try:
            await self._is_up.wait()
        except trio.Cancelled:
            self._scope.cancel()
            raise
        if self._pair is not None:
            return self._pair
        assert self._no_start is not None
        try:
            raise self._no_start
        finally:
            self._no_start = None

    async def stop(self) -> None:
        self._leave.set()
        await self._has_ended.wait()

    def drawn(self) -> list[tuple[str, str]]:
        record = self._opened.record
        sections = [("spry record", "\n".join(record.last_lines()))]
        if record.handle is not None:
            sections.insert(0, ("spry tree", record.handle.render()))
        if self._captured is not None:
            stories = self._captured.incidents or ["no incidents"]
            sections.append(("spry incidents", "\n\n".join(stories)))
        return sections


def _keep(error: Any, failures: list[BaseException]) -> None:
    """Note what has failed. A cancellation goes on its way, alone."""
    if isinstance(error, trio.Cancelled):
        raise error
    rest = error
    if isinstance(error, BaseExceptionGroup) and rest.subgroup(trio.Cancelled) is not None:
        rest = rest.split(trio.Cancelled)[1]
    if rest is not None:
        failures.append(rest)


def _raise(every: Sequence[BaseException]) -> None:
    """Raise one failure as it is, several as a group."""
    __tracebackhide__ = True
    # that of chaos stands for the one of the tree that it comes from
    shown = [error.__cause__ for error in every if isinstance(error, ChaosFailure)]
    failures = [error for error in every if not any(error is cause for cause in shown)]
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise BaseExceptionGroup("the test or its trees have failed", failures)
