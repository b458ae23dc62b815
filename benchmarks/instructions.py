"""Ratios of instructions: a change of one percent shows, on a busy machine, too.

The instructions that callgrind counts are the same each time, within 0.1 %. A figure is what one
child more costs: the difference between many and few children, by the difference of the counts, so
that what happens once is left out. ``ratios.toml`` has the figures that hold; slower than that must
be a decision, which ``python -m benchmarks --instructions --write`` writes down.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from .counted import FEW, GROUPS, MANY, MARK
from .harness import Row, table

WRITTEN: Final = Path(__file__).with_name("ratios.toml")
MOST: Final = 1.03


class Figure(NamedTuple):
    """A ratio: what spry_py does, what it is compared with, and what is aimed at."""

    name: str
    work: str
    bare: str
    aim: float


FIGURES: Final = (
    Figure("scope.start in a system function", "scope.start", "bare start", 0.90),
    Figure("boot of a list", "boot", "bare start", 0.70),
    Figure("ordered stop", "stop", "bare stop", 0.95),
    Figure("crash and restart", "restart", "bare cycle", 0.90),
    Figure("start_child", "start_child", "bare start", 1.05),
    Figure("start_child and terminate_child", "start and end", "bare start and end", 1.15),
    Figure("nobody looks, above no events at all", "restart", "restart without events", 1.03),
    Figure("no provider, above the restart", "restart with logs", "restart", 1.05),
    Figure("the same, with a handler that takes records", "restart with records", "restart", 2.1),
    Figure("traces alone, crash and restart", "restart with traces", "bare cycle", 4.7),
    Figure("all signals, crash and restart", "restart with all signals", "bare cycle", 8.0),
    Figure(
        "the same, above a bare cycle that emits the same by hand",
        "restart with all signals",
        "bare cycle with all signals",
        1.3,
    ),
    Figure("import spry_py", "import spry_py", "import trio", 1.25),
    Figure("spry-py --version", "spry-py --version", "import trio", 1.5),
)

PROGRAMS: Final[dict[str, Sequence[str]]] = {
    "import trio": ("-c", "import trio"),
    "import spry_py": ("-c", "import spry_py"),
    "spry-py --version": (str(Path(sysconfig.get_path("scripts"), "spry-py")), "--version"),
}

_NEVER: Final = "1000000000"
_QUEUE: Final = "1000000"
ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "",
    # all is exported at the flush in the end, not in a thread meanwhile
    "OTEL_BSP_SCHEDULE_DELAY": _NEVER,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _QUEUE,
    "OTEL_BLRP_SCHEDULE_DELAY": _NEVER,
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": _QUEUE,
    "OTEL_METRIC_EXPORT_INTERVAL": _NEVER,
}


def counted(figures: Iterable[Figure]) -> dict[str, float]:
    """Instructions of each work, for one child more, and of each program as a whole."""
    wanted = {name for figure in figures for name in (figure.work, figure.bare)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts: list[Future[dict[str, float]]] = []
        for group, works in GROUPS.items():
            if some := [work for work in works if work in wanted]:
                parts.append(pool.submit(_group, group, some))
        parts += [pool.submit(_program, name) for name in PROGRAMS if name in wanted]
        return {name: count for part in parts for name, count in part.result().items()}


def _group(name: str, works: Sequence[str]) -> dict[str, float]:
    program = ("-m", "benchmarks.counted", name)
    _compile(program)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "counts")
        options = (f"--dump-before={MARK}", "--dump-line=no", f"--callgrind-out-file={out}")
        printed = _count(options, (*program, *works)).stdout
        counts: dict[tuple[str, int], int] = {}
        for line in printed.splitlines():
            work, children, first, last = line.split("\t")
            # part N is what was counted up to mark N since the one before it
            parts = range(int(first) + 1, int(last) + 1, 2)
            counts[work, int(children)] = sum(_total(Path(f"{out}.{part}")) for part in parts)
    return {work: (counts[work, MANY] - counts[work, FEW]) / (MANY - FEW) for work in works}


def _total(part: Path) -> int:
    return _number("^totals: ([0-9]+)$", part.read_text())


def _program(name: str) -> dict[str, float]:
    _compile(PROGRAMS[name])
    printed = _count(("--callgrind-out-file=/dev/null",), PROGRAMS[name]).stderr
    return {name: _number("Collected : ([0-9]+)$", printed)}


def _compile(program: Sequence[str]) -> None:
    """Run it once without callgrind: modules that are compiled first lie elsewhere in memory."""
    argv = [sys.executable, *program]
    environment = os.environ | ENVIRONMENT
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


def _count(options: Sequence[str], program: Sequence[str]) -> subprocess.CompletedProcess[str]:
    argv = ["valgrind", "--tool=callgrind", *options, sys.executable, *program]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stderr}")
    return done


def row(figure: Figure, counts: dict[str, float], written: dict[str, float]) -> Row:
    ratio = counts[figure.work] / counts[figure.bare]
    known = written.get(figure.name)
    return Row(
        figure.name,
        f"{counts[figure.work]:,.0f}",
        f"{counts[figure.bare]:,.0f}",
        f"{ratio:.3f}",
        f"{figure.aim:.2f}",
        ratio <= figure.aim,
        f"{ratio / known - 1:+.1%} from the {known:.3f} written" if known else "",
    )


def versions() -> dict[str, str]:
    """What ratios hold for."""
    packages = {name: version(name) for name in ("trio", "opentelemetry-sdk")}
    return {"python": platform.python_version(), **packages}


def write(ratios: dict[str, float]) -> None:
    lines = (
        "# Instructions, as ratios to bare trio: python -m benchmarks --instructions --write",
        *(f'{name} = "{value}"' for name, value in versions().items()),
        "",
        "[ratios]",
        *(f'"{name}" = {ratio:.3f}' for name, ratio in ratios.items()),
    )
    WRITTEN.write_text("\n".join(lines) + "\n")


def main(wanted: Sequence[str], *, writes: bool) -> None:
    """Print the figures whose names contain one of ``wanted``, all if there is none.

    Ends with status 1 if one is more than 3 % above what is written for these versions.
    """
    if shutil.which("valgrind") is None:
        raise SystemExit("this needs valgrind: apt-get install valgrind")
    figures = [f for f in FIGURES if not wanted or any(part in f.name for part in wanted)]
    counts = counted(figures)
    written = tomllib.loads(WRITTEN.read_text()) if WRITTEN.exists() else {"ratios": {}}
    known: dict[str, float] = written.pop("ratios")
    print(", ".join(f"{name} {value}" for name, value in versions().items()) + "\n")
    print(table([row(figure, counts, known) for figure in figures]))
    ratios = {figure.name: counts[figure.work] / counts[figure.bare] for figure in figures}
    if writes:
        write(known | ratios)
    elif written != versions():
        print(f"\nnot compared: the ratios are written for {written}")
    elif worse := [name for name, ratio in ratios.items() if ratio > MOST * known.get(name, inf)]:
        raise SystemExit(f"\nmore than 3 % above what is written: {', '.join(worse)}")
