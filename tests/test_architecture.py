"""The layer law (CONTRIBUTING.md): a file imports only from the lines above its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

import spry_py

# The order of the house: a file imports only from the lines above it, or from its left.
LAYERS = (
    ("_frozen", "_check", "_errors", "_naming", "_options", "_child", "_termination"),
    ("_breaker", "_backoff", "_policy"),
    ("_here", "_attributes", "_tracebacks", "_guard", "_events", "_subscription"),
    ("_logs", "_spans", "_metrics", "_telemetry"),
    ("_alarm", "_kept", "_context", "_run_child", "_incarnation", "_nursery", "_deadlock"),
    ("_snapshot", "_child_handle", "_tasks", "_handle"),
    ("_shutdown", "_calls", "_slow", "_tree", "_mailbox", "_keeper", "_loop"),
    ("_scope", "_before", "_restart", "_startup", "_replay", "_root", "_supervisor"),
    ("_dynamic", "_partition"),
    ("_otlp_lines", "_span_lines", "_incidents", "_incident_rows"),
    ("_timeline", "_account", "_retell"),
    ("_threads_stack", "_threads_worker", "threads", "watchdog"),
    ("_components_status", "_components_life", "components", "periodic"),
    ("_processes_call", "_processes_failed", "_processes_output", "_processes_birth"),
    ("_processes_run", "_processes_ready", "_processes_order", "processes"),
    ("_pipes_letters", "_pipes_hand", "_pipes_spans", "_pipes_pipe"),
    ("_pipes_stage", "_pipes_plumbing", "pipes"),
    ("_log_bridge", "_otlp", "telemetry", "_run"),
    ("_printer", "_story", "_finding", "_cli"),
    ("__init__", "__main__"),
)
ORDER = [name for layer in LAYERS for name in layer]
PURE = {name for layer in LAYERS[:2] for name in layer}
ONLY_IN = {
    "trio": set(ORDER) - PURE - {"_attributes", "_logs", "_events"},
    "opentelemetry": {
        "_pipes_spans",
        "_processes_call",
        "_spans",
        "_metrics",
        "_log_bridge",
        "_otlp",
        "telemetry",
    },
    "tenacity": {"_backoff"},
}
# Public modules beside the kernel: they stand on its public face, as a user's program does.
EXTENSIONS = {
    "_pipes_letters",
    "_pipes_hand",
    "_pipes_pipe",
    "_pipes_stage",
    "_pipes_plumbing",
    "pipes",
    "_processes_failed",
    "_processes_output",
    "_processes_run",
    "_components_life",
    "components",
    "periodic",
    "threads",
    "watchdog",
}
MOST_LINES = 500

HOUSE = Path(spry_py.__file__).parent
FILES = sorted(HOUSE.glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports when it runs, inside functions too, by absolute name."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from from_one(node)
        else:
            pending.extend(below(node))


def below(node: ast.AST) -> list[ast.AST]:
    """What is inside, but for names that only a type checker ever sees."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return list(node.orelse)
    return list(ast.iter_child_nodes(node))


def from_one(node: ast.ImportFrom) -> Iterator[str]:
    module = ".".join(filter(None, ["spry_py" if node.level else "", node.module or ""]))
    if module == "spry_py":
        for alias in node.names:
            is_file = (HOUSE / f"{alias.name}.py").exists()
            yield f"spry_py.{alias.name}" if is_file else "spry_py.__init__"
    else:
        yield module


def siblings(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("spry_py.")}


def test_every_file_has_its_place() -> None:
    assert sorted(path.stem for path in FILES) == sorted(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_only_from_above(path: Path) -> None:
    above = set(ORDER[: ORDER.index(path.stem)])
    face = {"__init__"} if path.stem in EXTENSIONS else set[str]()
    assert siblings(path) - above - face == set()


def test_the_public_face_shows_the_same_map() -> None:
    lines = [line[4:] for line in (spry_py.__doc__ or "").splitlines() if line.startswith("    ")]
    assert tuple(tuple(line.partition("  ")[0].split()) for line in lines) == LAYERS[:-1]


@pytest.mark.parametrize("package", ONLY_IN)
def test_what_is_foreign_stays_where_it_belongs(package: str) -> None:
    users = {
        path.stem for path in FILES if any(name.split(".")[0] == package for name in imported(path))
    }
    assert users - ONLY_IN[package] == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_is_longer_than_a_reader_can_bear(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


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
