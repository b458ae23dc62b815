"""`PartitionHandle`: a partition supervisor seen from outside."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from trio.lowlevel import enable_ki_protection

from spry_py._kernel.callers import calls_of
from spry_py._kernel.here import in_own_run
from spry_py._kernel.partition import PartitionKey, PartitionLoop, number_of
from spry_py._spec.check import check_count
from spry_py._spec.child import Child
from spry_py._spec.errors import ChildNotFound, ChildRestarting, ChildRunning

from .child import ChildHandle
from .system import SystemHandle


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
        partition ``abs(key) % partitions``, any other key to one by a hash of its text, which is
        the same in every process. Raises `TypeError` for anything else, also for a subclass that
        has an ``==`` of its own, and `ChildNotFound` when there are zero partitions.
        """
        number = number_of(key)
        size = self.partitions
        if size == 0:
            raise ChildNotFound(f"{self.path!r} has zero partitions: none serves {key!r}")
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
        loop = calls_of(self._member()).loop
        assert isinstance(loop, PartitionLoop)
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
        loop = calls_of(self._member()).loop
        assert isinstance(loop, PartitionLoop)
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
            pass  # a call has started it
