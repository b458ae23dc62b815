"""docs/tutorial: its sessions are played at a shell, and what it shows of a file stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sessions import play

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "examples" / "service"
PAGES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))
# these two begin many programs; the last page wants wrk
MARKS = {
    "10-the-observer": pytest.mark.slow,
    "11-tests": pytest.mark.slow,
    "12-the-last-request": pytest.mark.backend,
}
PLAYED = [pytest.param(page, id=page.stem, marks=MARKS.get(page.stem, ())) for page in PAGES]
PART = re.compile(
    r"\[examples/service/(\w+\.\w+)\]\([^)]+\):?\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("page", PLAYED)
def test_the_sessions_of_a_page(page: Path, tmp_path: Path) -> None:
    play(page.read_text(encoding="utf-8"), tmp_path, ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_of_a_file_stands_in_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = PART.findall(text)
    assert len(parts) == text.count("```py\n") + text.count("```toml\n")
    for name, shown in parts:
        whole = (SERVICE / name).read_text(encoding="utf-8")
        missing = [piece for piece in shown.split("\n    ...\n") if piece.strip("\n") not in whole]
        assert missing == []
