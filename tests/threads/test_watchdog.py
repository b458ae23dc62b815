"""Who blocks the loop is told, by the clock of the story, and in real life."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import trio

from blocking import SECONDS
from spry_py import Child, ChildFailure, open_system
from spry_py.watchdog import Blocked, Steps, Watcher, watch_loop
from stories import story, story_with_threads


class Scene:
    """A loop whose steps the story makes up, and the watcher of it."""

    def __init__(self, bound: float = 1.0) -> None:
        self.now = 100.0
        self.steps = Steps(bound, lambda: self.now)
        self.watcher = Watcher(self.steps, lambda task: f"stack of {task.name}")
        self.task = trio.lowlevel.current_task()

    def begin(self) -> None:
        self.steps.before_task_step(self.task)

    def end(self) -> None:
        self.steps.before_io_wait(0)

    def looks(self, *times: float) -> list[tuple[float, float, bool]]:
        """Look at these times after the beginning: when what was told, and whether it is over."""
        told = []
        for at in times:
            self.now = 100.0 + at
            told += [(at, report.seconds, report.is_over) for report in self.watcher.look()]
        return told


@story
async def test_a_step_is_told_from_the_bound_on_at_doubling_intervals_and_at_its_end() -> None:
    scene = Scene()
    scene.begin()
    assert scene.looks(0, 0.9, 1, 1.25, 1.75, 2, 2.25, 3.75, 4.25, 8, 8.5) == [
        (1, 1, False),
        (2, 2, False),
        (4.25, 4.25, False),
        (8.5, 8.5, False),
    ]
    scene.now = 109.0
    scene.end()
    assert scene.looks(9.25, 9.5, 100) == [(9.25, 9, True)]


@story
async def test_steps_within_the_bound_are_not_told() -> None:
    scene = Scene()
    for n in range(4):
        scene.begin()
        assert scene.looks(n + 0.5) == []
        scene.now = 100.999 + n
        scene.end()
        assert scene.looks(n + 0.9995) == []
        scene.now = 101 + n


@story
async def test_many_steps_without_a_pause_between_them_are_not_one() -> None:
    scene = Scene()
    for n in range(10):
        scene.now = 100 + n / 2
        scene.begin()
        assert scene.looks(n / 2) == []
    scene.now = 105.5
    scene.begin()
    assert scene.looks(5.75) == [(5.75, 1, True)]


@story
async def test_one_that_was_over_before_anybody_could_look_is_told_afterwards() -> None:
    scene = Scene()
    scene.begin()
    scene.now = 107.0
    scene.end()
    scene.begin()
    assert scene.watcher.look() == [Blocked(None, scene.task.name, 7.0, "", True)]


@story
async def test_the_next_one_is_told_for_itself() -> None:
    scene = Scene()
    scene.begin()
    assert scene.looks(1) == [(1, 1, False)]
    scene.now = 101.5
    scene.begin()
    assert scene.looks(2, 2.5) == [(2, 1.5, True), (2.5, 1, False)]
    scene.end()
    assert scene.looks(3) == [(3, 1, True)]


@story
async def test_the_end_of_another_one_does_not_begin_the_telling_anew() -> None:
    scene = Scene()
    other = Scene()
    scene.begin()
    assert scene.looks(1) == [(1, 1, False)]
    other.begin()
    assert other.steps.present is not None
    scene.steps.long.append((other.steps.present, 3.0))
    assert scene.looks(1.5, 2) == [(1.5, 3, True), (2, 2, False)]


@story
async def test_the_last_stack_is_told_again_at_the_end() -> None:
    scene = Scene()
    scene.begin()
    scene.now += 2
    name = scene.task.name
    assert scene.watcher.look() == [Blocked(None, name, 2.0, f"stack of {name}", False)]
    scene.end()
    assert scene.watcher.look() == [Blocked(None, name, 2.0, f"stack of {name}", True)]


@story
async def test_a_stack_is_not_told_of_a_step_that_ended_meanwhile() -> None:
    scene = Scene()

    def too_late(task: trio.lowlevel.Task) -> str:
        scene.end()
        return "the stack of another one"

    watcher = Watcher(scene.steps, too_late)
    scene.begin()
    scene.now += 2
    assert watcher.look() == []
    assert watcher.look() == [Blocked(None, scene.task.name, 2.0, "", True)]


@story
async def test_whoever_begins_to_look_in_the_middle_of_a_step_waits_for_the_next() -> None:
    scene = Scene()
    scene.end()
    assert scene.looks(0, 10) == []


class Thing:
    """Something one would not like to be kept."""


@story
async def test_what_has_blocked_is_not_kept() -> None:
    scene = Scene()
    kept: list[Callable[[], Thing | None]] = []

    async def blocking(thing: Thing) -> None:
        kept.append(weakref.ref(thing))
        task = trio.lowlevel.current_task()
        scene.steps.before_task_step(task)
        scene.now += 5
        assert len(scene.watcher.look()) == 1
        scene.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(blocking, Thing())
    assert len(scene.watcher.look()) == 1
    gc.collect()
    assert [one() for one in kept] == [None]


# In real life


class Heard(logging.Handler):
    """What was logged; `second` is set with the second record."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.thread_names: set[str] = set()
        self.second = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.thread_names.add(threading.current_thread().name)
        if len(self.records) >= 2:
            self.second.set()


