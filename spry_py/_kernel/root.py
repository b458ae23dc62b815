"""Running a tree: the one shield around it, and the two tasks that serve it from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._spec.child import Child, Supervisor
from spry_py._spec.errors import StartupFailure
from spry_py._spec.termination import TerminationReport

from .context import current_incarnation, enter_context
from .guard import guarded
from .here import refuse_without_trio
from .incarnation import Incarnation
from .life import live
from .tree import Tree

if TYPE_CHECKING:
    from trio import TaskStatus

    from .member import Member


# In the order of their beginnings; written by `run_root`, read by any thread.
_living: dict[Tree, Member] = {}


# What is called when a root begins; written by `on_root`.
_hearers: dict[object, Callable[[], object]] = {}


def on_root(call: Callable[[], object]) -> Callable[[], None]:
    """Have ``call`` called when a root begins, in its thread; returns what ends that.

    Just before the boot, when `living_roots` has it already. What it raises is dropped.
    """
    mark = object()
    _hearers[mark] = call

    def undo() -> None:
        _hearers.pop(mark, None)

    return undo


def living_roots() -> list[Member]:
    """The roots of this process, from the first moment of their boot to the last of their end."""
    return list(_living.values())


def host_of(tree: Tree) -> Member | None:
    """The child of another tree in whose code this one was opened, as long as that runs."""
    host = tree.ground.own
    return host.member if host is not None else None


T_co = TypeVar("T_co", covariant=True)


class Rooted(Supervisor[T_co]):
    """A supervisor of the kernel. Its public subclasses make its handle, and what listens to it."""

    __slots__ = ()

    name: str

    # any: the classes of the public face inherit these, and show no type of the kernel

    def listen(self, stream: Any, guard: Any) -> Any:
        """Make what receives the facts of a tree with this root."""
        raise NotImplementedError  # pragma: no cover - defined by subclasses

    def handle_of(self, member: Any) -> T_co:
        """The started value of the incarnation that runs as ``member``."""
        raise NotImplementedError  # pragma: no cover - defined by subclasses

    @enable_ki_protection
    async def __call__(self, *, task_status: TaskStatus[T_co] = trio.TASK_STATUS_IGNORED) -> None:
        """Run as a root until stopped, cancelled or failed; started when the whole tree is.

        Raises what the tree failed with, bare. Cancelled, it first stops the children in reverse
        order, each with its ``shutdown`` seconds, and then lets `trio.Cancelled` go on.
        """
        await run_root(self, self.name, task_status.started)


@enable_ki_protection
async def run_root(
    supervisor: Rooted[Any],
    name: str,
    on_started: Callable[[Any], object],
    on_tree: Callable[[Tree], object] | None = None,
) -> TerminationReport:
    """Run a supervisor as a root, to its end.

    A cancellation from outside must not reach the children before their turn: all of them stand in
    one shield, and a task outside it turns the cancellation into a stop. Returns the report of an
    orderly end; raises what the tree failed with, bare; lets `trio.Cancelled` out at last.
    """
    refuse_without_trio(f"the tree {name!r}")
    host = current_incarnation()
    tree = Tree(Child(name, supervisor), host, supervisor.listen)
    tree.ground.on_value = on_started
    if on_tree is not None:
        on_tree(tree)
    incarnation = tree.incarnation
    root = incarnation.member
    assert root is not None
    _tie(incarnation, host)
    _living[tree] = root
    for hearer in list(_hearers.values()):
        guarded(hearer)
    enter_context(None)  # the two that serve the tree are not the host's own tasks
    try:
        async with trio.open_nursery() as outside:
            outside.start_soon(_watch, tree, outside.cancel_scope, name="spry_py watcher")
            outside.start_soon(tree.alarm.run, name="spry_py alarm")
            with trio.CancelScope(shield=True), tree.teller.outside():
                await live(incarnation)
            tree.alarm.close()
            outside.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # pragma: no cover - a Ctrl-C in the very last tick
        # handed to the main task while it waits here for the two that have just been cancelled
        if tree.exit_exception is None:
            tree.exit_exception = group.exceptions[0]
    finally:
        _untie(incarnation, host)
        del _living[tree]
    report, failure = _outcome_of(tree, root.last_report)
    del tree, incarnation, root
    if failure is not None:
        try:
            raise failure
        finally:
            del failure, report
    await trio.lowlevel.checkpoint_if_cancelled()
    return report


def _outcome_of(
    tree: Tree, report: TerminationReport | None
) -> tuple[TerminationReport, BaseException | None]:
    """The report of a tree that has ended, and what it fails with."""
    assert report is not None
    failure = tree.exit_exception
    if failure is None:
        failure = report.exception
    if tree.ground.cancelled and isinstance(failure, StartupFailure):
        # what the interrupted boot made of it is in the report and in the log
        failure = None
    return report, failure


@enable_ki_protection
async def _watch(tree: Tree, around: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        incarnation = tree.incarnation
        if not incarnation.ended:
            tree.ground.cancelled = True
            host = tree.ground.own
            occasion = host.settling_for if host is not None else "stop"
            if _host_is_aborted(tree):
                incarnation.abort(occasion)
            else:
                incarnation.stop(occasion)


def _host_is_aborted(tree: Tree) -> bool:
    host = tree.ground.own
    return host is not None and (host.burden == "aborted" or host.scope.cancel_called)


def _tie(root: Incarnation, host: Incarnation | None) -> None:
    """A tree opened in a child's code settles with the child and is aborted with it."""
    if host is not None and not host.ended:
        host.listen().roots.append(root)
        if host.burden == "settling":
            root.stop(host.occasion)
        elif host.burden == "aborted":
            root.abort(host.occasion)


def _untie(root: Incarnation, host: Incarnation | None) -> None:
    enter_context(host)
    if host is not None and host.listener is not None and root in host.listener.roots:
        host.listener.roots.remove(root)
