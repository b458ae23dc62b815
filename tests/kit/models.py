"""What a supervisor should do about calls and ends, in plain Python: no tasks, no waiting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import tenacity
import trio

from spry_py import Child, Ignore, RestartType, SystemHandle
from stories import Boom
from workers import AnyChild

Word: TypeAlias = Literal["ok", "fail", "ignore"]
State: TypeAlias = Literal["running", "restarting", "stopped", "done", "ignored"]


@dataclass(frozen=True)
class Op:
    """One step: a call, an end, a word about a start to come, or some seconds that pass."""

    do: str
    key: str = ""
    restart: RestartType = "permanent"
    backoff: float = 0.0
    conflict: Literal["raise", "replace", "ignore"] = "raise"
    word: Word = "ok"
    seconds: float = 0.0

    def __repr__(self) -> str:
        words = [self.do, self.key, self.restart, self.conflict, self.word, self.backoff]
        return f"<{' '.join(str(word) for word in words)} {self.seconds}>"


@dataclass
class Starts:
    """How the next starts of every key go, how many there were, and what has happened."""

    words: dict[str, list[Word]] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    facts: list[str] = field(default_factory=list)

    def next(self, key: str) -> Word:
        """Begin one more start of the key, write it down, and say how it goes."""
        self.runs[key] = self.runs.get(key, 0) + 1
        words = self.words.get(key)
        word: Word = words.pop(0) if words else "ok"
        self.facts.append({"ok": "+", "fail": "!", "ignore": "/"}[word] + self.me(key))
        return word

    def me(self, key: str) -> str:
        return f"{key}{self.runs[key]}"

    def ended(self, key: str) -> None:
        self.facts.append(f"-{self.me(key)}")

    def plan(self, op: Op) -> None:
        self.words.setdefault(op.key, []).append(op.word)


class Cast:
    """The real children: what they do is what the model only says."""

    def __init__(self) -> None:
        self.starts = Starts()
        self._orders: dict[str, trio.MemorySendChannel[str]] = {}

    def child(self, op: Op) -> AnyChild:
        backoff = tenacity.wait_fixed(op.backoff) if op.backoff else None
        return Child(op.key, self.play, op.key, restart=op.restart, backoff=backoff)

    async def play(self, key: str, *, task_status: trio.TaskStatus[str]) -> None:
        word = self.starts.next(key)
        me = self.starts.me(key)
        if word == "fail":
            raise Boom(me)
        if word == "ignore":
            raise Ignore
        self._orders[key], orders = trio.open_memory_channel[str](1)
        try:
            task_status.started(me)
            if await orders.receive() == "die":
                raise Boom(me)
        finally:
            del self._orders[key]
            self.starts.ended(key)

    def order(self, key: str, order: str) -> None:
        if key in self._orders:
            self._orders[key].send_nowait(order)


@dataclass
class Kid:
    """One child of a modelled supervisor."""

    key: str
    restart: RestartType
    backoff: float = 0.0
    state: State = "stopped"
    due: float = math.inf


class Model:
    """What every supervisor has in common."""

    keeps = True
    """Whether those that are down stay known."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kids: dict[str, Kid] = {}
        self.starts = Starts()

    def listing(self) -> list[tuple[str, str, str | None]]:
        return [
            (kid.key, kid.state, self.starts.me(kid.key) if kid.state == "running" else None)
            for kid in self.in_order()
        ]

    def counts(self) -> tuple[int, int]:
        return len(self.kids), sum(kid.state == "running" for kid in self.kids.values())

    def in_order(self) -> list[Kid]:
        return list(self.kids.values())

    # calls

    def call(self, op: Op) -> str:
        kid = self.kids.get(op.key)
        if op.do == "start":
            return self.start_child(op)
        if kid is None:
            return "ChildNotFound"
        if op.do == "terminate":
            self.take_down(kid)
            return "ok"
        if op.do == "again":
            self.restart_by_handle(kid)
            return "ok"
        if kid.state == "running":
            return "ChildRunning"
        if kid.state == "restarting":
            return "ChildRestarting"
        if op.do == "delete":
            self.forget(kid)
            return "ok"
        return self.restart_child(kid)

    def start_child(self, op: Op) -> str:
        kid = self.kids.get(op.key)
        if kid is not None:
            return "ChildAlreadyStarted" if kid.state == "running" else "ChildAlreadyPresent"
        kid = self.kids[op.key] = Kid(op.key, op.restart, op.backoff)
        if self.try_start(kid) == "fail":
            del self.kids[op.key]
            return "ChildFailure"
        return "ok"

    def restart_child(self, kid: Kid) -> str:
        return "ChildFailure" if self.try_start(kid) == "fail" else "ok"

    def restart_by_handle(self, kid: Kid) -> None:
        if kid.state == "running":
            self.starts.ended(kid.key)
        kid.due = math.inf
        self.restart(kid)

    def try_start(self, kid: Kid) -> Word:
        word = self.starts.next(kid.key)
        kid.state = "running" if word == "ok" else "stopped"
        if word == "ignore":
            self.leave_out(kid)
        return word

    def leave_out(self, kid: Kid) -> None:
        kid.state = "ignored"
        if kid.restart == "temporary" or not self.keeps:
            self.forget(kid)

    def take_down(self, kid: Kid) -> None:
        if kid.state == "running":
            self.starts.ended(kid.key)
        if kid.state in ("running", "restarting"):
            kid.state = "stopped"
        kid.due = math.inf
        if kid.restart == "temporary" or not self.keeps:
            self.forget(kid)

    def forget(self, kid: Kid) -> None:
        del self.kids[kid.key]

    # ends

    def end(self, op: Op) -> None:
        kid = self.kids.get(op.key)
        if kid is None or kid.state != "running":
            return
        self.starts.ended(kid.key)
        if kid.restart == "temporary":
            self.forget(kid)
        elif kid.restart == "transient" and op.do == "stop":
            kid.state = "done"
            if not self.keeps:
                self.forget(kid)
        else:
            self.restart(kid)

    def restart(self, kid: Kid) -> None:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def stop(self) -> None:
        for kid in reversed(self.in_order()):
            if kid.state == "running":
                self.starts.ended(kid.key)


