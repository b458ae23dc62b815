"""What ``spry-py top`` shows, and what its keys do: a state, and the lines that it has. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from rich.text import Text

from .rows import Row, above, in_order, indent, rows_of
from .tree import shown

Json = dict[str, Any]

KEYS: Final = "↑↓ choose  ←→ fold  / filter  s stack  r restart  t terminate  q quit"
_STYLES: Final = {
    "running": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "restarting": "yellow",
    "waiting": "yellow",
}
# columns behind the name: what it is, how wide, and from which width of the screen on
_COLUMNS: Final = (("status", 10, 0), ("age", 8, 60), ("restarts", 8, 80))
_ASKED: Final = {"r": "restart", "t": "terminate"}


@dataclass
class Screen:
    """What is known, what is chosen, and what is being typed."""

    nodes: dict[str, Json] = field(default_factory=dict[str, Json])
    title: str = ""
    now: float = 0.0
    chosen: str = ""
    folded: set[str] = field(default_factory=set[str])
    filter: str = ""
    is_typing: bool = False
    message: str = ""
    is_lost: bool = False
    stack: list[str] = field(default_factory=list[str])
    # what waits for a yes: the action and the path
    asked: tuple[str, str] | None = None
    actions: list[str] = field(default_factory=list[str])

    # What comes in

    def take(self, kind: str, data: Json) -> None:
        """Take what an observer has sent."""
        self.is_lost = False
        if kind == "about":
            self.title = f"{shown(data['program'])} (process {data['pid']})"
            self.actions = data["actions"]
        elif kind in ("tree", "changes"):
            if kind == "tree":
                self.nodes.clear()
            for path in data.get("gone", ()):
                self.nodes.pop(path, None)
            self.nodes |= {node["path"]: node for node in data["nodes"]}
            self.now = data["now"]

    def lose(self, why: str) -> None:
        """The connection is lost."""
        self.is_lost = True
        first, _, rest = why.partition("\n")
        self.message = shown(first)
        self.stack = [shown(line) for line in rest.splitlines()]

    # Keys

    def press(self, key: str) -> tuple[str, str] | None:
        """Do what a key asks for; returns what is to be asked of the observer, with its path."""
        if self.asked is not None:
            asked, self.asked = self.asked, None
            self.message = ""
            return asked if key == "y" else None
        if self.is_typing:
            self._type(key)
            return None
        if key == "s" and self.chosen:
            return None if self._drop_stack() else ("stack", self.chosen)
        if key in _ASKED and self.chosen and _ASKED[key] in self.actions:
            self.asked = (_ASKED[key], self.chosen)
            self.message = f"{_ASKED[key]} {shown(self.chosen)}? y/n"
        elif key == "/":
            self.is_typing = True
        else:
            self._move(key)
        return None

    def _drop_stack(self) -> bool:
        was_there, self.stack = bool(self.stack), []
        return was_there

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.is_typing = False
            self.filter = self.filter if key == "enter" else ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key

    def _move(self, key: str) -> None:
        rows = self.rows()
        if not rows:
            return
        at = self._at(rows)
        places = {"up": at - 1, "down": at + 1, "home": 0, "end": len(rows) - 1}
        places |= {"page up": at - 10, "page down": at + 10, "k": at - 1, "j": at + 1}
        if key in places:
            self.chosen = rows[min(max(places[key], 0), len(rows) - 1)].path
        elif key == "left":
            self.folded.add(rows[at].path)
        elif key == "right":
            self.folded.discard(rows[at].path)

    def _at(self, rows: list[Row]) -> int:
        return next((at for at, row in enumerate(rows) if row.path == self.chosen), 0)

    # What is seen

    def rows(self) -> list[Row]:
        """The rows that are neither folded away nor filtered out."""
        wanted = self.filter.lower()
        hits = {path for path in self.nodes if wanted and wanted in path.lower()}
        seen: list[tuple[int, Json]] = []
        closed = math.inf
        near = {up for path in hits for up in self._upwards(path)}
        for depth, node in in_order(self.nodes.values()):
            if depth > closed:
                continue
            closed = depth if node["path"] in self.folded and not wanted else math.inf
            if not wanted or node["path"] in near:
                seen.append((depth, node))
        return list(rows_of(seen, self.now))

    def _upwards(self, path: str) -> Iterator[str]:
        """A path and all those that it stands below."""
        while path in self.nodes:
            yield path
            path = above(self.nodes[path])

    def lines(self, width: int, height: int) -> list[Text]:
        """The whole screen, no line wider than it is."""
        rows = self.rows()
        if rows and not any(row.path == self.chosen for row in rows):
            self.chosen = rows[0].path
        stack = self.stack[-max(1, height // 2) :] if self.stack else []
        room = max(1, height - 2 - len(stack))
        top = max(0, min(self._at(rows) - room // 2, len(rows) - room))
        body = [self._line(row, width) for row in rows[top : top + room]]
        body += [Text("")] * (room - len(body))
        below = [Text(line, "dim") for line in stack]
        return _fitted([self._head(len(rows)), *body, *below, self._foot()], width)

    def _head(self, count: int) -> Text:
        head = Text(self.title or "spry_py", "bold")
        head.append(f"  {count} shown", "dim")
        if self.is_lost:
            head.append("  connection lost, trying again", "bold red")
        return head

    def _foot(self) -> Text:
        if self.is_typing:
            return Text(f"/{self.filter}▏")
        if self.message:
            return Text(self.message, "bold")
        return Text(f"filter: {self.filter}  {KEYS}" if self.filter else KEYS, "dim")

    def _line(self, row: Row, width: int) -> Text:
        columns = [column for column in _COLUMNS if width >= column[2]]
        name = max(12, width // 3)
        mark = "▸ " if row.path in self.folded else "  "
        # half of the cell is for the name
        line = _cell(Text(indent(row.depth, name // 4) + mark + row.name), name)
        for field_name, size, _ in columns:
            text = getattr(row, field_name)
            style = _STYLES.get(text, "") if field_name == "status" else "dim"
            line.append(" ")
            line.append_text(_cell(Text(text, style), size))
        line.append(" ")
        line.append(row.note, "" if row.status == "running" else "yellow")
        if row.path == self.chosen:
            line.stylize("reverse")
        return line


def _cell(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


def _fitted(lines: Iterable[Text], width: int) -> list[Text]:
    fitted = list(lines)
    for line in fitted:
        line.truncate(width, overflow="ellipsis", pad=True)
        line.no_wrap = True
    return fitted
