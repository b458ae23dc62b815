"""Threads that do not come back: named with their stacks, never overlapped, never left behind."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
import trio

from blocking import SECONDS, Jump, Puppet, by_hand, until
from programs import running
from spry_py import AlwaysRestart, Child, Normal, current_context, open_system
from spry_py.threads import settling, thread
from stories import Boom, story_with_threads, warnings_of


def sitting(begun: threading.Event, gate: threading.Event) -> str:
    return in_a_call(begun, gate)


def in_a_call(begun: threading.Event, gate: threading.Event) -> str:
    begun.set()
    assert gate.wait(SECONDS)
    return "at last"


@by_hand
async def test_it_is_reported_with_the_stack_of_its_thread(jump: Jump) -> None:
    begun, gate = threading.Event(), threading.Event()
    child = Child("a", thread(sitting, begun, gate), shutdown=4)
    with warnings_of("top") as heard:
        async with open_system([child], name="top") as tree, trio.open_nursery() as nursery:
            await until(begun)
            nursery.start_soon(tree.stop)
            await jump(0)
            for _ in range(12):
                await jump(1)
            assert tree.child("a").status == "stopping"
            gate.set()
    assert [(at, name) for at, name, _ in heard] == [
        (4, "spry_py.top.a"),
        (5, "spry_py.top.a"),
        (7, "spry_py.top.a"),
        (11, "spry_py.top.a"),
    ]
    lines = [line.strip() for line in heard[1][2].partition("in its thread")[2].splitlines()]
    assert lines[0] == "'top/a':"
    assert [line.rpartition(" ")[2] for line in lines if line.startswith("File")][:2] == [
        "sitting",
        "in_a_call",
    ]
    report = tree.child("a").last_report
    assert report is not None
    assert (report.reason, report.burden) == (Normal("at last"), "aborted")


@story_with_threads
async def test_its_stack_can_be_asked_for_at_any_time() -> None:
    begun, gate = threading.Event(), threading.Event()
    child = Child("a", thread(sitting, begun, gate), restart="temporary")
    async with open_system([child], name="top") as tree:
        await until(begun)
        stack = tree.child("a").stack()
        gate.set()
    lines = [line.strip() for line in stack.partition("in its thread")[2].splitlines()]
    assert lines[0] == "'top/a':"
    assert [line.rpartition(" ")[2] for line in lines if line.startswith("File")][:2] == [
        "sitting",
        "in_a_call",
    ]


@by_hand
async def test_the_next_one_waits_until_it_has_come_back(jump: Jump) -> None:
    puppet = Puppet()
    child = Child("a", thread(puppet), run_timeout=5)
    with warnings_of("top") as heard:
        async with open_system([child], name="top") as tree:
            await puppet.do(current_context)
            await jump(5)
            for _ in range(10):
                await jump(1)
            handle = tree.child("a")
            assert (handle.incarnation, handle.restarts, puppet.runs) == (1, 0, 1)
            assert await puppet.do(lambda: settling().is_set()) is True
            puppet.finish()
            while handle.incarnation == 1 or handle.status != "running":
                await trio.lowlevel.checkpoint()
            assert await puppet.do(lambda: current_context().incarnation) == 2
            puppet.finish()
    assert [at for at, _, text in heard if "in its thread" in text] == [6, 8, 12]


def open_files() -> int:
    """How many file descriptors this process has, where that can be told."""
    told = Path("/proc/self/fd")
    return len(list(told.iterdir())) if told.exists() else 0


@pytest.mark.slow
@story_with_threads
async def test_a_thousand_restarts_leave_nothing_behind() -> None:
    runs = 0
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def crashing() -> None:
        nonlocal runs
        runs += 1
        if runs == 1000:
            token.run_sync_soon(done.set)
            settling().wait(SECONDS)
        raise Boom

    before = threading.active_count()
    files = open_files()
    async with open_system([Child("a", thread(crashing))], breaker=AlwaysRestart) as tree:
        await done.wait()
        assert tree.child("a").incarnation == 1000
    # trio keeps a thread that has nothing to do for a while, and would use it again
    assert threading.active_count() <= before + 1
    assert [one.name for one in threading.enumerate() if "/a" in one.name] == []
    assert trio.testing.active_thread_count() == 0
    assert open_files() == files


PROGRAM = """
import time
import trio
from spry_py import Child, run
from spry_py.threads import settling, thread

def serve():
    print("serving", flush=True)
    while not settling().wait(0.05):
        pass
    print("closing", flush=True)

def deaf():
    print("working", flush=True)
    settling().wait()
    print("asked", flush=True)
    try:
        while True:
            trio.from_thread.check_cancelled()
    finally:
        print("aborted", flush=True)
        time.sleep(600)

run([Child("a", thread({0}), shutdown=60)], name="top")
"""


def test_a_signal_ends_a_program_with_threads_in_order(tmp_path: Path) -> None:
    with running(["-c", PROGRAM.format("serve")], tmp_path) as program:
        program.until("serving")
        program.send(signal.SIGTERM)
        assert program.end() == 0
    assert program.lines[-1] == "closing"


def test_the_last_signal_tells_where_the_thread_stands_and_leaves(tmp_path: Path) -> None:
    with running(["-c", PROGRAM.format("deaf")], tmp_path) as program:
        for words in ("working", "asked", "aborted"):
            program.until(words)
            program.send(signal.SIGINT)
        assert program.end() != 0
    assert program.index("in its thread 'top/a'") < program.index("in deaf")


@pytest.mark.parametrize("shutdown", [0, 5])
def test_nothing_runs_on_after_the_program_has_ended(shutdown: float) -> None:
    ended = threading.Event()

    def slow() -> None:
        settling().wait(SECONDS)
        ended.set()

    async def main() -> None:
        async with open_system([Child("a", thread(slow), shutdown=shutdown)]):
            pass
        assert ended.is_set()

    trio.run(main)
