"""``python -m benchmarks peers``: what a child costs here, and what it costs elsewhere.

Each program in ``programs/`` starts as many children as it is given, stops them, and restarts one
child as often; it prints the seconds that each took. The libraries of others are installed into
environments of their own, and Erlang is run where it is installed (Debian: erlang-base). All take
turns, round by round.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

PROGRAMS: Final = Path(__file__).with_name("programs")
CHILDREN: Final = 1_000
ROUNDS: Final = 7
# Seconds after which no further round begins, but for the first that counts: where other programs
# run, too, one may take a minute.
LONGEST: Final = 240

# What each program is called, and what it needs beside Python.
OURS: Final = "spry_py"
OF_TRIO: Final = {
    OURS: "ours.py",
    "bare trio": "bare_trio.py",
    "asyncio.TaskGroup": "task_group.py",
}
OTHERS: Final = {
    "triotp": ("triotp_.py", "triotp"),
    "aiomisc": ("aiomisc_.py", "aiomisc"),
    "mode": ("mode_.py", "mode-streaming"),
}
ERLANG: Final = "Erlang/OTP"


def main() -> None:
    until = monotonic() + LONGEST
    with tempfile.TemporaryDirectory() as directory:
        commands = dict(_commands(Path(directory)))
        rounds = list(_rounds(commands, until))
    print(f"Microseconds for each of {CHILDREN:,} children; the best of {len(rounds)} rounds\n")
    print("| | start | stop | crash and restart |")
    print("|---|--:|--:|--:|")
    for name in commands:
        columns = zip(*(seconds[name] for seconds in rounds), strict=True)
        print(f"| {name} | {' | '.join(map(_shown, columns))} |")


def _rounds(
    commands: Mapping[str, Sequence[str]], until: float
) -> Iterator[dict[str, list[float]]]:
    """The seconds of each program, round by round; not of a first one, in which caches fill."""
    for number in range(ROUNDS + 1):
        if number > 1 and monotonic() > until:
            return
        seconds = {name: _seconds(command) for name, command in commands.items()}
        if number:
            yield seconds


def _commands(directory: Path) -> list[tuple[str, Sequence[str]]]:
    found: list[tuple[str, Sequence[str]]] = [
        (name, (sys.executable, str(PROGRAMS / program))) for name, program in OF_TRIO.items()
    ]
    for name, (program, package) in OTHERS.items():
        python = directory / name / "bin" / "python"
        venv.create(directory / name, with_pip=True)
        install = (python, "-m", "pip", "install", "-q", package)
        subprocess.run(install, check=True, timeout=300)
        found.append((name, (str(python), str(PROGRAMS / program))))
    if shutil.which("erlc"):
        subprocess.run(["erlc", "-o", directory, PROGRAMS / "otp.erl"], check=True)
        found.append((ERLANG, ("erl", "-noshell", "-pa", str(directory), "-run", "otp", "main")))
    else:
        print(f"without {ERLANG}: apt-get install erlang-base", file=sys.stderr)
    return found


def _seconds(command: Sequence[str]) -> list[float]:
    argv = [*command, str(CHILDREN)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    return [float(word) for word in done.stdout.split()]


def _shown(column: Sequence[float]) -> str:
    # the quietest round: whatever else the machine does only makes it longer
    micros = min(column) / CHILDREN * 1e6
    return "-" if math.isnan(micros) else f"{micros:,.0f}"
