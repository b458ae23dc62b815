"""docs/reference: nothing that a user can give or see is missing in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

import drawn
import made
from recorded import all_runs, stop
from spry_py import ChildOptions, events
from spry_py._telemetry.logs import LEVELS
from spry_py.health.server import _PROBES

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "spry_py"
REFERENCE = ROOT / "docs" / "reference"
VARIABLE = re.compile(r"(?:SPRY_PY|OTEL|NOTIFY|WATCHDOG|XDG)_[A-Z_]+[A-Z]")
NAME = re.compile(r"spry(?:\.[a-z_]+)+")


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def constants() -> Iterator[str]:
    """Every string in the code that is not a docstring."""
    for path in HOUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def public_modules() -> set[str]:
    parts = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {f"spry_py.{part}" for part in parts if not part.startswith("_")} | {"spry_py"}


def test_each_public_module_has_a_page() -> None:
    pages = {path.stem for path in REFERENCE.glob("spry_py*.md")}
    assert pages == public_modules()
    for name in pages:
        assert f".. automodule:: {name}\n   :members:" in page(name)


@pytest.mark.parametrize("taker", made.TAKERS)
def test_each_option_is_in_the_table_with_what_it_may_be(taker: str) -> None:
    assert f"```{{made}} options {taker}\n" in page("options")
    _, rows = made.options(taker)
    assert [row[0] for row in rows if "" in (row[1], row[3])] == []


def test_the_options_of_a_child_are_all_there() -> None:
    _, rows = made.options("Child")
    assert {row[0].strip("`") for row in rows} == {*get_type_hints(ChildOptions), "key", "start"}


def test_each_event_is_in_the_table() -> None:
    _, rows = made.all_events()
    assert {row[0].strip("`") for row in rows} == set(events.__all__)
    seen = {type(event) for recorded in all_runs() for event in recorded.events}
    assert set(LEVELS) - seen == set()


def test_each_name_of_telemetry_is_in_the_reference() -> None:
    tables = made.markdown(made.spans()) + made.markdown(made.metrics())
    known = set(NAME.findall(tables + page("telemetry")))
    assert {text for text in constants() if NAME.fullmatch(text)} - known == set()


def test_each_variable_of_the_environment_is_in_the_reference() -> None:
    named = {text for text in constants() if VARIABLE.fullmatch(text)}
    assert named - set(re.findall(r"`(\w+)`", page("program"))) == set()
    assert "XDG_RUNTIME_DIR" in named


def test_each_probe_is_in_the_reference() -> None:
    assert set(re.findall(r"^\| `GET (/\w+z)`", page("program"), re.MULTILINE)) == set(_PROBES)


@pytest.mark.parametrize("table", ["logs", "commands", "endpoints", "statuses"])
def test_each_table_is_shown(table: str) -> None:
    _, rows = made.TABLES[table]()
    assert rows
    assert f"```{{made}} {table}\n" in page("telemetry") + page("program")


def test_each_picture_is_drawn_and_shown() -> None:
    shown = {
        name
        for path in (ROOT / "docs").glob("**/*.md")
        for name in re.findall(r"^```\{drawn\} (\w+)$", path.read_text("utf-8"), re.MULTILINE)
    }
    assert shown == set(drawn.PICTURES)


def test_a_timeline_is_what_was_recorded() -> None:
    lanes = drawn.lanes_of(stop())
    told = {
        lane.path: [(round(end - at, 3), state) for at, end, state in lane.parts] for lane in lanes
    }
    assert told == {
        "shop": [(1.1, "starting"), (3.0, "running"), (4.5, "stopping")],
        "shop/db": [(0.5, "starting"), (7.1, "running"), (1.0, "stopping")],
        "shop/jobs": [
            *((0.3, "starting"), (4.8, "running"), (2.0, "stopping")),
            (0.0, "aborting"),
        ],
        "shop/api": [(0.3, "starting"), (3.0, "running"), (1.5, "stopping")],
    }
