"""Python functions in processes of their own: values, exceptions, readiness, traces."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zipapp
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import remote
import spry_py
from living import children_of, gone, is_alive
from programs import finished
from remote import Torn
from spans import recording
from spry_py import (
    Aborted,
    Child,
    ChildFailure,
    DynamicSupervisor,
    Normal,
    StartTimeout,
    TerminationReport,
    TooManyRestarts,
    Unresponsive,
    open_system,
)
from spry_py.processes import Function, Process, ProcessFailed, RemoteFailure, process
from spry_py.processes.order import PROGRAM
from stories import story_with_threads


async def end_of(start: Function, **options: Any) -> TerminationReport:
    """Let it end by itself."""
    async with open_system(DynamicSupervisor()) as top:
        child = await top.start_child(Child("it", start, restart="temporary", **options))
        return await child.wait()


def notes_of(exception: BaseException) -> str:
    return "\n".join(exception.__notes__)


@story_with_threads
async def test_its_value_is_what_it_returns() -> None:
    report = await end_of(process(remote.add, 3, 4))
    assert (report.reason, report.burden) == (Normal(7), "none")


@story_with_threads
async def test_large_arguments_and_values_go_through() -> None:
    size = 3_000_000
    assert (await end_of(process(len, b"y" * size))).reason == Normal(size)
    assert (await end_of(process(remote.give_much, size))).reason == Normal(b"x" * size)


@story_with_threads
async def test_its_exception_comes_back_with_type_arguments_and_traceback() -> None:
    exception = (await end_of(process(remote.tear, "coat", 3))).exception
    assert isinstance(exception, Torn)
    assert (exception.cloth, exception.where) == ("coat", 3)
    notes = notes_of(exception)
    assert "in tear" in notes
    assert "raise Torn(cloth, where)" in notes
    assert "_processes_call" not in notes


@story_with_threads
async def test_it_is_the_root_cause_of_what_comes_of_it() -> None:
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([Child("it", process(remote.tear, "coat", 3))]):
            await trio.sleep_forever()
    assert isinstance(caught.value.root_cause, Torn)


@story_with_threads
async def test_what_cannot_be_pickled_comes_as_text() -> None:
    exception = (await end_of(process(remote.raise_local))).exception
    assert isinstance(exception, RemoteFailure)
    assert str(exception) == "Local: kept back"
    assert "raise Local" in notes_of(exception)


@story_with_threads
async def test_a_value_that_cannot_be_pickled_is_a_failure_that_says_so() -> None:
    exception = (await end_of(process(remote.give_lock))).exception
    assert isinstance(exception, TypeError)
    assert "lock" in str(exception)
    assert "cannot be sent to the parent process" in str(exception)


@story_with_threads
async def test_a_value_that_breaks_on_arrival_is_a_failure() -> None:
    exception = (await end_of(process(remote.give_shy))).exception
    assert isinstance(exception, Torn)
    assert exception.cloth == "home"


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (process(remote.leave, 3), 3),
        (process(remote.die), -signal.SIGKILL),
        (process(remote.interrupt), -signal.SIGINT),
        (process(remote.leave, 143), 143),
    ],
    ids=["exits", "is killed", "is interrupted", "exits as if asked"],
)
@story_with_threads
async def test_any_other_end_is_that_of_a_process(start: Function, code: int) -> None:
    exception = (await end_of(start)).exception
    assert isinstance(exception, ProcessFailed)
    name = f"remote.{start.fn.__qualname__}"
    assert (exception.returncode, exception.argv) == (code, (name,))


@story_with_threads
async def test_leaving_with_status_zero_is_a_normal_end() -> None:
    assert (await end_of(process(remote.leave, 0))).reason == Normal(None)


# Started


@story_with_threads
async def test_it_says_itself_when_it_is_started_and_with_what() -> None:
    async with open_system([Child("it", process(remote.serve, "shop"))]) as top:
        child = top.child("it")
        value = child.value
        assert child.kind == "process"
        pid = value.pid
        assert value == Process(pid, ("remote.serve",), {"name": "shop", "pid": pid})
    report = child.last_report
    assert report is not None
    assert (report.reason, report.burden, is_alive(pid)) == (Normal(None), "settling", False)


@story_with_threads
async def test_one_that_ends_without_saying_so_has_failed_its_start() -> None:
    def child(fn: Callable[..., object], *args: Any) -> Child[Any]:
        return Child("it", process(fn, *args))

    with pytest.raises(ChildFailure) as caught:
        async with open_system([child(remote.refuse)]):
            pass
    assert isinstance(caught.value.__cause__, ProcessFailed)
    assert "before it was ready" in str(caught.value.__cause__)
    with pytest.raises(ChildFailure) as caught:
        async with open_system([child(remote.refuse, "coat")]):
            pass
    assert isinstance(caught.value.__cause__, Torn)


@story_with_threads
async def test_a_start_that_takes_too_long_leaves_no_process() -> None:
    before = children_of(os.getpid())
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("it", process(remote.never_ready), start_timeout=0.3)]):
            pass
    assert isinstance(caught.value.__cause__, StartTimeout)
    assert children_of(os.getpid()) == before


# Asked, killed, missed


@story_with_threads
async def test_one_that_ignores_sigterm_is_killed() -> None:
    async with open_system([Child("it", process(remote.deaf), shutdown=0.1)]) as top:
        pid = top.child("it").value.pid
    report = top.child("it").last_report
    assert report is not None
    assert (report.reason, report.burden, is_alive(pid)) == (Aborted(), "aborted", False)


@story_with_threads
async def test_its_heartbeats_are_those_of_the_child() -> None:
    report = await end_of(process(remote.beat_once), heartbeat=0.2)
    assert isinstance(report.exception, Unresponsive)


@story_with_threads
async def test_its_group_dies_with_it() -> None:
    async with open_system([Child("it", process(remote.with_grandchild), shutdown=0)]) as top:
        grandchild = top.child("it").value.value
    await gone(grandchild)


@story_with_threads
async def test_an_interpreter_that_does_not_begin_is_a_failed_start() -> None:
    nowhere = {"PYTHONHOME": "/nowhere"}
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("it", process(len, b"y" * 3_000_000, env=nowhere))]):
            pass
    cause = caught.value.__cause__
    assert isinstance(cause, ProcessFailed)
    assert cause.returncode == 1
    assert any("Fatal Python error" in line for line in cause.stderr)


# The trace goes on, and so does what surrounds it


@story_with_threads
async def test_the_trace_goes_on_in_the_function(tmp_path: Path) -> None:
    with recording() as spans:
        report = await end_of(process(remote.where_am_i, cwd=tmp_path))
    assert isinstance(report.reason, Normal)
    seen = report.reason.value
    (start,) = spans.named("spry.child.start")
    assert start.context is not None
    trace, span = f"{start.context.trace_id:032x}", f"{start.context.span_id:016x}"
    assert seen == {
        "cwd": str(tmp_path),
        "trace": trace,
        "span": span,
        "baggage": "None",
        "variable": f"00-{trace}-{span}-{start.context.trace_flags:02x}",
    }


SCRIPT = """
import trio
from spry_py import Child, open_system
from spry_py.processes import process

