"""Entry points: `open_system` inside a trio program, `run` for a program of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._handles.scope import System
from spry_py._handles.supervisors import SystemSupervisor
from spry_py._handles.system import SystemHandle
from spry_py._kernel.facts import Subscriber
from spry_py._kernel.here import refuse_within_asyncio, refuse_without_trio
from spry_py._kernel.life import without_cancelled
from spry_py._kernel.root import run_root
from spry_py._kernel.system import SystemOptions
from spry_py._kernel.tree import Tree
from spry_py._spec.check import Block, check_type
from spry_py._spec.child import Child, Supervisor
from spry_py._spec.errors import Interrupted, out_of_group
from spry_py._spec.termination import TerminationReport

from .beside import Beside, Place, beside, observer_of, print_url
from .service import Service
from .signals import Signals

if TYPE_CHECKING:
    from types import TracebackType

    from spry_py.telemetry import Exporting

H = TypeVar("H")


def as_supervisor(
    system: System | Sequence[Child[Any]] | Supervisor[Any], options: dict[str, Any]
) -> Any:
    """A supervisor as it is; a bare system with the options of a `SystemSupervisor`."""
    if not isinstance(system, Supervisor):
        _check_names(options)
        return SystemSupervisor(system, **options)
    if options:
        names = ", ".join(sorted(options))
        raise TypeError(
            f"{names}: options belong to a bare system; give them to {type(system).__name__}(...) "
            "where the supervisor is made"
        )
    return system


def _check_names(options: dict[str, Any]) -> None:
    names = SystemOptions.__annotations__
    unknown = ", ".join(sorted(options.keys() - names.keys()))
    if unknown:
        raise TypeError(f"there is no option {unknown}; those of a system are {', '.join(names)}")


@overload
def open_system(system: Supervisor[H]) -> AbstractAsyncContextManager[H]: ...


@overload
def open_system(
    system: System | Sequence[Child[Any]], **options: Unpack[SystemOptions]
) -> AbstractAsyncContextManager[SystemHandle]: ...


def open_system(
    system: System | Sequence[Child[Any]] | Supervisor[H], **options: Any
) -> AbstractAsyncContextManager[Any]:
    """Run a tree for the duration of a block: ``async with open_system(shop) as handle:``.

    The block begins when the whole tree is started; leaving it stops the tree in reverse order. A
    tree that fails cancels the block, and its failure comes out, bare; if the block fails as well,
    an exception group of the two. A tree that ends normally does not cancel the block. Options are
    those of `SystemSupervisor` and belong to a bare system: `TypeError` otherwise. Cancelled from
    outside, the block and then the tree end before `trio.Cancelled` goes on.
    """
    return _OpenSystem(as_supervisor(system, options))


@overload
def open_subscribed(
    system: Supervisor[H], subscriber: Subscriber
) -> AbstractAsyncContextManager[H]: ...


@overload
def open_subscribed(
    system: System | Sequence[Child[Any]], subscriber: Subscriber, **options: Unpack[SystemOptions]
) -> AbstractAsyncContextManager[SystemHandle]: ...


def open_subscribed(
    system: System | Sequence[Child[Any]] | Supervisor[H], subscriber: Subscriber, **options: Any
) -> AbstractAsyncContextManager[Any]:
    """`open_system`, with a subscriber that is offered each event from the first one on.

    It is there before the tree begins, so it hears of the boot as well, also of one that fails. It
    is called in the midst of the tree's own work: it must neither wait nor raise.
    """
    return _OpenSystem(as_supervisor(system, options), subscriber)


async def run_to_end(
    system: System | Sequence[Child[Any]] | Supervisor[Any], **options: Any
) -> TerminationReport:
    """Run a tree inside a run of trio until it ends; what `run` does, without its signals.

    Returns the root's report after an orderly end; raises what the root raises. Cancelled, it stops
    the tree in order before `trio.Cancelled` goes on.
    """
    supervisor = as_supervisor(system, options)
    return await run_root(supervisor, supervisor.name, lambda handle: None)


def _joined(block: BaseException | None, tree: BaseException | None) -> BaseException | None:
    """What went wrong: one exception as it is, two as one flat group."""
    rest = without_cancelled(block) if block is not None else None
    if rest is not None and tree is not None and rest is not tree:
        both = BaseExceptionGroup("both the block and its tree failed", [rest, tree])
        return out_of_group(both)
    return rest if tree is None else tree


class _OpenSystem(Block[Any]):
    """A tree in a background task, for the duration of a block.

    A class, since the generators of `contextlib` assign to the exceptions that pass through them,
    and there are exceptions which refuse that.
    """

    call, target = "open_system", "handle"

    def __init__(self, supervisor: Any, subscriber: Subscriber | None = None) -> None:
        self._supervisor = supervisor
        self._subscriber = subscriber
        self._handle: Any = None
        self._tree: Tree | None = None
        # what the tree has failed with
        self._failure: BaseException | None = None
        # the tree is up, or over
        self._changed = trio.Event()
        self._block = trio.CancelScope()

    @enable_ki_protection
    async def __aenter__(self) -> Any:
        refuse_without_trio("open_system")
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        nursery.start_soon(self._run, name=f"spry_py {self._supervisor.name}")
        self._block.__enter__()
        failure: BaseException | None = None
        try:
            await self._changed.wait()
        except BaseException as exception:
            failure = exception
        if failure is None and self._handle is not None:
            return self._handle
        nursery.cancel_scope.cancel()
        try:
            if not await self._leave(failure):
                assert failure is not None
                raise failure
            raise Interrupted(f"{self._supervisor.name!r} was stopped before it was started")
        finally:
            del failure

    @enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        assert self._tree is not None
        self._tree.incarnation.stop()
        try:
            return await self._leave(exception)
        finally:
            del exception, place

    @enable_ki_protection
    async def _run(self) -> None:
        try:
            await run_root(self._supervisor, self._supervisor.name, self._started, self._keep)
        except trio.Cancelled:
            raise
        except BaseException as failure:
            self._failure = failure
            self._block.cancel()
        finally:
            self._changed.set()

    def _started(self, handle: Any) -> None:
        self._handle = handle
        self._changed.set()

    def _keep(self, tree: Tree) -> None:
        self._tree = tree
        if self._subscriber is not None:
            tree.stream.join(self._subscriber)

    async def _leave(self, block: BaseException | None) -> bool:
        """Wait for the end of the tree; raise what comes out, unless that is ``block`` itself.

        Returns whether there is nothing left of ``block``, as an ``__aexit__`` does.
        """
        own = block
        try:
            self._block.__exit__(None, None, None)
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            # Ctrl-C, handed to the waiting main task
            rest = without_cancelled(group)
            own = out_of_group(rest) if rest is not None else own
        failure = _joined(own, self._failure)
        # this frame is in the traceback of the failure, which the report of the root holds
        self._failure = self._handle = None
        try:
            if failure is None:
                await trio.lowlevel.checkpoint_if_cancelled()
            elif failure is not block:
                raise failure
            return failure is None
        finally:
            del failure, own, block


@overload
def run(
    system: Supervisor[Any],
    *,
    traces: str | os.PathLike[str] | None = None,
    observe: bool | int | Beside = False,
    health: int | str | None = None,
    drain: float = 0.0,
    reload: bool = False,
) -> TerminationReport: ...


@overload
def run(
    system: System | Sequence[Child[Any]],
    *,
    traces: str | os.PathLike[str] | None = None,
    observe: bool | int | Beside = False,
    health: int | str | None = None,
    drain: float = 0.0,
    reload: bool = False,
    **options: Unpack[SystemOptions],
) -> TerminationReport: ...


def run(
    system: System | Sequence[Child[Any]] | Supervisor[Any],
    *,
    traces: str | os.PathLike[str] | None = None,
    observe: bool | int | Beside = False,
    health: int | str | None = None,
    drain: float = 0.0,
    reload: bool = False,
    **options: Any,
) -> TerminationReport:
    """Run a tree as the whole program, until it ends or is asked to.

    SIGINT, SIGTERM and SIGHUP stop it in reverse order. A second SIGINT or SIGTERM aborts it, a
    third prints who is stuck and leaves the process with status 128 + signal. A signal that was
    ignored before stays ignored, but for SIGTERM. Returns the root's report after an orderly end,
    by signal too; raises what the root raises. Options as for `open_system`. `RuntimeError` in a
    task of asyncio, whose loop it would block: there it is `spry_py.aio.run`.

    ``traces`` is where the telemetry goes, as for `spry_py.telemetry.configure`, under the root's
    name. What is left of it at the end, however that comes, is sent within 2 seconds.

    ``observe`` lets people look into the tree while it runs, from before its boot to after its end:
    ``True`` by a socket, for ``spry-py ps`` and its like; a port by a page for a browser as well,
    whose URL is printed on stderr; or a `spry_py.observer.Observer`. Raises `OSError` before the
    boot where there is no place for it, and `RuntimeError` without the extra ``observer``.

    ``health`` serves the probes of `spry_py.health.serve_health`, from before the boot to the very
    end: at a port of this machine alone (``8081``), or at ``"0.0.0.0:8081"``. Raises `OSError`
    before the boot if it cannot listen there, `RuntimeError` without the extra ``health``. Where
    ``NOTIFY_SOCKET`` is set, systemd is notified as by `spry_py.health.notify_systemd`.

    ``drain``: at the first SIGTERM a tree that is up is not ready any more, but goes on serving for
    so many seconds before it stops; a further signal ends that pause, and counts as the first.
    SIGINT never drains. With ``reload`` SIGHUP is ``replay()`` of the root and never a stop; what
    goes wrong in it is logged. Several during one reload become one further. Raises `TypeError` for
    a supervisor without a system function, `ValueError` on Windows, which has no SIGHUP (and where
    no other process can send SIGTERM).

    SIGUSR1 writes all trees of the process to stderr, each child with its stack, out of the signal
    handler: while the event loop is blocked, too. A handler that the program has set is left alone.
    """
    refuse_within_asyncio("spry_py.run")
    if traces is not None:
        check_type("run", "traces", traces, str | os.PathLike, "'console', 'otlp' or a path")
    supervisor = as_supervisor(system, options)
    service = Service(supervisor, health, drain, reload)
    observer = observer_of(observe)
    exporting = None if traces is None else exporting_to(traces, supervisor.name)
    return run_tree(supervisor, exporting, observer=observer, service=service)


def exporting_to(traces: str | os.PathLike[str], name: str) -> Exporting:
    """Configure the telemetry of a program that is one tree."""
    # the SDK takes its time and memory: not from those who export nothing
    from spry_py.telemetry import configure  # noqa: PLC0415

    return configure(traces, service_name=name)


def run_tree(
    supervisor: Any,
    exporting: Exporting | None = None,
    on_started: Callable[[Any], object] = lambda handle: None,
    seconds: float = float("inf"),
    signals: Signals | None = None,
    listener: Any = None,
    name: str | None = None,
    observer: Beside | None = None,
    on_place: Callable[[Place], object] = print_url,
    service: Service | None = None,
) -> TerminationReport:
    """`run`, with more to watch: what to call when it is up, and when to stop it.

    ``listener`` is offered each event of the tree, from the first on. ``name`` is that of the root.
    ``on_place`` is given the place of the observer before the boot.
    """
    taken = signals if signals is not None else Signals()
    own = service if service is not None else Service(supervisor)
    taken.service = own
    called = name or supervisor.name

    async def main() -> TerminationReport:
        def on_tree(tree: Tree) -> None:
            taken.tree = tree
            if listener is not None:
                tree.stream.join(listener)
            tree.alarm.at(trio.current_time() + seconds, taken.stop)
            own.on_tree(SystemHandle(tree.root, (), tree.root))
            if taken.count:
                taken.stop()  # a signal came before there was anything to stop

        root = partial(run_root, supervisor, called, on_started, on_tree)
        try:
            return await beside(observer, on_place, partial(own.around, called, root))
        finally:
            taken.tree = None

    if exporting is None:
        with taken:
            return trio.run(main)
    taken.exporting = exporting
    # signals are taken until the last span is out
    with taken, exporting:
        return trio.run(main)
