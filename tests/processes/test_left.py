"""Nothing is left behind: no process, zombie, descriptor, thread or task, whoever dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import remote
from living import FOREVER, Holdings, gone, is_alive, is_running
from logged import kept
from programs import SECONDS, environment, running
from spry_py import AlwaysRestart, Child, SystemSupervisor, open_system
from spry_py.processes import Command, Process, command, line, notify, process
from spry_py.processes.birth import Birth
from stories import story_with_threads

ROUNDS = 60


@pytest.mark.parametrize("start", [command("true"), command("sh", "-c", "kill -KILL $$")])
@story_with_threads
async def test_many_restarts_leave_nothing(start: Command[Any]) -> None:
    before = Holdings()
    keys = "abcd"
    children = [Child(key, start) for key in keys]
    tree = SystemSupervisor(children, strategy="one_for_one", breaker=AlwaysRestart())
    async with open_system(tree) as top:
        while sum(top.child(key).restarts for key in keys) < ROUNDS:
            await trio.sleep(0.01)
    assert Holdings() == before


@story_with_threads
async def test_many_failed_starts_leave_nothing() -> None:
    before = Holdings()
    for start in (
        command("no-such-program", ready=notify()),
        command("true", cwd="/nowhere"),
        command("false", ready=line("up")),
        process(remote.refuse),
    ):
        for _ in range(3):
            with pytest.raises(Exception, match="failed to start"):
                async with open_system([Child("it", start)]):
                    pass
    assert Holdings() == before


@story_with_threads
async def test_one_child_that_runs_many_stands_in_the_last_alone() -> None:
    async def runs(*, task_status: trio.TaskStatus[Process[None]]) -> None:
        for _ in range(3):
            await command("true")()
        for way in ("no-such-program", "/"):
            with suppress(OSError):
                await command(way)()
        await command("sleep", str(FOREVER))(task_status=task_status)

    async with open_system([Child("it", runs)]) as top:
        stack = top.child("it").stack()
    assert stack.count("has not ended") == 1
    assert "process 'sleep'" in stack


@pytest.mark.parametrize("ending", ["exit 0", "exit 1", "kill -KILL $$", "wait"])
@story_with_threads
async def test_grandchildren_die_with_the_process_however_it_ends(
    ending: str, tmp_path: Path
) -> None:
    script = f"sleep {FOREVER} & echo $! > pid; echo up; {ending}"
    start = command("sh", "-c", script, ready=line("up"), cwd=tmp_path)
    async with open_system([Child("it", start, shutdown=0, restart="temporary")]) as top:
        if ending != "wait":
            await top.child("it").wait()
    assert not is_running(int((tmp_path / "pid").read_text()))


TREE = """
import os, sys, threading
import trio
sys.path.insert(0, {tests!r})
import remote
from spry_py import Child, run
from spry_py.processes import Command, Process, command, line, process

async def system(scope):
    one = await scope.start(Child("one", command("sleep", "600")))
    deaf = await scope.start(Child("deaf", process(remote.deaf)))
    print("up", one.pid, deaf.pid)

if __name__ == "__main__":
    {run}
"""
BESIDE = "thread = threading.Thread(target=run, args=(system,)); thread.start(); thread.join()"


@pytest.mark.parametrize("how", ["run(system)", BESIDE], ids=["main thread", "another thread"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT], ids=lambda n: n.name)
def test_when_the_parent_dies_its_processes_die(
    number: signal.Signals, how: str, tmp_path: Path
) -> None:
    file = tmp_path / "tree.py"
    file.write_text(TREE.format(tests=str(Path(__file__).parents[1] / "kit"), run=how))
    with running([str(file)], tmp_path) as program:
        pids = [int(word) for word in program.until("up").split()[1:]]
        assert all(map(is_running, pids))
        program.send(number)
        program.end()
        trio.run(gone, *pids)


INHERITS = """
import ctypes, os, subprocess, sys
from pathlib import Path
import trio
sys.path.insert(0, {tests!r})
from living import children_of, state_of
from spry_py import AlwaysRestart, Child, DynamicSupervisor, open_system
from spry_py.processes import command

SCRIPT = "{script}"
if os.getpid() != 1:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER

def zombies():
    return [pid for pid in children_of(os.getpid()) if state_of(pid) == "Z"]

async def while_it_runs():
    # only a first process looks for them meanwhile
    while os.getpid() == 1 and not zombies():
        await trio.sleep(0.01)
    while os.getpid() == 1 and zombies() != others:
        await trio.sleep(0.01)

