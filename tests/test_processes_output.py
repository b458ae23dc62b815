"""What processes write: log records, bounded, and never in their way."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from living import FOREVER, Holdings, is_running
from logged import Book, kept
from spans import recording
from spry_py import Child, DynamicSupervisor, Normal, TerminationReport, open_system
from spry_py._processes_output import LONGEST_LINE, Lines
from spry_py.processes import Command, ProcessFailed, command, line
from stories import story_with_threads

ENOUGH = 300_000


def shell(script: str, **options: Any) -> Command:
    return command("sh", "-c", script, **options)


async def end_of(start: Command, **options: Any) -> TerminationReport:
    """Let it end by itself."""
    async with open_system(DynamicSupervisor()) as top:
        child = await top.start_child(Child("it", start, restart="temporary", **options))
        return await child.wait()


def lines_of(book: Book, stream: str) -> list[str]:
    told = [record for record in book.records if vars(record).get("log.iostream") == stream]
    return [record.getMessage().removeprefix("system/it: ") for record in told]


@story_with_threads
async def test_each_line_is_a_log_record() -> None:
    with kept() as book, recording() as spans:
        report = await end_of(shell("echo one; printf 'two\r\n\n three'; echo bad >&2; exit 1"))
    assert lines_of(book, "stdout") == ["one", "two", " three"]
    assert lines_of(book, "stderr") == ["bad"]
    assert isinstance(report.exception, ProcessFailed)
    record = next(record for record in book.records if "one" in record.getMessage())
    (start,) = spans.named("spry.child.start")
    assert start.context is not None
    fields = vars(record)
    assert (record.levelname, record.name) == ("INFO", "spry_py.system.it")
    assert {name: fields[name] for name in fields if "." in name or "trace" in name} == {
        "spry.child.key": "it",
        "spry.child.path": "system/it",
        "spry.child.incarnation": 1,
        "process.pid": report.exception.pid,
        "log.iostream": "stdout",
        "trace_id": f"{start.context.trace_id:032x}",
        "trace_flags": start.context.trace_flags,
    }
    assert fields["span_id"] == f"{start.context.span_id:016x}"


@story_with_threads
async def test_what_was_said_last_is_heard_however_it_ends() -> None:
    with kept() as book:
        ready = line("^up$")
        start = shell(f"printf 'up\\nlast words'; sleep {FOREVER}", ready=ready)
        async with open_system([Child("it", start, shutdown=0)]):
            pass
    assert lines_of(book, "stdout") == ["up", "last words"]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
@story_with_threads
async def test_a_process_that_fills_its_pipes_never_waits(level: int) -> None:
    code = f"import os, sys\nfor fd in (1, 2): os.write(fd, b'x' * {ENOUGH})\nprint('done')"
    with kept(level) as book:
        await end_of(command(sys.executable, "-I", "-S", "-c", code), run_timeout=10)
    if level == logging.INFO:
        assert lines_of(book, "stdout") == ["x" * LONGEST_LINE + "…"]
        assert lines_of(book, "stderr") == ["x" * LONGEST_LINE + "…"]
    else:
        assert book.records == []


@story_with_threads
async def test_one_that_never_stops_writing_is_stopped() -> None:
    before = Holdings()
    with kept(logging.WARNING):
        async with open_system([Child("it", command("yes"))]):
            await trio.sleep(0.1)
    assert Holdings() == before


@story_with_threads
async def test_who_holds_the_pipe_longer_holds_up_nobody(tmp_path: Path) -> None:
    # it leaves the session, and so it outlives the process and its group
    daemon = f"setsid sh -c 'echo $$ > pid; exec sleep {FOREVER}' &"
    script = f"{daemon} while [ ! -s pid ]; do sleep 0.01; done; echo over"
    before = Holdings()
    with kept() as book:
        report = await end_of(shell(script, cwd=tmp_path), run_timeout=10)
    daemons = int((tmp_path / "pid").read_text())
    assert is_running(daemons)
    os.kill(daemons, signal.SIGKILL)
    assert report.reason == Normal(0)
    assert lines_of(book, "stdout") == ["over"]
    assert Holdings() == before


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([b"a\nb", b"c\n", b""], ["a", "bc"]),
        ([b"a", b""], ["a"]),
        ([b"\n\n  \n\r\n", b""], []),
        ([b"\xff\xfe\x00a\n"], [r"\xff\xfe\x00a"]),
        ([b"\x1b[31mred\tcell\x1b[0m\n"], ["\\x1b[31mred\tcell\\x1b[0m"]),
        (["grün €\n".encode()[:3], "grün €\n".encode()[3:]], ["grün €"]),
        ([b"x" * LONGEST_LINE + b"\n"], ["x" * LONGEST_LINE]),
        ([b"x" * LONGEST_LINE, b"y" * 9000, b"z\nnext\n"], ["x" * LONGEST_LINE + "…", "next"]),
    ],
)
def test_bytes_into_lines(pieces: list[bytes], told: list[str]) -> None:
    heard: list[str] = []
    lines = Lines(heard.append)
    for piece in pieces:
        lines.feed(piece)
    assert heard == told


@story_with_threads
async def test_no_logger_is_made_for_a_process_but_one_in_use_is_heard() -> None:
    def known() -> set[str]:
        return {name for name in logging.Logger.manager.loggerDict if name.startswith("spry_py.")}

    before = known()
    with kept():
        await end_of(shell("echo one"))
    assert known() == before
    logger, book = logging.getLogger("spry_py.quiet.it"), Book()
    logger.addHandler(book)
    logger.setLevel(logging.INFO)
    async with open_system(DynamicSupervisor(name="quiet")) as top:
        await (await top.start_child(Child("it", shell("echo hi"), restart="temporary"))).wait()
    assert [r.getMessage() for r in book.records if "log.iostream" in vars(r)] == ["quiet/it: hi"]


@story_with_threads
async def test_a_log_handler_that_breaks_is_a_failure_and_leaves_nothing() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "log.iostream" in vars(record):
                raise OSError("disk full")

    before = Holdings()
    logger, broken = logging.getLogger("spry_py"), Broken()
    logger.addHandler(broken)
    logger.setLevel(logging.INFO)
    try:
        report = await end_of(shell(f"echo one; sleep {FOREVER}"))
    finally:
        logger.removeHandler(broken)
        logger.setLevel(logging.NOTSET)
    assert repr(report.exception) == "OSError('disk full')"
    assert Holdings() == before
