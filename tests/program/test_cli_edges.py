"""The command line at the edges: where it looks for modules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from programs import environment, finished

MODULE = """
from spry_py import Child, cancel_on_settle
import trio

async def steady():
    with cancel_on_settle():
        await trio.sleep_forever()

system = [Child("db", steady)]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def spry(name: str, place: Path, **variables: str) -> tuple[int, list[str]]:
    arguments = ["-m", "spry_py", "run", name, "--for", "0.2", "--traces", "none"]
    done = finished(arguments, place, **variables)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_a_directory_that_is_searched_already_is_not_searched_twice(place: Path) -> None:
    extra = "import os, sys\nprint('searched', sys.path.count(os.getcwd()))\n"
    (place / "app.py").write_text(extra + MODULE, encoding="utf-8")
    path = environment()["PYTHONPATH"]
    for variables in ({}, {"PYTHONPATH": f"{path}{os.pathsep}{place}"}):
        status, lines = spry("app:system", place, **variables)
        assert (status, lines[0]) == (0, "searched 1")
