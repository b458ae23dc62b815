"""`spry-py ps`, `tree`, `stack` and so on, on a program that runs with `--observe`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from observing import written
from programs import Program, finished, running
from spry_py._program.cli import main
from spry_py.observer import address
from spry_py.observer.server import MOST_VIEWERS

MODULE = """
import time
import trio
from spry_py import Child, RateLimited, SystemSupervisor, current_context

async def steady():
    await trio.sleep_forever()

async def fails(*, task_status):
    task_status.started("a secret")
    while not current_context().system.path.endswith("never"):
        await trio.sleep(0.01)
        if open("order.txt").read() == "fail":
            raise ValueError("boom")

async def blocks():
    while open("order.txt").read() != "block":
        await trio.sleep(0.01)
    print("blocked", flush=True)
    time.sleep(600)

async def hangs():
    if open("order.txt").read() == "hang":
        time.sleep(600)
    await trio.sleep_forever()

async def ends():
    pass

inner = SystemSupervisor([Child("leaf", steady)])
children = [
    Child("db", steady), Child("inner", inner), Child("flap", fails), Child("b", blocks),
    Child("h", hangs), Child("ended", ends, restart="transient"),
    Child("no \\udcff text 50%+1 &=#?\\n\\x1b[2J", steady),
]
breaker = RateLimited(1000, 10)
shop = SystemSupervisor(children, strategy="one_for_one", breaker=breaker, name="shop")
"""


class Observed:
    """A program that runs, and its socket."""

    def __init__(self, program: Program, place: Path) -> None:
        self.program = program
        self.pid = program.process.pid
        self.socket = place / "spry_py" / f"{self.pid}.sock"
        self._order = place / "order.txt"

    def order(self, word: str) -> None:
        self._order.write_text(word)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("r")
    (place / "app.py").write_text(MODULE)
    (place / "order.txt").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(place))
        yield place


@pytest.fixture(scope="module")
def shop(place: Path) -> Iterator[Observed]:
    with running(["-m", "spry_py", "run", "--observe=0", "app.py:shop"], place) as program:
        program.until("shop started")
        yield Observed(program, place)


class Said:
    """What a command has printed, and its status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        capsys.readouterr()
        self.status = main(arguments)
        self.out, self.error = capsys.readouterr()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


# Looking


