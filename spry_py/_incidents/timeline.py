"""The picture of a story: the supervision tree, drawn from top to bottom as time passes.

A line for everything that happened, indented like the child in its tree, so that an escalation
climbs to the left and a restart comes back to the right. On the left the seconds since the first
failure; on the right a bar for how long it took.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from .model import Story
from .rows import Mark, Row, duration, printable, rows_of


class _Look(NamedTuple):
    """How a line is marked, what its bar is made of, and what the bar ends with."""

    sign: str
    bar: str
    tip: str


_LOOKS: Final[dict[Mark, _Look]] = {
    "failed": _Look("✗", "╌", "✗"),
    "not started": _Look("✗", "█", "✗"),
    "gives up": _Look("▲", "─", "─"),
    "restart": _Look("↻", "─", "─"),
    "wait": _Look("…", "·", "·"),
    "stop": _Look("■", "▒", "▒"),
    "start": _Look("▸", "█", "█"),
    "healthy": _Look("✓", " ", "✓"),
    "gone": _Look("■", " ", "■"),
    "open": _Look("?", " ", "?"),
    "more": _Look("⋮", "┄", "┄"),
}

_DEEPEST: Final = 10
_WHEN: Final = 9
# Microseconds; below it the order in which spans were written is all that there is to see.
_SHORTEST: Final = 100


def picture(story: Story, width: int, whole: bool = False) -> list[str]:
    """The lines of the picture, none wider than ``width`` columns."""
    rows = rows_of(story, whole)
    bars = width // 4
    canvas = _Canvas(rows, width - bars - 13, bars)
    return list(canvas.lines())


class _Canvas:
    """Three columns: when, what, and how long."""

    def __init__(self, rows: Sequence[Row], label: int, bars: int) -> None:
        self._rows = rows
        self._label = label
        self._bars = bars
        self._first = rows[0].at
        self._last = max(row.ended for row in rows)
        self._base = _common([_above(row.path) for row in rows if row.path])

    def lines(self) -> Iterator[str]:
        total = duration((self._last - self._first) / 1e6)
        scale = "0 s " + total.rjust(self._bars - 4)
        yield self._line("seconds", "  " + printable("/".join(self._base)), scale)
        stack = self._base
        for row in self._rows:
            path = _parts(row.path) if row.path else self._base
            yield from self._context(stack, path[:-1])
            stack = path
            when = _when((row.at - self._first) / 1e6)
            what = f"{self._indent(path)}{_LOOKS[row.mark].sign} {row.text}"
            yield self._line(when, what, self._bar(row))

    def _context(self, stack: list[str], above: list[str]) -> Iterator[str]:
        """The supervisors on the way to a child, unless the lines before show them already."""
        known = max(len(_common([stack, above])), len(self._base))
        for depth in range(known, len(above)):
            way = above[: depth + 1]
            yield self._line("", f"{self._indent(way)}  {printable(way[-1])}", "")

    def _indent(self, path: list[str]) -> str:
        return "  " * min(max(len(path) - len(self._base), 0), _DEEPEST)

    def _line(self, when: str, what: str, bar: str) -> str:
        return f"{when:>{_WHEN}}  {fit(what, self._label)}  {bar}".rstrip()

    def _bar(self, row: Row) -> str:
        look = _LOOKS[row.mark]
        begin, end = self._column(row.began), self._column(row.ended)
        middle = look.bar * (end - begin)
        line = look.sign + middle if row.mark == "gives up" else middle + look.tip
        return " " * begin + line

    def _column(self, moment: int) -> int:
        whole = self._last - self._first
        return (moment - self._first) * (self._bars - 1) // whole if whole >= _SHORTEST else 0


def _when(seconds: float) -> str:
    """Seconds in nine columns: with milliseconds for a day, without them for as long as it may."""
    for places in (".3f", ".0f"):
        text = f"{seconds:{places}}"
        if len(text) <= _WHEN:
            return text
    return f"{seconds:.3g}"


def _parts(path: str) -> list[str]:
    return path.split("/")


def _above(path: str) -> list[str]:
    """The keys down to the supervisor of a child; of a root, itself."""
    return _parts(path)[:-1] or _parts(path)


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    """The keys that all these begin with."""
    same = takewhile(lambda keys: len(set(keys)) == 1, zip(*paths, strict=False))
    return [keys[0] for keys in same]


def fit(text: str, columns: int) -> str:
    """Exactly so many columns of a terminal."""
    if columns_of(text) > columns:
        text = text[: columns - 1]
        while columns_of(text) > columns - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - columns_of(text))


def columns_of(text: str) -> int:
    """How wide a text is on a terminal: some signs take two columns, and some none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1
