"""docs/internals.md: what it shows of the table is in the table, what it names is in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from phase_pages import PARTS, part_of
from spry_py._policy.restart import STRATEGIES

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "spry_py"
PAGE = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# a word of Python, one of trio, and the key of the child that the page follows
FOREIGN = {"match", "Cancelled", "db"}


def names_in(node: ast.AST, prefix: str = "") -> Iterator[str]:
    """What a file defines: names at its top, and `Class.member`, fields of `__init__` included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child.name
            yield from names_in(child, f"{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name
            if child.name == "__init__":
                fields = (one for one in ast.walk(child) if isinstance(one, ast.Attribute))
                yield from (prefix + one.attr for one in fields)
        elif isinstance(child, ast.AnnAssign | ast.Assign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from (prefix + one.id for one in targets if isinstance(one, ast.Name))


def test_each_name_is_in_the_code() -> None:
    files = {path.relative_to(HOUSE).as_posix(): path for path in HOUSE.rglob("*.py")}
    sources = [ast.parse(path.read_text(encoding="utf-8")) for path in files.values()]
    known = {name for source in sources for name in names_in(source)}
    rooms = {path.rpartition("/")[0] for path in files}
    known |= {name.rpartition(".")[2] for name in known}
    mentioned = set(CODE.findall(re.sub(r"(?s)^```.*?^```$", "", PAGE, flags=re.MULTILINE)))
    words = {*files, *rooms, *STRATEGIES, *FOREIGN}
    assert mentioned - known - words == set()
    assert {"Loop.handle", "_kernel/loop.py"} <= mentioned


@pytest.mark.parametrize(("page", "name"), PARTS)
def test_what_is_shown_of_the_phases_is_what_the_table_says(page: str, name: str) -> None:
    """After a change of the table: `python tests/kit/phase_pages.py`."""
    assert part_of(page, name)[0].splitlines() == list(PARTS[page, name]())