@contextmanager
def heard_of(name: str) -> Iterator[Heard]:
    heard = Heard()
    heard.setLevel(logging.WARNING)
    logger = logging.getLogger(name)
    logger.addHandler(heard)
    try:
        yield heard
    finally:
        logger.removeHandler(heard)


def the_culprit(until: threading.Event) -> None:
    assert until.wait(SECONDS)


async def hogging(until: threading.Event) -> None:
    await trio.lowlevel.checkpoint()
    the_culprit(until)
    await trio.sleep_forever()


async def hogging_below(until: threading.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(hogging, until), name="nested")


@pytest.mark.parametrize(
    ("start", "who", "task"),
    [
        (hogging, "top/a", "a"),
        (hogging_below, "top/a (in the task 'nested')", "nested"),
    ],
)
def test_a_child_that_blocks_the_loop_is_named(start: Any, who: str, task: str) -> None:
    async def main(heard: Heard) -> None:
        watchdog = Child("watchdog", watch_loop, 0.02)
        async with open_system([watchdog, Child("a", start, heard.second)], name="top"):
            while len(heard.records) < 3:
                await trio.sleep(0.001)

    with heard_of("spry_py.top.a") as heard:
        trio.run(main, heard)
    texts = [record.getMessage() for record in heard.records]
    assert all(text.startswith(f"{who} has been blocking the event loop for") for text in texts[:2])
    assert texts[-1].startswith(f"{who} blocked the event loop for")
    fields = [vars(record) for record in heard.records]
    assert {field["spry.child.path"] for field in fields} == {"top/a"}
    assert {field["spry.task.name"] for field in fields} == {task}
    seconds = [field["spry.loop.blocked"] for field in fields]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0.02
    assert seconds[1] >= 2 * seconds[0]
    functions = [
        line.rpartition(" in ")[2]
        for line in fields[0]["spry.child.stack"].splitlines()
        if line.startswith("  File")
    ]
    assert functions[:2] == ["hogging", "the_culprit"]
    assert fields[0]["spry.child.stack"] in texts[0]
    assert heard.thread_names == {"spry_py watchdog"}


@story_with_threads
async def test_a_task_outside_all_trees_is_named_in_any_nursery() -> None:
    with heard_of("spry_py") as heard, trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_loop, 0.02)
            nursery.start_soon(partial(hogging, heard.second), name="host")
            while len(heard.records) < 3:
                await trio.sleep(0.001)
            scope.cancel()
    assert {record.name for record in heard.records} == {"spry_py"}
    assert heard.records[0].getMessage().startswith("the task 'host' has been blocking")
    assert "spry.child.path" not in vars(heard.records[0])
    assert scope.cancelled_caught


