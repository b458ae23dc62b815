"""What a child's own code sees of its place in the tree: `current_context`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._kernel.context import current_incarnation, deciding, incarnation_of
from spry_py._kernel.guard import guarded
from spry_py._kernel.here import in_own_run, is_within_asyncio, refuse_elsewhere
from spry_py._spec.check import check_exception

from .system import SystemHandle, handle_of

if TYPE_CHECKING:
    from spry_py._kernel.incarnation import Incarnation
    from spry_py._kernel.kept import Kept
    from spry_py._kernel.loop import Loop
    from spry_py._kernel.tree import Tree
    from spry_py._spec.termination import Occasion


class Context:
    """One incarnation, seen by its own code. Valid in nested tasks and in threads, too.

    Equal to another one of the same incarnation.
    """

    __slots__ = ("_incarnation",)

    def __init__(self, incarnation: Any) -> None:
        self._incarnation: Incarnation = incarnation

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        return self._incarnation is other._incarnation

    def __hash__(self) -> int:
        return hash(self._incarnation)

    @property
    def _tree(self) -> Tree | None:
        member = self._incarnation.member
        return member.loop.tree if member is not None else None

    @property
    def key(self) -> str:
        """The child's key."""
        return self._incarnation.key

    @property
    def path(self) -> str:
        """The child's full path."""
        return self._incarnation.path

    @property
    def incarnation(self) -> int:
        """Which run of its key this is: 1, 2, …"""
        return self._incarnation.number

    @property
    def system(self) -> SystemHandle:
        """The handle of the system that this code belongs to, from the first moment of its boot.

        A child's supervisor; in a system function, the supervisor that runs it. May be read from
        any thread. Raises `RuntimeError` after the end of the incarnation, which then leads to no
        tree any more; in its ``on_termination`` it still does.
        """
        loop, member = self._loop("system"), self._incarnation.member
        if member is None or (member.kind != "supervisor" and loop.path):
            member = loop.own.member
            assert member is not None, "a supervisor outlives its children"
        return handle_of(member, SystemHandle)

    @property
    def root(self) -> SystemHandle:
        """The handle of the whole tree; otherwise as `system`."""
        root = self._loop("root").tree.root
        assert root is not None
        return handle_of(root, SystemHandle)

    def _loop(self, name: str) -> Loop:
        """The supervisor that decides about its end."""
        member = self._incarnation.member
        if member is not None:
            return member.loop
        if self._incarnation is current_incarnation():
            waits = cast("Loop | None", deciding.get())
            if waits is not None and not waits.has_ended:
                return waits
        raise RuntimeError(
            f"context.{name}: incarnation {self.incarnation} of {self.path!r} has ended, and "
            "its context leads to no tree any more; take the handle while it runs"
        )

    @property
    def is_settling(self) -> bool:
        """Whether the child has been asked to finish."""
        return self._incarnation.burden != "none"

    @property
    def settling_for(self) -> Occasion | None:
        """What the child is being stopped for; ``None`` while it is not.

        - ``"stop"``: its system ends.
        - ``"restart"``: it goes along with the restart of a sibling.
        - ``"replay"``: the system does not declare it any more, or as another one.
        - ``"call"``: a caller terminates or restarts this very child.
        - ``"limit"``: its time is over, or `fail` was called; of it, or of a supervisor above it.

        The children of a subsystem see the occasion of the subsystem. So a server can finish
        politely in an ordered stop, and need not for a peer that has died.
        """
        return self._incarnation.settling_for

    @in_own_run
    @enable_ki_protection
    async def settled(self) -> None:
        """Wait until the child is asked to finish; it then has its ``shutdown`` seconds for that.

        Calling this counts as listening: a child that never listens is aborted at once. A
        checkpoint; cancelling it has no effect but to stop waiting.
        """
        await self._incarnation.listen().asked.wait()

    @in_own_run
    @enable_ki_protection
    def cancel_on_settle(self) -> trio.CancelScope:
        """A new cancel scope, cancelled as soon as the child is asked to finish.

        Counts as listening, as `settled` does::

            with context.cancel_on_settle():
                await accept_work()
        """
        scope = trio.CancelScope()
        listener = self._incarnation.listen()
        if listener.asked.is_set():
            scope.cancel(reason="the child is settling")
        else:
            listener.scopes.add(scope)
        return scope

    @enable_ki_protection
    def heartbeat(self) -> None:
        """Send a heartbeat. From the first one on the child must send one each ``heartbeat`` s.

        May be called from threads.
        """
        self._incarnation.call_soon(self._incarnation.beat)

    @enable_ki_protection
    def fail(self, exc: Exception) -> None:
        """Cancel the child and make it end `Failed` with ``exc``, whatever it does then.

        May be called from nested tasks and from threads. The first cause counts; after the child's
        end nothing happens. Raises `TypeError` for anything but an `Exception`.
        """
        check_exception("fail", exc)
        self._incarnation.call_soon(self._incarnation.fail, exc)


