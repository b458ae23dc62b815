"""Random trees of every kind of supervisor, random calls into them, and all that they say.

A tree is a child of a `DynamicSupervisor` called `top`, so that a listener hears its boot as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import trio
from hypothesis import strategies as st

from listeners import Heard
from spry_py import (
    Child,
    ChildHandle,
    DynamicSupervisor,
    Ignore,
    PartitionSupervisor,
    RateLimited,
    Scope,
    SpryError,
    SystemHandle,
    SystemSupervisor,
    Unrecoverable,
    current_context,
    open_system,
)
from spry_py.events import Event
from workers import RESTARTS, STRATEGIES

NEVER = 1e4
SECONDS = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 5.0])


class Plan(NamedTuple):
    """What one run does, and how many seconds that takes."""

    what: str
    age: float


ENDS = ("crash", "crash", "ends")
PLANS = st.lists(
    st.builds(
        Plan,
        st.sampled_from(
            [
                "crash",
                "crash",
                "ends",
                "slow",
                "no start",
                "late",
                "ignore",
                "hopeless",
                "asked early",
            ]
        ),
        SECONDS,
    ),
    max_size=3,
)


def fated(plans: list[Plan]) -> Callable[..., Awaitable[None]]:
    """A child that goes through its plans, one per incarnation, and then stays."""
    ahead = list(plans)

    async def live(*, task_status: trio.TaskStatus[None]) -> None:
        what, age = ahead.pop(0) if ahead else Plan("stays", NEVER)
        await _begin(what, age)
        task_status.started()
        if what == "late":
            await current_context().settled()
        await trio.sleep(age)
        if what == "crash":
            raise ValueError("boom")
        if what == "hopeless":
            raise Unrecoverable("hopeless")

    return live


async def _begin(what: str, age: float) -> None:
    if what == "asked early":
        current_context().cancel_on_settle()
    if what in ("slow", "asked early"):
        await trio.sleep(age)
    if what == "no start":
        raise OSError("no start")
    if what == "ignore":
        raise Ignore


# Trees


def _backoff(_: object) -> float:
    return 0.5


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "restart": st.sampled_from((*RESTARTS, "permanent")),
    "shutdown": st.sampled_from([0.0, 1.0, 3.0]),
    "backoff": st.sampled_from([None, _backoff]),
    "run_timeout": st.sampled_from([float("inf"), float("inf"), 3.0]),
    "start_timeout": st.sampled_from([float("inf"), 1.5]),
    "on_unrecoverable": st.sampled_from(["escalate", "discard"]),
}
CHILD = st.fixed_dictionaries(OPTIONS)
BREAKERS = st.builds(RateLimited, st.integers(0, 4), st.just(10.0))


@st.composite
def leaves(draw: st.DrawFn) -> Child[Any]:
    return Child("leaf", fated(draw(PLANS)), **draw(CHILD))


@st.composite
def systems(draw: st.DrawFn, depth: int = 2) -> Any:
    kind = draw(st.sampled_from(["system", "system", "system", "together", "dynamic", "partition"]))
    breaker = draw(BREAKERS)
    if kind == "dynamic":
        return DynamicSupervisor(breaker=breaker)
    if kind == "partition":
        made = draw(st.lists(leaves(), min_size=1, max_size=3))
        return PartitionSupervisor(made.__getitem__, partitions=len(made), breaker=breaker)
    children = draw(st.lists(nodes(depth), min_size=1, max_size=3))
    children = [child.replace(key=f"c{number}") for number, child in enumerate(children)]
    strategy = draw(st.sampled_from(STRATEGIES))
    system = _together(children) if kind == "together" else children
    return SystemSupervisor(system, strategy=strategy, breaker=breaker)


def nodes(depth: int) -> st.SearchStrategy[Child[Any]]:
    return leaves() if depth == 0 else leaves() | branches(depth - 1)


@st.composite
def branches(draw: st.DrawFn, depth: int) -> Child[Any]:
    return Child("branch", draw(systems(depth)), **draw(CHILD))


def _together(children: list[Child[Any]]) -> Any:
    async def system(scope: Scope) -> None:
        await scope.start_together(*children)

    return system


# What happens to them


class Act(NamedTuple):
    """A call at that moment (in seconds) by somebody who waits for it at most so long."""

    at: float
    verb: str
    which: int
    patience: float
    plans: list[Plan]


VERBS = ["start", "start", "terminate", "restart_child", "restart", "replay", "stop", "abort"]
ACTS = st.lists(
    st.builds(
        Act,
        at=SECONDS,
        verb=st.sampled_from(VERBS),
        which=st.integers(0, 6),
        patience=st.sampled_from([0.0, 0.5, 20.0]),
        plans=PLANS,
    ),
    max_size=4,
)


def living(handle: SystemHandle) -> Iterator[SystemHandle]:
    """A supervisor and all that run below it."""
    yield handle
    for info in handle.which_children():
        if info.status == "running" and isinstance(info.value, SystemHandle):
            yield from living(info.value)


async def perform(tree: SystemHandle, act: Act) -> None:
    await trio.sleep(act.at)
    systems = list(living(tree))[1:] or [tree]
    target = systems[act.which % len(systems)]
    with trio.move_on_after(act.patience), contextlib.suppress(SpryError, TypeError):
        await _do(tree, target, act)


async def _do(tree: SystemHandle, target: SystemHandle, act: Act) -> None:
    if act.verb == "start":
        key = tree.new_key()
        await target.start_child(Child(key, fated(act.plans), restart="transient"))
    elif act.verb == "replay":
        await target.replay()
    elif act.verb == "stop":
        await target.stop()
    elif act.verb == "abort":
        target.abort()
    elif children := target.which_children():
        key = children[act.which % len(children)].key
        await _do_to_child(target, key, act.verb)


async def _do_to_child(target: SystemHandle, key: str, verb: str) -> None:
    child: ChildHandle = target.child(key)
    if verb == "terminate":
        await child.terminate()
    elif verb == "restart":
        await child.restart()
    else:
        await target.restart_child(key)


@dataclass(frozen=True)
class Fate:
    """A tree, what is done to it, and how it ends, and when (in seconds)."""

    system: Any
    options: dict[str, Any]
    acts: list[Act]
    way: str
    until: float


FATES = st.builds(
    Fate,
    system=systems(),
    options=CHILD,
    acts=ACTS,
    way=st.sampled_from(["leave", "abort", "cancel"]),
    until=st.sampled_from([0.0, 0.5, 1.0, 2.5, 4.0, 20.0]),
)
CALM = st.builds(lambda fate: Fate(fate.system, fate.options, [], fate.way, fate.until), FATES)


@dataclass
class Life:
    """All that was heard of one tree."""

    heard: Heard = field(default_factory=Heard)

    @property
    def events(self) -> list[Event]:
        return self.heard.events

    async def live(self, fate: Fate) -> None:
        """Play the tree to its end, whatever that is."""
        async with trio.open_nursery() as nursery:
            with contextlib.suppress(SpryError):
                await self._open(fate, nursery)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async def _open(self, fate: Fate, nursery: trio.Nursery) -> None:
        top = DynamicSupervisor(name="top", breaker=RateLimited(2, 10.0))
        with trio.CancelScope() as outside:
            async with open_system(top) as handle:
                await nursery.start(self.heard.listen, handle, float("inf"))
                for act in fate.acts:
                    nursery.start_soon(perform, handle, act)
                nursery.start_soon(_boot, handle, fate)
                await trio.sleep(fate.until)
                if fate.way == "abort":
                    handle.abort()
                    await handle.wait()
                elif fate.way == "cancel":
                    outside.cancel()
                    await trio.sleep_forever()


async def _boot(handle: SystemHandle, fate: Fate) -> None:
    with contextlib.suppress(SpryError):
        await handle.start_child(Child("tree", fate.system, **fate.options))