@story_with_threads
async def test_the_end_of_a_block_is_told_though_the_watchdog_ends_with_it() -> None:
    with heard_of("spry_py.top.a") as heard:

        async def leaving() -> None:
            await trio.lowlevel.checkpoint()
            the_culprit(heard.second)
            scope.cancel()

        with trio.CancelScope() as scope:
            children = [Child("watchdog", watch_loop, 0.02), Child("a", leaving)]
            async with open_system(children, name="top"):
                await trio.sleep_forever()
    assert " blocked the event loop" in heard.records[-1].getMessage()


@story_with_threads
async def test_a_loop_that_nobody_blocks_is_not_told_of() -> None:
    with heard_of("spry_py") as heard:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_loop, SECONDS)
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert heard.records == []


def hooks() -> int:
    """How many instruments are on."""
    runner: Any = trio.lowlevel.current_task()._runner
    return len(runner.instruments["_all"])


def test_it_begins_and_ends_again_and_again_and_leaves_nothing() -> None:
    before = threading.active_count()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                await nursery.start(watch_loop, 30.0)
            assert hooks() == 3
            nursery.cancel_scope.cancel()
        assert hooks() == 0
        assert trio.testing.active_thread_count() == 0

    for _ in range(100):
        trio.run(main)
    # trio keeps threads that have nothing to do for a while, and uses them again
    assert threading.active_count() <= before + 3
    assert "spry_py watchdog" not in {one.name for one in threading.enumerate()}


@story_with_threads
async def test_as_a_child_it_is_aborted_at_once() -> None:
    async with open_system([Child("watchdog", watch_loop, 30.0)], name="top") as tree:
        pass
    report = tree.child("watchdog").last_report
    assert report is not None
    assert (type(report.reason).__name__, report.burden) == ("Aborted", "aborted")


@pytest.mark.parametrize(
    ("bound", "kind"),
    [(0, ValueError), (-1, ValueError), (float("inf"), ValueError), ("1", TypeError)],
)
def test_a_bound_that_makes_no_sense_is_refused(bound: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(ChildFailure, match="watch_loop: bound must be") as caught:
            async with open_system([Child("watchdog", watch_loop, bound)]):
                raise AssertionError("not reached")
        assert isinstance(caught.value.__cause__, kind)

    trio.run(main)


@story_with_threads
async def test_an_instrument_that_trio_has_removed_is_no_trouble() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_loop, 30.0)
        runner: Any = trio.lowlevel.current_task()._runner
        (instrument,) = runner.instruments["_all"]
        trio.lowlevel.remove_instrument(instrument)
        nursery.cancel_scope.cancel()


def test_it_needs_no_clock_of_trio() -> None:
    begun = time.perf_counter()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_loop, 30.0)
            await trio.sleep(3600)
            nursery.cancel_scope.cancel()

    with heard_of("spry_py") as heard:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert heard.records == []
    assert time.perf_counter() - begun < 3600


def test_two_runs_in_two_threads_have_a_watchdog_each() -> None:
    async def main(name: str, start: Any, *args: Any) -> None:
        children = [Child("watchdog", watch_loop, 0.02), Child("a", start, *args)]
        async with open_system(children, name=name):
            await trio.to_thread.run_sync(over.wait, SECONDS)

    over = threading.Event()
    with heard_of("spry_py.one") as one, heard_of("spry_py.two") as two:
        other = threading.Thread(target=trio.run, args=(main, "two", trio.sleep_forever))
        other.start()

        async def blocking_once() -> None:
            await trio.lowlevel.checkpoint()
            the_culprit(one.second)
            over.set()
            await trio.sleep_forever()

        trio.run(main, "one", blocking_once)
        other.join(SECONDS)
    assert {record.name for record in one.records} == {"spry_py.one.a"}
    assert "the_culprit" in vars(one.records[0])["spry.child.stack"]
    # on a busy machine the other loop may be late as well, but never because of this one
    assert [record for record in two.records if "the_culprit" in record.getMessage()] == []
