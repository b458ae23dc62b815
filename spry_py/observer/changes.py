"""What changes in the trees, for all who look at them at the same time.

The work for each change is done once, however many look. Events show which children to look at
again, and each is looked at once in a quarter of a second, however much happens to it meanwhile.
Now and then the whole is looked through, for what no event shows, such as a budget that time has
freed, and for trees of other runs of trio, whose events are not heard here. Nothing of it is done
while no one looks, but for what is to be known later.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

import trio

from spry_py import ChildHandle, ChildNotFound, SystemHandle
from spry_py.events import (
    ChildStarting,
    Event,
    RestartRefused,
    RestartScheduled,
    SystemOrdered,
    SystemStarted,
    SystemStopped,
)
from spry_py.lowlevel import hear, on_root, token_of

from .facts import fact_of
from .incidents import Incidents
from .tree import SLICE, Json, as_json, node_of, nodes_below
from .trees import Trees

PERIOD: Final = 0.25
# how often all is looked through, and trees of other runs of trio, seconds
_THOROUGH: Final = 10.0
_ELSEWHERE: Final = 1.0
# after a round of looking, so many times its own length nothing is done, up to a second; and after
# one through all, so many times its length, not again through all
_SHARE: Final = 4
_LONGEST: Final = 1.0
_RARELY: Final = 50
# restarts are shown for so many seconds, and so many of them
RECENT: Final = 120.0
_MOST_RECENT: Final = 60
_MOST_FACTS: Final = 200
MOST_QUEUED: Final = 1 << 20
_MOST_RESTARTED: Final = 4_096
# what takes a microsecond or two for each
_MANY: Final = 2_048

_T = TypeVar("_T")


class Viewer:
    """A reader: what has not been sent yet. A slow one gets the tree again instead."""

    def __init__(self) -> None:
        # written by `Changes`
        self.messages: deque[bytes] = deque()
        self.size: int = 0
        self.needs_tree: bool = True
        self.changed: trio.Event = trio.Event()

    def offer(self, message: bytes) -> None:
        """Keep a message, unless all is going to be sent."""
        if self.needs_tree:
            return
        self.messages.append(message)
        self.size += len(message)
        if self.size > MOST_QUEUED:
            self.lose()
        self.changed.set()

    def lose(self) -> None:
        """What has not been sent is not worth sending any more."""
        self.messages.clear()
        self.size = 0
        self.needs_tree = True
        self.changed.set()

    def take(self) -> bytes | None:
        """The next message, if there is one."""
        if not self.messages:
            return None
        message = self.messages.popleft()
        self.size -= len(message)
        return message


class Changes:
    """The trees as those who look have seen them, and what has happened to them since."""

    def __init__(
        self, trees: Trees, history: int, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._trees = trees
        # real time: trio's may be a virtual one
        self._timer = timer
        self.incidents: Incidents = Incidents(trees, history)
        # how much of it is shown; the trees themselves keep it
        self.history = history
        self.viewers: set[Viewer] = set()
        # each node as it was last sent, parents first; empty while no one looks
        self._known: dict[str, str] = {}
        self._is_known = trio.Event()
        # what to look at again: single children, and whole subtrees by the name of their top
        self._dirty: dict[str, None] = {}
        self._doubtful: dict[str, None] = {}
        self._facts: list[Json] = []
        self._facts_lost = 0
        self._recent: dict[str, deque[float]] = {}
        # how to hear no more of each root that has not ended; of other runs, nothing is heard
        self._heard: dict[SystemHandle, Callable[[], None]] = {}
        # when trees of other runs of trio are looked through again
        self._elsewhere_at = -math.inf
        # one looks
        self._awoken = trio.Event()
        # they stand in another order: all is to be sent again
        self._is_disordered = False
        # seconds of real time that the last round of looking took
        self._cost = 0.0
        # and the last that went through all
        self._whole_cost = 0.0

    # Looking

    def join(self) -> Viewer:
        """One more looks."""
        viewer = Viewer()
        self.viewers.add(viewer)
        self._awoken.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """One has seen enough."""
        self.viewers.discard(viewer)
        if not self.viewers:
            self._is_known = trio.Event()
            self._known = {}
            self._facts.clear()
            self._dirty.clear()

    async def next_for(self, viewer: Viewer) -> tuple[str, bytes]:
        """The next message for a reader, with its kind: ``"tree"`` or ``"changes"``."""
        while True:
            await self._is_known.wait()
            if viewer.needs_tree:
                viewer.needs_tree = False
                return "tree", self._whole()
            viewer.changed = trio.Event()
            message = viewer.take()
            if message is not None:
                return "changes", message
            await viewer.changed.wait()

    def _whole(self) -> bytes:
        return f'{{{moment()},"nodes":[{",".join(self._known.values())}]}}'.encode()

    # Listening

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen to all trees, and send that to those who look, until cancelled."""
        token = trio.lowlevel.current_trio_token()
        undo = on_root(lambda: self._hear_all(token))
        try:
            self._hear_all(token)
            task_status.started()
            await self._run()
        finally:
            undo()
            while self._heard:
                self._heard.popitem()[1]()

    async def _run(self) -> None:
        last = -math.inf
        while True:
            if not self.viewers:
                last = -math.inf
                await self._awoken.wait()
            self._awoken = trio.Event()
            if self.viewers:
                self._doubt_those_elsewhere()
                before, last = last, self._doubt_all_since(last)
                await self._tell()
                if last > before:
                    self._whole_cost = self._cost
                await trio.sleep(max(PERIOD, min(_SHARE * self._cost, _LONGEST)))

    def _doubt_all_since(self, last: float) -> float:
        """Have all looked through again if it is long ago; returns when that was last decided."""
        now = trio.current_time()
        if now - last < max(_THOROUGH, _RARELY * self._whole_cost):
            return last
        self._doubtful.update((name, None) for name, _ in self._trees)
        return now

    def _doubt_those_elsewhere(self) -> None:
        now = trio.current_time()
        if now >= self._elsewhere_at:
            self._elsewhere_at = now + _ELSEWHERE
            names = [name for name, root in self._trees if root not in self._heard]
            self._doubtful.update(dict.fromkeys(names))

    def _hear_all(self, token: trio.lowlevel.TrioToken) -> None:
        """Hear of all trees of this run from now on; of a new one, before its first event."""
        if trio.lowlevel.current_trio_token() is not token:
            return  # a root of another run begins
        for name, root in self._trees:
            if root not in self._heard and token_of(root) is token:
                self._doubtful[name] = None
                self._heard[root] = hear(root, _Ear(self, root, name), history=True)

    def end(self, root: SystemHandle, name: str) -> None:
        """A root has ended."""
        self._heard.pop(root, None)
        self._doubtful[name] = None

    def note(self, event: Event, path: str, name: str) -> None:
        """Something has happened in a tree: keep what is to be known of it."""
        if isinstance(event, ChildStarting) and event.incarnation > 1:
            self._note_restart(path, event.at)
        self.incidents.note(event, path, name)
        if not self.viewers:
            return
        if len(self._facts) < _MOST_FACTS:
            self._facts.append(fact_of(event, path))
        else:
            self._facts_lost += 1
        self._dirty[path] = None
        if isinstance(event, RestartScheduled | RestartRefused):
            # its supervisor's budget is less
            self._dirty[path.rpartition("/")[0] or path] = None
        elif isinstance(event, SystemOrdered | SystemStarted | SystemStopped):
            self._doubtful[path] = None

    def _note_restart(self, path: str, at: float) -> None:
        recent = self._recent.pop(path, None) or deque(maxlen=_MOST_RECENT)
        recent.append(at)
        # those that were restarted last stand last
        self._recent[path] = recent
        if len(self._recent) > _MOST_RESTARTED:
            del self._recent[next(iter(self._recent))]

    # Looking again

    async def _tell(self) -> None:
        """Look at what may have changed, and send what has."""
        self._cost = 0.0
        news = _News()
        gone = await self._look_again(news)
        await self._look_through(gone, news)
        self._is_known.set()
        facts, lost = self._facts, self._facts_lost
        self._facts, self._facts_lost = [], 0
        if self._is_disordered:
            self._is_disordered = False
            for viewer in self.viewers:
                viewer.lose()
        if news.nodes or news.gone or facts:
            message = news.message(facts, lost)
            for viewer in self.viewers:
                viewer.offer(message)

    async def _look_again(self, news: _News) -> list[str]:
        """At single children, in the order of the events about them: parents come first.

        Returns those that are not there any more.
        """
        dirty, self._dirty = self._dirty, {}
        gone: list[str] = []
        for paths in _sliced(dirty, SLICE):
            began = self._timer()
            gone += [path for path in paths if not self._look_at(path, news)]
            await self._pause(began)
        return gone

    def _look_at(self, path: str, news: _News) -> bool:
        """Whether it is still there."""
        above = path.rpartition("/")[0]
        if above and above not in self._known:
            return True  # a tree that is new is looked through as a whole
        try:
            text = as_json(self.node(self._trees.find(path), path))
        except ChildNotFound:
            return False
        if self._known.get(path) != text:
            self._known[path] = news.nodes[path] = text
        return True

    async def _look_through(self, gone: list[str], news: _News) -> None:
        """Through whole subtrees, none of them twice; nothing is left of those that have gone."""
        doubtful, self._doubtful = self._doubtful, {}
        names = {name for name, _ in self._trees}
        roots = (known for known in self._known if "/" not in known and known not in names)
        nothing: dict[str, dict[str, str]] = {path: {} for path in (*gone, *roots)}
        seen: dict[str, dict[str, str]] = {}
        for path in _outermost(doubtful | nothing):
            below = nothing[path] if path in nothing else await self._look_below(path)
            if below is not None:
                seen[path] = below
        if seen:
            await self._replace(seen, news)

    async def _look_below(self, path: str) -> dict[str, str] | None:
        """What is at and below a path; ``None`` if there is no supervisor any more."""
        try:
            handle = self._trees.system(path)
        except ChildNotFound:
            return None
        seen: dict[str, str] = {}
        began = self._timer()
        for nodes in _sliced(await nodes_below(handle, path, self._trees.ahead_of(handle)), SLICE):
            for node in nodes:
                seen[str(node["path"])] = as_json(self.with_recent(node))
            await self._pause(began)
            began = self._timer()
        return seen

    async def _replace(self, seen: dict[str, dict[str, str]], news: _News) -> None:
        """Put what was seen at and below some paths in the place of what was known there."""
        before, exchange = self._known, _Exchange(seen)
        began = self._timer()
        for pairs in _sliced(list(before.items()), _MANY):
            for path, text in pairs:
                exchange.take(path, text, news)
            await self._pause(began)
            began = self._timer()
        for pairs in _sliced((pair for below in seen.values() for pair in below.items()), _MANY):
            news.nodes |= {path: text for path, text in pairs if before.get(path) != text}
            await self._pause(began)
            began = self._timer()
        # where they stand in another order, nothing but the whole shows that
        self._is_disordered |= exchange.is_disordered(before)
        # they were forgotten if the last one who looked has left meanwhile
        if self._known is before:
            self._known = exchange.all()

    def node(self, handle: SystemHandle | ChildHandle, path: str) -> Json:
        """A child as it is sent, with the times of its last restarts."""
        return self.with_recent(node_of(handle.info(), path, self._trees.ahead_of(handle)))

    def with_recent(self, node: Json) -> Json:
        """A node with the times of its last restarts added, and of a root where it was opened."""
        earliest = trio.current_time() - RECENT
        recent = self._recent.get(node["path"], ())
        node["recent"] = [round(at, 3) for at in recent if at > earliest]
        node["host"] = self._trees.host_of(node["path"]) if "/" not in node["path"] else None
        return node

    async def _pause(self, began: float) -> None:
        """Let others run, after a slice that ``began`` at that moment of real time."""
        self._cost += self._timer() - began
        await trio.lowlevel.checkpoint()


