"""Commands as children: how they end, and how they are asked to."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
import trio.testing

from living import FOREVER, gone, is_alive, state_of
from logged import kept
from spry_py import (
    Aborted,
    AlwaysRestart,
    Child,
    ChildFailure,
    DynamicSupervisor,
    Failed,
    Normal,
    RateLimited,
    RunTimeout,
    StartTimeout,
    TerminationReport,
    TooManyRestarts,
    open_system,
)
from spry_py.processes import Command, Process, ProcessFailed, command, line, notify, port, process
from stories import story_with_threads

WAIT = f"sleep {FOREVER} & wait"


def shell(script: str, **options: Any) -> Command[Any]:
    return command("sh", "-c", script, **options)


def up_and(script: str, **options: Any) -> Command[Any]:
    """A script that says when it is up, and is started only then."""
    return shell(f"echo up; {script}", ready=line("^up$"), **options)


async def end_of(start: Command[Any], **options: Any) -> TerminationReport:
    """Let it end by itself."""
    async with open_system(DynamicSupervisor()) as top:
        child = await top.start_child(Child("it", start, restart="temporary", **options))
        return await child.wait()


async def stopped(start: Command[Any], **options: Any) -> tuple[object, str, bool]:
    """Stop it; how it ended, and whether its process is there still."""
    async with open_system([Child("it", start, **options)]) as top:
        pid = top.child("it").value.pid
    report = top.child("it").last_report
    assert report is not None
    return report.reason, report.burden, is_alive(pid)


# By itself


@story_with_threads
async def test_exit_status_zero_is_a_normal_end() -> None:
    report = await end_of(shell("exit 0"))
    assert (report.reason, report.burden) == (Normal(0), "none")


@pytest.mark.parametrize(
    ("script", "code", "name"),
    [
        ("exit 1", 1, None),
        ("exit 143", 143, None),
        ("kill -KILL $$", -9, "SIGKILL"),
        ("kill -TERM $$", -15, "SIGTERM"),
        ("kill -HUP $$", -1, "SIGHUP"),
    ],
)
@story_with_threads
async def test_any_other_is_a_failure_that_names_it(
    script: str, code: int, name: str | None
) -> None:
    failure = (await end_of(shell(script))).exception
    assert isinstance(failure, ProcessFailed)
    assert (failure.returncode, failure.signal, failure.argv) == (code, name, ("sh", "-c", script))
    assert not is_alive(failure.pid)


@story_with_threads
async def test_the_failure_shows_the_last_lines_of_stderr() -> None:
    failure = (await end_of(shell("for n in $(seq 30); do echo $n >&2; done; exit 3"))).exception
    assert isinstance(failure, ProcessFailed)
    assert failure.stderr == tuple(str(n) for n in range(11, 31))
    first, *rest = str(failure).splitlines()
    assert first == f"process 'sh' (pid {failure.pid}) ended with exit status 3; last on stderr: 30"
    assert rest == [f"  stderr: {n}" for n in range(11, 31)]


def test_a_failure_tells_a_signal_without_a_name() -> None:
    failure = ProcessFailed(("it",), 7, -40)
    assert str(failure) == "process 'it' (pid 7) ended with signal 40"


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


UNKNOWN = "exit status unknown (SIGCHLD is ignored, or other code reaped it)"


@pytest.mark.parametrize("has_pidfd", [True, False])
@pytest.mark.parametrize("script", ["exit 3", "exit 0", "kill -KILL $$"])
@story_with_threads
async def test_a_lost_status_is_no_success(
    script: str, has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    with kept(logging.WARNING) as book, ignored(signal.SIGCHLD):
        failure = (await end_of(shell(script))).exception
    assert isinstance(failure, ProcessFailed)
    assert (failure.returncode, failure.signal) == (None, None)
    assert str(failure) == f"process 'sh' (pid {failure.pid}) ended with {UNKNOWN}"
    warnings = [r.getMessage() for r in book.records if r.levelname == "WARNING"]
    assert warnings == [f"system/it: ended with {UNKNOWN}"]


@pytest.mark.parametrize("way", ["pidfd", "waitid", "poll"])
@story_with_threads
async def test_so_is_one_that_somebody_else_has_reaped(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "pidfd":
        monkeypatch.delattr(os, "pidfd_open")
    if way == "poll":
        monkeypatch.delattr(os, "waitid")

    def reap(record: logging.LogRecord) -> bool:
        # in the very moment in which it is known to run, so that nobody is faster
        if record.getMessage().endswith("bye"):
            with suppress(ChildProcessError):
                reaped.append(os.waitpid(vars(record)["process.pid"], 0))
        return True

    reaped: list[tuple[int, int]] = []
    report: Any = None
    with kept() as book:
        book.addFilter(reap)
        for _ in range(50):
            report = await end_of(shell("echo bye"))
            if reaped:  # else this program has been faster, that once
                break
    assert reaped
    assert codes(report.exception) is None


@story_with_threads
async def test_nor_is_it_known_that_one_has_ended_as_it_was_asked_to() -> None:
    with ignored(signal.SIGCHLD):
        reason, burden, alive = await stopped(up_and(WAIT), shutdown=30)
    assert isinstance(reason, Failed)
    assert (codes(reason.exception), burden, alive) == (None, "settling", False)


@story_with_threads
async def test_the_started_value_names_the_process() -> None:
    async with open_system([Child("it", command("sleep", "600"))]) as top:
        child = top.child("it")
        assert child.kind == "process"
        assert child.value == Process(child.value.pid, ("sleep", "600"))
        program = os.readlink(f"/proc/{child.value.pid}/exe")
    assert "sleep" in program or "busybox" in program or "coreutils" in program


# Exit codes, as taskvisor has them


@story_with_threads
async def test_the_exit_code_is_in_every_report() -> None:
    reports: list[TerminationReport] = []

    async def note(report: TerminationReport) -> None:
        reports.append(report)

    child = Child("it", shell("exit 7"), on_termination=note)
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([child], breaker=RateLimited(2, 60.0)):
            await trio.sleep_forever()
    assert [codes(report.exception) for report in reports] == [7, 7, 7]
    assert codes(caught.value.root_cause) == 7


@story_with_threads
async def test_one_exit_code_may_be_final() -> None:
    child = Child(
        "it",
        shell("echo broken >&2; exit 7"),
        restart="transient",
        recoverable=lambda failure: codes(failure) != 7,
        on_unrecoverable="discard",
    )
    async with open_system([child]) as top:
        report = await top.child("it").wait()
        assert (top.child("it").restarts, top.child("it").status) == (0, "done")
    assert codes(report.exception) == 7
    assert "broken" in str(report.exception)


@pytest.mark.parametrize("budget", [1, 3])
@story_with_threads
async def test_a_budget_of_restarts_and_the_code_at_its_end(budget: int) -> None:
    child = Child("it", shell("exit 42"), restart="transient")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([child], breaker=RateLimited(budget, 60.0)):
            await trio.sleep_forever()
    assert (caught.value.restarts, codes(caught.value.root_cause)) == (budget, 42)


def codes(failure: BaseException | None) -> int | None:
    assert isinstance(failure, ProcessFailed)
    return failure.returncode


# Asked to finish


@pytest.mark.parametrize(
    ("script", "value"),
    [
        (f"trap 'exit 0' TERM; echo up; {WAIT}", 0),
        (f"trap 'exit 143' TERM; echo up; {WAIT}", 143),
        (f"echo up; {WAIT}", -signal.SIGTERM),
    ],
    ids=["handles it", "says so", "just dies"],
)
@story_with_threads
async def test_sigterm_asks_it_to_finish(script: str, value: int) -> None:
    told = await stopped(shell(script, ready=line("^up$")), shutdown=30)
    assert told == (Normal(value), "settling", False)


@story_with_threads
async def test_one_that_finishes_badly_has_failed_while_settling() -> None:
    script = f"trap 'exit 5' TERM; echo up; {WAIT}"
    reason, burden, alive = await stopped(shell(script, ready=line("^up$")), shutdown=30)
    assert isinstance(reason, Failed)
    assert (codes(reason.exception), burden, alive) == (5, "settling", False)


@story_with_threads
async def test_one_that_ignores_sigterm_is_killed_when_its_time_is_over() -> None:
    script = f"trap '' TERM; echo up; {WAIT}"
    told = await stopped(shell(script, ready=line("^up$")), shutdown=0.1)
    assert told == (Aborted(), "aborted", False)


@story_with_threads
async def test_one_that_is_stopped_is_killed_as_well() -> None:
    async with open_system([Child("it", up_and(WAIT), shutdown=0.1)]) as top:
        pid = top.child("it").value.pid
        os.kill(pid, signal.SIGSTOP)
        while state_of(pid) != "T":
            await trio.sleep(0.01)
    report = top.child("it").last_report
    assert report is not None
    assert (report.reason, report.burden, is_alive(pid)) == (Aborted(), "aborted", False)


@story_with_threads
async def test_another_signal_may_ask_it_to_finish() -> None:
    interrupted = {"stop_signal": signal.SIGINT, "ready": line("^up$")}
    for script, value in (
        (f"trap 'exit 0' INT; echo up; {WAIT}", 0),
        (f"trap 'exit 130' INT; echo up; {WAIT}", 130),
        (f"echo up; {WAIT}", -signal.SIGINT),
    ):
        told = await stopped(shell(script, **interrupted), shutdown=30)
        assert told == (Normal(value), "settling", False)
    reason, _, _ = await stopped(shell(f"trap 'exit 143' INT; echo up; {WAIT}", **interrupted))
    assert isinstance(reason, Failed)
    assert codes(reason.exception) == 143


SERVER = """
import signal, sys, time
def finish(*_):
    time.sleep(0.3)
    open("done", "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, finish)
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("script", ['"$@"; true', '"$@" & wait', '("$@" & wait) & wait'])
@pytest.mark.parametrize("asks_group", [True, False])
@story_with_threads
async def test_a_server_behind_a_shell_is_asked_as_well_and_waited_for(
    script: str, asks_group: bool, tmp_path: Path
) -> None:
    server = (sys.executable, "-I", "-S", "-c", SERVER)
    start = command(
        *("sh", "-c", script, "sh", *server),
        cwd=tmp_path,
        ready=line("^up$"),
        stop_group=asks_group,
    )
    told = await stopped(start, shutdown=60)
    assert told == (Normal(-signal.SIGTERM), "settling", False)
    assert (tmp_path / "done").exists() == asks_group


@story_with_threads
async def test_a_group_that_does_not_end_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo $$ > pid; echo up; while :; do sleep 1; done"
    start = shell('sh -c "$0"; true', cwd=tmp_path, ready=line("^up$"), stop_group=True)
    start = dataclasses.replace(start, argv=("sh", "-c", 'sh -c "$0"; true', deaf))
    told = await stopped(start, shutdown=0.3)
    assert told == (Aborted(), "aborted", False)
    await gone(int((tmp_path / "pid").read_text()))


@story_with_threads
async def test_without_time_to_finish_it_is_killed_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "asked"
    script = f"trap 'touch {mark}' TERM; echo up; {WAIT}"
    told = await stopped(shell(script, ready=line("^up$")), shutdown=0)
    assert told == (Aborted(), "aborted", False)
    assert not mark.exists()


@story_with_threads
async def test_sigterm_from_somebody_else_is_a_failure() -> None:
    async with open_system(DynamicSupervisor()) as top:
        child = await top.start_child(Child("it", up_and(WAIT), restart="temporary"))
        os.kill(child.value.pid, signal.SIGTERM)
        report = await child.wait()
    assert (codes(report.exception), report.burden) == (-signal.SIGTERM, "none")


@story_with_threads
async def test_its_run_timeout_kills_it() -> None:
    report = await end_of(command("sleep", "600"), run_timeout=0.1)
    assert isinstance(report.exception, RunTimeout)


@story_with_threads
async def test_old_and_new_never_overlap(tmp_path: Path) -> None:
    # what it leaves behind holds the lock as well
    script = f"exec 9>lock; flock -n 9 || exit 9; sleep {FOREVER} & echo up; exit 1"
    it = Child("it", shell(script, cwd=tmp_path, ready=line("up")))
    async with open_system([it], breaker=AlwaysRestart()) as top:
        with trio.fail_after(10):
            while top.child("it").incarnation < 10:
                await trio.sleep(0.01)
                report = top.child("it").last_report
                assert report is None or codes(report.exception) == 1


# Its start


async def refused(start: Command[Any], **options: Any) -> BaseException | None:
    """Why it could not be started."""
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("it", start, **options)]):
            raise AssertionError("it has started")
    return caught.value.__cause__


