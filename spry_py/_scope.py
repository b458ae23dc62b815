"""`Scope`: what a system function starts its children with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from trio.lowlevel import enable_ki_protection

from ._context import Context, current_context

if TYPE_CHECKING:
    from ._child import Child
    from ._startup import Startup

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")


class Scope:
    """Starts the children of a system, in order. Good until the system function returns."""

    __slots__ = ("_busy", "_path", "_startup")

    def __init__(self, startup: Any) -> None:
        self._startup: Startup | None = startup
        self._path = startup.path
        self._busy = False

    @property
    def context(self) -> Context:
        """The context of the supervisor itself."""
        return current_context()

    @enable_ki_protection
    async def start(self, child: Child[T]) -> T:
        """Start ``child`` and return its started value, once it is started.

        In a replay a child that is still alive is not started again: its present value comes back.
        ``None`` for a child that raised `Ignore`, or that a replay leaves out.

        Raises `ChildFailure` if the start fails (with the child's exception as cause; the key is
        free again), `ReusedKey`, `Interrupted` if a stop comes meanwhile, `SupervisorStopped` if it
        came before, `RuntimeError` after the system function has returned or from a second task.
        Cancelling the call cancels the start and waits until nothing is left of it. After trio's
        ``nursery.start``.
        """
        startup = self._enter()
        try:
            value: T = await startup.start(child)
        finally:
            self._busy = False
        return value

    @overload
    async def start_together(self, a: Child[T1], b: Child[T2], /) -> tuple[T1, T2]: ...

    @overload
    async def start_together(
        self, a: Child[T1], b: Child[T2], c: Child[T3], /
    ) -> tuple[T1, T2, T3]: ...

    @overload
    async def start_together(self, *children: Child[T]) -> tuple[T, ...]: ...

    @enable_ki_protection
    async def start_together(self, *children: Child[Any]) -> tuple[Any, ...]:
        """Start children at the same time and return their values, once all are started.

        The order of the arguments is the start order. At the first failure the whole group is shut
        down in reverse and the failure raised; otherwise as `start`.
        """
        startup = self._enter()
        try:
            return await startup.start_together(children)
        finally:
            self._busy = False

    def close(self) -> None:
        """Called when the system function is over; also lets go of the tree."""
        self._startup = None

    def _enter(self) -> Startup:
        if self._startup is None:
            raise RuntimeError(
                f"the scope of {self._path!r} is closed: its system function has returned; start "
                "children from within it, or later through the SystemHandle"
            )
        if self._busy:
            raise RuntimeError(
                f"the scope of {self._path!r} is busy: another task is starting a child with it; "
                "use scope.start_together to start several at the same time"
            )
        self._busy = True
        return self._startup
