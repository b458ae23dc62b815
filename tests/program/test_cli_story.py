"""The story that `spry-py run` prints: always there, and never in the way of the tree."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from programs import SECONDS, environment, finished
from spry_py._program.printer import MOST_WAITING, Printer

MODULE = """
import logging, logging.config
import trio
from spry_py import AlwaysRestart, Child, Ignore, SystemSupervisor, cancel_on_settle

async def steady():
    with cancel_on_settle():
        await trio.sleep_forever()

async def flaps():
    await trio.sleep(0)
    raise ValueError("boom")

async def once():
    if not crashed:
        crashed.append(1)
        await trio.sleep(0.02)
        raise ValueError("boom")
    await steady()

async def breaks():
    await trio.sleep(0.02)
    raise ValueError("boom")

async def left_out():
    raise Ignore

async def late():
    with cancel_on_settle():
        await trio.sleep_forever()
    await trio.sleep_forever()

crashed = []
kids = [Child("db", steady), Child("café", once), Child("out", left_out)]
shop = SystemSupervisor(kids, strategy="one_for_one", name="shop")
slow = SystemSupervisor([Child("late", late, shutdown=0.05)], name="shop")
hopeless = SystemSupervisor(
    [Child("db", breaks), Child("api", steady)], strategy="rest_for_one", name="hopeless"
)
storm = SystemSupervisor(
    [Child("a" * 200, flaps)], strategy="one_for_one", breaker=AlwaysRestart(), name="storm"
)
"""

STORY = [
    "INFO     shop/db started",
    "INFO     shop/café started",
    "INFO     shop/out left out: its start raised Ignore",
    "INFO     shop started",
    "ERROR    shop/café failed: ValueError: boom",
    "WARNING  shop/café will be restarted now",
    "INFO     shop/café started (incarnation 2)",
    "INFO     shop/café stopped (settling)",
    "INFO     shop/db stopped (settling)",
    "INFO     shop stopped",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def story_of(lines: Sequence[str]) -> list[str]:
    return [line[11:] for line in lines if line[:8].strip().replace(".", "").isdigit()]


SETTINGS = {
    "none": "",
    "basic": "logging.basicConfig(filename='app.log', level=logging.DEBUG)",
    "others off": "logging.config.dictConfig({'version': 1})",
    "all off": "logging.disable(logging.CRITICAL)",
    "level": "logging.getLogger('spry_py').setLevel(logging.CRITICAL)",
    "filter": "logging.getLogger('spry_py').addFilter(lambda record: False)",
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_the_story_is_the_same_whatever_logging_is_set_up(setting: str, place: Path) -> None:
    with (place / "app.py").open("a", encoding="utf-8") as file:
        file.write(setting)
    done = finished(
        ["-m", "spry_py", "run", "app:shop", "--for", "0.3"], place, PYTHONIOENCODING="utf-8"
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, story_of(lines)) == (0, STORY)
    assert lines[-1] == "stopped in this order: shop/café, shop/db"
    assert "boom" not in done.stderr


def test_the_last_words_are_about_the_end_alone(place: Path) -> None:
    done = finished(["-m", "spry_py", "run", "app:hopeless"], place)
    assert done.returncode == 1
    assert done.stdout.count("hopeless/api stopped (settling)") == 4  # for three restarts as well
    assert done.stdout.splitlines()[-1] == "stopped in this order: hopeless/api"


def test_an_abort_is_told_when_the_time_of_a_child_is_over(place: Path) -> None:
    done = finished(["-m", "spry_py", "run", "app:slow", "--for", "0.1"], place)
    assert story_of(done.stdout.splitlines()) == [
        "INFO     shop/late started",
        "INFO     shop started",
        "WARNING  shop/late did not finish within its time: aborting it",
        "INFO     shop/late stopped (aborted)",
        "INFO     shop stopped",
    ]


def test_a_root_that_has_cured_the_escalation_below_it_is_said_to_have_stopped(place: Path) -> None:
    with (place / "app.py").open("a", encoding="utf-8") as file:
        file.write("""
from spry_py import NeverRestart
wing = SystemSupervisor([Child("once", once)], breaker=NeverRestart())
house = [Child("wing", wing, backoff=lambda _: 0.0204081632)]
""")
    done = finished(["-m", "spry_py", "run", "app:house", "--for", "0.5"], place)
    story = story_of(done.stdout.splitlines())
    assert "WARNING  house/wing will be restarted in 0.02 s" in story
    assert story[-2:] == ["INFO     house/wing stopped (settling)", "INFO     house stopped"]


def test_what_the_program_prints_stands_in_the_order_in_which_it_happens(place: Path) -> None:
    with (place / "app.py").open("a", encoding="utf-8") as file:
        file.write("""
