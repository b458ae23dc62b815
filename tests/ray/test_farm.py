"""examples/farm.py as a program: a worker that is killed, and stops in its midst."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from living import children_of, is_running
from programs import Program, running
from raying import Farm

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
STORED = re.compile(r"(\d+) (\d+) (\d+)")
SOON = 20.0
# a local Ray takes its time on a busy machine
STARTS = 180.0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FARM_SPANS", str(tmp_path))
    # a local Ray
    monkeypatch.delenv("FARM", raising=False)


@contextmanager
def at_work() -> Iterator[Program]:
    """The program, when it has stored three lines."""
    with running(["-m", "spry_py", "run", "examples.farm:farm"], ROOT, STARTS) as program:
        program.until("2 4 ")
        yield program


def stored(program: Program) -> list[tuple[int, int, int]]:
    """Number, square and process of all lines, in the order in which they were stored."""
    found = map(STORED.fullmatch, program.lines)
    return [(int(it[1]), int(it[2]), int(it[3])) for it in found if it is not None]


def below(pid: int) -> list[int]:
    """The processes that it has begun, and those that these have."""
    children = children_of(pid)
    return children + [far for child in children for far in below(child)]


def are_gone(pids: list[int]) -> bool:
    until = time.monotonic() + SOON
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    return not any(map(is_running, pids))


Span = dict[str, Any]


def spans_in(directory: Path) -> list[Span]:
    lines = [line for file in directory.glob("*.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def read(span: Span, spans: list[Span]) -> Any:
    """Its name, what it is of, and what stands below it, in order of time."""
    attributes = span["attributes"]
    names = ("line", "spry.child.path", "spry.system.path")
    what = next(attributes[name] for name in names if name in attributes)
    under = [it for it in spans if it["parent_id"] == span["context"]["span_id"]]
    under.sort(key=lambda it: it["start_time"])
    return span["name"], what, [read(it, spans) for it in under]


def test_a_killed_worker_loses_no_line_and_is_one_trace(tmp_path: Path) -> None:
    with at_work() as program:
        worker = stored(program)[-1][2]
        os.kill(worker, signal.SIGKILL)
        assert program.end() == 0
    lines = stored(program)
    assert [(number, square) for number, square, _ in lines] == [(n, n * n) for n in range(20)]
    assert len({pid for _, _, pid in lines}) == 2

    spans = spans_in(tmp_path)
    (lost,) = (it for it in spans if it["status"]["status_code"] == "ERROR" and _is_term(it))
    trace = [it for it in spans if it["context"]["trace_id"] == lost["context"]["trace_id"]]
    name, path, (restart,) = read(lost, trace)
    assert (name, path) == ("spry.term", "farm/pipeline/parse")
    name, path, (start,) = restart
    assert (name, path) == ("spry.try_restart", "farm/pipeline")
    name, path, parsed = start
    assert (name, path) == ("spry.child.start", "farm/pipeline/parse")
    # from the line on that was in hand; the last ones may not have been sent in time
    by_second = [f"{number} {square}" for number, square, pid in lines if pid != worker]
    found = [what for name, what, _ in parsed if name == "parse"]
    assert found
    assert found == by_second[: len(found)]
    assert {name for name, _, _ in parsed} == {"parse", "spry.child.start"}


def _is_term(span: Span) -> bool:
    return bool(span["name"] == "spry.term")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda it: it.name)
def test_stopped_in_its_midst_it_ends_in_order_and_leaves_nothing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("FARM", farm.address)
    with at_work() as program:
        begun = [*below(program.process.pid), stored(program)[0][2]]
        program.send(number)
        assert program.end() == 0
    lines = [(number, square) for number, square, _ in stored(program)]
    assert lines == [(n, n * n) for n in range(len(lines))]
    assert len(lines) < 20
    assert len(begun) > 1
    assert are_gone(begun)
    assert farm.actors_are_gone()