@story_with_threads
async def test_what_cannot_be_run_is_a_failed_start(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    for start, kind, name in (
        (command("no-such-program"), FileNotFoundError, "no-such-program"),
        (command(text), PermissionError, str(text)),
        (command("true", cwd=tmp_path / "nowhere"), FileNotFoundError, str(tmp_path / "nowhere")),
    ):
        cause = await refused(start)
        assert isinstance(cause, OSError)
        assert (type(cause), str(cause.filename)) == (kind, name)


@story_with_threads
async def test_one_that_ends_before_it_is_ready_has_failed_its_start() -> None:
    for ready in (line("up"), notify(), port("127.0.0.1", 1)):
        cause = await refused(shell("echo bad luck >&2; exit 0", ready=ready))
        assert isinstance(cause, ProcessFailed)
        assert "ended with exit status 0 before it was ready" in str(cause)
        assert cause.stderr == ("bad luck",)
        failed = await refused(shell("exit 4", ready=ready))
        assert codes(failed) == 4


@story_with_threads
async def test_a_start_that_takes_too_long_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    start = shell(f"echo $$ > {pids}; {WAIT}", ready=line("never"))
    cause = await refused(start, start_timeout=0.3)
    assert isinstance(cause, StartTimeout)
    assert not is_alive(int(pids.read_text()))


@story_with_threads
async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    start = shell(f"trap '' TERM; echo $$ > {pids}; {WAIT}", ready=line("never"))
    with trio.move_on_after(10) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, pids, scope)
            async with open_system([Child("it", start, shutdown=0.1)]):
                raise AssertionError("it has started")
    assert not is_alive(int(pids.read_text()))


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def cancel_when(file: Path, scope: trio.CancelScope) -> None:
    while not read(file):
        await trio.sleep(0.01)
    scope.cancel()


