"""Handles: a path of a tree seen from outside, over all its incarnations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._kernel.callers import caller_below, calls_of, listening_not
from spry_py._kernel.here import in_own_run
from spry_py._kernel.member import Member
from spry_py._kernel.messages import RestartByStrategy, Terminate
from spry_py._kernel.phases import Status
from spry_py._kernel.shutdown import stack_of
from spry_py._spec.check import check_count, check_exception
from spry_py._spec.errors import SupervisorStopped
from spry_py._spec.options import Kind
from spry_py._spec.termination import TerminationReport

from .history import HistoryEntry, history_of
from .snapshot import ChildInfo, info_of

if TYPE_CHECKING:
    from spry_py._kernel.tree import Tree

    from .system import SystemHandle

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Handle:
    """A path of a tree. Queries return at once, between incarnations what holds of the last one."""

    __slots__ = ("_keys", "_last", "_root", "_tree")

    def __init__(self, root: Any, keys: tuple[str, ...], member: Any) -> None:
        # kept here, as what a tree's own books know of it goes with its end
        self._root: Member = root
        self._tree: Tree = root.loop.tree
        self._keys = keys
        self._last: Member = member

    @property
    def path(self) -> str:
        """The keys from the root on, joined by ``/``."""
        return "/".join((self._root.key, *self._keys))

    @property
    def key(self) -> str:
        """The last part of the path."""
        return self._keys[-1] if self._keys else self._root.key

    @property
    def kind(self) -> Kind:
        """``"supervisor"`` or ``"worker"``."""
        return self._member().kind

    @property
    def status(self) -> Status:
        """What it is doing, in one word."""
        return self._member().status

    @property
    def value(self) -> Any:
        """The started value of the present incarnation; ``None`` while there is none."""
        return self._member().value

    @property
    def incarnation(self) -> int:
        """The number of the present incarnation, else of the last: 1, 2, …"""
        return self._member().number

    @property
    def restarts(self) -> int:
        """How often its supervisor has started it again, in the supervisor's own incarnation."""
        return self._member().restarts

    @property
    def last_report(self) -> TerminationReport | None:
        """The report of the last incarnation that has ended."""
        return self._member().last_report

    def info(self) -> ChildInfo:
        """All that is known of it at this moment, frozen. Some 20 microseconds; from any thread."""
        return info_of(self._member())

    def stack(self) -> str:
        """Where each task of the living incarnation stands; empty if none is alive.

        As traceback text, the innermost frame last: the user's frames alone, and in one line the
        call of trio that they wait in; nested tasks, threads and what `spry_py.lowlevel.add_stack`
        gives follow. Some 50 microseconds for each task.
        """
        incarnation = self._member().incarnation
        if incarnation is None or incarnation.task is None or incarnation.ended:
            return ""
        return self._tree.guard(stack_of, incarnation, False) or ""

    def history(self) -> tuple[HistoryEntry, ...]:
        """What has happened at and below this path, as text, oldest first.

        Each entry is ``(time, path, text)``, a failure with its traceback. Empty until a history is
        asked for (``SystemHandle.follow(history=True)``); from then on the last 1000
        facts of the whole tree. May be called from any thread, also after the end of the tree.
        """
        history = history_of(self._tree)
        return history.below(self.path) if history is not None else ()

    @in_own_run
    @enable_ki_protection
    async def wait_started(self) -> Any:
        """Wait until it is running, and return the started value of that incarnation.

        ``None`` if its start raised `Ignore`. Raises `SupervisorStopped` if it has ended for good
        instead. Cancelling this only stops the waiting.
        """
        # none between seeing that it runs and returning its value: it could end meanwhile
        await trio.lowlevel.checkpoint()
        while True:
            member = self._member()
            status = member.status
            if status == "running":
                return member.value
            if member.phase.is_final:
                if status == "ignored":
                    return None
                raise SupervisorStopped(f"{self.path!r} is {status} and will not be started again")
            await member.watch()

    def __eq__(self, other: object) -> bool:
        """Whether it is a handle of the same kind for the same path of the same tree."""
        if not isinstance(other, Handle):
            return NotImplemented
        same_place = self._root is other._root and self._keys == other._keys
        return same_place and type(self) is type(other)

    def __hash__(self) -> int:
        return hash((id(self._root), self._keys))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}, {self.status}>"

    def _chain(self) -> list[Member]:
        """The members on the way from the root to this path, as far as they are known."""
        member = self._root
        chain = [member]
        for key in self._keys:
            below = member.below
            found = below.get(key) if below is not None else None
            if found is None:
                break
            member = found
            chain.append(member)
        return chain

    def _member(self) -> Member:
        chain = self._chain()
        if len(chain) > len(self._keys):
            self._last = chain[-1]
            return chain[-1]
        return self._last


