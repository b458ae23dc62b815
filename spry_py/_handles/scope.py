"""`Scope` as system functions see it: that of the kernel, with handles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from spry_py._kernel import scope

from .context import Context, current_context
from .system import SystemHandle, handle_of


class Scope(scope.Scope):
    """Starts the children of a system, in order. Good until the system function returns."""

    __slots__ = ()

    @property
    def context(self) -> Context:
        """The context of the supervisor itself."""
        return current_context()

    @property
    def system(self) -> SystemHandle:
        """The handle of the supervisor itself, from the first moment of its boot.

        What changes the tree raises `WouldDeadlock` as long as the supervisor waits for the system
        function. May be read from any thread. Raises `RuntimeError` once that has returned.
        """
        member = self._declaring.startup.loop.own.member
        assert member is not None, "it has just been read of a living loop"
        return handle_of(member, SystemHandle)


System: TypeAlias = Callable[[Scope], Awaitable[None]]
"""An async function that declares children."""