@story_with_threads
async def test_environment_directory_and_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = "{ pwd; echo $A; echo ${HOME-none}; cat; } > out"
    await end_of(shell(script, cwd=tmp_path, env={"A": "1", "PATH": os.environ["PATH"]}))
    assert out.read_text().split() == [str(tmp_path), "1", "none"]
    await end_of(shell(f"cat > {out}", stdin=b"given\n"))
    assert out.read_text() == "given\n"


# The C library keeps a few signals for itself: whatever is started by its posix_spawn ignores them,
# pytest's workers since Python 3.13, and only the C library of the new program can change that.
OURS_TO_SET = sum(1 << number - 1 for number in signal.valid_signals())


def masks(status: str) -> dict[str, int]:
    """Which signals a program has blocked, ignored and caught, as Linux shows them."""
    fields = dict(text.split(":\t") for text in status.splitlines())
    return {name: int(fields[name], 16) & OURS_TO_SET for name in ("SigBlk", "SigIgn", "SigCgt")}


HOSTILE = {signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN}


@contextmanager
def hostile() -> Iterator[None]:
    """Signals blocked, and others ignored, as what started this program may have left them."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HOSTILE)
    try:
        with ignored(signal.SIGHUP), ignored(signal.SIGINT), ignored(signal.SIGPIPE):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.mark.parametrize("around", [nullcontext, hostile])
@story_with_threads
async def test_it_begins_with_the_signals_of_a_fresh_login(
    around: Callable[[], AbstractContextManager[None]],
) -> None:
    # no shell: it changes some of them itself
    with around(), kept() as book:
        await end_of(command("cat", "/proc/self/status"))
    told = [record.getMessage().removeprefix("system/it: ") for record in book.records]
    status = "\n".join(line for line in told if line.startswith("Sig"))
    assert masks(status) == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


@pytest.mark.parametrize("mean", [hostile, lambda: ignored(signal.SIGTERM)])
@story_with_threads
async def test_it_hears_what_asks_it_though_this_program_does_not(
    mean: Callable[[], AbstractContextManager[None]],
) -> None:
    with mean():
        told = await stopped(up_and(WAIT), shutdown=60)
        assert told == (Normal(-signal.SIGTERM), "settling", False)
        async with open_system(DynamicSupervisor()) as top, trio.open_nursery() as nursery:
            # asked before its program has begun
            child = Child("it", command("sleep", "600"), shutdown=60, restart="temporary")
            nursery.start_soon(top.start_child, child)
            await trio.testing.wait_all_tasks_blocked()
            handle = top.child("it")
            await handle.terminate()
    report = handle.last_report
    assert report is None or report.reason == Normal(-signal.SIGTERM)


@story_with_threads
async def test_it_gets_the_locale_as_this_program_has_it(tmp_path: Path) -> None:
    # Python changes it for itself
    out = tmp_path / "out"
    script = f"echo ${{LC_CTYPE-none}} >> {out}"
    await end_of(shell(script, env={"PATH": os.environ["PATH"]}))
    await end_of(shell(script, env={"PATH": os.environ["PATH"], "LC_CTYPE": "C"}))
    assert out.read_text().split() == ["none", "C"]


@story_with_threads
async def test_what_the_system_refuses_names_the_program() -> None:
    for start in (
        command("true", "x" * 200_000),
        command("true", env={"A": "x" * 200_000, "PATH": os.environ["PATH"]}),
    ):
        cause = await refused(start)
        assert isinstance(cause, OSError)
        assert (cause.errno, cause.filename) == (errno.E2BIG, "true")
        assert "Argument list too long: cannot run this program: 'true'" in str(cause)


@pytest.mark.parametrize(
    "start", [command("true"), process(len, b"")], ids=["true", "builtins.len"]
)
@story_with_threads
async def test_without_descriptors_left_it_names_it_too(
    start: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def no_more() -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for place, name in ((os, "pipe"), (socket, "socketpair")):
        monkeypatch.setattr(place, name, no_more)
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("it", start)]):
            raise AssertionError("it has started")
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert (cause.errno, cause.filename) == (errno.EMFILE, request.node.callspec.id)


@story_with_threads
async def test_outside_a_tree_it_is_refused() -> None:
    with pytest.raises(RuntimeError, match="outside a supervision tree"):
        await command("true")(task_status=trio.TASK_STATUS_IGNORED)


@story_with_threads
async def test_a_command_may_be_a_task() -> None:
    async with open_system(DynamicSupervisor()) as pool:
        assert await pool.run(command("true")) == 0
        with pytest.raises(ProcessFailed, match="exit status 1"):
            await pool.run(command("false"))
        with trio.move_on_after(0.2):
            await pool.run(command("sleep", "600"))
            raise AssertionError("it has ended")
        assert pool.which_children() == []
