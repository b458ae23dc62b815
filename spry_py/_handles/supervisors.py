"""The supervisors as users write them: those of the kernel, with handles, and with telemetry."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from spry_py._kernel import dynamic, partition, scope, system
from spry_py._telemetry.listener import Teller

from .partition import PartitionHandle
from .scope import Scope
from .system import SystemHandle, handle_of


class _Told:
    """A root whose tree emits spans, metrics, log records and events."""

    __slots__ = ()

    def listen(self, stream: Any, guard: Any) -> Any:
        return Teller(stream, guard)


class SystemSupervisor(_Told, system.SystemSupervisor[SystemHandle, Scope]):
    """A supervisor of the children that a system declares, in the order in which it does.

    ``system`` is an async function ``(scope) -> None``, or a sequence of `Child`. ``name`` is the
    root's part of every path, if this is a root; unless given, the name of the system function, or
    of the program for a sequence. ``strategy`` decides which siblings are restarted with a child:
    none (``"one_for_one"``), the later ones (``"rest_for_one"``), or all (``"one_for_all"``).
    ``breaker`` is a breaker factory, asked before every restart; when it refuses, the supervisor
    stops its children and fails with `TooManyRestarts`, for its parent to decide. ``auto_shutdown``
    lets the end of children end the supervisor. ``defaults`` are options of `Child` for those of
    its children that are not given them, and are no supervisors themselves.

    It is a trio-style async function itself: ``handle = await nursery.start(SystemSupervisor(f))``
    runs a tree in any trio program. Frozen; raises `TypeError` or `ValueError` for bad values, and
    `ReusedKey` for a sequence with a key in it twice. After Erlang's ``supervisor``.
    """

    scope_class: ClassVar[type[scope.Scope]] = Scope

    __slots__ = ()

    def handle_of(self, member: Any) -> SystemHandle:
        return handle_of(member, SystemHandle)


DynamicHandle: TypeAlias = SystemHandle
"""A dynamic supervisor seen from outside; its started value. One handle is enough for both."""


class DynamicSupervisor(_Told, dynamic.DynamicSupervisor[DynamicHandle]):
    """A supervisor whose children are started and stopped while it runs, through its handle.

    Each child is restarted alone, and forgotten when it has ended for good. ``max_children`` limits
    the children known, those that wait to be restarted included; ``max_running`` those that run at
    the same time: further ones wait for their turn and hold nothing; ``max_queued`` the starts that
    wait for one key (``on_conflict="queue"``). All are stopped at the same time, each in its own
    ``shutdown`` seconds. ``name``, ``breaker`` and ``defaults`` as for
    `SystemSupervisor`. After Elixir's ``DynamicSupervisor``.
    """

    __slots__ = ()

    def handle_of(self, member: Any) -> DynamicHandle:
        return handle_of(member, DynamicHandle)


class PartitionSupervisor(_Told, partition.PartitionSupervisor[PartitionHandle]):
    """A supervisor of ``partitions`` children that share the work, each serving some of the keys.

    ``make_child(index)`` makes the `Child` of each partition; its key becomes the index as a str,
    from ``"0"`` on. Each is restarted alone. The started value is a `PartitionHandle`, whose
    ``partition(key)`` returns the one for a key. ``partitions`` is the number of CPUs unless given;
    ``name`` and ``breaker`` as for `SystemSupervisor`. Frozen; raises `TypeError` or `ValueError`
    for bad values, and whatever ``make_child`` raises. After Elixir's ``PartitionSupervisor``.
    """

    __slots__ = ()

    def handle_of(self, member: Any) -> PartitionHandle:
        return handle_of(member, PartitionHandle)
