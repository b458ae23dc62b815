"""`PartitionSupervisor`: one child for each partition of a key space, and who serves which key."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._handles.child import ChildHandle
from spry_py._handles.system import SystemHandle
from spry_py._policy.breaker import RateLimited
from spry_py._spec.check import check_count
from spry_py._spec.child import Child, Supervisor
from spry_py._spec.errors import ChildNotFound, ChildRestarting, ChildRunning
from spry_py._spec.options import BreakerFactory

from .here import in_own_run
from .root import run_root
from .system import SystemLoop, SystemSupervisor

if TYPE_CHECKING:
    from trio import TaskStatus

    from .incarnation import Incarnation

PartitionKey: TypeAlias = str | bytes | int | UUID | tuple[Any, ...]
"""What says which partition serves it; a tuple holds only such keys."""

CORES: Final = os.cpu_count() or 1


class PartitionHandle(SystemHandle):
    """A partition supervisor seen from outside; its started value."""

    __slots__ = ()

    @property
    def partitions(self) -> int:
        """How many partitions there are now, between 0 and the initial number."""
        size: int = getattr(self._member().inner, "size", 0)
        return size

    def partition(self, key: PartitionKey) -> ChildHandle:
        """The child that serves ``key``: the same one for equal keys, while the size is the same.

        A key is a ``str``, ``bytes``, ``int`` or ``UUID``, or a tuple of these. An int goes to
        partition ``abs(key) % partitions``, any other key to one by a hash of what it says that is
        the same in every process. Raises `TypeError` for anything else, also for a subclass that
        has an ``==`` of its own, and `ChildNotFound` when there are zero partitions.
        """
        number = _number(key)
        size = self.partitions
        if size == 0:
            raise ChildNotFound(f"{self.path!r} has zero partitions: nobody serves {key!r}")
        return self.child(str(number % size))

    @in_own_run
    @enable_ki_protection
    async def resize(self, partitions: int) -> int:
        """Have so many partitions from now on; returns how many there were.

        Any number up to the initial one. Partitions to go are stopped one by one, the last first;
        those to come start one by one. Each counts as soon as it is started, and no longer as soon
        as it is asked to stop. Resizes are done one after the other.

        Raises `ValueError` or `TypeError` for another number, `ChildFailure` if a partition fails
        to start, `SupervisorStopped`, `WouldDeadlock`. After any of these, and when it is
        cancelled, what has been done stays done.
        """
        loop: PartitionLoop = self._calls().loop
        check_count("resize", "partitions", partitions)
        most = len(loop.children)
        if partitions > most:
            raise ValueError(
                f"resize: partitions must be {most}, the initial number, or less, not {partitions}"
            )
        async with loop.resizing:
            before = loop.size
            while loop.size > partitions:
                loop.size -= 1
                await self._stop(str(loop.size))
            while loop.size < partitions:
                await self._start(loop.children[loop.size])
                loop.size += 1
        return before

    @in_own_run
    @enable_ki_protection
    async def replay(self) -> None:
        """Start every partition that is down; there are as many again as there were initially."""
        loop: PartitionLoop = self._calls().loop
        await super().replay()
        loop.size = len(loop.children)

    async def _stop(self, key: str) -> None:
        # a temporary one may have ended
        with suppress(ChildNotFound):
            await self.terminate_child(key)

    async def _start(self, child: Child[Any]) -> None:
        try:
            await self.restart_child(child.key)
        except ChildNotFound:
            await self.start_child(child)
        except (ChildRunning, ChildRestarting):
            pass  # somebody has started it by hand


class PartitionSupervisor(Supervisor[PartitionHandle]):
    """A supervisor of ``partitions`` children that share the work, each serving some of the keys.

    ``make_child(index)`` makes the `Child` of each partition; its key becomes the index as a str,
    from ``"0"`` on. Each is restarted alone. The started value is a `PartitionHandle`, whose
    ``partition(key)`` says who serves a key. ``partitions`` is the number of CPUs unless given;
    ``name`` and ``breaker`` as for `SystemSupervisor`. Frozen; raises `TypeError` or `ValueError`
    for bad values, and whatever ``make_child`` raises. After Elixir's ``PartitionSupervisor``.
    """

    __slots__ = ("children", "name", "supervisor")

    def __init__(
        self,
        make_child: Callable[[int], Child[Any]],
        *,
        partitions: int = CORES,
        name: str | None = None,
        breaker: BreakerFactory = RateLimited(),  # noqa: B008 - frozen
    ) -> None:
        owner = "PartitionSupervisor"
        if not callable(make_child):
            raise TypeError(
                f"{owner}: make_child must be a function that makes a Child of an index, "
                f"not {make_child!r}"
            )
        check_count(owner, "partitions", partitions, least=1)
        self.children: tuple[Child[Any], ...] = tuple(
            _made(owner, make_child, index) for index in range(partitions)
        )
        self.supervisor: SystemSupervisor = SystemSupervisor(
            self.children, name=name, strategy="one_for_one", breaker=breaker
        )
        self.name: str = self.supervisor.name

    @enable_ki_protection
    async def __call__(
        self, *, task_status: TaskStatus[PartitionHandle] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run as a root until stopped, cancelled or failed, as a `SystemSupervisor` does."""
        await run_root(self, self.name, task_status.started)

    async def live_as_child(self, incarnation: Any) -> None:
        """Run as one incarnation of a child of another supervisor, or of a root."""
        member = incarnation.member
        assert member is not None
        loop = PartitionLoop(self, incarnation)
        if member.inner is not None:
            loop.last_startup = member.inner.last_startup
        member.inner = loop
        await loop.run(lambda: incarnation.started(PartitionHandle.of(member)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartitionSupervisor):
            return NotImplemented
        return self.supervisor == other.supervisor

    def __hash__(self) -> int:
        return hash(self.supervisor)

    def __repr__(self) -> str:
        return f"PartitionSupervisor({self.name!r}, partitions={len(self.children)})"


class PartitionLoop(SystemLoop):
    """One incarnation of a `PartitionSupervisor`."""

    def __init__(self, supervisor: PartitionSupervisor, own: Incarnation) -> None:
        super().__init__(supervisor.supervisor, own)
        self.children = supervisor.children
        # the partitions that keys are given to: the first so many children
        self.size = len(supervisor.children)
        self.resizing = trio.Lock()


def _made(owner: str, make_child: Callable[[int], Any], index: int) -> Child[Any]:
    child = make_child(index)
    if not isinstance(child, Child):
        raise TypeError(f"{owner}: make_child must make a Child, not {child!r} (of index {index})")
    return child.replace(key=str(index))


def _number(key: object) -> int:
    kind = _kind_of(key)
    if kind is int:
        return int.__abs__(key)  # type: ignore[arg-type]
    # not hash(), which differs from process to process; a str may hold what UTF-8 cannot
    text = str.encode(key, "utf-8", "surrogatepass") if kind is str else _text(key)  # type: ignore[arg-type]
    return zlib.crc32(text)


_KINDS: Final[tuple[type, ...]] = (str, bytes, int, UUID, tuple)


def _kind_of(key: object) -> type:
    """Which of the kinds of keys it is, as far as equality goes."""
    own: Any = type(key)
    for kind in _KINDS:
        # one with an == of its own may be equal to what goes elsewhere
        if isinstance(key, kind) and own.__eq__ is kind.__eq__:
            return kind
    raise TypeError(
        "partition: key must be a str, bytes, int or UUID, or a tuple of these, not "
        f"{key!r} ({type(key).__name__}); use str(key) if that is the same for equal keys"
    )


def _text(key: object) -> bytes:
    """The same for equal keys, in every process and under every version of Python."""
    kind: Any = _kind_of(key)
    if kind is tuple:
        return b"(%b)" % b", ".join(map(_text, tuple.__iter__(key)))  # type: ignore[arg-type]
    if kind is int or kind is UUID:
        number: Any = key.int if isinstance(key, UUID) else key
        # not in decimal digits, of which Python limits the number
        return b"%b%x" % (b"UUID " if kind is UUID else b"", number)
    # as of the plain kind, whatever a subclass makes of it
    return str.encode(kind.__repr__(key), "ascii", "backslashreplace")
