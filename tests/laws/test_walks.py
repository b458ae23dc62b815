"""How far one reads to follow what happens: the functions entered, and the moves between files.

Counted with nobody listening and logging off. A bound that is met with room to spare is to be
lowered; one that is broken asks whether a reader can still follow.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
import trio

import spry_py
from fresh import Fresh
from spry_py import Child, open_system
from stories import Boom, Strategy, story

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


@contextmanager
def in_silence() -> Iterator[None]:
    """Nobody listens and nothing is logged, whatever the tests before this one have left behind."""
    before, loggers = logging.root.manager.disable, logging.root.manager.loggerDict
    touched = {name: loggers.pop(name) for name in list(loggers) if name.startswith("spry_py.")}
    logging.disable(logging.CRITICAL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            Fresh(patch)
            yield
    finally:
        logging.disable(before)
        loggers.update(touched)


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


@pytest.mark.parametrize(
    ("strategy", "bounds"), [("one_for_one", (81, 73)), ("one_for_all", (156, 231))]
)
@story
async def test_from_a_crash_to_the_next_start(strategy: Strategy, bounds: tuple[int, int]) -> None:
    faller = Faller()
    children = [Child("before", serve), Child("it", faller), Child("after", serve)]
    with in_silence():
        async with open_system(children, strategy=strategy) as tree:
            await trio.sleep(1)
            faller.fall.set()
            await trio.sleep(1)
            assert tree.child("it").incarnation == 2
    check(faller.walk, bounds)


@story
async def test_a_child_started_by_a_call_and_stopped_again() -> None:
    started, stopped = Walk(), Walk()
    with in_silence():
        async with open_system([Child("it", serve)]) as tree:
            await trio.sleep(1)
            started.begin()
            await tree.start_child(Child("new", serve))
            started.end()
            await trio.sleep(1)
            stopped.begin()
            await tree.terminate_child("new")
            stopped.end()
    check(started, (76, 70))
    check(stopped, (81, 71))


def check(walk: Walk, bounds: tuple[int, int]) -> None:
    functions, moves = walk.length
    print(f"{functions} functions, {moves} moves")
    assert functions, "nothing was counted"
    assert functions <= bounds[0]
    assert moves <= bounds[1]