def test_ps_lists_processes_and_clears_away_what_is_dead(
    shop: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = shop.socket.with_name("999999.sock")
    taken = address.take_place(1)
    taken.listener.close()
    taken.path.rename(dead)
    os.utime(dead, (0, 0))
    said = Said(capsys, "ps")
    url = re.escape("http://127.0.0.1:") + r"\d+/#token=\S{43}"
    assert said.status == 0
    assert re.fullmatch(
        rf"PID +PROGRAM +TREES +PAGE\n{shop.pid} +__main__.py +shop \[running\] +{url}\n", said.out
    )
    assert not dead.exists()
    (found,) = Said(capsys, "ps", "--json").json
    assert found["socket"] == str(shop.socket)
    assert found["trees"] == {"shop": "running"}
    assert found["url"] in said.out


def test_tree_shows_what_each_child_does(
    shop: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Said(capsys, "tree")
    lines = [re.sub(r"up [\d.]+ s", "up 1 s", line) for line in said.out.splitlines()]
    assert [re.sub(r"\b(/?) +", r"\1 ", line).rstrip() for line in lines[:5]] == [
        "shop/ running up 1 s",
        "  db running up 1 s",
        "  inner/ running up 1 s",
        "    leaf running up 1 s",
        "  flap running up 1 s",
    ]
    assert len({line.index("running") for line in lines[:5]}) == 1
    assert Said(capsys, "tree", "shop/inner").out.startswith("inner/  running")
    found = Said(capsys, "tree", "--json", "--pid", str(shop.pid)).json
    assert [node["path"] for node in found["nodes"]][:2] == ["shop", "shop/db"]


def test_stack_shows_where_a_child_stands(
    shop: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Said(capsys, "stack", "shop/db", "--socket", str(shop.socket))
    assert 'app.py", line 7, in steady' in said.out
    assert "await trio.sleep_forever()" in said.out
    assert Said(capsys, "stack", "shop/db", "--json").json["path"] == "shop/db"
    ended = re.sub(" +", " ", Said(capsys, "stack", "shop/ended").out)
    assert ended.startswith("shop/ended has no living incarnation:\nended done ended by itself, ")
    assert Said(capsys, "stack", "shop/x").error.startswith(
        "spry-py: 'shop' has no child 'x'; it has db, inner, flap, b, h, "
    )


def test_events_are_lines_until_the_reader_leaves(shop: Observed, place: Path) -> None:
    with running(["-m", "spry_py", "events"], place) as reader:
        shop.order("fail")
        line = reader.until(" failed")
        what = r"shop/flap incarnation \d+ failed: ValueError: boom"
        assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}}  {what}", line)
        reader.until("shop/flap will be restarted now")
        reader.send(signal.SIGINT)
        assert reader.end() == 0
    with running(["-m", "spry_py", "events", "--json"], place) as reader:
        fact = json.loads(reader.until("failed"))
        assert (fact["path"], fact["type"]) == ("shop/flap", "ChildTerminated")
        shop.order("")
        reader.process.kill()


def test_incidents_are_told_as_those_in_a_file(
    shop: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.order("fail")
    while not (found := Said(capsys, "incidents", "--json").json["incidents"]):
        time.sleep(0.05)
    shop.order("")
    assert {one["path"] for one in found} == {"shop/flap"}
    text = Said(capsys, "incidents", "--pid", str(shop.pid)).out
    assert text.startswith("━━ 2")
    assert "shop/flap, a permanent worker, failed" in text
    assert "✓ healthy again" in text


# Doing


def test_actions_and_what_the_tree_refuses(
    shop: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Said(capsys, "terminate", "shop/db").out == "terminate of shop/db is done\n"
    assert re.search("db +stopped", Said(capsys, "tree").out)
    assert Said(capsys, "restart", "shop/db").out == "restart of shop/db is done\n"
    assert Said(capsys, "replay").out == "replay of shop is done\n"
    assert Said(capsys, "restart", "shop/db", "--json").json["action"] == "restart"
    refused = Said(capsys, "restart", "shop")
    assert (refused.status, refused.out) == (1, "")
    assert refused.error == (
        "spry-py: 'shop' is a root: it may be stopped or replayed, but is no one's child\n"
    )
    asked = shop.program.until("restart of shop was refused")
    assert "WARNING" in asked


def test_too_many_that_look_is_said(shop: Observed, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_VIEWERS):
            viewer = stack.enter_context(socket.socket(socket.AF_UNIX))
            viewer.connect(str(shop.socket))
            viewer.sendall(written("GET", "/events"))
            assert viewer.recv(12) == b"HTTP/1.1 200"
        for command in ("events", "top"):
            said = Said(capsys, command, "--socket", str(shop.socket))
            assert (said.status, said.error) == (1, f"spry-py: {MOST_VIEWERS} look already\n")


def test_a_key_may_be_anything(shop: Observed, capsys: pytest.CaptureFixture[str]) -> None:
    path = "shop/no \udcff text 50%+1 &=#?\n\x1b[2J"
    assert Said(capsys, "stack", path, "--json").json["path"] == path
    shown = r"shop/no \udcff text 50%+1 &=#?\n\x1b[2J"
    assert Said(capsys, "restart", path).out == f"restart of {shown} is done\n"
    assert "\x1b" not in Said(capsys, "tree").out


# Which process is meant


def test_without_an_observer_it_is_said_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Said(capsys, "ps").out == "no observer is running\n"
    said = Said(capsys, "tree")
    assert said.status == 2
    assert said.error == (
        "spry-py: no observer is running: start one by spry-py run --observe ...\n"
    )
    assert "no observer of process 7" in Said(capsys, "tree", "--pid", "7").error


def test_with_several_one_has_to_say_which(
    shop: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    other = address.take_place(1)
    try:
        said = Said(capsys, "tree")
        assert said.status == 2
        assert said.error.splitlines()[1:] == [
            f"  --socket {shop.socket}",
            f"  --socket {other.path}",
        ]
        assert Said(capsys, "tree", "--pid", str(shop.pid)).status == 0
    finally:
        other.leave()


def test_a_directory_that_is_not_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "spry_py").mkdir(mode=0o777)
    (tmp_path / "spry_py").chmod(0o777)
    for command in ("ps", "tree"):
        said = Said(capsys, command)
        assert said.status == 2
        assert said.error == (
            f"spry-py: {tmp_path}/spry_py: the directory must be for us alone (0700, not 0777)\n"
        )


@pytest.mark.parametrize("package", ["h11", "rich"])
def test_without_the_packages_each_command_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for command in (["ps"], ["tree"], ["stack", "a"], ["events"], ["restart", "a"], ["stop"]):
        said = Said(capsys, *command)
        assert said.status == 2
        assert f"needs {package}: pip install 'spry-py[observer]'" in said.error


# A program that does not reply, and one that ends: what blocks it blocks the shop as well


def test_a_blocked_loop_is_named_within_three_seconds(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(["-m", "spry_py", "run", "--observe", "app.py:shop"], place) as program:
        program.until("shop started")
        own = Observed(program, place)
        own.order("block")
        program.until("blocked")
        own.order("")
        began = time.monotonic()
        for command in (["stack", "shop/db"], ["restart", "shop/db"], ["events"]):
            said = Said(capsys, *command, "--socket", str(own.socket))
            assert said.status == 2
            assert f"process {own.pid} does not respond: shop/b has been blocking" in said.error
            assert "time.sleep(600)" in said.error
        assert time.monotonic() - began < 3 * 3 + 3
        assert "does not respond" in Said(capsys, "ps").out
        with full_queue(own.socket):
            began = time.monotonic()
            said = Said(capsys, "tree", "--socket", str(own.socket))
            assert f"process {own.pid} does not respond: shop/b has been blocking" in said.error
            assert time.monotonic() - began < 3
    assert not address.is_alive(own.socket)


@contextmanager
def full_queue(path: Path) -> Iterator[None]:
    """So many wait to be let in that no one else may."""
    with ExitStack() as stack:
        while True:
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            if one.connect_ex(str(path)):
                break
        yield


def test_an_action_that_blocks_the_loop_is_not_waited_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(["-m", "spry_py", "run", "--observe", "app.py:shop"], place) as program:
        program.until("shop started")
        own = Observed(program, place)
        own.order("hang")
        began = time.monotonic()
        said = Said(capsys, "restart", "shop/h", "--socket", str(own.socket))
        own.order("")
        assert said.status == 2
        assert said.error.startswith(
            "spry-py: restart of shop/h was asked for, and may still be done; "
            f"process {own.pid} does not respond: shop/h has been blocking its event loop"
        )
        assert time.monotonic() - began < 10, "and not the 35 s of an action"


def test_a_process_that_has_died_in_between(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = address.take_place(1)

    def leave() -> None:
        connection, _ = other.listener.accept()
        connection.recv(4096)
        connection.close()

    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(leave)
            said = Said(capsys, "restart", "shop/db", "--socket", str(other.path))
    finally:
        other.leave()
    assert (said.status, said.out) == (2, "")
    assert said.error.startswith(
        f"spry-py: process {os.getpid()} has gone, or closed its observer ("
    )


NO_OBSERVERS = {
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "JSON of another kind": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]",
    "no UTF-8": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n\xff\xfe",
    "a stream of events": b"HTTP/1.1 200 OK\r\n\r\nevent: tree\ndata: [1,2]\n\n",
}


@pytest.mark.parametrize("what", NO_OBSERVERS)
def test_a_socket_of_something_else_is_said_to_be_that(
    what: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = address.take_place(1)

    def serve() -> None:
        connection, _ = other.listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(NO_OBSERVERS[what])

    command = "events" if what.startswith("a stream") else "tree"
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(serve)
            said = Said(capsys, command, "--socket", str(other.path))
    finally:
        other.leave()
    assert said.error == f"spry-py: what listens at {other.path} is no observer\n"
    assert said.status == 2


def test_stop_ends_the_program_in_order_and_leaves_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(["-m", "spry_py", "run", "--observe", "app.py:shop"], place) as program:
        program.until("shop started")
        own = Observed(program, place)
        said = Said(capsys, "stop", "--pid", str(own.pid))
        assert said.out == "stop of shop is done\n"
        assert program.end() == 0
    assert not own.socket.exists()


def test_no_place_is_an_error_before_the_boot(tmp_path: Path, place: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    arguments = ["-m", "spry_py", "run", "--observe", "app.py:shop"]
    program = finished(arguments, place, XDG_RUNTIME_DIR=nowhere)
    assert program.returncode == 2
    assert (
        program.stderr
        == f"spry-py: --observe: [Errno 2] No such file or directory: '{nowhere}/spry_py'\n"
    )
    assert "started" not in program.stdout


def test_a_port_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for port in ("x", "-1", "65536"):
        with pytest.raises(SystemExit, match="2"):
            main(["run", f"--observe={port}", "app:shop"])
        assert f"'{port}' is not a port" in capsys.readouterr().err
