"""The law of the house: a room imports only from rooms above it, type-only imports included.

So does a file of the kernel from the files above it, but for the types in `HELD_BY`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Final, TypeGuard

import pytest

import spry_py

# From top to bottom: each room imports only from those above it.
ROOMS: Final = (
    ("_spec", "child options termination errors naming check frozen values"),
    ("_policy", "restart breaker backoff"),
    (
        "_kernel",
        """
        guard facts phases messages timers mailbox here kept context life incarnation member
        shutdown callers calls alone loop before scope startup slow group tree root system dynamic
        partition
        """,
    ),
    (
        "_telemetry",
        "listener numbers spans metrics instruments sums logs attributes providers tracebacks",
    ),
    (
        "_handles",
        """
        child system context scope partition snapshot subscription following history tasks
        text supervisors
        """,
    ),
    ("_incidents", "otlp reading model rows timeline prose command"),
    ("_export", "otlp log_bridge log_filter captured"),
    ("telemetry", ""),
    ("_program", "beside dump service signals run printer story finding looking cli"),
    ("events", ""),
    ("lowlevel", ""),
)
ORDER: Final = [room for room, _ in ROOMS]
# Beside the house: they stand on its public face and on lowlevel, as anybody's library does.
EXTENSIONS: Final = (
    "aio",
    "_http",
    "components",
    "health",
    "observer",
    "periodic",
    "pipes",
    "processes",
    "ray",
    "remote",
    "testing",
    "threads",
    "watchdog",
)
# What a whole program may have beside its tree is an extension: files of the house that begin it
# where it is wanted, and not before, are the one way down there is.
BESIDE: Final = {
    ("_program", "health"): ["service.py"],
    ("_program", "observer"): ["beside.py", "looking.py"],
}
FOREIGN: Final = {
    "trio": {"_spec", "_policy", "_incidents", "_export"},
    "opentelemetry": {"_spec", "_policy", "_kernel", "_handles", "_incidents", "_program"},
    "tenacity": {*ORDER, *EXTENSIONS} - {"_policy"},
}
# What stands below a file of the kernel and is known to it by its type alone: what holds its
# objects, and is called by them. To be made fewer.
HELD_BY: Final = {
    "messages": {"incarnation", "member", "calls", "group"},
    "context": {"incarnation"},
    "life": {"incarnation", "member"},
    "incarnation": {"member", "loop"},
    "member": {"loop"},
    "shutdown": {"loop"},
    "callers": {"calls"},
    "calls": {"loop"},
    "alone": {"loop"},
    "loop": {"tree"},
    "scope": {"startup"},
    "startup": {"system"},
    "group": {"system"},
}
HOUSE: Final = Path(spry_py.__file__).parent
FILES: Final = sorted(HOUSE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return parts[0]


def nodes_of(path: Path, types: bool) -> Iterator[ast.AST]:
    """All that stands in a file; without ``types``, but for what only a type checker sees."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))


@functools.cache
def imported(path: Path, types: bool = True) -> tuple[str, ...]:
    """Every module that a file imports, inside functions too, by full name."""
    return tuple(_imported(path, types))


