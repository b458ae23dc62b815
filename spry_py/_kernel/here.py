"""Which run of trio is calling: what changes a tree, or waits for it, belongs into the tree's own.

Trio's objects, and the books of a tree, are for one thread; touched by another they break without
a sound, so the touch is refused before it has changed anything.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol, TypeVar, cast

import trio
from trio.lowlevel import TrioToken, enable_ki_protection


class _Home(Protocol):
    """A tree, as far as this is about where it lives."""

    @property
    def token(self) -> TrioToken: ...

    @property
    def thread(self) -> int: ...


class _Owned(Protocol):
    """What belongs to a tree."""

    @property
    def _tree(self) -> _Home | None:
        """That tree; ``None`` if nothing of it can be changed any more."""


F = TypeVar("F", bound=Callable[..., Any])


def is_here(token: TrioToken) -> bool:
    """Whether the caller is inside the run of trio that ``token`` stands for."""
    try:
        return trio.lowlevel.current_trio_token() is token
    except RuntimeError:
        return False


def refuse_elsewhere(token: TrioToken | None, what: str, is_async: bool = True) -> None:
    """Raise `RuntimeError` for a caller in another thread, or outside trio."""
    if token is not None and not is_here(token):
        how = "run" if is_async else "run_sync"
        raise RuntimeError(
            f"{what} was called from outside the run of trio in which its tree lives; from another "
            f"thread call it with trio.from_thread.{how} (nothing has been changed)"
        )


def in_own_run(method: F) -> F:
    """Make a method of what belongs to a tree refuse callers from elsewhere, at the call."""
    is_async = inspect.iscoroutinefunction(method)

    @enable_ki_protection
    def checked(self: _Owned, /, *args: Any, **kwargs: Any) -> Any:
        tree = self._tree  # pyright: ignore[reportPrivateUsage] - that of its own class
        if tree is not None and get_ident() != tree.thread:
            refuse_elsewhere(tree.token, method.__qualname__, is_async)
        return method(self, *args, **kwargs)

    return cast(F, functools.wraps(method)(checked))


def refuse_without_trio(what: str) -> None:
    """Raise `RuntimeError` where no trio runs, as in asyncio's code, also if trio is its guest."""
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            f"{what} needs trio, and no trio is running here; start the program with "
            "trio.run(main), or let spry_py.run(system) do that; in a program of asyncio write "
            "spry_py.aio.open_system or spry_py.aio.run"
        )


def refuse_within_asyncio(what: str) -> None:
    """Raise `RuntimeError` in a task of asyncio: a run of trio there would block its whole loop."""
    if is_within_asyncio():
        raise RuntimeError(
            f"{what} would block the event loop of asyncio that is running here; write "
            "await spry_py.aio.run(system) or async with spry_py.aio.open_system(system)"
        )


def is_within_asyncio() -> bool:
    """Whether a loop of asyncio runs in this thread, be it as the host of trio."""
    # who has not imported it runs no loop of it
    asyncio: Any = sys.modules.get("asyncio.events")
    return asyncio is not None and asyncio._get_running_loop() is not None
