"""How far one reads to follow what happens: the functions entered, and the moves between files.

Counted with nobody listening and logging off. A bound that is met with room to spare is to be
lowered; one that is broken asks whether a reader can still follow.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import pytest
import trio
from trio.testing import MockClock

import spry_py
from programs import environment, finished
from spry_py import Child, Strategy, open_system
from stories import Boom

HOUSE: Final = str(Path(spry_py.__file__).parent)


class Walk:
    """The functions of this library that are entered, in their order, each with its file."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(HOUSE):
            self.steps.append((code.co_filename, code.co_qualname))

    def begin(self) -> None:
        sys.setprofile(self)

    def end(self) -> None:
        sys.setprofile(None)

    @property
    def length(self) -> tuple[int, int]:
        """How many different functions, and how many moves between files."""
        moves = sum(before != after for (before, _), (after, _) in pairwise(self.steps))
        return len(set(self.steps)), moves

    @property
    def told(self) -> list[str]:
        """The functions among them of what hears of the tree's facts."""
        return sorted({name for file, name in self.steps if file.endswith("listener.py")})


async def serve(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


class Faller:
    """A child that crashes once: the walk is from there to its next start."""

    def __init__(self) -> None:
        self.walk = Walk()
        self.fall = trio.Event()
        self.runs = 0

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.runs += 1
        task_status.started()
        if self.runs > 1:
            self.walk.end()
            await trio.sleep_forever()
        await self.fall.wait()
        self.walk.begin()
        raise Boom


async def crash(strategy: Strategy) -> Walk:
    """From the crash of a child to its next start."""
    faller = Faller()
    children = [Child("before", serve), Child("it", faller), Child("after", serve)]
    async with open_system(children, strategy=strategy) as tree:
        await trio.sleep(1)
        faller.fall.set()
        await trio.sleep(1)
        assert tree.child("it").incarnation == 2
    return faller.walk


async def call() -> tuple[Walk, Walk]:
    """Through a call that starts a child, and through one that stops it."""
    started, stopped = Walk(), Walk()
    async with open_system([Child("it", serve)]) as tree:
        await trio.sleep(1)
        started.begin()
        await tree.start_child(Child("new", serve))
        started.end()
        await trio.sleep(1)
        stopped.begin()
        await tree.terminate_child("new")
        stopped.end()
    return started, stopped


def all_walks() -> dict[str, Walk]:
    """Each walk, with nobody listening and nothing logged."""
    logging.disable(logging.CRITICAL)
    strategies: tuple[Strategy, ...] = ("one_for_one", "one_for_all")
    walks: dict[str, Walk] = {}
    walks |= {
        one: trio.run(crash, one, clock=MockClock(autojump_threshold=0)) for one in strategies
    }
    both = trio.run(call, clock=MockClock(autojump_threshold=0))
    walks["start_child"], walks["terminate_child"] = both
    return walks


BOUNDS: Final = {
    "one_for_one": (45, 36),
    "one_for_all": (90, 108),
    "start_child": (40, 32),
    "terminate_child": (47, 34),
}


class Walked(NamedTuple):
    """What is known of a walk: its length, and what of it was in the file of the listener."""

    length: tuple[int, int]
    told: set[str]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Walked]:
    # in a process of its own: what other tests leave behind would be walked through as well
    kit = str(Path(__file__).parents[1] / "kit")
    path = os.pathsep.join([environment()["PYTHONPATH"], kit])
    done = finished([__file__], tmp_path_factory.mktemp("walks"), PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    return {name: Walked(tuple(length), set(told)) for name, (length, told) in said.items()}


def test_no_walk_is_longer_than_it_was(walked: dict[str, Walked]) -> None:
    assert walked.keys() == BOUNDS.keys()
    longer = {
        name: walk.length
        for name, walk in walked.items()
        if walk.length[0] > BOUNDS[name][0] or walk.length[1] > BOUNDS[name][1]
    }
    assert longer == {}


def test_a_fact_that_nothing_hears_of_is_not_even_reported(walked: dict[str, Walked]) -> None:
    # but for births, which must not stand in a span that somebody else has opened
    births = {"Teller.bear"}
    told = {name: walk.told for name, walk in walked.items()}
    assert told == dict.fromkeys(BOUNDS, births) | {"terminate_child": set()}


if __name__ == "__main__":
    print(json.dumps({name: (walk.length, walk.told) for name, walk in all_walks().items()}))
