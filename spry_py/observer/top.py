"""``spry-py top``: the trees in a terminal, as long as one looks."""

from __future__ import annotations

import os
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from rich.console import Console, Group
from rich.live import Live

from .client import Client, Trouble
from .screen import Screen

_PERIOD: Final = 0.25
# before another attempt to connect, seconds
_PAUSE: Final = 1.0
_ESCAPES: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "g": "home",
    "G": "end",
}

_News: TypeAlias = "queue.SimpleQueue[tuple[str, dict[str, object]]]"


def top(client: Client) -> None:
    """Show the trees until ``q``; once, where there is no terminal."""
    console = Console()
    if console.is_terminal and sys.stdin.isatty():
        _stay(client, console)
    else:
        _once(client, console)


def _once(client: Client, console: Console) -> None:
    screen = Screen()
    for kind, data in client.events():
        screen.take(kind, data)
        if kind == "tree":
            break
    for line in screen.lines(console.width, len(screen.nodes) + 2)[:-1]:
        # blanks at the end are for a terminal alone
        line.rstrip()
        console.print(line, soft_wrap=True)


def _stay(client: Client, console: Console) -> None:
    screen, news = Screen(), queue.SimpleQueue[tuple[str, dict[str, object]]]()
    threading.Thread(target=_listen, args=(client, news), daemon=True).start()
    file = sys.stdin.fileno()
    with _keys_at_once(file), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            _take(screen, news)
            lines = screen.lines(console.width, console.height)
            live.update(Group(*lines), refresh=True)
            for key in _keys(file):
                if key == "q" and not screen.is_typing:
                    return
                asked = screen.press(key)
                if asked is not None:
                    screen.message = f"{asked[0]} …"
                    threading.Thread(target=_ask, args=(client, *asked, news), daemon=True).start()


def _take(screen: Screen, news: _News) -> None:
    # times go on while nothing is sent
    screen.now += _PERIOD
    while not news.empty():
        kind, data = news.get()
        if kind == "lost":
            screen.lose(str(data["message"]))
        elif kind == "stack":
            screen.message = ""
            screen.stack = str(data["stack"]).splitlines() or ["no living incarnation"]
        elif kind == "said":
            screen.message = str(data["message"])
        else:
            screen.take(kind, data)


def _listen(client: Client, news: _News) -> None:
    """Hand over what is sent, in a thread of its own; connect again for ever."""
    while True:
        try:
            for kind, data in client.events():
                news.put((kind, data))
            news.put(("lost", {"message": "the observer has ended"}))
        except Trouble as trouble:
            news.put(("lost", {"message": str(trouble)}))
        time.sleep(_PAUSE)


def _ask(client: Client, what: str, path: str, news: _News) -> None:
    try:
        if what == "stack":
            news.put(("stack", client.get("/stack", path=path)))
        else:
            news.put(("said", client.do(what, path)))
    except Trouble as trouble:
        news.put(("said", {"message": str(trouble).partition("\n")[0]}))


# Keys


@contextmanager
def _keys_at_once(file: int) -> Generator[None, None, None]:
    """Each key comes at once, and is not shown."""
    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    try:
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _keys(file: int) -> list[str]:
    """The keys that were pressed, after a while at most."""
    ready, _, _ = select.select([file], [], [], _PERIOD)
    data = os.read(file, 256) if ready else b""
    if ready and not data:
        return ["q"]  # the terminal has gone
    return list(keys_in(data.decode("utf-8", "replace")))


def keys_in(text: str) -> Iterator[str]:
    """The names of the keys in what a terminal sends."""
    while text:
        found = next((one for one in _LONGEST_FIRST if text.startswith(one)), text[0])
        text = text[len(found) :]
        yield _ESCAPES.get(found, found)


_LONGEST_FIRST: Final = sorted(_ESCAPES, key=len, reverse=True)
