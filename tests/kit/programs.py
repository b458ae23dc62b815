"""Programs under test: started, read line by line, signalled, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import spry_py

SECONDS = 60.0


def environment() -> dict[str, str]:
    """The package under test is importable in the program, wherever it was imported from here."""
    where = str(Path(spry_py.__file__).parents[1])
    path = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH", "")]))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


class Program:
    """One running program; its two output streams are read as one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.status: int | None = None

    def until(self, text: str) -> str:
        """Reads on to the next line that holds `text`, and returns it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(self.lines))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Reads what is left and returns the exit status; a negative one names a signal."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self.process.stdout]
        return self.process.wait(SECONDS)

    def index(self, *texts: str) -> int:
        """The number of the first line that holds all these texts."""
        return self._numbers(texts)[0]

    def last_index(self, *texts: str) -> int:
        return self._numbers(texts)[-1]

    def _numbers(self, texts: tuple[str, ...]) -> list[int]:
        numbers = [n for n, line in enumerate(self.lines) if all(text in line for text in texts)]
        assert numbers, f"no line with {texts} in:\n" + "\n".join(self.lines)
        return numbers


@contextmanager
def running(
    arguments: Sequence[str], cwd: Path, seconds: float = SECONDS, **variables: str
) -> Iterator[Program]:
    """The program is killed when its time is over, or when the test is done with it."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment() | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        yield Program(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def finished(
    arguments: Sequence[str], cwd: Path, given: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """A program that has run to its end, with `given` as its standard input."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment() | variables,
        input=given,
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS,
    )
