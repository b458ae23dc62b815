"""What mypy and pyright say about the programs in the folder ``typing``, line by line.

Each line there that ends with ``# error`` is a mistake that both find, and they find no other.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.typing

PROGRAMS = Path(__file__).parent / "typing"

# file and line
Place = tuple[str, int]


def marked() -> set[Place]:
    return {
        (path.name, number)
        for path in PROGRAMS.glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith("# error")
    }


def output_of(where: Path, *words: str) -> str:
    # a copy, so that no configuration is found above it
    shutil.copytree(PROGRAMS, where, dirs_exist_ok=True)
    command = [sys.executable, "-m", *words, *(path.name for path in PROGRAMS.glob("*.py"))]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def by_mypy(where: Path) -> dict[Place, str]:
    output = output_of(where, "mypy", "--strict", "--config-file=", "--cache-dir", str(where))
    errors = re.findall(r"^([^:\n]+):(\d+): error: (.*)$", output, re.MULTILINE)
    return {(name, int(line)): message for name, line, message in errors}


def by_pyright(where: Path) -> dict[Place, str]:
    output = output_of(where, "pyright", "--outputjson", "--pythonpath", sys.executable)
    return {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1): found["message"]
        for found in json.loads(output)["generalDiagnostics"]
    }


@pytest.mark.parametrize("found_by", [by_mypy, by_pyright])
def test_each_marked_mistake_is_found_and_nothing_else(
    found_by: Callable[[Path], dict[Place, str]], tmp_path: Path
) -> None:
    found, mistakes = found_by(tmp_path), marked()
    assert {place: found[place] for place in found.keys() - mistakes} == {}
    assert sorted(mistakes - found.keys()) == []
