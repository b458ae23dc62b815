"""Sessions at a shell, as pages show them: run, in real time, and compared line by line.

A block ``shell-session`` is a list of commands, each with the lines that come until the next one.
``command &`` goes on behind the others, and ``kill %1`` signals the first such one. Lines of
several programs may come in any order between each other, those of one in theirs. Times, and free
ports instead of those that a page names, are no difference. A line that ends in ``…`` goes on.
``<!-- left out: PATTERN -->`` drops lines that a page does not show, wherever they come.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from programs import SECONDS, environment
from servers import free_port

BLOCK = re.compile(r"^```shell-session\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME = re.compile(r"(  up)? *\b\d+(\.\d+)? ?(ms|s)\b")
PORT = re.compile(r"\b80[0-9]\d\b")
LEFT_OUT = re.compile(r"^<!-- left out: (.*) -->$", re.MULTILINE)
KILL = re.compile(r"kill (?:-(?P<signal>\w+) )?%(?P<job>\d+)")


class Step(NamedTuple):
    command: str
    lines: list[str]


def steps_of(text: str) -> Iterator[Step]:
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.removesuffix("\n").split("\n")
            yield Step(command, lines)


class Job:
    """One program of a session."""

    def __init__(
        self, command: str, place: Path, variables: dict[str, str], left_out: list[str]
    ) -> None:
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=place,
            env=environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._left_out = left_out
        # only the thread appends
        self.lines: list[str] = []
        self.taken = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not any(re.search(pattern, line) for pattern in self._left_out):
                self.lines.append(line.rstrip("\n"))

    @property
    def has_ended(self) -> bool:
        return not self._reader.is_alive()

    def take(self, line: str) -> bool:
        is_it = self.taken < len(self.lines) and is_shown(self.lines[self.taken], line)
        self.taken += is_it
        return is_it

    def end(self) -> None:
        """Wait for its end, which must be a good one, with nothing that the page does not show."""
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert (status, self.lines[self.taken :]) == (0, [])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Session:
    """The shell of one page."""

    def __init__(self, place: Path, variables: dict[str, str], left_out: list[str]) -> None:
        self._place = place
        self._variables = variables
        self._left_out = left_out
        # all that were begun, and those that go on behind the others
        self._all: list[Job] = []
        self.jobs: list[Job] = []

    def play(self, step: Step) -> None:
        if kill := KILL.fullmatch(step.command):
            number = signal.Signals[f"SIG{kill['signal'] or 'TERM'}"]
            self.jobs[int(kill["job"]) - 1].process.send_signal(number)
            self._expect(step, self.jobs)
            return
        command, is_behind = step.command.removesuffix("&"), step.command.endswith("&")
        if is_behind and not command.startswith("("):
            # the signals of the page are for the program, not for a shell around it
            command = f"exec env {command}"
        job = Job(command, self._place, self._variables, self._left_out)
        self._all.append(job)
        if is_behind:
            self.jobs.append(job)
            self._expect(step, self.jobs)
        else:
            self._expect(step, [job, *self.jobs])
            job.end()

    def _expect(self, step: Step, jobs: list[Job]) -> None:
        for line in step.lines:
            deadline = time.monotonic() + 20
            while True:
                # looked at first: what ends afterwards may have written until then
                is_over = all(job.has_ended for job in jobs)
                if any(job.take(line) for job in jobs):
                    break
                rest = [job.lines[job.taken :] for job in jobs]
                assert not is_over, (step.command, line, rest)
                assert time.monotonic() < deadline, (step.command, line, rest)
                time.sleep(0.005)

    def close(self) -> None:
        for job in self._all:
            job.kill()


def is_shown(line: str, shown: str) -> bool:
    line, shown = TIME.sub("", line), TIME.sub("", shown)
    return line.startswith(shown[:-1]) if shown.endswith("…") else line == shown


def tools_in(place: Path) -> str:
    """A PATH on which ``spry-py`` and ``python3`` are those under test."""
    tools = place / "bin"
    tools.mkdir()
    for name, arguments in (("spry-py", "-m spry_py "), ("python3", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (tools / name).chmod(0o755)
    return f"{tools}{os.pathsep}{os.environ['PATH']}"


def play(text: str, place: Path, root: Path) -> None:
    """Run all sessions of a page in one directory, with the examples of the repository at hand."""
    (place / "examples").symlink_to(root / "examples")
    ports = {port: str(free_port()) for port in sorted(set(PORT.findall(text)))}
    text = PORT.sub(lambda found: ports[found[0]], text)
    variables = {"PORT": ports.get("8080", "0"), "TALK_PORT": ports.get("8090", "0")}
    # of a reader's shell, where `python3 -m` finds what lies in the directory
    variables |= {"PATH": tools_in(place), "COLUMNS": "80", "PYTHONSAFEPATH": ""}
    # not below `place`: the name of a socket may not be long
    with tempfile.TemporaryDirectory(prefix="spry-") as sockets:
        variables["XDG_RUNTIME_DIR"] = sockets
        session = Session(place, variables, LEFT_OUT.findall(text))
        try:
            for step in steps_of(text):
                session.play(step)
            for job in session.jobs:
                job.end()
        finally:
            session.close()
