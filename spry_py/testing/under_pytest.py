"""What becomes of an async test of pytest: it runs with trio, and its trees end with it.

Whatever else runs async tests comes first: one that has the marker of pytest-trio, or a backend of
anyio, is run by that plugin, and its async fixtures work as they do without us.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import pytest
import trio
import trio.testing

Test: TypeAlias = Callable[..., Awaitable[object]]

# Over a day, which costs nothing; what loops once a second until then takes a few seconds.
MOST_SECONDS: Final = 100_000.0


class Prepared:
    """Has the function of a test do what its marker and its fixture ask for, for one run."""

    def __init__(self, item: Any) -> None:
        self._item = item
        self._holder, self._name = _place_of(item)
        self._test = getattr(self._holder, self._name)

    def __enter__(self) -> Any:
        if inspect.iscoroutinefunction(self._test):
            setattr(self._holder, self._name, _prepared(self._item, self._test))
        return self._item

    def __exit__(self, *_: object) -> None:
        setattr(self._holder, self._name, self._test)


def _place_of(item: Any) -> tuple[Any, str]:
    """Where the function stands: hypothesis calls it once for each example."""
    hypothesis = getattr(item.obj, "hypothesis", None)
    return (item, "obj") if hypothesis is None else (hypothesis, "inner_test")


def _prepared(item: Any, test: Test) -> Callable[..., object]:
    trees = item.funcargs.get("spry")
    function: Test = test if trees is None else trees.around(test)
    if item.get_closest_marker("spry") is None or "anyio_backend" in item.funcargs:
        return function
    other = item.get_closest_marker("trio")
    if other is None:
        return _on_virtual_time(function)
    if other.kwargs.get("run", trio.run) is trio.run:
        # pytest-trio runs it, but as our marker has it
        item.add_marker(pytest.mark.trio(run=run), append=False)
    return function


def _on_virtual_time(function: Test) -> Callable[..., object]:
    @functools.wraps(function)
    def test(**fixtures: object) -> None:
        __tracebackhide__ = True
        run(functools.partial(function, **fixtures))

    return test


def run(
    main: Callable[[], Awaitable[object]], clock: trio.abc.Clock | None = None, **options: Any
) -> object:
    """`trio.run` on virtual time, unless there is a clock; a test that hangs fails."""
    __tracebackhide__ = True
    if clock is None:
        clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_bounded, main, clock=clock, **options)


async def _bounded(main: Callable[[], Awaitable[object]]) -> object:
    __tracebackhide__ = True
    with trio.move_on_after(MOST_SECONDS):
        return await main()
    raise AssertionError(
        f"the test still waits after {MOST_SECONDS:g} s on trio's clock, for something that does "
        "not come; virtual time goes on while a thread or a process works, so a test that waits "
        "for one has to run on real time, without the marker spry"
    )
