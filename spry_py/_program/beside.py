"""What runs beside the tree of a program: an observer, before its boot and after its end, too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

import trio

T = TypeVar("T")


class Place(Protocol):
    """Where an observer is found."""

    @property
    def socket(self) -> str | None: ...  # pragma: no cover - the body of a protocol

    @property
    def url(self) -> str | None: ...  # pragma: no cover - the body of a protocol


@runtime_checkable
class Beside(Protocol):
    """A start function that looks at all trees of the process: a `spry_py.observer.Observer`.

    Up to its start it may raise; from then on it only ends when it is cancelled.
    """

    async def __call__(
        self, root: None = None, *, task_status: trio.TaskStatus[Any] = ...
    ) -> None: ...  # pragma: no cover - the body of a protocol


def observer_of(observe: bool | int | Beside) -> Beside | None:
    """The observer that ``observe`` stands for: on a socket alone, on a port too, or none.

    Raises `TypeError` or `ValueError` for what is none of these.
    """
    if observe is False:
        return None
    if observe is True or isinstance(observe, int):
        # an extension: it stands on the public face, which stands on this
        make = importlib.import_module("spry_py.observer").Observer
        made: Beside = make() if observe is True else make(port=observe)
        return made
    is_right = isinstance(observe, Beside)  # pyright: ignore[reportUnnecessaryIsInstance] - a user's
    if isinstance(observe, type) or not is_right:
        raise TypeError(f"run: observe must be a bool, a port or an Observer, not {observe!r}")
    return observe


def print_url(place: Place) -> None:
    """Print where the page is, for a person to open it; there is no other way to the token."""
    if place.url is not None:
        with suppress(OSError, ValueError, AttributeError):
            print(f"the observer is at {place.url}", file=sys.stderr, flush=True)


def _raise(error: BaseException) -> NoReturn:
    raise error


async def beside(
    observer: Beside | None, on_place: Callable[[Place], object], body: Callable[[], Awaitable[T]]
) -> T:
    """What ``body`` returns or raises, with an observer around it; its place is emitted before.

    Raises what the observer raises before it has started; it is cancelled when ``body`` is over.
    """
    if observer is None:
        return await body()
    # neither the observer's failure nor that of the body may come out in a group
    outcome: list[Callable[[], T]] = []
    async with trio.open_nursery() as nursery:
        try:
            on_place(await nursery.start(observer))
            result = await body()
        except BaseException as error:
            outcome.append(partial(_raise, error))
        else:
            outcome.append(lambda: result)
        nursery.cancel_scope.cancel()
    return outcome.pop()()
