"""What a blocking function can do while it runs as a child."""

from __future__ import annotations

import threading
import time

import pytest
import trio

from blocking import SECONDS, Jump, Puppet, by_hand, until, until_asked
from spry_py import Child, Failed, Unresponsive, current_context, open_system
from spry_py.threads import settling, thread
from stories import Boom, story_with_threads


@story_with_threads
async def test_fail_from_inside() -> None:
    error = Boom("of its own")

    def failing() -> None:
        current_context().fail(error)
        until_asked()

    async with open_system([Child("a", thread(failing), restart="temporary")]) as tree:
        report = await tree.child("a").wait()
    assert report.reason == Failed(error)


@by_hand
async def test_heartbeats_from_inside(jump: Jump) -> None:
    puppet = Puppet()
    child = Child("a", thread(puppet), heartbeat=2, restart="temporary")
    async with open_system([child], name="top") as tree:
        handle = tree.child("a")
        await jump(10)
        for _ in range(3):
            await puppet.do(lambda: current_context().heartbeat())
            await jump(1.5)
            assert await puppet.do(lambda: settling().is_set()) is False
        await jump(0.5)
        assert await puppet.do(lambda: settling().is_set()) is True
        puppet.finish()
        report = await handle.wait()
    assert isinstance(report.exception, Unresponsive)


@story_with_threads
async def test_many_heartbeats_are_heard_once() -> None:
    heard = 0

    def beating() -> None:
        for _ in range(10_000):
            current_context().heartbeat()
        until_asked()

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal heard
            heard += "EntryQueue" in task.name

    counting = Counting()
    trio.lowlevel.add_instrument(counting)
    async with open_system([Child("a", thread(beating), heartbeat=60)]):
        pass
    trio.lowlevel.remove_instrument(counting)
    assert heard < 10_000


@by_hand
async def test_trio_can_be_called_from_inside(jump: Jump) -> None:
    puppet = Puppet()

    async def answer() -> str:
        await trio.lowlevel.checkpoint()
        return f"{current_context().path} {settling().is_set()}"

    async with open_system([Child("a", thread(puppet))], name="top"):
        assert await puppet.do(lambda: trio.from_thread.run(answer)) == "top/a False"
        assert await puppet.do(lambda: trio.from_thread.run_sync(trio.current_time)) == 0
        puppet.finish(until_asked)


@pytest.mark.parametrize("shutdown", [0, 0.01])
def test_an_abort_ends_what_it_does_in_trio(shutdown: float) -> None:
    waiting = threading.Event()
    ends = []

    async def main() -> None:
        async def parked() -> None:
            waiting.set()
            await trio.sleep_forever()

        def blocked() -> None:
            try:
                trio.from_thread.run(parked)
            finally:
                ends.append(settling().is_set())

        async with open_system([Child("a", thread(blocked), shutdown=shutdown)]) as tree:
            await until(waiting)
        report = tree.child("a").last_report
        assert report is not None
        assert (type(report.reason).__name__, report.burden) == ("Aborted", "aborted")

    trio.run(main)
    assert ends == [True]


@story_with_threads
async def test_it_can_ask_whether_it_was_aborted() -> None:
    def polling() -> None:
        until_asked()
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            trio.from_thread.check_cancelled()

    async with open_system([Child("a", thread(polling), shutdown=0)]) as tree:
        pass
    report = tree.child("a").last_report
    assert report is not None
    assert (type(report.reason).__name__, report.burden) == ("Aborted", "aborted")


def test_settling_is_for_threads_of_children() -> None:
    with pytest.raises(RuntimeError, match="outside a thread child"):
        settling()


@story_with_threads
async def test_it_is_a_child_and_nothing_else() -> None:
    with pytest.raises(RuntimeError, match="outside a supervision tree"):
        await thread(until_asked)()


@story_with_threads
async def test_children_leave_the_threads_of_others_alone() -> None:
    limiter = trio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = 1
    children = [Child(f"a{n}", thread(until_asked)) for n in range(5)]
    async with open_system(children):
        assert limiter.borrowed_tokens == 0
        assert await trio.to_thread.run_sync(lambda: 7) == 7
