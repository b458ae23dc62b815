"""What processes write: log records, bounded, and never in their way."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from living import FOREVER, Holdings, is_running
from logged import Book, kept
from spans import recording
from spry_py import Child, DynamicSupervisor, Normal, TerminationReport, open_system
from spry_py.processes import Command, ProcessFailed, command, line
from spry_py.processes.output import LINES_AT_ONCE, LONGEST_LINE, MOST_BYTES, MOST_LINES, Lines
from stories import story_with_threads

ENOUGH = 300_000


def shell(script: str, **options: Any) -> Command[Any]:
    return command("sh", "-c", script, **options)


async def end_of(start: Command[Any], **options: Any) -> TerminationReport:
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


class Reader:
    """What was heard of one stream."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.seen: list[str] = []
        self.lost: list[int] = []
        self.lines = Lines(self.told.append, self.seen.append, self.lost.append)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.lines.feed(piece)

    def hand_on(self) -> list[int]:
        """Hand on all there is; how many were told in each go."""
        numbers = [0]
        while self.lines.hand_on(math.inf) < math.inf:
            numbers.append(len(self.told))
        numbers.append(len(self.told))
        return [after - before for before, after in pairwise(numbers)]


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
        ([b"x" * LONGEST_LINE, b"y" * 90000, b"z\nnext\n"], ["x" * LONGEST_LINE + "…", "next"]),
        ([b"x" * 2 * MOST_BYTES, b"\nnext\n"], ["next"]),
    ],
)
@pytest.mark.parametrize("is_at_once", [True, False])
def test_bytes_into_lines(pieces: list[bytes], told: list[str], is_at_once: bool) -> None:
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
        if not is_at_once:
            reader.hand_on()
    reader.hand_on()
    assert reader.told == told


def test_few_lines_at_once() -> None:
    reader = Reader()
    reader.feed(b"a\nb", b"c\n" * 1000, b"d", b"")
    assert reader.hand_on() == [256, 256, 256, 234]
    assert reader.told == ["a", "bc", *["c"] * 999, "d"]
    assert reader.lost == []


@pytest.mark.parametrize("size", [1, 5, 7, 1000, 65536, 300_000])
@pytest.mark.parametrize("ends", [b"", b"\n", b"tail"])
@pytest.mark.parametrize("lags", [1, 3, 1000])
def test_what_cannot_be_told_in_time_is_dropped_and_counted(
    size: int, ends: bytes, lags: int
) -> None:
    reader, count = Reader(), 40_000 if size > 7 else 20_000
    text = b"".join(b"%d\n" % number for number in range(count)) + ends
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for number, piece in enumerate(pieces):
        reader.feed(piece)
        if number % lags == 0:
            reader.lines.hand_on(math.inf)
    reader.feed(b"")
    reader.hand_on()
    # each line is told whole, in its order, or counted
    numbers = [int(line) for line in reader.told if line != "tail"]
    assert numbers == sorted(set(numbers))
    assert all(0 <= number < count for number in numbers)
    assert numbers[-1] == count - 1
    assert reader.told[-1] == ("tail" if ends == b"tail" else str(count - 1))
    empty = 1 if ends == b"\n" else 0
    assert len(numbers) + sum(reader.lost) in (count, count + empty)


def test_what_is_dropped_is_told_once_a_second_and_telling_waits_for_reading() -> None:
    reader, flood = Reader(), b"y\n" * 3 * MOST_LINES
    told: list[tuple[float, int, int]] = []
    for now in (0.0, 0.005, 0.01, 0.5, 1.0, 1.5, 2.5):
        reader.feed(flood)
        reader.lines.hand_on(now)
        told.append((now, len(reader.told), len(reader.lost)))
    assert told == [
        (0.0, 256, 0),
        (0.005, 256, 0),
        (0.01, 512, 0),
        (0.5, 768, 0),
        (1.0, 1024, 1),
        (1.5, 1280, 1),
        (2.5, 1536, 2),
    ]
    reader.feed(b"")
    reader.hand_on()
    assert len(reader.told) + sum(reader.lost) == 7 * 3 * MOST_LINES


