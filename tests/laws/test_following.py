"""The law of followers: a snapshot and the events from there on are the present tree.

Random trees, crashing and stopped at random moments, are followed from random moments on, their
boot included, with a pause between any two nodes that are read.
"""

from __future__ import annotations

import math
from typing import Literal

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from followers import Follower, living
from spry_py import SpryError, SystemHandle, open_system, roots
from spry_py._handles import following
from spry_py.events import IncidentClosed, IncidentOpened
from stories import story
from trees import Branch, World, branches

Way = Literal["leave", "stop", "abort", "cancel"]
MOMENTS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.0, 4.25, 6.0, 9.0, 14.0])

EXAMPLES = settings().max_examples
FOLLOWERS = st.lists(st.tuples(MOMENTS, st.integers(0, 9)), min_size=1, max_size=3)


async def follow(begins: float, busy: int) -> None:
    """Follow the tree from a moment on, in the middle of whatever goes on then, to its end."""
    await trio.sleep_until(begins)
    for _ in range(busy):
        await trio.lowlevel.checkpoint()
    for tree in roots():
        async with (
            tree.follow(capacity=100_000) as (snapshot, events),
            trio.open_nursery() as beside,
        ):
            follower = Follower(snapshot)
            beside.start_soon(compare, follower, tree)
            await follower.read(events)
            beside.cancel_scope.cancel()
        assert follower.living == {}


async def compare(follower: Follower, tree: SystemHandle) -> None:
    """Compare with the present tree at each moment at which nothing is going on."""
    pause = 0.25
    while True:
        await trio.testing.wait_all_tasks_blocked()
        assert follower.living == living(tree.snapshot())
        await trio.sleep(pause)
        pause *= 1.2


async def live(world: World, way: Way, moment: float) -> None:
    """Let the tree live until that moment, and end it so."""
    with trio.move_on_after(moment if way == "cancel" else 1000.0):
        try:
            async with open_system(world.supervisor()) as tree:
                with trio.move_on_after(moment):
                    await tree.wait()
                if way == "abort":
                    tree.abort()
                elif way == "stop":
                    await tree.stop()
        except SpryError as error:
            note(f"{error!r} came out")


async def keep_books() -> None:
    """Each incident is opened once and closed once, whatever becomes of the tree."""
    while not roots():
        await trio.lowlevel.checkpoint()
    for tree in roots():
        opened: list[int | None] = []
        closed: list[int | None] = []
        async with tree.events(math.inf) as events:
            async for event in events:
                if isinstance(event, IncidentOpened):
                    opened.append(event.incident)
                elif isinstance(event, IncidentClosed):
                    closed.append(event.incident)
                    assert event.seconds >= 0
        assert None not in opened
        assert sorted(map(str, opened)) == sorted(map(str, closed))
        assert len(set(opened)) == len(opened)


@story
async def follow_to_the_end(
    tree: Branch, way: Way, moment: float, followers: list[tuple[float, int]]
) -> None:
    async with trio.open_nursery() as nursery:
        for begins, busy in followers:
            nursery.start_soon(follow, begins, busy)
        nursery.start_soon(keep_books)
        await live(World(tree), way, moment)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(
    tree=branches(3),
    way=st.sampled_from(["leave", "stop", "abort", "cancel"]),
    moment=MOMENTS,
    followers=FOLLOWERS,
)
def test_a_snapshot_and_its_events_are_the_present_tree(
    tree: Branch, way: Way, moment: float, followers: list[tuple[float, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "SLICE", -1.0)
        follow_to_the_end(tree, way, moment, followers)
