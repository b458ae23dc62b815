"""Random trees, crashing, stopped and cancelled at random moments, held against the laws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pytest
import trio
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from spry_py import (
    Aborted,
    Burden,
    ChildInfo,
    Escalation,
    Normal,
    SpryError,
    StartupFailure,
    SystemHandle,
    open_system,
)
from stories import story
from trees import Branch, Leaf, World, ancestors, branches
from workers import causes

LATE = 1000.0
"""A moment (in seconds) at which every plan has long been played."""


EXAMPLES = max(300, settings().max_examples)

REPORTS: dict[str, tuple[Normal | Aborted, Burden]] = {
    "leave": (Normal(None), "settling"),
    "stop": (Normal(None), "settling"),
    "abort": (Aborted(), "aborted"),
}
"""What the root says of itself, by the way it was ended."""


class HostCrash(Exception):
    """The program around the tree fails."""


@dataclass(frozen=True)
class Poke:
    """Somebody takes the handle of a subsystem and ends it, at that moment (in seconds)."""

    at: float
    branch: int
    way: Literal["stop", "abort"]


@dataclass(frozen=True)
class Script:
    """How and when (in seconds) the whole tree ends, and what befalls it before."""

    way: Literal["leave", "stop", "abort", "cancel", "crash"]
    moment: float
    pokes: tuple[Poke, ...]


MOMENTS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.0, 4.25, 6.0, 9.0, 14.0])
SCRIPTS = st.builds(
    Script,
    way=st.sampled_from(["leave", "stop", "abort", "cancel", "crash"]),
    moment=st.just(LATE) | MOMENTS,
    pokes=st.lists(
        st.builds(
            Poke,
            at=MOMENTS,
            branch=st.integers(0, 8),
            way=st.sampled_from(["stop", "abort"]),
        ),
        max_size=2,
    ).map(tuple),
)


@dataclass
class Outcome:
    """What came out of `open_system`, and of the tree."""

    opened: bool = False
    stopped_at: float = math.inf
    alive_at_stop: tuple[str, ...] = ()
    ended_before: int = 0
    error: Exception | None = None
    cancelled: bool = False
    handle: SystemHandle | None = None


async def poke(world: World, handle: SystemHandle, poke: Poke) -> None:
    """End one subsystem by its own handle, if it runs at that moment."""
    below = [path for path, node in world.nodes.items() if isinstance(node, Branch)][1:]
    await trio.sleep_until(poke.at)
    if not below:
        return
    path = below[poke.branch % len(below)]
    outermost_first = [*reversed(ancestors(path)[:-1]), path]
    if any(child_status(handle, each) != "running" for each in outermost_first):
        return
    value = handle.find(path.removeprefix("tree/")).value
    assert isinstance(value, SystemHandle)
    if poke.way == "stop":
        await value.stop()
    else:
        world.unordered.add(path)
        value.abort()


def child_status(handle: SystemHandle, path: str) -> str:
    """The status of a path, `gone` if it is not listed."""
    parent = handle
    for key in path.split("/")[1:-1]:
        value = parent.child(key).value
        assert isinstance(value, SystemHandle)
        parent = value
    listed = {info.key: info.status for info in parent.which_children()}
    return listed.get(path.rpartition("/")[2], "gone")


async def end(world: World, handle: SystemHandle, script: Script, outcome: Outcome) -> None:
    """Let the tree live until its moment has come, then end it."""
    if script.way == "cancel":
        await trio.sleep_forever()
    await trio.sleep_until(script.moment)
    await trio.testing.wait_all_tasks_blocked()
    if script.moment == LATE:
        expect_health(world, handle)
    outcome.stopped_at = trio.current_time()
    outcome.alive_at_stop = tuple(path for path in world.leaves if path in world.alive)
    outcome.ended_before = len(world.ended)
    if script.way == "stop":
        await handle.stop()
    elif script.way == "abort":
        world.unordered.add("tree")
        handle.abort()
        await handle.wait()
    elif script.way == "crash":
        raise HostCrash


async def drive(world: World, script: Script, outcome: Outcome) -> None:
    """Play the tree and the script to the end."""
    limit = script.moment if script.way == "cancel" else math.inf
    async with trio.open_nursery() as host:
        with trio.CancelScope(deadline=limit) as outside:
            try:
                async with open_system(world.supervisor()) as handle:
                    outcome.opened, outcome.handle, world.handle = True, handle, handle
                    for each in script.pokes:
                        host.start_soon(poke, world, handle, each)
                    await end(world, handle, script, outcome)
            except Exception as error:
                outcome.error = error
        outcome.cancelled = outside.cancelled_caught
        outcome.stopped_at = min(outcome.stopped_at, limit)
        world.faults += [f"{path} has outlived its tree" for path in world.alive]
        host.cancel_scope.cancel()


def expect_health(world: World, handle: SystemHandle, path: str = "tree") -> None:
    """Long after the last incident everybody runs, or has a reason not to."""
    branch = world.branch(path)
    infos = {info.key: info for info in handle.which_children()}
    for number, node in enumerate(branch.children):
        key = str(number)
        below = f"{path}/{key}"
        info = infos.get(key)
        running = info is not None and info.status == "running"
        if isinstance(node, Leaf) and running != (below in world.alive):
            world.faults.append(f"{below} is said to be {info}")
        if not running and not may_rest(world, below, info):
            world.faults.append(f"{below} does not run: {info}, {world.last_words.get(below)}")
        if info is not None and running and isinstance(info.value, SystemHandle):
            expect_health(world, info.value, below)
    active = sum(info.status == "running" for info in infos.values())
    if handle.count_children().active != active:
        world.faults.append(f"{path} has {active} active children, and counts otherwise")


def may_rest(world: World, path: str, info: ChildInfo | None) -> bool:
    """Whether there is a reason why a child does not run."""
    node = world.nodes[path]
    if info is None:
        return node.restart == "temporary"
    if isinstance(node, Branch):
        return (node.restart, info.status) == ("transient", "done")
    if info.status == "ignored":
        return world.last_words[path] == "ignored"
    discarded = node.breaker is not None and node.discard
    returned = node.restart == "transient" and world.last_words[path] == "returned"
    return info.status == "done" and (discarded or returned)


def expect_told(world: World, script: Script, outcome: Outcome) -> None:
    """No exception is lost, renamed, or wrapped up in a group."""
    error = outcome.error
    if error is None:
        assert script.way != "crash"
        assert outcome.cancelled == (script.way == "cancel")
    elif isinstance(error, HostCrash):
        assert script.way == "crash"
    elif isinstance(error, ExceptionGroup):
        crash, failure = sorted(error.exceptions, key=lambda leaf: isinstance(leaf, SpryError))
        assert isinstance(crash, HostCrash)
        expect_one_sentence(world, failure, outcome.stopped_at)
    else:
        expect_one_sentence(world, error, outcome.stopped_at)


def expect_one_sentence(world: World, error: Exception, before: float) -> None:
    """A failure of the tree leads by its causes to what a leaf has raised before the end."""
    assert isinstance(error, Escalation | StartupFailure)
    *spoken, last = causes(error)
    assert all(isinstance(link, Escalation | StartupFailure) for link in spoken)
    if isinstance(last, Escalation):
        assert last.root_cause is None
    else:
        original, raised_at = world.raised[id(last)]
        assert original is last
        assert raised_at <= before
        assert not isinstance(error, Escalation) or error.root_cause is last


def expect_order(world: World, script: Script, outcome: Outcome) -> None:
    """Starts depth first in declared order; at a quiet stop, ends in exactly the reverse order."""
    first_begins = list(dict.fromkeys(world.begun))
    assert first_begins == world.leaves[: len(first_begins)]
    if outcome.opened:
        assert len(first_begins) == len(world.leaves)
    expirable = any(
        world.may_expire(p) for p, node in world.nodes.items() if isinstance(node, Branch)
    )
    if script.moment == LATE and outcome.alive_at_stop and not expirable:
        ends = world.ended[outcome.ended_before :]
        if script.way == "abort":
            assert sorted(ends) == sorted(outcome.alive_at_stop)
        else:
            assert ends == list(reversed(outcome.alive_at_stop))


async def play(tree: Branch, script: Script) -> None:
    """Drive one tree to its end, and hold it against the laws."""
    world, outcome = World(tree), Outcome()
    await drive(world, script, outcome)
    note(f"begun {world.begun}, ended {world.ended}, came out {outcome.error!r}")
    assert world.faults == []
    assert world.alive == []
    assert sorted(world.begun) == sorted(world.ended)
    expect_told(world, script, outcome)
    expect_order(world, script, outcome)
    if outcome.handle is not None and outcome.error is None:
        report = await outcome.handle.wait()
        assert script.way not in REPORTS or (report.reason, report.burden) == REPORTS[script.way]


@pytest.mark.slow
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(tree=branches(3), script=SCRIPTS)
@story
async def test_random_trees(tree: Branch, script: Script) -> None:
    await play(tree, script)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(tree=branches(1, least=3), script=SCRIPTS)
@story
async def test_random_families(tree: Branch, script: Script) -> None:
    """A single supervisor: its own incidents get further than those in the bustle of a tree."""
    await play(tree, script)