def test_the_last_words_of_a_flood_are_told() -> None:
    reader = Reader()
    reader.feed(b"y\n" * 5 * MOST_LINES, b"why\n", b"it ended\n", b"")
    reader.hand_on()
    assert reader.told[-22:] == [*["y"] * 20, "why", "it ended"]
    assert len(reader.told) + sum(reader.lost) == 5 * MOST_LINES + 2


def test_when_to_go_on() -> None:
    reader = Reader()
    assert reader.lines.hand_on(0.0) == math.inf
    reader.feed(b"y\n" * 300)
    assert reader.lines.hand_on(0.0) == 0
    assert reader.lines.hand_on(0.0) == math.inf
    reader.feed(b"y\n" * 3 * MOST_LINES)
    assert reader.lines.hand_on(1.0) == pytest.approx(0.01)
    assert reader.lines.hand_on(1.004) == pytest.approx(0.006)
    now = 1.0
    while (pause := reader.lines.hand_on(now)) < 0.1:
        now += 0.01
    # nothing is left to be told but how much was dropped
    assert now + pause == pytest.approx(2.0)
    assert reader.lost == []
    assert reader.lines.hand_on(2.0) == math.inf
    assert len(reader.lost) == 1


@pytest.mark.parametrize(
    ("pieces", "seen"),
    [
        ([b"login: "], ["login: "]),
        ([b"log", b"in: "], ["log", "login: "]),
        ([b"\x1b[1mup\x1b[0m\t\xc3\xbc \r\n"], ["\x1b[1mup\x1b[0m\tü "]),
        ([b"\n"], [""]),
        ([b"x" * 10_000 + b" up\n"], ["x" * 10_000 + " up"]),
        ([b"a\nb\n> "], ["a", "b", "> "]),
    ],
)
def test_a_pattern_sees_what_was_written(pieces: list[bytes], seen: list[str]) -> None:
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
        reader.hand_on()
    assert reader.seen == seen


@story_with_threads
async def test_a_flood_keeps_the_loop_from_nobody() -> None:
    goes: list[int] = []
    hand_on = Lines.hand_on

    def counting(lines: Lines, now: float) -> float:
        before = len(book.records)
        pause = hand_on(lines, now)
        goes.append(len(book.records) - before)
        return pause

    with kept() as book, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lines, "hand_on", counting)
        report = await end_of(shell("yes | head -c 4000000; echo last"))
    assert report.reason == Normal(0)
    told = lines_of(book, "stdout")
    assert told[-1] == "last"
    # the record about what was lost, too
    assert max(goes) <= LINES_AT_ONCE + 1
    lost = [r.getMessage() for r in book.records if r.levelname == "WARNING"]
    assert all("dropped, since it writes to stdout faster than can be logged" in it for it in lost)
    assert len(told) + sum(int(text.split()[1]) for text in lost) == 2_000_001


@story_with_threads
async def test_a_few_thousand_lines_at_once_are_all_told() -> None:
    with kept() as book:
        await end_of(command("seq", "10000"))
    assert lines_of(book, "stdout") == [str(number + 1) for number in range(10_000)]


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
    try:
        async with open_system(DynamicSupervisor(name="quiet")) as top:
            await (await top.start_child(Child("it", shell("echo hi"), restart="temporary"))).wait()
    finally:
        logger.removeHandler(book)
        logger.setLevel(logging.NOTSET)
    assert [r.getMessage() for r in book.records if "log.iostream" in vars(r)] == ["quiet/it: hi"]


@story_with_threads
async def test_a_log_handler_that_breaks_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "log.iostream" in vars(record):
                raise OSError("disk full")

    raised: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: raised.append(repr(hook.exc_value)))
    before = Holdings()
    logger, broken = logging.getLogger("spry_py"), Broken()
    logger.addHandler(broken)
    logger.setLevel(logging.INFO)
    try:
        report = await end_of(shell("echo one; echo two >&2; exit 3"))
    finally:
        logger.removeHandler(broken)
        logger.setLevel(logging.NOTSET)
    assert isinstance(report.exception, ProcessFailed)
    assert (report.exception.returncode, report.exception.stderr) == (3, ("two",))
    assert raised == ["OSError('disk full')"]
    assert Holdings() == before
