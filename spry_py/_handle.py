"""Handles: a tree seen from outside. They follow their path over all incarnations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ._child import Kind
from ._errors import ChildNotFound, SupervisorStopped
from ._incarnation import caller_inside
from ._nursery import Member, Status
from ._snapshot import (
    ChildCounts,
    ChildInfo,
    Snapshot,
    counts_of,
    info_of,
    render,
    snapshot_of,
)
from ._termination import TerminationReport

if TYPE_CHECKING:
    from ._tree import Tree


class _Handle:
    """A path of a tree. Queries answer at once, between incarnations from the last one."""

    __slots__ = ("_keys", "_last", "_tree")

    def __init__(self, tree: Tree, keys: tuple[str, ...], member: Member) -> None:
        self._tree = tree
        self._keys = keys
        self._last = member

    @property
    def path(self) -> str:
        """The keys from the root on, joined by ``/``."""
        return "/".join((self._tree.root.key, *self._keys))

    @property
    def key(self) -> str:
        """The last part of the path."""
        return self._keys[-1] if self._keys else self._tree.root.key

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

    async def wait_started(self) -> Any:
        """Wait until it is running, and return its started value.

        ``None`` if its start raised `Ignore`. Raises `SupervisorStopped` if it has ended for good
        instead. Cancelling this only stops the waiting.
        """
        while True:
            member = self._member()
            status = member.status
            if status == "running" or (status == "stopping" and member.is_alive):
                await trio.lowlevel.checkpoint()
                return member.value
            if member.is_final:
                await trio.lowlevel.checkpoint()
                if member.state == "ignored":
                    return None
                raise SupervisorStopped(f"{self.path!r} is {status} and will not be started again")
            await member.watch()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}, {self.status}>"

    def _chain(self) -> list[Member]:
        """The members on the way from the root to this path, as far as they are known."""
        member = self._tree.root
        chain = [member]
        for key in self._keys:
            below = member.inner.members.get(key) if member.inner is not None else None
            if below is None:
                break
            member = below
            chain.append(member)
        return chain

    def _member(self) -> Member:
        chain = self._chain()
        if len(chain) > len(self._keys):
            self._last = chain[-1]
        return self._last


class ChildHandle(_Handle):
    """A child seen from outside, by its path."""

    __slots__ = ()

    async def wait(self) -> TerminationReport:
        """Wait for its end for good and return the report of that.

        It comes when the child will not be restarted, at the latest when this incarnation of its
        supervisor has ended. Cancelling this only stops the waiting.
        """
        member = self._member()
        await trio.lowlevel.checkpoint()
        while not member.is_final:
            await member.watch()
        if member.last_report is None:
            raise SupervisorStopped(f"{self.path!r} was never started and will not be any more")
        return member.last_report


class SystemHandle(_Handle):
    """A supervisor seen from outside, by its path; the started value of a supervisor."""

    __slots__ = ()

    @classmethod
    def of(cls, member: Member) -> SystemHandle:
        """The handle of the supervisor that runs as ``member``."""
        keys: list[str] = []
        above: Any = member
        tree = member.loop.tree
        while above is not tree.root:
            keys.append(above.key)
            above = above.loop.own.member
        return cls(tree, tuple(reversed(keys)), member)

    # Looking

    def child(self, key: str) -> ChildHandle:
        """The handle of a direct child. Raises `ChildNotFound`."""
        return self._find([key])

    def find(self, path: str) -> ChildHandle:
        """The handle of a child further down: ``find("a/b/c")``. Raises `ChildNotFound`."""
        return self._find(path.split("/"))

    def _find(self, keys: list[str]) -> ChildHandle:
        member = self._member()
        for key in keys:
            found = member.inner.members.get(key) if member.inner is not None else None
            if found is None:
                known = [child.key for child in member.inner.members] if member.inner else []
                raise ChildNotFound(
                    f"{member.path!r} has no child {key!r}; it has {', '.join(known) or 'none'}"
                )
            member = found
        return ChildHandle(self._tree, (*self._keys, *keys), member)

    def which_children(self) -> list[ChildInfo]:
        """The direct children in start order."""
        inner = self._member().inner
        return [info_of(member) for member in inner.members] if inner is not None else []

    def count_children(self) -> ChildCounts:
        """How many direct children are known and alive."""
        return counts_of(self._member())

    def snapshot(self) -> Snapshot:
        """The whole subtree, frozen."""
        return snapshot_of(self._member())

    def render(self) -> str:
        """The whole subtree as text, a line for each child."""
        return render(self.snapshot())

    # Ending

    @enable_ki_protection
    async def stop(self) -> None:
        """Stop the present incarnation in reverse start order, and wait until it has ended.

        For the parent of a nested supervisor this is an end by itself. Called from inside the
        tree, the caller counts as not listening while it waits, and is aborted in its turn.
        Cancelling this stops the waiting, not the stop.
        """
        member = self._member()
        loop = member.inner
        if loop is None or loop.has_ended:
            await trio.lowlevel.checkpoint()
            return
        loop.stop_span = loop.teller.callers_span()
        caller = caller_inside(loop)
        if caller is None:
            loop.stop_by_handle()
            await self._until_ended(member)
            return
        listener = caller.listen()
        listener.stopping += 1
        try:
            if caller.burden == "settling":
                caller.abort()
            loop.stop_by_handle()
            await self._until_ended(member)
        finally:
            listener.stopping -= 1

    async def _until_ended(self, member: Member) -> None:
        loop = member.inner
        assert loop is not None
        await trio.lowlevel.checkpoint()
        while not loop.has_ended or loop.own.member is not None:
            await member.watch()

    def abort(self) -> None:
        """Cancel the present incarnation with all that lives below it; returns at once."""
        loop = self._member().inner
        if loop is not None and not loop.has_ended:
            loop.abort_by_handle()

    async def wait(self) -> TerminationReport:
        """Wait for its end for good, over all its incarnations, and return the report of that.

        Cancelling this only stops the waiting.
        """
        await trio.lowlevel.checkpoint()
        while (change := self._next_change()) is not None:
            await change.watch()
        report = self._member().last_report
        assert report is not None
        return report

    def _next_change(self) -> Member | None:
        """The member whose change could bring this path back, or ``None`` if nothing can."""
        above: Member | None = None
        own = self._member()
        for member in [*self._chain()[: len(self._keys)], own]:
            if member.loop.has_ended and above is not None:
                return None if _is_up_without(above) else above
            if member.is_final:
                return None
            above = member
        return above


def _is_up_without(member: Member) -> bool:
    inner = member.inner
    return inner is not None and not inner.has_ended and inner.is_ready