class Odd(Exception):
    pass

def halve(n):
    if n % 2:
        raise Odd(n)
    return n // 2

async def main():
    for n in 8, 9:
        async with open_system([Child("it", process(halve, n), restart="temporary")]) as top:
            print((await top.child("it").wait()).reason)

{guard}trio.run(main)
"""


def test_functions_of_the_main_program_are_found(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SCRIPT.format(guard='if __name__ == "__main__": '))
    for arguments in ["program.py"], ["-m", "program"]:
        done = finished(arguments, tmp_path, PYTHONSAFEPATH="")
        lines = ["Normal(value=4)", "Failed(exception=Odd(9))"]
        assert (done.stdout.splitlines(), done.returncode) == (lines, 0), done.stderr


@pytest.mark.parametrize("form", ["directory", "archive", "archive of all"])
def test_functions_of_a_directory_or_an_archive_are_found(form: str, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    # in another module, too, and with a directory of its own for the process
    script = SCRIPT.replace("trio.run(main)", "trio.run(main); trio.run(elsewhere)")
    script += textwrap.dedent("""
        async def elsewhere():
            start = process(beside.double, 4, cwd="/")
            async with open_system([Child("it", start, restart="temporary")]) as top:
                print((await top.child("it").wait()).reason)
    """)
    main, guard = script.split("{guard}")
    guarded, after = guard.split("\n", 1)
    text = f"import beside\n{main}{after}\nif __name__ == '__main__':\n    {guarded}\n"
    (app / "__main__.py").write_text(text)
    (app / "beside.py").write_text("def double(n):\n    return 2 * n\n")
    target = "app"
    if form != "directory":
        if form == "archive of all":
            shutil.copytree(Path(spry_py.__file__).parent, app / "spry_py")
        target = "app.pyz"
        zipapp.create_archive(app, tmp_path / target)
    done = finished([target], tmp_path, PYTHONSAFEPATH="")
    lines = ["Normal(value=4)", "Failed(exception=Odd(9))", "Normal(value=8)"]
    assert (done.stdout.splitlines(), done.returncode) == (lines, 0), done.stderr


def test_a_program_without_a_guard_is_told_about_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SCRIPT.format(guard=""))
    done = finished(["program.py"], tmp_path)
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr


# Refused where it is written


# as one that no type checker looks at would call it
loose: Any = process


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: loose(lambda: 1), TypeError, "picklable"),
        (lambda: loose(len, threading.Lock()), TypeError, "picklable"),
        (lambda: loose(7), TypeError, "process: fn must be a function, not 7"),
        (lambda: loose(remote.Odd().fetch()), TypeError, "fn must be a function, not <coroutine"),
        (lambda: loose(remote.fetch), TypeError, "plain function, not the async one .* fetch"),
        (lambda: loose(partial(remote.fetch)), TypeError, "plain function, not the async one"),
        (lambda: loose(remote.Odd()), TypeError, "plain function, not the async one"),
        (lambda: loose(remote.Odd().fetch), TypeError, "plain function, not the async one"),
        (lambda: loose(remote.count), TypeError, "plain function, not the async one"),
        (lambda: loose(remote.acount), TypeError, "plain function, not the async one"),
        (lambda: loose(len, env={"A": "\0"}), ValueError, r"process: env\['A'\] must be without"),
        (lambda: loose(len, cwd=""), ValueError, "process: cwd must be a path, not ''"),
        (lambda: loose(len, env={"A": 1}), TypeError, "process: env must be a mapping"),
        (lambda: loose(len, cwd=1), TypeError, "process: cwd must be a path, not 1"),
    ],
)
def test_bad_arguments(make: Callable[[], object], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        make()


def test_equal_if_their_fields_are_and_frozen() -> None:
    one, other = (
        process(remote.add, [1], 2, env={"A": "1"}),
        process(remote.add, [1], 2, env={"A": "1"}),
    )
    assert Child("it", one) == Child("it", other)
    assert hash(Child("it", one)) == hash(Child("it", other))
    assert one != process(remote.add, [1], 3)
    with pytest.raises(AttributeError):
        one.args = ()  # type: ignore[misc]


def test_a_function_notices_by_itself_that_its_parent_has_died() -> None:
    # what systems have that do not tell it
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = subprocess.Popen(
            [*PROGRAM, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        try:
            work = pickle.dumps((time.sleep, (600,)))
            order: dict[str, object] = {
                "work": work,
                "main": None,
                "path": sys.path,
                "argv": [],
                "carrier": {},
                "channel": None,
            }
            message = pickle.dumps(order)
            ours.sendall(len(message).to_bytes(8, "big") + message)
            theirs.close()
            # it says that it has started
            assert ours.recv(1)
            ours.close()
            assert program.wait(10) == -signal.SIGKILL
        finally:
            program.kill()
            program.wait()
