"""README.md, docs/ and CONTRIBUTING.md: links lead somewhere, programs print what is shown."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from programs import finished
from spry_py import Burden, Occasion
from spry_py._kernel.phases import Status
from spry_py._policy.restart import AutoShutdown, Strategy, Verdict
from spry_py._spec.options import Kind, RestartType
from spry_py._spec.termination import Reason

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TOCTREE = re.compile(r"^```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# One process imports what all need, and forks for each: nothing is left of the one before. On
# virtual time, spans too; the clock that the command line reads stays the real one.
RUNNER = """
import gc, json, os, sys, trio, trio.testing
import opentelemetry.sdk.trace, spry_py, spry_py.telemetry
from spry_py._program.cli import main
run = trio.run
trio.run = lambda *args, clock=None: run(
    *args, clock=clock or trio.testing.MockClock(autojump_threshold=0)
)
readings = iter(range(0, 10**9, 1000))
opentelemetry.sdk.trace.time_ns = lambda: (
    1_767_268_800 * 10**9 + round(trio.current_time() * 1e6) * 1000 + next(readings)
)
sys.path.append(sys.argv[1])
statuses = []
gc.freeze()  # else each fork would look through all that has been imported when it ends
for place, source, command, output in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        os.chdir(place)
        into = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(into, 1)
        os.dup2(into, 2)
        if command:
            sys.exit(main(command))
        sys.argv = ["program.py"]
        with open("program.py", "w", encoding="utf-8") as file:
            file.write(source)
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
        sys.exit()
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """What headings can be linked to as, without their punctuation."""
    headings = HEADING.findall(FENCE.sub("", text_of(page)))
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def is_broken(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    other = page.parent / target if target else page
    return not other.exists() or (bool(anchor) and anchor not in anchors(other))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_something(page: Path) -> None:
    links = [link for link in LINK.findall(text_of(page)) if "://" not in link]
    assert [link for link in links if is_broken(page, link)] == []


def listed_in(page: Path) -> Iterator[Path]:
    """Where the lists of the site lead, those that take all pages of a directory among them."""
    for entries in TOCTREE.findall(text_of(page)):
        for entry in entries.split():
            yield from page.parent.glob(f"{entry}.md")


def links_of(page: Path) -> set[Path]:
    links = {(page.parent / link.partition("#")[0]) for link in LINK.findall(text_of(page))}
    return {link.resolve() for link in (*links, *listed_in(page))}


def test_readme_leads_to_each_page() -> None:
    """Directly, or over other pages."""
    reached, new = set[Path](), {README}
    while new:
        reached |= new
        new = {link for page in new for link in links_of(page) if link in PAGES} - reached
    assert [name_of(page) for page in PAGES if page not in reached] == []


class Shown(NamedTuple):
    """A program or a command of a page, and the output that the page shows for it."""

    language: str
    source: str
    output: str


def shown_in(page: Path) -> Iterator[Shown]:
    """What can be run: ``python``, ``py`` with output behind it, ``console``.

    ``py`` runs in real time, since threads and processes know no other. Alone it is a fragment.
    """
    parts = [*FENCE.findall(text_of(page)), ("", "")]
    for (language, text), (following, output) in pairwise(parts):
        if language == "console":
            yield Shown(language, *text.split("\n", 1))
        elif language == "python" or (language == "py" and following == "text"):
            yield Shown(language, text, output if following == "text" else "")


def arguments_of(command: str) -> list[str]:
    prompt, program, *arguments = shlex.split(command)
    assert (prompt, program) == ("$", "spry-py")
    return arguments


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[Shown, tuple[int, str]]:
    """Exit status and output of what runs on virtual time.

    All of one page runs in one directory: its commands read what its programs have written.
    """
    all_shown: list[Shown] = []
    orders: list[tuple[str, str, list[str], str]] = []
    for page in PAGES:
        place = str(tmp_path_factory.mktemp("page"))
        for number, shown in enumerate(shown_in(page)):
            if shown.language != "py":
                command = arguments_of(shown.source) if shown.language == "console" else []
                all_shown.append(shown)
                orders.append((place, shown.source, command, f"{place}/output-{number}"))
    given = json.dumps(orders)
    result = finished(["-c", RUNNER, str(ROOT)], tmp_path_factory.mktemp("runner"), given=given)
    assert result.returncode == 0, result.stderr
    texts = [Path(output).read_text(encoding="utf-8") for *_, output in orders]
    return dict(zip(all_shown, zip(json.loads(result.stdout), texts, strict=True), strict=True))


def without_times(text: str) -> str:
    return re.sub(r"^ +\d+\.\d\d s", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if any(shown_in(page))], ids=name_of)
def test_what_a_page_shows_is_printed(
    page: Path, outputs: dict[Shown, tuple[int, str]], tmp_path: Path
) -> None:
    for shown in shown_in(page):
        if shown.language == "py":
            (tmp_path / "program.py").write_text(shown.source, encoding="utf-8")
            result = finished(["program.py"], tmp_path)
            status, output = result.returncode, result.stdout
            assert status == 0, result.stderr
        else:
            status, output = outputs[shown]
        output = output.replace(f"{ROOT}/", "")
        assert status == 0, output
        if shown.language == "console":
            assert without_times(output) == without_times(shown.output), shown.source
        else:
            assert output == shown.output, shown.source


def test_the_first_tree_is_the_example_of_that_name() -> None:
    example = ast.parse((ROOT / "examples" / "first_tree.py").read_text(encoding="utf-8"))
    first = next(shown.source for shown in shown_in(README))
    del example.body[0]  # its docstring
    assert ast.unparse(example) == ast.unparse(ast.parse(first))
    assert len(first.splitlines()) <= 20


COSTS = {
    "start of a child by its system function": ["scope.start in a system function"],
    "ordered stop of a child": ["ordered stop"],
    "crash and restart": ["crash and restart"],
    "the same with traces alone; with all signals": [
        "traces alone, crash and restart",
        "all signals, crash and restart",
    ],
    "`start_child` on a `DynamicSupervisor`": ["start_child"],
}


@pytest.mark.parametrize("row", COSTS)
def test_the_costs_are_those_that_are_counted(row: str) -> None:
    with (ROOT / "benchmarks" / "ratios.toml").open("rb") as file:
        counted = tomllib.load(file)["ratios"]
    shown = re.findall(rf"^\| {re.escape(row)} \| ([\d.; ]+) \|", text_of(README), re.MULTILINE)
    figures = [float(figure) for figure in shown[0].split("; ")]
    # the file is written anew more often than the page
    assert figures == pytest.approx([counted[name] for name in COSTS[row]], rel=0.05)


def test_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= 150


WORDS = {
    "kind": get_args(Kind),
    "status": get_args(Status),
    "restart type": get_args(RestartType),
    "reason": tuple(reason.__name__ for reason in get_args(Reason)),
    "burden": get_args(Burden),
    "occasion": get_args(Occasion),
    "strategy": get_args(Strategy),
    "auto_shutdown": get_args(AutoShutdown),
    "verdict": tuple(verdict.value for verdict in Verdict),
}


@pytest.mark.parametrize("kind", WORDS)
def test_the_glossary_has_a_row_for_each_word(kind: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", text_of(ROOT / "docs" / "glossary.md"), re.MULTILINE)
    assert set(WORDS[kind]) - set(rows) == set()
