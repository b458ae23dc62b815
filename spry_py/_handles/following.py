"""`SystemHandle.follow`: a snapshot of a running tree, and the events from exactly there on.

A large tree is read in slices, between which it goes on. Recording begins before the first slice. A
node that is still to be read will show what happens to it until then, so events about it are left
out; from the moment at which it was read they are news.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._kernel.facts import Event
from spry_py._kernel.here import refuse_elsewhere
from spry_py._spec.check import Block, check_count, check_type

from .history import begin_history
from .snapshot import Snapshot, read
from .subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from spry_py._kernel.facts import Stream
    from spry_py._kernel.member import Member
    from spry_py._kernel.tree import Tree

# Seconds of the wall clock; what is read last in a slice may take as long again.
SLICE: Final = 0.005


class Recording(Subscription):
    """A subscription that leaves out what a snapshot in the making is going to show."""

    __slots__ = ("unread",)

    def __init__(
        self, stream: Stream, path: str, capacity: float, token: trio.lowlevel.TrioToken
    ) -> None:
        super().__init__(stream, path, capacity, token)
        # of each supervisor that has been read, the children that have not; empty at the end
        self.unread: dict[str, Collection[str]] = {}

    def offer(self, event: Event) -> None:
        if not self.unread or self._is_news(event.path):
            super().offer(event)

    def _is_news(self, path: str) -> bool:
        # a key that is in no list of children was added after its supervisor was read, or will be
        # found by who reads that
        while path and path not in self.unread:
            path, _, key = path.rpartition("/")
            if path in self.unread:
                return key not in self.unread[path]
        return True


class _Opened:
    """A node that has been read, and those of its children that have not."""

    __slots__ = ("below", "fields", "member", "path", "read", "seq", "slice")

    def __init__(self, member: Member, seq: int, number: int) -> None:
        self.member = member
        self.path = member.path
        self.fields = read(member)
        # when it was read: the number of the last event, and of the slice
        self.seq = seq
        self.slice = number
        self.read: list[Snapshot] = []
        # the keys, the next one last; a dict, since those that listen ask for single ones
        keys = member.below.keys() if member.below is not None else []
        self.below = dict.fromkeys(reversed(keys))


class Reader:
    """Reads a subtree in slices."""

    __slots__ = ("_find", "_opened", "_recording", "_slice", "_stream", "_until")

    def __init__(self, stream: Stream, recording: Recording, find: Callable[[], Member]) -> None:
        self._stream = stream
        self._recording = recording
        # the present member of the outermost path
        self._find = find
        # from there down to the one whose children are being read
        self._opened: list[_Opened] = []
        self._slice = 0
        self._until = 0.0

    async def read(self) -> Snapshot:
        """The subtree, each node as it is when it is read. A checkpoint between two slices."""
        self._until = perf_counter() + SLICE
        self._open(self._find())
        while True:
            if perf_counter() >= self._until:
                await self._pause()
            if self._opened[-1].below:
                self._open_next(self._opened[-1])
            else:
                whole = self._close()
                if whole is not None:
                    return whole

    async def _pause(self) -> None:
        await trio.lowlevel.checkpoint()
        self._slice += 1
        self._until = perf_counter() + SLICE

    def _open(self, member: Member) -> None:
        opened = _Opened(member, self._stream.seq, self._slice)
        self._opened.append(opened)
        if opened.below:
            self._recording.unread[opened.path] = opened.below.keys()

    def _open_next(self, above: _Opened) -> None:
        # from now on all about this key is news, also if it was forgotten meanwhile
        key, _ = above.below.popitem()
        member = above.member if above.slice == self._slice else self._present()
        below = member.below if member is not None else None
        child = below.get(key) if below is not None else None
        if child is not None:
            self._open(child)

    def _present(self) -> Member | None:
        """Who stands now where a slice before has seen the supervisor that is being read."""
        member = self._find()
        for opened in self._opened[1:]:
            below = member.below
            found = below.get(opened.member.key) if below is not None else None
            if found is None:
                return None
            member = found
        return member

    def _close(self) -> Snapshot | None:
        """All below a node has been read: return it if that was the outermost one."""
        opened = self._opened.pop()
        node = Snapshot(**opened.fields, children=tuple(opened.read), seq=opened.seq)
        if not self._opened:
            return node
        self._opened[-1].read.append(node)
        return None


Followed = tuple[Snapshot, AsyncIterator[Event]]


class Following(Block[Followed]):
    """A snapshot and a subscription, from entering the block to its end. A class: see `_run`."""

    call, target = "handle.follow", "(snapshot, events)"

    def __init__(
        self, tree: Tree, path: str, find: Callable[[], Member], capacity: float, history: bool
    ) -> None:
        check_count("follow", "capacity", capacity, infinite=True, least=1)
        check_type("follow", "history", history, bool, "a bool")
        self._tree = tree
        self._find = find
        self._recording = Recording(tree.stream, path, capacity, tree.token)
        self._history = history

    @enable_ki_protection
    async def __aenter__(self) -> Followed:
        refuse_elsewhere(self._tree.token, "the block of SystemHandle.follow")
        await trio.lowlevel.checkpoint()
        if self._history:
            begin_history(self._tree)
        stream, recording = self._tree.stream, self._recording
        stream.join(recording)
        try:
            snapshot = await Reader(stream, recording, self._find).read()
        except BaseException:
            self._leave()
            raise
        recording.unread.clear()
        return snapshot, recording

    @enable_ki_protection
    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._tree.stream.leave(self._recording)
        self._recording.close()
