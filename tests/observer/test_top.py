"""`spry-py top`: what it shows at any width, what its keys do, and a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from programs import environment, finished, running
from spry_py.observer.rows import tree_lines
from spry_py.observer.screen import Screen
from spry_py.observer.top import keys_in

MODULE = """
import trio
from spry_py import Child, DynamicSupervisor, SystemSupervisor

async def steady():
    await trio.sleep_forever()

inner = SystemSupervisor([Child("leaf", steady)])
shop = SystemSupervisor([Child("db", steady), Child("inner", inner)], name="shop")
"""


def node(path: str, **options: Any) -> dict[str, Any]:
    return {
        "path": path,
        "host": None,
        "kind": "worker",
        "status": "running",
        "started_at": 90.0,
        "restarts": 0,
        "restart_at": None,
        "shutdown_by": None,
        "budget": None,
        "queued": 0,
        "last": None,
    } | options


def screen_of(*nodes: dict[str, Any]) -> Screen:
    screen = Screen()
    actions = ["restart", "terminate", "replay", "stop"]
    screen.take("about", {"program": "app.py", "pid": 7, "actions": actions})
    screen.take("tree", {"nodes": list(nodes), "now": 100.0})
    return screen


def shop() -> Screen:
    failed = {"error": "ValueError: boom", "ended_at": 95.0, "burden": "none", "reason": "failed"}
    budget = {"left": 1, "of": 3}
    return screen_of(
        node("shop", kind="supervisor", budget=budget),
        node("shop/db"),
        node("shop/pool", kind="supervisor"),
        node("shop/api", status="restarting", started_at=None, restart_at=103.0, last=failed),
        node("shop/pool/w-1", restarts=2),
    )


def seen(screen: Screen, width: int = 100, height: int = 8) -> list[str]:
    return [line.plain.rstrip() for line in screen.lines(width, height)]


def test_what_is_seen() -> None:
    api = "restarts in 3.0 s; ValueError: boom,…"
    assert seen(shop()) == [
        "app.py (process 7)  5 shown",
        "  shop/                           running    10 s              1 of 3 restarts left",
        "    db                            running    10 s",
        "    pool/                         running    10 s",
        "      w-1                         running    10 s     2",
        f"    api                           restarting                   {api}",
        "",
        "↑↓ choose  ←→ fold  / filter  s stack  r restart  t terminate  q quit",
    ]


@pytest.mark.parametrize("width", [1, 12, 20, 40, 59, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 8, 50])
def test_no_line_is_wider_than_the_screen(width: int, height: int) -> None:
    screen = shop()
    screen.take("changes", {"nodes": [node("shop/水" + "x" * 50)], "gone": [], "now": 100.0})
    lines = screen.lines(width, height)
    assert all(line.cell_len == width for line in lines)
    assert len(lines) == max(3, height)


def test_a_name_is_seen_however_deep_it_stands() -> None:
    paths = ["/".join(f"l{level}" for level in range(depth)) for depth in range(1, 400)]
    nodes = [node(path) for path in paths]
    screen = screen_of(*nodes)
    press(screen, "end")
    for width in (80, 500):
        assert "(398)   l398 " in "\n".join(seen(screen, width)) + " "
    lines = list(tree_lines(nodes, 100.0))
    assert max(map(len, lines)) < 80
    assert lines[-1].split() == ["(398)", "l398", "running", "up", "10", "s"]
    assert lines[20].startswith("  " * 20 + "l20")


def test_one_long_name_makes_no_line_longer_but_its_own() -> None:
    lines = list(tree_lines([node("shop"), node("shop/" + "x" * 400)], 100.0))
    assert len(lines[0]) < 90
    assert "x" * 400 in lines[1]


def press(screen: Screen, keys: str) -> list[tuple[str, str]]:
    return [asked for key in keys.split() if (asked := screen.press(key)) is not None]


def test_keys_choose_fold_and_filter() -> None:
    screen = shop()
    seen(screen)
    press(screen, "down down left")
    assert screen.chosen == "shop/pool"
    assert [row.path for row in screen.rows()][-1] == "shop/api"
    assert len(screen.rows()) == 4
    press(screen, "right end")
    assert (screen.chosen, len(screen.rows())) == ("shop/api", 5)
    press(screen, "/ w - 1 enter")
    assert [row.path for row in screen.rows()] == ["shop", "shop/pool", "shop/pool/w-1"]
    press(screen, "/ backspace backspace backspace z")
    assert seen(screen)[-1] == "/z▏"
    press(screen, "escape")
    assert len(screen.rows()) == 5


def test_an_action_wants_a_yes() -> None:
    screen = shop()
    seen(screen)
    assert press(screen, "down r n") == []
    assert press(screen, "t") == []
    assert seen(screen)[-1] == "terminate shop/db? y/n"
    assert press(screen, "y") == [("terminate", "shop/db")]
    assert press(screen, "s") == [("stack", "shop/db")]
    screen.actions = []
    assert press(screen, "r y") == []


def test_what_is_lost_is_said_with_where_the_loop_stands() -> None:
    screen = shop()
    screen.lose("process 7 does not respond: shop/b has been blocking\n  File x\n    sleep(9)")
    lines = seen(screen)
    assert lines[0].endswith("connection lost, trying again")
    assert lines[-3:] == [
        "  File x",
        "    sleep(9)",
        "process 7 does not respond: shop/b has been blocking",
    ]
    screen.take("", {})
    assert not screen.is_lost


def test_what_is_chosen_is_gone() -> None:
    screen = shop()
    seen(screen)
    press(screen, "end")
    screen.take("changes", {"nodes": [], "gone": ["shop/api"], "now": 101.0})
    seen(screen)
    assert screen.chosen == "shop"
    screen.take("tree", {"nodes": [], "now": 101.0})
    assert seen(screen)[0] == "app.py (process 7)  0 shown"
    assert press(screen, "down s") == [("stack", "shop")]


def test_keys_as_terminals_send_them() -> None:
    assert list(keys_in("j\x1b[Aé\r\x1b[6~\x1b")) == [
        "j",
        "up",
        "é",
        "enter",
        "page down",
        "escape",
    ]


# A real terminal


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("t")
    (place / "app.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(place))
        with running(["-m", "spry_py", "run", "--observe", "app.py:shop"], place) as program:
            program.until("shop started")
            yield place


def test_in_a_pipe_it_is_printed_once_without_colour(place: Path) -> None:
    program = finished(["-m", "spry_py", "top"], place, COLUMNS="60")
    assert program.returncode == 0
    lines = [line.rstrip() for line in program.stdout.splitlines()]
    assert re.match(r"__main__.py \(process \d+\)  4 shown", lines[0])
    assert [line.split()[0] for line in lines[1:5]] == ["shop/", "db", "inner/", "leaf"]
    assert "\x1b" not in program.stdout


@pytest.mark.parametrize("colour", [True, False])
def test_in_a_terminal_it_stays_and_does_as_its_keys_say(place: Path, colour: bool) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 20, 90, 0, 0))
    before = termios.tcgetattr(theirs)
    variables = environment() | {"TERM": "xterm-256color"}
    del variables["COLUMNS"]
    if not colour:
        variables["NO_COLOR"] = "1"
    command = [sys.executable, "-m", "spry_py", "top"]
    process = subprocess.Popen(
        command, cwd=place, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    try:
        text = read_until(ours, "leaf")
        os.write(ours, b"jr")
        text += read_until(ours, "restart shop/db? y/n")
        os.write(ours, b"y")
        text += read_until(ours, "restart of shop/db is done")
        os.write(ours, b"s")
        text += read_until(ours, "await trio.sleep_forever()")
        os.write(ours, b"q")
        assert process.wait(60) == 0
        assert ("\x1b[32m" in text) == colour
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def read_until(file: int, wanted: str, seconds: float = 60.0) -> str:
    end, text = time.monotonic() + seconds, ""
    while wanted not in text:
        assert time.monotonic() < end, text
        if select.select([file], [], [], 0.5)[0]:
            text += os.read(file, 65_536).decode("utf-8", "replace")
    return text
