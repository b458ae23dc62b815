"""What docs/ shows of the phases of a child, drawn from the table in the code.

`python tests/kit/phase_pages.py` writes it into the pages again, after a change of the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from spry_py._kernel.phases import MOVES, PHASES, Phase

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


def diagram() -> Iterator[str]:
    """The moves as a state diagram of mermaid; what is alive stands in a frame of its own."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield '    state "an incarnation is alive" as alive {'
    yield from (f"        {_state(phase)}" for phase in PHASES if phase.is_alive)
    yield "    }"
    yield from (f"    {_state(phase)}" for phase in PHASES if not phase.is_alive)
    yield "    [*] --> NEW"
    for phase in PHASES:
        yield from (f"    {phase.name} --> {following}" for following in following_of(phase))
    yield "```"


def _state(phase: Phase) -> str:
    text = phase.text.replace(";", ",")  # which would end the line for mermaid
    return f"{phase.name}: {phase.name}<br/>{text}"


def following_of(phase: Phase) -> list[str]:
    """The names of the phases that it may go on to, in the order of the table."""
    return [other.name for other in PHASES if other in MOVES[phase]]


def meaning() -> Iterator[str]:
    """The columns of the table."""
    yield "| phase | runs | to be shut down | over | over for good | replayed | refused as |"
    yield "|---|---|---|---|---|---|---|"
    for phase in PHASES:
        columns = phase.is_alive, phase.is_up, phase.is_over, phase.is_final, phase.is_replayed
        marks = ("yes" if column else "-" for column in columns)
        yield f"| {' | '.join((f'`{phase.name}`', *marks, phase.refuses or '-'))} |"


def glossary() -> Iterator[str]:
    """A row for each phase, in words."""
    yield "| phase | what it is | status | goes on to |"
    yield "|---|---|---|---|"
    for phase in PHASES:
        following = ", ".join(following_of(phase))
        yield f"| `{phase.name}` | {phase.text} | `{phase.word}` | {following} |"


PARTS: Final[dict[tuple[str, str], Callable[[], Iterator[str]]]] = {
    ("internals.md", "moves"): diagram,
    ("internals.md", "meaning"): meaning,
    ("glossary.md", "phases"): glossary,
}


def part_of(page: str, name: str) -> re.Match[str]:
    """The part of a page between the comments that bear this name."""
    text = (DOCS / page).read_text(encoding="utf-8")
    pattern = rf"(?s)(?<=<!-- {name}: from the table -->\n\n).*?(?=\n\n<!-- end of {name} -->)"
    found = re.search(pattern, text)
    assert found is not None, f"docs/{page} has no part {name!r}"
    return found


def write() -> None:
    for (page, name), lines in PARTS.items():
        found = part_of(page, name)
        text = found.string[: found.start()] + "\n".join(lines()) + found.string[found.end() :]
        (DOCS / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
