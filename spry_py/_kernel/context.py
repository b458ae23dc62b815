"""Whose code is running: the incarnation that each task of a tree belongs to."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .incarnation import Incarnation

_current: ContextVar[Incarnation | None] = ContextVar("spry_py_incarnation", default=None)

# the loop that waits for this code to decide about an end
deciding: ContextVar[object | None] = ContextVar("spry_py_deciding", default=None)

enter_context: Callable[[Incarnation | None], object] = _current.set
# the incarnation whose code is calling, if it runs inside a tree
current_incarnation: Callable[[], Incarnation | None] = _current.get


def incarnation_of(task: trio.lowlevel.Task) -> Incarnation | None:
    """The incarnation whose code runs in a task."""
    return task.context.get(_current)
