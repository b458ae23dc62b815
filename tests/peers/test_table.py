"""The table of scenarios is whole, and every test it names exists."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest

from scenarios import SCENARIOS

TESTS = Path(__file__).parents[1]
# Whose numbers the tests of a file are named by, where it is not one of OTP and Elixir.
SOURCES = {
    "peers/test_crowds": "taskvisor ",
    "spec/test_defaults": "taskvisor ",
    "peers/test_taskvisor": "taskvisor ",
    "components/test_periodic": "taskvisor ",
    "processes/": "taskvisor ",
    "pipes/": "sisyphus ",
    "components/": "components ",
}


def numbered(letter: str, last: int, gaps: set[int], width: int = 2) -> list[str]:
    """The numbers of one part, those left out that the catalogue leaves out."""
    return [f"{letter}{n:0{width}}" for n in range(1, last + 1) if n not in gaps]


A_GAPS = {21, 29, 34, 43, 56, *range(62, 71), 74, 78, *range(80, 89)}
TASKVISOR = {
    "L": 11,
    "F": 7,
    "T": 4,
    "D": 6,
    "I": 16,
    "W": 14,
    "S": 15,
    "O": 9,
    "C": 12,
    "K": 24,
    "U": 16,
}
CATALOGUE = [
    *numbered("A", 91, A_GAPS),
    *numbered("C", 16, {4, 9, 10}),
    *numbered("E", 22, set()),
    *numbered("F", 44, set()),
    *(f"taskvisor {n}" for part, last in TASKVISOR.items() for n in numbered(part, last, set(), 1)),
    *(f"sisyphus {n}" for n in numbered("S", 11, set(), 1)),
    *(f"components {n}" for n in numbered("R", 4, set(), 1)),
]


@functools.cache
def defined_in(file: str) -> tuple[str, ...]:
    """The names of the tests in that file."""
    body = ast.parse((TESTS / file).read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return tuple(node.name for node in found if node.name.startswith("test_"))


def named_by(test: str, source: str) -> list[str]:
    """The numbers that the name of a test begins with."""
    words = test.split("_")[1:]
    own = itertools.takewhile(re.compile(r"[acef]\d\d|[a-z]\d{1,2}").fullmatch, words)
    return [source + word.upper() for word in own]


def test_every_scenario_has_its_row() -> None:
    assert sorted(SCENARIOS) == sorted(CATALOGUE)


@pytest.mark.parametrize("number", SCENARIOS)
def test_what_a_row_names_exists(number: str) -> None:
    told = SCENARIOS[number]
    places = [place.split("::") for place in told.split()] if "::" in told else []
    assert [test for file, test in places if test not in defined_in(file)] == []
    assert places or told.strip()


FILES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("file", FILES)
def test_a_test_that_has_a_number_is_in_its_row(file: str) -> None:
    source = next((told for start, told in SOURCES.items() if file.startswith(start)), "")
    told = [(test, number) for test in defined_in(file) for number in named_by(test, source)]
    assert [
        f"{number} {test}"
        for test, number in told
        if f"{file}::{test}" not in SCENARIOS.get(number, "").split()
    ] == []
