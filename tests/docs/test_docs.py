"""docs/ and CONTRIBUTING.md: links lead somewhere, programs show what they are said to show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from programs import finished
from spry_py import Burden, Occasion
from spry_py._kernel.phases import Status
from spry_py._policy.restart import AutoShutdown, Strategy, Verdict
from spry_py._spec.options import Kind, RestartType
from spry_py._spec.termination import Reason

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("**/*.md")), ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# The programs of a page go on from one another, on virtual time.
PROGRAM = """
import functools, json, sys, trio, trio.testing
run = trio.run
trio.run = lambda main: run(main, clock=trio.testing.MockClock(autojump_threshold=0))
names = {"__name__": "__main__"}
for source in json.loads(sys.argv[1]):
    exec(source, names)
"""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What headings can be linked to as, without their punctuation."""
    headings = HEADING.findall(FENCE.sub("", text_of(page)))
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def is_broken(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    other = page.parent / target if target else page
    return not other.exists() or (bool(anchor) and anchor not in anchors(other))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_something(page: Path) -> None:
    links = [link for link in LINK.findall(text_of(page)) if "://" not in link]
    assert [link for link in links if is_broken(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_show_what_they_are_said_to_show(page: Path, tmp_path: Path) -> None:
    fences = FENCE.findall(text_of(page))
    programs = [text for language, text in fences if language == "python"]
    shown = "".join(text for language, text in fences if language == "text")
    if programs:
        result = finished(["-c", PROGRAM, json.dumps(programs)], tmp_path)
        assert (result.stdout, result.returncode) == (shown, 0), result.stderr


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
