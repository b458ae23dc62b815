"""`PartitionSupervisor`: one child for each partition of a key space, and who serves which key."""

from __future__ import annotations

import os
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from uuid import UUID

import trio

from spry_py._policy.breaker import RateLimited
from spry_py._spec.check import check_count
from spry_py._spec.child import Child
from spry_py._spec.options import BreakerFactory

from .root import Rooted, T_co
from .system import SystemLoop, SystemSupervisor

if TYPE_CHECKING:
    from .incarnation import Incarnation

PartitionKey: TypeAlias = str | bytes | int | UUID | tuple[Any, ...]
"""What a partition is chosen by; a tuple holds only such keys."""

CORES: Final = os.cpu_count() or 1


class PartitionSupervisor(Rooted[T_co]):
    """The kernel's part of the public class of that name."""

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
        self.supervisor: SystemSupervisor[Any, Any] = SystemSupervisor(
            self.children, name=name, strategy="one_for_one", breaker=breaker
        )
        self.name: str = self.supervisor.name

    def live_as_child(self, incarnation: Any) -> Awaitable[None]:
        """Run as one incarnation of a child of another supervisor, or of a root."""
        member = incarnation.member
        assert member is not None
        loop = PartitionLoop(self, incarnation)
        member.supervise(loop)
        return loop.run(lambda: incarnation.started(self.handle_of(member)))

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

    def __init__(self, supervisor: PartitionSupervisor[Any], own: Incarnation) -> None:
        super().__init__(supervisor.supervisor, own)
        self.children = supervisor.children
        # the partitions that keys are given to: the first so many children
        self.size = len(supervisor.children)
        self.resizing = trio.Lock()


def _made(owner: str, make_child: Callable[[int], Any], index: int) -> Child[Any]:
    child = make_child(index)
    if not isinstance(child, Child):
        raise TypeError(f"{owner}: make_child must make a Child, not {child!r} (of index {index})")
    made: Child[Any] = cast("Child[object]", child).replace(key=str(index))
    return made


def number_of(key: object) -> int:
    kind = _kind_of(key)
    if kind is int:
        return int.__abs__(key)  # type: ignore[arg-type]
    # not hash(), which differs from process to process; a str may hold what UTF-8 cannot
    text = str.encode(key, "utf-8", "surrogatepass") if kind is str else _text(key)  # type: ignore[arg-type]
    return zlib.crc32(text)


_KINDS: Final = cast("tuple[type[object], ...]", (str, bytes, int, UUID, tuple))


def _kind_of(key: object) -> type[object]:
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
