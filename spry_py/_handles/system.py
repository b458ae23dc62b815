"""`SystemHandle`: a supervisor and all that lives below it, seen from outside."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._kernel.callers import caller_below, caller_inside, calls_of, listening_not
from spry_py._kernel.facts import Event
from spry_py._kernel.here import in_own_run, refuse_elsewhere
from spry_py._kernel.member import Member
from spry_py._kernel.messages import Delete, Reload, Replace, Restart, Start, Terminate
from spry_py._kernel.root import host_of, living_roots
from spry_py._spec.check import check_choice, check_key, check_type
from spry_py._spec.child import Child
from spry_py._spec.errors import ChildNotFound
from spry_py._spec.options import ON_CONFLICT, OnConflict
from spry_py._spec.termination import TerminationReport

from .child import ChildHandle, Handle
from .following import Following
from .snapshot import (
    ChildCounts,
    ChildInfo,
    Snapshot,
    counts_of,
    info_of,
    members_below,
    snapshot_of,
)
from .subscription import subscribe
from .tasks import Items, Results, map_tasks, run_task
from .text import render

T = TypeVar("T")
H = TypeVar("H", bound="SystemHandle")
Ts = TypeVarTuple("Ts")


def handle_of(member: Member, kind: type[H]) -> H:
    """The handle of the supervisor that runs as ``member``."""
    root, keys = _place_of(member)
    return kind(root, keys, member)


class SystemHandle(Handle):
    """A supervisor seen from outside, by its path; the started value of a supervisor."""

    __slots__ = ()

    # Looking

    @property
    def host(self) -> ChildHandle | None:
        """The child of another tree in whose code this tree was opened, as long as that runs."""
        host = host_of(self._tree)
        return ChildHandle(*_place_of(host), host) if host is not None else None

    def child(self, key: str) -> ChildHandle:
        """The handle of a direct child. Raises `ChildNotFound`."""
        return self._find([key])

    def find(self, path: str) -> ChildHandle:
        """The handle of a child further down: ``find("a/b/c")``. Raises `ChildNotFound`."""
        check_type("find", "path", path, str, "a str")
        return self._find(path.split("/"))

    def system(self, path: str) -> SystemHandle:
        """The handle of a supervisor further down: ``system("a/b")``.

        Raises `ChildNotFound`, also for a child that is no supervisor.
        """
        found = self.find(path)
        if found.kind != "supervisor":
            raise ChildNotFound(
                f"{found.path!r} is no supervisor, but a {found.kind}: find({path!r}) returns its "
                "handle"
            )
        return SystemHandle(self._root, found._keys, found._last)

    def _find(self, keys: list[str]) -> ChildHandle:
        member = self._member()
        for key in keys:
            below = member.below
            found = below.get(key) if below is not None else None
            if found is None:
                known = below.listed() if below is not None else "none"
                raise ChildNotFound(f"{member.path!r} has no child {key!r}; it has {known}")
            member = found
        return ChildHandle(self._root, (*self._keys, *keys), member)

    def which_children(self) -> list[ChildInfo]:
        """The direct children in start order. Some 15 ms per thousand children."""
        return [info_of(member) for member in members_below(self._member())]

    def count_children(self) -> ChildCounts:
        """How many direct children are known and alive. Some 1 ms per thousand children."""
        return counts_of(self._member())

    def snapshot(self) -> Snapshot:
        """The whole subtree, frozen. Some 20 ms per thousand children, in one go: see `follow`."""
        return snapshot_of(self._member())

    def render(self) -> str:
        """The whole subtree as text, a line for each child.

        Its status and restarts, how long it has been up, when it will be started again, what a
        breaker has left where something was taken from it, and the last error. Trees that were
        opened in the code of a child stand below it. Some 30 ms per thousand children.
        """
        return render(self._member())

    @in_own_run
    def events(self, capacity: float = 1024) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """The events at and below this path, from entering on::

            async with handle.events() as events:
                async for event in events:
                    print(event)

        They come in exact order, over all incarnations, until the root of the whole tree has ended.
        While they are not read, up to ``capacity`` of them are kept (``inf``: all); beyond that the
        oldest are lost, and an `EventsLost` in their place has their number. The tree never waits
        for a subscriber. Raises `TypeError` or `ValueError` for a bad ``capacity``.
        """
        return subscribe(self._tree.stream, self.path, capacity, self._tree.token)

    @in_own_run
    def follow(
        self, capacity: float = 1024, history: bool = False
    ) -> AbstractAsyncContextManager[tuple[Snapshot, AsyncIterator[Event]]]:
        """The whole subtree, and the events from exactly there on::

            async with handle.follow() as (snapshot, events):
                async for event in events:
                    ...

        The snapshot and the events together are always the present tree. It is taken in slices of
        at most 20 ms, between which the tree goes on: each node carries the ``seq`` at which it was
        read, and an event about it with that ``seq`` or a smaller one does not come any more. Some
        30 ms per thousand children. ``history``: from now on, and to the end of the tree, its last
        1000 facts are kept as text, for `history`.

        Otherwise as `events`. Cancelling it at any time leaves nothing behind.
        """
        return Following(self._tree, self.path, self._member, capacity, history)

    # Changing

    @in_own_run
    @enable_ki_protection
    async def start_child(
        self, child: Child[Any], on_conflict: OnConflict = "raise"
    ) -> ChildHandle:
        """Add a child behind all others and start it; returns its handle once it is started.

        ``on_conflict`` is what to do if its key is taken: ``"raise"`` `ChildAlreadyStarted`, or
        `ChildAlreadyPresent` for one that is known but down. Only in a `DynamicSupervisor`, which
        forgets a child that has ended: ``"replace"`` it (stop it first; callers that queue for the
        key are refused), ``"queue"`` up until it has ended for good (at most ``max_queued`` for a
        key), or ``"ignore"`` the call and return the handle of the present one. There, the child
        waits for its turn where ``max_running`` of them run already, first come first served.

        Raises `ChildFailure` if the start fails (the child is not kept), `MaxChildrenReached`,
        `Interrupted` or `SupervisorStopped` if the supervisor is being stopped, `WouldDeadlock` if
        the call could only be served after its caller has started. Cancelling it takes the start
        back, queued or begun. After Erlang's ``supervisor:start_child``.
        """
        calls = calls_of(self._member())
        if on_conflict != "raise":
            check_choice("start_child", "on_conflict", on_conflict, ON_CONFLICT)
            calls.check_conflict(on_conflict)
        member = await calls.ask(
            Replace(child) if on_conflict == "replace" else Start(child, on_conflict)
        )
        return ChildHandle(self._root, (*self._keys, member.key), member)

    @in_own_run
    @enable_ki_protection
    async def terminate_child(self, key: str) -> None:
        """Stop a child in its ``shutdown`` seconds; it stays known, unless it is temporary.

        One that waits to be restarted stays down. Raises `ChildNotFound`, `SupervisorStopped`,
        `WouldDeadlock`. Cancelling it stops the waiting, not the termination.
        """
        calls = calls_of(self._member())
        with listening_not(caller_below(calls, key)):
            await calls.ask(Terminate(key))

    @in_own_run
    @enable_ki_protection
    async def restart_child(self, key: str) -> ChildHandle:
        """Start a child that is known but down, alone; returns its handle once it is started.

        Raises `ChildNotFound`, `ChildRunning`, `ChildRestarting`, `ChildFailure` (it stays known),
        otherwise as `start_child`.
        """
        calls = calls_of(self._member())
        return ChildHandle(self._root, (*self._keys, key), await calls.ask(Restart(key)))

    @in_own_run
    @enable_ki_protection
    async def delete_child(self, key: str) -> None:
        """Forget a child that is down. Raises as `restart_child`."""
        calls = calls_of(self._member())
        await calls.ask(Delete(key))

    @in_own_run
    @enable_ki_protection
    async def replay(self) -> None:
        """Run the system function again, and make the children what it declares now.

        New keys are started, those that are missing are stopped in reverse, a child whose `Child`
        has changed is stopped and started anew, equal ones stay untouched. Returns when that is
        done. What goes wrong before anything was changed (a living child stopped, or a child
        started) is raised here alone, as `NonChildFailure` or `ChildFailure`, and leaves the tree
        as it is; waiting restarts keep their time. What goes wrong later is raised here, too, and
        followed by the supervisor as that of a restart: it asks the breaker and tries again.
        Cancelling this stops the waiting, not the replay. What code change is to OTP.

        Raises `TypeError` where this path is a `DynamicSupervisor`, which has no system function.
        """
        calls = calls_of(self._member())
        with listening_not(caller_inside(calls.loop)):
            await calls.ask(Reload())

    @in_own_run
    @enable_ki_protection
    def new_key(self, prefix: str = "child") -> str:
        """A key that nothing in this tree was given before: ``prefix-1``, ``prefix-2``, …"""
        check_key("new_key", "prefix", prefix)
        self._tree.last_key += 1
        return f"{prefix}-{self._tree.last_key}"

    # Tasks

    @in_own_run
    @enable_ki_protection
    async def run(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run ``fn(*args)`` as a temporary child under a generated key, and return its value.

        What it raises is raised here, the very exception, and nowhere else. Cancelling this
        terminates the task and waits until it has ended. Raises `Interrupted` if the task is
        stopped before it has a value, otherwise as `start_child`. After Elixir's
        ``Task.Supervisor.async_nolink``.
        """
        return await run_task(self, fn, args)

    @in_own_run
    def map(
        self,
        fn: Callable[[T], Awaitable[object]],
        items: Items[T],
        *,
        limit: int | None = None,
        ordered: bool = True,
        timeout: float = math.inf,
    ) -> Results:
        """Run ``fn(item)`` as a task for each item, and iterate over how they ended.

        ``async with handle.map(fetch, urls) as results: async for reason in results: ...``. Each
        result is the termination reason: `Normal`, `Failed` (with `RunTimeout` after ``timeout``
        seconds from the start of that task), or `Aborted` if another caller has stopped it. At most
        ``limit`` tasks (the number of CPUs unless given) are not consumed yet at any time.
        ``ordered``: in the order of the items, otherwise as they finish. ``items`` may be any
        iterable or async iterable; an async generator is closed at the end.

        Leaving the block, however that happens, terminates all tasks that are left and waits for
        them. What ``items`` raises, and `MaxChildrenReached`, `SupervisorStopped`, come out of the
        iteration, or of the block without one. After Elixir's ``async_stream_nolink``.
        """
        return map_tasks(self, fn, items, limit, ordered, timeout)

    # Ending

    @in_own_run
    @enable_ki_protection
    async def stop(self) -> None:
        """Stop the present incarnation in reverse start order, and wait until it has ended.

        For the parent of a nested supervisor this is an end by itself. Called from inside the
        tree, the caller counts as not listening while it waits, and is aborted in its turn.
        Cancelling this stops the waiting, not the stop.
        """
        refuse_elsewhere(self._tree.token, "SystemHandle.stop")
        member = self._member()
        loop = member.inner
        if loop is None or loop.has_ended:
            await trio.lowlevel.checkpoint()
            return
        loop.teller.stop_asked(loop)
        caller = caller_inside(loop)
        if caller is None:
            loop.stop_by_handle()
            await self._until_ended(member)
            return
        with listening_not(caller):
            loop.stop_by_handle()
            await self._until_ended(member)

    async def _until_ended(self, member: Member) -> None:
        loop = member.inner
        assert loop is not None
        await trio.lowlevel.checkpoint()
        while not loop.has_ended or loop.own.member is not None:
            await member.watch()

    @in_own_run
    @enable_ki_protection
    def abort(self) -> None:
        """Cancel the present incarnation with all that lives below it; returns at once."""
        loop = self._member().inner
        if loop is not None and not loop.has_ended:
            loop.abort_by_handle()

    @in_own_run
    @enable_ki_protection
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
            if member.phase.is_final:
                return None
            above = member
        return above


def _is_up_without(member: Member) -> bool:
    inner = member.inner
    return inner is not None and not inner.has_ended and inner.is_ready


def _place_of(member: Any) -> tuple[Member, tuple[str, ...]]:
    """The root of a living child, and the keys that lead from there to it."""
    keys: list[str] = []
    while member.loop.path:
        keys.append(member.key)
        member = member.loop.own.member
    return member, tuple(reversed(keys))


def roots() -> tuple[SystemHandle, ...]:
    """The living roots of this process, in the order in which they began, nested ones too.

    From the first moment of their boot to their very end. May be called from any thread.
    """
    return tuple(SystemHandle(root, (), root) for root in living_roots())
