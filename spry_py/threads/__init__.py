"""Blocking functions as children: `thread` runs one in a thread of its own.

::

    def read_forever(path: str) -> None:
        asked = settling()                      # a threading.Event
        while not asked.wait(0.5):
            current_context().heartbeat()
            ...

    Child("reader", thread(read_forever, "/var/log/messages"), shutdown=5, heartbeat=2)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction, signature
from typing import Any, ClassVar, Generic, Literal, TypeVar, TypeVarTuple, overload

import trio

from spry_py import current_context
from spry_py.lowlevel import Start0, Start1, Start2, Start3, Start4, add_stack

from .worker import Worker

__all__ = ["ThreadStart", "settling", "thread"]

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
Ts = TypeVarTuple("Ts")
T_co = TypeVar("T_co", covariant=True)

_asked: ContextVar[threading.Event] = ContextVar("spry_py_thread_asked")


def settling() -> threading.Event:
    """The event that is set when this thread is asked to finish, for ``wait(seconds)``.

    It is set when the child is asked to settle, and when it is cancelled for whatever reason; it
    stays set. It may be handed to other threads; only the library sets it, and nothing clears it.

    Raises `RuntimeError` in code that does not run in a `thread` child.
    """
    try:
        return _asked.get()
    except LookupError:
        raise RuntimeError(
            "settling() was called outside a thread child: only the function given to thread() "
            "has this event (an async child awaits current_context().settled())"
        ) from None


@dataclass(frozen=True, slots=True, repr=False)
class ThreadStart(Generic[T_co]):
    """What `thread` makes: a start function for `Child`. Frozen; equal if its fields are equal."""

    child_kind: ClassVar[Literal["thread"]] = "thread"

    fn: Callable[..., object]
    args: tuple[object, ...]

    async def __call__(
        self, *, task_status: trio.TaskStatus[T_co] = trio.TASK_STATUS_IGNORED
    ) -> object:
        """Run the function, as a child's own code; raises `RuntimeError` outside a tree."""
        context = current_context()
        status = _Status(task_status, trio.lowlevel.current_trio_token())
        worker = Worker(context.path, partial(_begin, self, status))
        take_back = add_stack(worker.stack, context)
        try:
            return await worker.run(context.settled)
        finally:
            take_back()

    # the arguments need not be hashable
    def __hash__(self) -> int:
        return hash(self.fn)

    def __repr__(self) -> str:
        name = getattr(self.fn, "__qualname__", None) or repr(self.fn)
        return f"thread({', '.join([name, *map(repr, self.args)])})"


class _Status:
    """A ``task_status`` for the thread: trio's own may be touched by trio's thread alone."""

    __slots__ = ("_status", "_token")

    def __init__(self, status: trio.TaskStatus[Any], token: trio.lowlevel.TrioToken) -> None:
        self._status = status
        self._token = token

    def started(self, value: Any = None) -> None:
        trio.from_thread.run_sync(self._status.started, value, trio_token=self._token)


def _begin(start: ThreadStart[Any], status: _Status, asked: threading.Event) -> object:
    _asked.set(asked)
    if _takes_status(start.fn):
        return start.fn(*start.args, task_status=status)
    status.started()
    return start.fn(*start.args)


def _takes_status(fn: Callable[..., object]) -> bool:
    try:
        parameter = signature(fn).parameters.get("task_status")
    except (TypeError, ValueError):  # some functions written in C
        return False
    return parameter is not None and parameter.kind in (
        parameter.POSITIONAL_OR_KEYWORD,
        parameter.KEYWORD_ONLY,
    )


@overload
def thread(fn: Start0[T, object]) -> ThreadStart[T]: ...


@overload
def thread(fn: Start1[A, T, object], a: A, /) -> ThreadStart[T]: ...


@overload
def thread(fn: Start2[A, B, T, object], a: A, b: B, /) -> ThreadStart[T]: ...


@overload
def thread(fn: Start3[A, B, C, T, object], a: A, b: B, c: C, /) -> ThreadStart[T]: ...


@overload
def thread(fn: Start4[A, B, C, D, T, object], a: A, b: B, c: C, d: D, /) -> ThreadStart[T]: ...


@overload
def thread(fn: Callable[[*Ts], object], *args: *Ts) -> ThreadStart[None]: ...


# mypy does not see that any arguments include ``*Ts``
def thread(fn: Callable[..., object], *args: Any) -> ThreadStart[Any]:  # type: ignore[misc]
    """A start function that runs the blocking ``fn(*args)`` in a thread: a child of kind thread.

    What it returns and raises is how the child ends. If it takes a keyword ``task_status``, the
    child is started when it calls ``task_status.started(value)``, which returns when that is done;
    otherwise when the thread runs. `current_context` works in the thread, with ``heartbeat()``,
    ``fail()`` and ``is_settling``, and so does `trio.from_thread`.

    A thread is always asked to finish before it is aborted, through the event `settling`, and has
    the ``shutdown`` seconds of its child for that. No thread can be ended from outside: an aborted
    child, or one past a time limit, lives on until ``fn`` returns, so that two incarnations never
    overlap, and is reported as stuck with the stack of its thread. Aborting sets the event too, and
    makes `trio.from_thread.run` and `trio.from_thread.check_cancelled` raise `trio.Cancelled`
    inside ``fn``.

    Each such child has a thread to itself, outside the limit of `trio.to_thread.run_sync`. The
    thread is a daemon.

    Raises `TypeError` if ``fn`` is not a plain, blocking function.
    """
    if not callable(fn):
        raise TypeError(f"thread: fn must be a blocking function, not {fn!r}")
    if iscoroutinefunction(fn) or iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
        raise TypeError(
            f"thread: fn must be a blocking function, but {fn!r} is an async one; give it to Child "
            "as it stands"
        )
    return ThreadStart(fn, args)