def current_context() -> Context:
    """The context of the child whose code calls this.

    Raises `RuntimeError` outside a supervision tree.
    """
    incarnation = current_incarnation()
    if incarnation is None:
        raise RuntimeError(
            "current_context() was called outside a supervision tree: only the code of a child "
            "(and what it calls, its nested tasks and its threads) has a context"
        )
    return Context(incarnation)


def context_of(task: trio.lowlevel.Task) -> Context | None:
    """The context of the child that a task belongs to; ``None`` for one outside a tree.

    For instruments and debuggers. May be called from any thread.
    """
    incarnation = incarnation_of(task)
    return Context(incarnation) if incarnation is not None else None


def supervisor_of(context: Context) -> Context | None:
    """The context of a living child's supervisor; ``None`` for a root, and after the end."""
    member = context._incarnation.member  # pyright: ignore[reportPrivateUsage] - a friend
    above = member.loop.own if member is not None and member.loop.path else None
    return Context(above) if above is not None else None


def kept_for(context: Context) -> Kept:
    """Where to keep what outlives the incarnations of a living child, as long as its key is known.

    That of a temporary one is forgotten at each end.
    """
    member = context._incarnation.member  # pyright: ignore[reportPrivateUsage] - a friend
    assert member is not None, "an ended child keeps nothing"
    return member.loop.tree.kept.at(context.path)


@enable_ki_protection
def add_stack(stack: Callable[[], str], context: Context | None = None) -> Callable[[], None]:
    """Add where else a child stands to its stack, in reports and in `ChildHandle.stack`.

    For what trio cannot see, such as a thread: ``stack`` returns the lines of a traceback, and is
    called in trio's thread each time the stack is wanted. What it raises is dropped. Returns a
    function that takes it back, for what ends before the child does. ``context`` is that of the
    child, the current one unless given; `RuntimeError` outside a tree.
    """
    context = context or current_context()
    incarnation = context._incarnation  # pyright: ignore[reportPrivateUsage] - a friend
    if incarnation.member is not None:
        refuse_elsewhere(incarnation.member.loop.tree.token, "add_stack", is_async=False)
    incarnation.more_stacks += (stack,)

    def take_back() -> None:
        others = (other for other in incarnation.more_stacks if other is not stack)
        incarnation.more_stacks = tuple(others)

    return take_back


def carrier(context: Context | None = None) -> dict[str, str]:
    """The trace context of a child's start, to be handed to another process.

    Headers as of W3C: ``traceparent`` and, if there is any, ``baggage``. Empty if nothing is
    traced. What a propagator raises changes nothing. ``context`` as for `add_stack`.
    """
    incarnation = (context or current_context())._incarnation  # pyright: ignore[reportPrivateUsage] - a friend
    headers: dict[str, str] = {}
    if incarnation.member is not None:
        incarnation.member.loop.teller.inject(incarnation.member, headers)
    elif incarnation.where is not None:
        guarded(incarnation.where[2], headers)
    return headers


def incident_elsewhere(headers: Mapping[str, str], context: Context | None = None) -> None:
    """The child is about to end with an incident that another program has recorded.

    So that both are one trace: the span of its termination will stand below the one that the
    headers name, which are as of `carrier`. ``context`` as for `add_stack`.
    """
    incarnation = (context or current_context())._incarnation  # pyright: ignore[reportPrivateUsage] - a friend
    if incarnation.member is not None:
        incarnation.member.loop.teller.incident_elsewhere(incarnation.member, headers)


def cancel_on_settle() -> trio.CancelScope:
    """`Context.cancel_on_settle` of the current context.

    Raises `RuntimeError` outside a supervision tree, and in a task of asyncio, which has
    `spry_py.aio.cancel_on_settle`.
    """
    if is_within_asyncio() and not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "spry_py.cancel_on_settle makes a cancel scope of trio; in a task of asyncio write "
            "`async with spry_py.aio.cancel_on_settle():`"
        )
    return current_context().cancel_on_settle()