async def speaks():
    print("speaking")
    await trio.sleep_forever()
talk = [Child("before", steady), Child("speaker", speaks), Child("after", steady)]
""")
    arguments = ["-m", "spry_py", "run", "app:talk", "--for", "0.1"]
    done = finished(arguments, place, PYTHONUNBUFFERED="")
    lines = [line[11:] if " talk/" in line else line for line in done.stdout.splitlines()[:4]]
    assert lines == [
        "INFO     talk/before started",
        "speaking",
        "INFO     talk/speaker started",
        "INFO     talk/after started",
    ]


def test_what_is_logged_beside_the_facts_is_part_of_the_story(place: Path) -> None:
    with (place / "app.py").open("a", encoding="utf-8") as file:
        file.write("""
import sys
from spry_py.processes import command
code = "import time; print('hello'); time.sleep(60)"
speaks = command(sys.executable, "-u", "-c", code)
talk = [Child("program", speaks)]

async def warns():
    logging.getLogger("spry_py").warning("mind the gap")
    await trio.sleep_forever()
gap = [Child("warns", warns)]
""")
    for name, text in (("talk", "talk/program: hello"), ("gap", "mind the gap")):
        arguments = ["-m", "spry_py", "run", f"app:{name}", "--for", "1"]
        done = finished(arguments, place)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line for line in done.stdout.splitlines() if line.endswith(text)]


# Streams that do not take it


def into(stdout: int, place: Path, *arguments: str, **variables: str) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "spry_py", "run", *arguments],
        cwd=place,
        env=environment() | variables,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_reader_that_has_left_ends_nothing(unbuffered: str, place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = into(writing, place, "app:shop", "--for", "0.2", PYTHONUNBUFFERED=unbuffered)
    finally:
        os.close(writing)
    assert ended == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, on Linux alone")
def test_a_full_disk_ends_nothing(place: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        assert into(full.fileno(), place, "app:shop", "--for", "0.2") == (0, b"")


def test_a_reader_that_reads_nothing_holds_up_nothing(place: Path) -> None:
    reading, writing = os.pipe()
    # soon full, however slow the machine is
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 16384)
    try:
        status, errors = into(writing, place, "app:storm", "--for", "0.5")
        os.set_blocking(reading, False)
        story = os.read(reading, 1 << 20)
    finally:
        os.close(reading)
        os.close(writing)
    assert (status, errors) == (0, b"")
    assert len(story) > 8_000  # the pipe is full


def test_a_stream_that_is_closed_is_none(place: Path) -> None:
    command = f"{sys.executable} -m spry_py run app:shop --for 0.2 >&- 2>&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=place, env=environment(), timeout=SECONDS, check=False
    )
    assert done.returncode == 0


def test_letters_that_the_stream_does_not_have_are_written_in_others(place: Path) -> None:
    arguments = ["-m", "spry_py", "run", "app:shop", "--for", "0.3"]
    done = finished(arguments, place, PYTHONIOENCODING="ascii")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert story_of(lines) == [line.replace("é", "\\xe9") for line in STORY]


# The printer by itself


class Slow(io.StringIO):
    """A stream that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(SECONDS)
        return super().write(text)


def test_what_cannot_be_written_in_time_is_counted_where_it_is_missing() -> None:
    stream = Slow()
    printer = Printer(stream)
    for number in range(MOST_WAITING + 12):
        printer.print(f"line {number}")
    stream.go.set()
    while printer.waiting:
        threading.Event().wait(0.001)
    printer.print("the last")
    printer.close(SECONDS)
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "the last"
    assert lines[-2].startswith("(1") or lines[-2].startswith("(2")
    assert lines[-2].endswith(" lines are missing here: no one read them)")
    kept = len(lines) - 2
    assert lines[:kept] == [f"line {number}" for number in range(kept)]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("closed")])
def test_an_error_of_the_stream_ends_the_printing_alone(error: Exception) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    printer = Printer(Broken())
    for _ in range(3):
        printer.print("line")
    printer.close(SECONDS)
    assert printer.waiting == 0


def test_a_stream_that_does_not_wait_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "w") as stream:
        printer = Printer(stream)
        for _ in range(3):
            printer.print("x" * 50_000)
        parts = [source.readline() for _ in range(3)]
        printer.close(SECONDS)
    assert parts == [b"x" * 50_000 + b"\n"] * 3
