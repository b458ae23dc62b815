"""When a command is started: a line, an open port, a notification."""

from __future__ import annotations

import errno
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from living import FOREVER, Holdings
from logged import kept
from servers import free_port
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Unresponsive,
    open_system,
    processes,
)
from spry_py.processes import Command, command, line, notify, port
from stories import story_with_threads

LISTEN = """
import socket, sys, time
time.sleep(0.2)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(600)
"""
NOTIFY = """
import os, socket, sys, time
messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
messages.connect(os.environ["NOTIFY_SOCKET"])
for message in sys.argv[1:]:
    messages.send(message.encode())
time.sleep(600)
"""


def python(code: str, *arguments: object, **options: Any) -> Command[Any]:
    words = map(str, arguments)
    return command(sys.executable, "-I", "-S", "-c", code, *words, **options)


async def value_of(start: Command[Any]) -> Any:
    async with open_system([Child("it", start, start_timeout=10)]) as top:
        return top.child("it").value.value


@pytest.mark.parametrize("stream", ["1", "2"])
@story_with_threads
async def test_a_line_on_either_stream(stream: str) -> None:
    script = f"{{ echo not yet; echo; echo ready on port 17; }} >&{stream}; sleep {FOREVER}"
    ready = line(r"ready on port (?P<port>\d+)")
    match = await value_of(command("sh", "-c", script, ready=ready))
    assert (match["port"], match.string) == ("17", "ready on port 17")


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("login: ", "login: $"),
        (r"\033[32mup\033[0m\n", r"^\x1b\[32mup"),
        (r"a\tb \n", r"a\tb $"),
        (r"up\r\n", "^up$"),
        (r"\n", "^$"),
    ],
)
@story_with_threads
async def test_a_line_is_seen_as_it_was_written(written: str, pattern: str) -> None:
    start = command("sh", "-c", f"printf '{written}'; sleep {FOREVER}", ready=line(pattern))
    assert (await value_of(start)).re.pattern == pattern


@story_with_threads
async def test_a_line_that_was_said_before_the_end_counts() -> None:
    async with open_system(DynamicSupervisor()) as top:
        start = command("sh", "-c", "echo up; exit 3", ready=line("up"))
        report = await (await top.start_child(Child("it", start, restart="temporary"))).wait()
    assert report.started_at is not None
    assert report.failed


@story_with_threads
async def test_an_open_port() -> None:
    number = free_port()
    start = python(LISTEN, number, ready=port("127.0.0.1", number))
    async with open_system([Child("it", start, start_timeout=10)]) as top:
        assert top.child("it").value.value is None
        stream = await trio.open_tcp_stream("127.0.0.1", number)
        await stream.aclose()


@story_with_threads
async def test_a_port_that_somebody_else_serves_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(ChildFailure) as caught:
            await value_of(command("sleep", "600", ready=port("127.0.0.1", number)))
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.EADDRINUSE
    assert f"127.0.0.1 port {number} is in use already" in str(cause)


@story_with_threads
async def test_a_notification() -> None:
    before = Holdings()
    with kept() as book:
        start = python(NOTIFY, "STATUS=loading", "MAINPID=1\nREADY=1\nSTATUS=up", ready=notify())
        assert await value_of(start) is None
    told = [record.getMessage() for record in book.records if "status" in record.getMessage()]
    assert told == ["system/it: status: loading", "system/it: status: up"]
    assert Holdings() == before


@story_with_threads
async def test_a_directory_whose_name_is_too_long_for_a_notification_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    before = Holdings()
    with pytest.raises(ChildFailure) as caught:
        await value_of(command("sleep", "600", ready=notify()))
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENAMETOOLONG
    assert cause.filename.startswith(str(deep))
    assert "AF_UNIX path too long: notify() cannot receive here" in str(cause)
    assert Holdings() == before


@story_with_threads
async def test_a_watchdog_that_is_not_fed_any_more() -> None:
    start = python(NOTIFY, "READY=1", "WATCHDOG=1", ready=notify())
    async with open_system(DynamicSupervisor()) as top:
        child = Child("it", start, restart="temporary", heartbeat=0.2)
        report = await (await top.start_child(child)).wait()
    assert isinstance(report.exception, Unresponsive)


