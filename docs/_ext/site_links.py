"""Links as they stand in the repository lead somewhere in the site, too.

A page of the site links to files outside docs/ where a reader of the repository has them. Three of
these are pages of the site: their text comes from where it stands. A program can be downloaded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# page: the file outside docs/ that it shows
GUESTS = {
    "changelog": ROOT / "CHANGELOG.md",
    "collector": ROOT / "examples" / "collector.md",
    "contributing": ROOT / "CONTRIBUTING.md",
}
PAGES = {path: DOCS / f"{page}.md" for page, path in GUESTS.items()}
PAGES[ROOT / "README.md"] = DOCS / "index.md"

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]+)((?:#[^)\s]*)?)\)")


def place_of(target: Path) -> Path:
    """Where the site has what the repository has at ``target``."""
    target = PAGES.get(target, target)
    for index in ("index.md", "__init__.py"):
        if (target / index).is_file():
            return target / index
    return target


def moved(text: str, written_in: Path, shown_in: Path) -> str:
    """``text``, with its links as seen from the page that shows it."""

    def link(match: re.Match[str]) -> str:
        target, anchor = match.groups()
        place = place_of((written_in.parent / target).resolve())
        return f"]({Path(os.path.relpath(place, shown_in.parent)).as_posix()}{anchor})"

    parts = re.split(f"({FENCE.pattern})", text, flags=FENCE.flags)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    file = DOCS / f"{page}.md"
    origin = GUESTS.get(page, file)
    if origin != file:
        app.env.note_dependency(str(origin), docname=page)
        source[0] = origin.read_text(encoding="utf-8")
    source[0] = moved(source[0], origin, file)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("source-read", read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
