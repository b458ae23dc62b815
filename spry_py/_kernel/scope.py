"""`Scope`: what a system function starts its children with."""

from __future__ import annotations

from collections.abc import Coroutine
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, overload

from trio.lowlevel import TrioToken, enable_ki_protection

from .here import refuse_elsewhere

if TYPE_CHECKING:
    from spry_py._spec.child import Child

    from .startup import Startup

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


class Declaring:
    """The calls of one scope: which run of a system function they belong to, and what is left."""

    __slots__ = ("_busy", "_path", "_startup", "_thread", "_token", "unawaited")

    def __init__(self, startup: Startup) -> None:
        self._startup: Startup | None = startup
        loop = startup.loop
        self._path = loop.path
        self._token: TrioToken = loop.tree.token
        self._thread = loop.tree.thread
        self._busy = False
        # the calls whose coroutines have not taken their first step: at most one, if all is well;
        # written by `Scope` as well
        self.unawaited: dict[object, tuple[str, Coroutine[Any, Any, Any]]] = {}

    @property
    def startup(self) -> Startup:
        """The run of the system function. Raises `RuntimeError` when that is over."""
        if self._startup is None:
            raise self._closed()
        return self._startup

    @property
    def is_busy(self) -> bool:
        """Whether a child is being started."""
        return self._busy

    @enable_ki_protection
    async def start(self, call: object, child: Child[T]) -> T:
        """`Scope.start`, once its coroutine is awaited."""
        startup = self._enter(call)
        try:
            value: T = await startup.start(startup.acceptable(child))
        finally:
            self._busy = False
        return value

    @enable_ki_protection
    async def start_together(
        self, call: object, children: tuple[Child[Any], ...]
    ) -> tuple[Any, ...]:
        """`Scope.start_together`, once its coroutine is awaited."""
        startup = self._enter(call)
        try:
            return await startup.start_together(children)
        finally:
            self._busy = False

    def close(self) -> None:
        """Called when the system function is over; also lets go of the tree."""
        self._startup = None
        self.unawaited.clear()

    def refuse_unawaited(self) -> None:
        """Raise `RuntimeError` if a call is left of which only a coroutine was made."""
        if not self.unawaited:
            return
        calls = list(self.unawaited.values())
        self.unawaited.clear()
        for _, coroutine in calls:
            coroutine.close()  # one error in place of Python's warnings
        name = calls[0][0]
        raise RuntimeError(
            f"the scope of {self._path!r}: scope.{name}(...) was called, but not awaited, so "
            f"nothing was started; write await scope.{name}(...), and go on when that has "
            "returned (scope.start_together starts several at the same time)"
        )

    def refuse_late(self, name: str) -> None:
        """Raise `RuntimeError` for a call from elsewhere, or after the system function."""
        if get_ident() != self._thread:
            refuse_elsewhere(self._token, f"Scope.{name}")
        if self._startup is None:
            raise self._closed()

    def _closed(self) -> RuntimeError:
        return RuntimeError(
            f"the scope of {self._path!r} is closed: its system function has returned; start "
            "children from within it, or later through the SystemHandle"
        )

    def _enter(self, call: object) -> Startup:
        is_first = next(iter(self.unawaited), call) is call
        self.unawaited.pop(call, None)
        self.refuse_late("start")
        assert self._startup is not None
        if self._busy:
            raise RuntimeError(
                f"the scope of {self._path!r} is busy: another task is starting a child with it; "
                "use scope.start_together to start several at the same time"
            )
        if not is_first:
            self.refuse_unawaited()
        self._busy = True
        return self._startup


class Scope:
    """Starts the children of a system, in order. Good until the system function returns."""

    __slots__ = ("_declaring",)

    def __init__(self, declaring: Any) -> None:
        self._declaring: Declaring = declaring

    @enable_ki_protection
    def start(self, child: Child[T]) -> Coroutine[Any, Any, T]:
        """Start ``child`` and return its started value, once it is started.

        In a replay a child that is still alive is not started again: its present value comes back.
        ``None`` for a child that raised `Ignore`, or that a replay leaves out.

        Raises `ChildFailure` if the start fails (with the child's exception as cause; the key is
        free again), `ReusedKey`, `Interrupted` if a stop comes meanwhile, `SupervisorStopped` if it
        came before, `RuntimeError` after the system function has returned or from a second task.
        Cancelling the call cancels the start and waits until nothing is left of it. After trio's
        ``nursery.start``.
        """
        declaring = self._declaring
        declaring.refuse_late("start")
        call = object()
        coroutine = declaring.start(call, child)
        declaring.unawaited[call] = "start", coroutine
        return coroutine

    @overload
    def start_together(
        self, a: Child[T1], b: Child[T2], /
    ) -> Coroutine[Any, Any, tuple[T1, T2]]: ...

    @overload
    def start_together(
        self, a: Child[T1], b: Child[T2], c: Child[T3], /
    ) -> Coroutine[Any, Any, tuple[T1, T2, T3]]: ...

    @overload
    def start_together(
        self, a: Child[T1], b: Child[T2], c: Child[T3], d: Child[T4], /
    ) -> Coroutine[Any, Any, tuple[T1, T2, T3, T4]]: ...

    @overload
    def start_together(
        self, a: Child[T1], b: Child[T2], c: Child[T3], d: Child[T4], e: Child[T5], /
    ) -> Coroutine[Any, Any, tuple[T1, T2, T3, T4, T5]]: ...

    @overload
    def start_together(self, *children: Child[T]) -> Coroutine[Any, Any, tuple[T, ...]]: ...

    @enable_ki_protection
    def start_together(self, *children: Child[Any]) -> Coroutine[Any, Any, tuple[Any, ...]]:
        """Start children at the same time and return their values, once all are started.

        The order of the arguments is the start order. At the first failure the whole group is shut
        down in reverse and the failure raised; otherwise as `start`.
        """
        declaring = self._declaring
        declaring.refuse_late("start_together")
        call = object()
        coroutine = declaring.start_together(call, children)
        declaring.unawaited[call] = "start_together", coroutine
        return coroutine