class Raw:
    """A path that is bytes."""

    def __fspath__(self) -> bytes:
        return b"raw"


# as one that no type checker looks at would call it
loose: Any = processes


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (loose.command, ValueError, "command: argv must be a program and its arguments"),
        (lambda: loose.command("", "a"), ValueError, "argv must be a program and its arguments"),
        (lambda: loose.command("a", 1), TypeError, "command: argv must be str or paths, not 1"),
        (lambda: loose.command("a\0b"), ValueError, "without null characters"),
        (lambda: loose.command("a", ready="up"), TypeError, "ready must be line"),
        (
            lambda: loose.command("a", stdin="text"),
            TypeError,
            "stdin must be bytes or None",
        ),
        (lambda: loose.command("a", env=["A=1"]), TypeError, "command: env must be a mapping"),
        (lambda: loose.command("a", cwd=1), TypeError, "command: cwd must be a path, not 1"),
        (lambda: loose.command("a", cwd=""), ValueError, "command: cwd must be a path, not ''"),
        (lambda: loose.command("a", cwd="b\0"), ValueError, "command: cwd must be without null"),
        (lambda: loose.command("a", cwd=Raw()), TypeError, "command: cwd must be str or paths"),
        (lambda: loose.command("a\ud800"), ValueError, "argv must be what can be encoded"),
        (lambda: loose.command("a", env={"": "b"}), ValueError, "env must have names without '='"),
        (
            lambda: loose.command("a", env={"a=b": ""}),
            ValueError,
            "names without '=', and not 'a=b",
        ),
        (lambda: loose.command("a", env={"b\0": ""}), ValueError, "env must be without null"),
        (lambda: loose.command("a", env={"b": "\0"}), ValueError, r"env\['b'\] must be without"),
        (lambda: loose.command("a", stop_signal="INT"), TypeError, "stop_signal must be a signal"),
        (lambda: loose.command("a", stop_signal=True), TypeError, "stop_signal must be a signal"),
        (lambda: loose.command("a", stop_signal=0), ValueError, "stop_signal must be a signal"),
        (lambda: loose.command("a", stop_group=1), TypeError, "stop_group must be True or False"),
        (lambda: loose.line(3), TypeError, "line: pattern must be a str"),
        (
            lambda: loose.line("("),
            ValueError,
            r"line: pattern must be a regular expression, not '\('",
        ),
        (lambda: loose.port("", 1), TypeError, "port: host must be a name or an address, not ''"),
        (lambda: loose.port("a", 0), ValueError, "port: number must be an int, 1 or more, not 0"),
        (lambda: loose.port("a", 65536), ValueError, "port: number must be an int, 65535 or less"),
    ],
)
def test_bad_arguments(make: Callable[[], object], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        make()


def test_equal_if_their_fields_are() -> None:
    def made(**options: Any) -> Child[Any]:
        return Child("it", command("a", "b", env={"B": "2", "A": "1"}, cwd="c", **options))

    assert made() == made()
    for ready in (line, re.compile), (line, str):
        assert made(ready=ready[0](ready[1]("x"))) == made(ready=line("x"))
    assert made(ready=port("h", 1)) == made(ready=port("h", 1))
    assert made(ready=notify()) == made(ready=notify())
    assert len({made(), made(), made(ready=line("x")), made(ready=line("x"))}) == 2
    assert made(stop_signal=2, stop_group=True) == made(stop_signal=signal.SIGINT, stop_group=True)
    for other in made(stdin=b""), made(stop_signal=2), made(stop_group=True):
        assert made() != other


# A service manager's own variables

SHOWS = """
import os, time
names = (name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG")))
print("has", *sorted(names), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("env", "shown"),
    [
        (None, "has"),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1"}, "has NOTIFY_SOCKET WATCHDOG_USEC"),
    ],
    ids=["inherited", "given"],
)
@story_with_threads
async def test_what_a_manager_wants_of_this_program_is_not_handed_on(
    env: dict[str, str] | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    match = await value_of(python(SHOWS, ready=line("^has.*"), env=env))
    assert match.group() == shown