class ChildHandle(Handle):
    """A child seen from outside, by its path."""

    __slots__ = ()

    @property
    def as_system(self) -> SystemHandle | None:
        """The same child as a `SystemHandle`, if it is a supervisor, else ``None``."""
        # a handle of either kind leads to the other
        from .system import SystemHandle  # noqa: PLC0415

        if self.kind != "supervisor":
            return None
        return SystemHandle(self._root, self._keys, self._member())

    @in_own_run
    @enable_ki_protection
    async def wait(self) -> TerminationReport:
        """Wait for its end for good and return the report of that.

        It comes when the child will not be restarted, at the latest when this incarnation of its
        supervisor has ended. Cancelling this only stops the waiting.
        """
        member = self._member()
        await trio.lowlevel.checkpoint()
        while not member.phase.is_final:
            await member.watch()
        if member.last_report is None:
            raise SupervisorStopped(f"{self.path!r} was never started and will not be any more")
        return member.last_report

    @in_own_run
    @enable_ki_protection
    async def wait_incarnation(self, n: int) -> Any:
        """Wait until incarnation ``n`` or a later one is running, and return its started value.

        Returns at once if it is. Raises `SupervisorStopped` if it cannot come any more: the child
        has ended for good, or its supervisor has (whose next incarnation counts from 1 again).
        Cancelling this only stops the waiting.
        """
        check_count("wait_incarnation", "n", n, least=1)
        await trio.lowlevel.checkpoint()
        while True:
            member = self._member()
            if member.number >= n and member.status == "running":
                return member.value
            if member.phase.is_final:
                raise SupervisorStopped(
                    f"{self.path!r} is {member.status}: there will be no incarnation {n}"
                )
            await member.watch()

    @in_own_run
    @enable_ki_protection
    def fail(self, exception: Exception) -> None:
        """Cancel its living incarnation and make it end `Failed` with ``exception``.

        As `Context.fail` does from inside; nothing happens where none is alive. Raises `TypeError`
        for anything but an `Exception`.
        """
        check_exception("fail", exception)
        incarnation = self._member().incarnation
        if incarnation is not None and not incarnation.ended:
            incarnation.fail(exception)

    @in_own_run
    @enable_ki_protection
    async def terminate(self) -> None:
        """Stop it, as its supervisor's ``terminate_child`` does."""
        calls = calls_of(self._above(), self.key)
        with listening_not(caller_below(calls, self.key)):
            await calls.ask(Terminate(self.key))

    @in_own_run
    @enable_ki_protection
    async def restart(self) -> None:
        """Stop it and restart it by its supervisor's strategy; no breaker is asked.

        Returns when it is started again. Raises as ``restart_child``, and `SupervisorStopped` if it
        ends for good instead.
        """
        calls = calls_of(self._above(), self.key)
        with listening_not(caller_below(calls, self.key)):
            await calls.ask(RestartByStrategy(self.key))
            await self.wait_started()

    def _above(self) -> Member:
        above = self._chain()[: len(self._keys)]
        if len(above) < len(self._keys):
            raise SupervisorStopped(f"the supervisor of {self.path!r} is not running")
        return above[-1]