class _Ear:
    """Hears what happens at and below a root, as one of the subscribers of its tree."""

    def __init__(self, changes: Changes, root: SystemHandle, name: str) -> None:
        self._changes = changes
        self._root = root
        self._name = name
        self._path = root.path
        self._below = f"{root.path}/"

    def offer(self, event: Event) -> None:
        path = event.path
        if path == self._path or path.startswith(self._below):
            self._changes.note(event, self._name + path[len(self._path) :], self._name)

    def wake(self) -> None:
        self._changes.end(self._root, self._name)


class _Exchange:
    """What is known, with what was seen below some paths in the place of what was known there."""

    def __init__(self, seen: dict[str, dict[str, str]]) -> None:
        self._seen = seen
        self._known: dict[str, str] = {}
        # below which of those paths each one stands
        self._tops: dict[str, str | None] = {}
        # those that were known and are seen again, in the order in which they were known
        self._kept: dict[str, list[str]] = {}

    def take(self, path: str, text: str, news: _News) -> None:
        """Take what was known, parents first."""
        top = path if path in self._seen else self._tops.get(path.rpartition("/")[0])
        self._tops[path] = top
        if top is None:
            self._known[path] = text
            return
        seen = self._seen[top]
        kept = self._kept.get(top)
        if kept is None:
            kept = self._kept[top] = []
            self._known |= seen
        if path in seen:
            kept.append(path)
        else:
            news.drop(path)

    def is_disordered(self, before: dict[str, str]) -> bool:
        """Whether any of those that were known ``before`` stand in another order now."""
        return any(
            kept != [path for path in self._seen[top] if path in before]
            for top, kept in self._kept.items()
        )

    def all(self) -> dict[str, str]:
        """What is known now; what was not known at all is last."""
        for top, seen in self._seen.items():
            if top not in self._kept:
                self._known |= seen
        return self._known


class _News:
    """What is different from what was sent before."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.gone: dict[str, None] = {}

    def drop(self, path: str) -> None:
        self.nodes.pop(path, None)
        self.gone[path] = None

    def message(self, facts: list[Json], lost: int) -> bytes:
        # one that has gone may have come again
        gone = json.dumps([path for path in self.gone if path not in self.nodes])
        nodes = ",".join(self.nodes[path] for path in sorted(self.nodes, key=_depth))
        events = ",".join(map(as_json, facts))
        return (
            f'{{{moment()},"nodes":[{nodes}],"gone":{gone},"facts":[{events}],"facts_lost":{lost}}}'
        ).encode()


def moment() -> str:
    """The present moment, on both clocks."""
    return f'"now":{trio.current_time():.6f},"time":{time.time():.3f}'


def _depth(path: str) -> int:
    return path.count("/")


def _sliced(things: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(things)
    while slice_ := list(islice(rest, size)):
        yield slice_


def _outermost(paths: Iterable[str]) -> list[str]:
    """Those that stand below no other one."""
    every = set(paths)
    return [path for path in paths if not any(above in every for above in _above(path))]


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
