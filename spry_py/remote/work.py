"""What is to be run, out of an order and into one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any

from opentelemetry import context, propagate

from spry_py.lowlevel import Supervisor
from spry_py.threads import thread

from .order import Order


def packed_work(start: object, args: tuple[object, ...]) -> bytes:
    """Start function and arguments as bytes; raises `TypeError` for what cannot be sent."""
    if not callable(start):
        raise TypeError(f"remote: start must be a function or a supervisor, not {start!r}")
    if isgeneratorfunction(start) or isasyncgenfunction(start):
        raise TypeError(f"remote: start must be a function, not the generator {start!r}")
    if args and isinstance(start, Supervisor):
        raise TypeError(f"remote: {start!r} takes no arguments, but was given {args!r}")
    try:
        return pickle.dumps((start, args))
    except Exception as exception:
        raise TypeError(
            f"remote: start and its arguments must be picklable, as functions at the top of a "
            f"module are, but {start!r} with {args!r} is not: {exception}"
        ) from exception


def work_of(order: Order, node: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What to give to `Child` on the other side, where its trace goes on."""
    start, args = _read(order, node)
    if is_subtree(start):
        return start, args
    if not _is_async(start):
        start, args = thread(start, *args), ()
    return _traced(start, order), args


def _read(order: Order, node: str) -> tuple[Any, tuple[Any, ...]]:
    try:
        start, args = pickle.loads(order.work)
    except (AttributeError, ImportError) as exception:
        exception.add_note(
            f"the function and the arguments of {order.path!r} have to be in modules that can be "
            f"imported on {node}, and not in __main__"
        )
        raise
    return start, args


def is_subtree(start: object) -> bool:
    """Whether a whole tree is to live there."""
    return isinstance(start, Supervisor)


def _is_async(start: Any) -> bool:
    return iscoroutinefunction(start) or iscoroutinefunction(getattr(start, "__call__", None))  # noqa: B004


def _traced(start: Callable[..., Any], order: Order) -> Callable[..., Any]:
    # with the signature of the original, which decides how it is started
    @wraps(start)
    async def run(*args: Any, **given: Any) -> Any:
        with in_trace_of(order):
            return await start(*args, **given)

    return run


@contextmanager
def in_trace_of(order: Order) -> Generator[None, None, None]:
    """The start of the child in the tree far away is the current span inside."""
    token = None
    with suppress(Exception):  # what a propagator cannot read is no reason not to do the work
        token = context.attach(propagate.extract(order.carrier))
    try:
        yield
    finally:
        if token is not None:
            context.detach(token)
