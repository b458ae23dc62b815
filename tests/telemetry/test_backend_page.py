"""examples/collector.md: its commands run as written, and show what the page says.

Run with `pytest -m backend`; needs what the page installs, and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import Server, polled, serving

pytestmark = pytest.mark.backend
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "examples" / "collector.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL, COLLECT, EXPORT, READ = [text for kind, text in FENCE.findall(PAGE) if kind == "sh"]
IN_SHORT, ALL_SPANS, _ = [text for kind, text in FENCE.findall(PAGE) if kind == "text"]
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "spry_py", "examples")
SPAN = re.compile(
    r"Parent ID +: (?P<parent>\w*)\n +ID +: (?P<id>\w+)\n +Name +: (?P<name>[\w.]+)\n"
    r".*?Status message : (?P<error>[^\n]*)\nAttributes:\n(?P<attributes>(?: +-> [^\n]*\n)+)",
    re.DOTALL,
)


def run(commands: str, place: Path, **variables: str) -> str:
    result = subprocess.run(
        ["bash", "-ec", commands],
        cwd=place,
        env=clean() | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def clean() -> dict[str, str]:
    """Only what is installed by the page: nothing of this run's own paths and settings."""
    ours = ("PYTHON", "OTEL_", "ROTEL_", "COV", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the page's first command has been run."""
    place = tmp_path_factory.mktemp("page")
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / name)
    run(INSTALL, place)
    return place


@pytest.fixture(scope="module")
def collector(place: Path) -> Iterator[Server]:
    def command(ports: list[int]) -> list[str]:
        http, grpc = (f"127.0.0.1:{port}" for port in ports)
        where = [f"ROTEL_OTLP_HTTP_ENDPOINT={http}", f"ROTEL_OTLP_GRPC_ENDPOINT={grpc}"]
        return ["env", "-u", "PYTHONPATH", *where, "bash", "-ec", COLLECT]

    with serving(command, 2, place) as server:
        yield server


def lines_below(spans: list[dict[str, str]], parent: str, depth: int = 0) -> list[str]:
    """What the page shows of a trace: name, path and error of each span, indented."""
    lines = []
    for span in spans:
        if span["parent"] == parent:
            found = re.search(r"spry\.child\.path: Str\((.*?)\)", span["attributes"])
            found = found or re.search(r"spry\.system\.path: Str\((.*?)\)", span["attributes"])
            assert found is not None
            error = f"  ({span['error']})" if span["error"] else ""
            lines.append(f"{'  ' * depth}{span['name']} {found[1]}{error}")
            lines += lines_below(spans, span["id"], depth + 1)
    return lines


def test_the_collector_shows_the_incident(place: Path, collector: Server) -> None:
    run(EXPORT, place, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.ports[0]}")

    def incident() -> list[str] | None:
        spans = [match.groupdict() for match in SPAN.finditer(collector.log)]
        lines = lines_below([span for span in spans if span["name"]], "")
        start = next((n for n, line in enumerate(lines) if line.startswith("spry.term")), None)
        return lines[start : start + 7] if start is not None else None

    found = polled(incident, 20.0)
    assert found is not None, collector.log
    assert sorted(found) == sorted(IN_SHORT.splitlines())
    told = polled(lambda: "spry.child.restarts" in collector.log or None, 20.0)
    assert told, collector.log
    assert "db failed: ConnectionResetError" in collector.log


def test_the_incident_is_read_from_a_file(place: Path) -> None:
    told = run(READ, place, COLUMNS="100")
    assert "shop/db, a permanent worker, failed after 1 s with ConnectionResetError" in told
    assert told.splitlines()[-1] == "1 incident in 13 spans: 1 healthy again"
    shown = run(".venv/bin/python -m examples.show_spans incidents.jsonl", place)
    assert shown == ALL_SPANS