def _imported(path: Path, types: bool) -> Iterator[str]:
    package = ".".join(("spry_py", *path.relative_to(HOUSE).parts[:-1]))
    for node in nodes_of(path, types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{path} climbs out of its room by a relative import"
            yield f"{package}.{node.module}"
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (str(arg.value) for arg in node.args if is_text(arg))


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    """A module that is known only while the program runs is one of the user's."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def arrows() -> set[tuple[str, str]]:
    """From which room to which other one anything is imported."""
    found = set()
    for path in FILES:
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "spry_py":
                found.add((room_of(path), parts[1] if len(parts) > 1 else "__init__"))
    return {(start, end) for start, end in found if start != end}


def test_every_file_has_its_place() -> None:
    places = {
        f"{room}/{name}.py" if names else f"{room}.py"
        for room, names in ROOMS
        for name in (names.split() or [""])
    }
    found = {
        str(path.relative_to(HOUSE))
        for path in FILES
        if room_of(path) in ORDER and path.name != "__init__.py"
    }
    assert found == places
    others = {room_of(path) for path in FILES} - set(ORDER)
    assert others == {*EXTENSIONS, "__init__", "__main__"}


def test_a_room_imports_only_from_above() -> None:
    below = {
        (start, end)
        for start, end in arrows()
        if start in ORDER and (end not in ORDER or ORDER.index(end) > ORDER.index(start))
    }
    assert below == set(BESIDE)


def upside_down(room: str, types: bool) -> dict[str, set[str]]:
    """For each file of a room, what it imports of those that stand below it."""
    order = dict(ROOMS)[room].split()
    found: dict[str, set[str]] = {}
    for index, name in enumerate(order):
        names = imported(HOUSE / room / f"{name}.py", types)
        files = {one.rpartition(".")[2] for one in names if one.startswith(f"spry_py.{room}.")}
        if below := files & set(order[index:]):
            found[name] = below
    return found


def test_in_the_kernel_a_file_runs_only_with_those_above_it() -> None:
    assert upside_down("_kernel", types=False) == {}


def test_in_the_kernel_a_file_knows_by_type_alone_who_holds_its_objects() -> None:
    assert upside_down("_kernel", types=True) == HELD_BY


@pytest.mark.parametrize("arrow", BESIDE)
def test_what_runs_beside_a_tree_is_imported_late_and_in_few_files(arrow: tuple[str, str]) -> None:
    room, extension = arrow
    name, wanted = f"spry_py.{extension}", [HOUSE / room / file for file in BESIDE[arrow]]
    users = [
        path
        for path in FILES
        if room_of(path) == room and any(module.startswith(name) for module in imported(path))
    ]
    assert users == wanted
    at_once = {
        node.module or ""
        for path in wanted
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
    }
    assert [module for module in at_once if module.startswith(name)] == []


def test_telemetry_sees_facts_alone() -> None:
    theirs = [path for path in FILES if room_of(path) == "_telemetry"]
    seen = {name for path in theirs for name in imported(path) if name.startswith("spry_py.")}
    own = ("spry_py._telemetry.", "spry_py._spec.")
    assert {name for name in seen if not name.startswith(own)} == {"spry_py._kernel.facts"}


def test_extensions_use_what_anybody_may_use() -> None:
    allowed = {"__init__", "events", "lowlevel", "telemetry", *EXTENSIONS}
    assert {end for start, end in arrows() if start in EXTENSIONS} - allowed == set()


def test_incidents_stand_alone() -> None:
    assert {end for start, end in arrows() if start == "_incidents"} == set()


def test_the_export_is_for_those_who_ask_for_it() -> None:
    assert {start for start, end in arrows() if end == "_export"} == {"telemetry"}


@pytest.mark.parametrize("package", FOREIGN)
def test_what_is_foreign_stays_where_it_belongs(package: str) -> None:
    users = {
        room_of(path)
        for path in FILES
        if any(name.split(".")[0] == package for name in imported(path, types=False))
    }
    assert users & FOREIGN[package] == set()


def test_tenacity_is_spoken_in_one_file() -> None:
    users = [path.name for path in FILES if "tenacity" in set(imported(path))]
    assert users == ["backoff.py"]


def test_the_public_face_shows_the_rooms() -> None:
    shown = [line.split()[0].rstrip("/") for line in map_of_the_face()]
    assert shown == [*ORDER, *EXTENSIONS]


def map_of_the_face() -> list[str]:
    return [line for line in (spry_py.__doc__ or "").splitlines() if line.startswith("    ")]


def test_the_public_face_holds_imports_and_what_they_are_called() -> None:
    body = ast.parse((HOUSE / "__init__.py").read_text(encoding="utf-8")).body
    defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert (spry_py.__doc__ or "").startswith("Supervision trees")
    assert defined == []


def test_the_public_face_is_complete_and_belongs_to_the_package() -> None:
    assert sorted(set(spry_py.__all__)) == sorted(spry_py.__all__)
    found = [getattr(spry_py, name) for name in spry_py.__all__]
    homes = {item.__module__ for item in found if isinstance(item, type | FunctionType)}
    assert homes == {"spry_py"}
