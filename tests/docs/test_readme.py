"""README.md: every program in it runs, and shows what README.md says that it shows."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import finished

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# On virtual time, spans too; the clock that the story on the command line reads stays the real one.
VIRTUAL = """
import functools, json, sys, trio, trio.testing
import opentelemetry.sdk.trace
from spry_py._program.cli import main
run = trio.run
trio.run = lambda *args: run(*args, clock=trio.testing.MockClock(autojump_threshold=0))
readings = iter(range(0, 10**9, 1000))
opentelemetry.sdk.trace.time_ns = lambda: (
    1_767_268_800 * 10**9 + round(trio.current_time() * 1e6) * 1000 + next(readings)
)
sys.path.append(sys.argv[1])
given = json.loads(sys.argv[2])
"""
PROGRAM = """
names = {"__name__": "__main__"}
for number, source in enumerate(given):
    print(f"-- {number}", file=sys.stderr)
    exec(compile(source, f"block {number} of README.md", "exec"), names)
"""
COMMAND = """
sys.exit(main(given))
"""


def parts() -> Iterator[tuple[str, str]]:
    """Language and text of every fenced part."""
    yield from FENCE.findall(README)


def told(script: str, given: list[str], cwd: Path) -> str:
    """Both output streams of a program, in the order of their lines."""
    joined = "import sys; sys.stdout = sys.stderr\n"
    result = finished(["-c", joined + VIRTUAL + script, str(ROOT), json.dumps(given)], cwd)
    assert result.returncode == 0, result.stderr
    return result.stderr


def without_times(text: str) -> str:
    return re.sub(r"^ +\d+\.\d\d s", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all that README.md shows is run: the commands read what the programs wrote."""
    return tmp_path_factory.mktemp("readme")


def test_the_programs_show_what_they_are_said_to_show(place: Path) -> None:
    programs: list[str] = []
    shown: list[str] = []
    last = ""
    for language, text in parts():
        if language == "python":
            shown.append(f"-- {len(programs)}\n")
            programs.append(text)
        elif language == "text" and last == "python":
            shown[-1] += text
        last = language
    assert told(PROGRAM, programs, place) == "".join(shown)


# In real time, each for itself: what runs in threads and processes knows no other.
WHOLE = re.compile(r"^```py\n(.*?)^```\n+```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("program", "shown"), WHOLE.findall(README))
def test_the_programs_of_real_time_show_what_they_are_said_to_show(
    program: str, shown: str, tmp_path: Path
) -> None:
    # a process that is spawned reads its program again, from a file
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    result = finished([str(file)], tmp_path)
    assert (result.stdout, result.returncode) == (shown, 0), result.stderr


COMMANDS = [text for language, text in parts() if language == "console"]


@pytest.mark.parametrize("text", COMMANDS)
def test_the_commands_show_what_they_are_said_to_show(text: str, place: Path) -> None:
    command, _, shown = text.partition("\n")
    prompt, program, *arguments = shlex.split(command)
    assert (prompt, program) == ("$", "spry-py")
    assert without_times(told(COMMAND, arguments, place)) == without_times(shown)


def test_the_first_tree_is_the_example_of_that_name() -> None:
    example = ast.parse((ROOT / "examples" / "first_tree.py").read_text(encoding="utf-8"))
    first = next(text for language, text in parts() if language == "python")
    del example.body[0]  # its docstring
    assert ast.unparse(example) == ast.unparse(ast.parse(first))
    assert len(first.splitlines()) <= 20


def test_links_lead_to_something() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    here = [target for target in targets if "://" not in target]
    assert [target for target in here if not (ROOT / target).exists()] == []
    assert here
