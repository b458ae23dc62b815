"""What ``import spry_py`` may load: trio, the traces of OpenTelemetry's API, and our own rooms."""

from __future__ import annotations

import subprocess
import sys

ROOMS = {"_spec", "_policy", "_kernel", "_telemetry", "_handles", "_program"}
# What a program needs that is run with options of `run`, or that has set a provider of metrics.
NOT_YET = {
    "spry_py._telemetry.metrics",
    "spry_py._program.cli",
    "spry_py._program.finding",
    "spry_py._program.looking",
    "spry_py._program.printer",
    "spry_py._program.story",
}


def loaded_by(statement: str) -> set[str]:
    """The modules that a statement loads where trio and traces are there."""
    code = (
        "import sys, trio, opentelemetry.trace\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_spry_py_loads_its_rooms_and_nothing_else() -> None:
    loaded = loaded_by("import spry_py")
    ours = {name for name in loaded if name.partition(".")[0] == "spry_py"}
    assert {name.split(".")[1] for name in ours if "." in name} == ROOMS
    assert ours & NOT_YET == set()
    assert loaded - ours <= {"dataclasses"}


def test_the_version_is_printed_without_the_command_line() -> None:
    show = "sys.argv[1:] = ['--version']; from spry_py.__main__ import main; main()"
    assert loaded_by(show) & {"argparse", "spry_py._program.cli", "spry_py._incidents"} == set()