async def main():
    global others
    own = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
    others = [own.pid]
    async with open_system(DynamicSupervisor(breaker=AlwaysRestart)) as pool:
        it = await pool.start_child(Child("it", command("sh", "-c", SCRIPT)))
        while it.restarts < 3:
            await trio.sleep(0.01)
        await pool.terminate_child("it")
        await pool.start_child(Child("long", command("sh", "-c", "(true & true) & exec sleep 600")))
        await while_it_runs()
    print("others:", zombies() == others, own.wait())

trio.run(main)
"""


@pytest.mark.parametrize(
    ("by", "script"),
    [
        ("a reaper", "sleep 600 & sleep 600 & exit 1"),
        ("a reaper", "(sleep 0 & sleep 600) & exit"),
        ("the first process", "sleep 600 & sleep 600 & exit 1"),
        ("the first process", "(sleep 0 & sleep 600) & exit"),
        # of another group, so that it outlives what has started it
        ("the first process", "set -m; sleep 0.1 & exit 1"),
    ],
)
def test_what_is_left_to_this_process_is_reaped_and_nothing_else(
    by: str, script: str, tmp_path: Path
) -> None:
    file = tmp_path / "first.py"
    file.write_text(INHERITS.format(tests=str(Path(__file__).parents[1] / "kit"), script=script))
    words = [sys.executable, str(file)]
    if by == "the first process":
        words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *words]
        if subprocess.run([*words[:5], "true"], check=False, capture_output=True).returncode:
            pytest.skip("only root may be the first process of something")
    done = subprocess.run(
        words, env=environment(), capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert (done.stdout, done.returncode) == ("others: True 7\n", 0), done.stderr


@story_with_threads
async def test_a_parent_that_died_before_the_program_began_is_noticed(tmp_path: Path) -> None:
    # whoever is started with another parent in mind finds that this one is gone
    mark = tmp_path / "mark"

    def stranger() -> int:
        return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", stranger)
        async with open_system([Child("it", command("touch", mark), restart="temporary")]) as top:
            report = await top.child("it").wait()
    assert report.failed
    assert not mark.exists()


@pytest.mark.parametrize("has_waitid", [True, False])
@story_with_threads
async def test_without_pidfd_it_is_looked_for(
    has_waitid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError("an old kernel")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    if not has_waitid:
        monkeypatch.delattr(os, "waitid")
    before = Holdings()
    children = [
        Child("ends", command("false"), recoverable=lambda _: False, on_unrecoverable="discard"),
        Child("asked", command("sleep", "600"), shutdown=30),
        Child("killed", command("sleep", "600"), shutdown=0),
    ]
    async with open_system(children) as top:
        failure = (await top.child("ends").wait()).exception
        pids = [top.child(key).value.pid for key in ("asked", "killed")]
    assert "exit status 1" in str(failure)
    burdens = [info.last_report.burden for info in top.which_children() if info.last_report]
    assert burdens == ["none", "settling", "aborted"]
    assert not any(map(is_alive, pids))
    assert Holdings() == before


@story_with_threads
async def test_one_that_even_sigkill_does_not_end_at_once_is_told_as_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as one that waits for a disk that does not answer
    def late(birth: Birth) -> None:
        pass

    with kept(logging.WARNING) as book:
        async with open_system([Child("it", command("sleep", "600"), shutdown=0)]) as top:
            pid = top.child("it").value.pid
            monkeypatch.setattr(Birth, "kill_group", late)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(top.stop)
                await trio.sleep(1.3)
                os.kill(pid, signal.SIGKILL)
    assert f"process 'sleep' (pid {pid}) has not ended" in book.records[0].getMessage()
    assert not is_alive(pid)


@pytest.mark.parametrize(
    "start",
    [
        command("sh", "-c", "trap '' TERM; echo up; sleep 600", ready=line("up")),
        command("sleep", "600", ready=notify()),
        command("sleep", "600"),
        process(remote.deaf),
    ],
    ids=["line", "notify", "at once", "function"],
)
@story_with_threads
async def test_cancelled_at_any_moment_it_leaves_nothing(start: Any) -> None:
    before = Holdings()
    for moment in range(16):
        with trio.move_on_after(moment * 0.005):
            async with open_system([Child("it", start, shutdown=0.01)]):
                await trio.sleep_forever()
        assert Holdings() == before