class Alone(Model):
    """Each child is restarted alone: `one_for_one`."""

    def restart(self, kid: Kid) -> None:
        if kid.backoff:
            kid.state, kid.due = "restarting", self.now + kid.backoff
            return
        while self.try_start(kid) == "fail":
            pass

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            kid = min(self.kids.values(), key=lambda kid: kid.due, default=None)
            if kid is None or kid.due > end:
                break
            self.now, kid.due = kid.due, math.inf
            if self.try_start(kid) == "fail":
                self.restart(kid)
        self.now = end


class Pool(Alone):
    """A `DynamicSupervisor`."""

    keeps = False

    def __init__(self, max_children: int) -> None:
        super().__init__()
        self.max_children = max_children

    def start_child(self, op: Op) -> str:
        kid = self.kids.get(op.key)
        if kid is not None and op.conflict == "ignore":
            return "ok"
        if kid is not None and op.conflict == "replace":
            self.take_down(kid)
        elif kid is None and len(self.kids) >= self.max_children:
            return "MaxChildrenReached"
        return super().start_child(op)


class Group(Model):
    """Children go down and come back together: `rest_for_one` and `one_for_all`."""

    def __init__(self, declared: Iterable[Op], *, takes_all: bool) -> None:
        super().__init__()
        self.takes_all = takes_all
        self.declared = {op.key: op for op in declared}
        self.gone: set[str] = set()
        """Declared keys that no replay brings back."""
        self.added: set[str] = set()
        for op in self.declared.values():
            self.kids[op.key] = Kid(op.key, op.restart)
            assert self.try_start(self.kids[op.key]) == "ok"

    def in_order(self) -> list[Kid]:
        return [*self._declared_kids(), *(self.kids[key] for key in self.kids if key in self.added)]

    def _declared_kids(self) -> Iterator[Kid]:
        for key in self.declared:
            if key in self.kids and key not in self.added:
                yield self.kids[key]

    def start_child(self, op: Op) -> str:
        if op.key not in self.kids:
            self.added.add(op.key)
        return super().start_child(op)

    def forget(self, kid: Kid) -> None:
        super().forget(kid)
        if kid.key in self.declared:
            self.gone.add(kid.key)
        self.added.discard(kid.key)

    def restart(self, kid: Kid) -> None:
        kid.state = "restarting"
        self._sweep(kid)
        while self._attempt() == "fail":
            if self.takes_all:
                self._sweep(None)

    def _sweep(self, pivot: Kid | None) -> None:
        """Take down those that go along, the latest first."""
        for kid in reversed(self.in_order()):
            if kid is pivot and not self.takes_all:
                return
            if kid.state == "running":
                self.take_down(kid)
            if kid.key in self.kids and kid.state != "done":
                kid.state = "restarting"

    def _attempt(self) -> Word:
        """Start what is not up, in order; a failure ends the attempt.

        A system starts whatever it declares; of those added only the ones that go along.
        """
        for kid in self.in_order():
            wanted = (
                ["restarting"] if kid.key in self.added else ["restarting", "stopped", "ignored"]
            )
            if kid.state in wanted and self.try_start(kid) == "fail":
                kid.state = "restarting"
                return "fail"
        return "ok"


def seen(handle: SystemHandle) -> list[tuple[str, str, str | None]]:
    """What a real supervisor says, in the form of `Model.listing`."""
    return [(info.key, info.status, info.value) for info in handle.which_children()]
