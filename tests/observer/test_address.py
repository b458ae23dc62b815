"""Where the socket is: in a directory of ours alone, and nowhere else."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from observing import read_all, read_reply, written
from spry_py import Child, SystemSupervisor, open_system
from spry_py.observer import Address, serve
from spry_py.observer.address import LONGEST, clear, found, is_alive, listen, report_of
from stories import story_with_threads


async def idle() -> None:
    await trio.sleep_forever()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "spry_py"


@asynccontextmanager
async def served() -> AsyncIterator[Address]:
    shop = SystemSupervisor([Child("db", idle)], name="shop")
    async with trio.open_nursery() as nursery, open_system(shop) as tree:
        yield await nursery.start(partial(serve, tree))
        nursery.cancel_scope.cancel()


def mode_of(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_it_is_for_its_owner_and_gone_in_the_end(place: Path) -> None:
    @story_with_threads
    async def look() -> None:
        async with served() as address:
            path = place / f"{os.getpid()}.sock"
            assert address == Address(str(path), None)
            assert (mode_of(place), mode_of(path)) == ("0700", "0600")
            stream = await trio.open_unix_socket(str(path))
            async with stream:
                await stream.send_all(written("GET", "/tree?depth=0"))
                got = read_reply(await read_all(stream))
            assert [node["path"] for node in got.json["nodes"]] == ["shop"]
            assert found() == ([path], 0)

    old = os.umask(0)
    try:
        look()
    finally:
        os.umask(old)
    assert list(place.iterdir()) == []


def test_two_observers_of_a_process_have_a_socket_each(place: Path) -> None:
    @story_with_threads
    async def look() -> None:
        async with served() as one, served() as other:
            assert one.socket == str(place / f"{os.getpid()}.sock")
            assert other.socket == str(place / f"{os.getpid()}-2.sock")

    look()


def test_a_dead_socket_is_cleared_away_with_its_report(place: Path) -> None:
    listener, path = listen(1)
    report_of(path).write_text("{}")
    listener.close()
    assert not is_alive(path)
    assert found() == ([], 1)
    assert list(place.iterdir()) == []


def test_a_dead_socket_with_our_own_number_is_taken_over(place: Path) -> None:
    first, path = listen(1)
    first.close()
    second, again = listen(1)
    assert again == path
    second.close()
    clear(path)


def test_a_socket_whose_queue_is_full_is_alive(place: Path) -> None:
    listener, path = listen(0)
    waiting = []
    for _ in range(5):
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(str(path))
    assert is_alive(path)
    for one in (*waiting, listener):
        one.close()
    clear(path)


def test_without_a_directory_of_sockets_there_are_none(place: Path) -> None:
    assert found() == ([], 0)


def test_without_a_runtime_directory_it_is_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    listener, path = listen(1)
    listener.close()
    assert path.parent == tmp_path / f"spry_py-{os.geteuid()}"


# Refusals, each before anything has begun


async def refusal(kind: type[OSError], place: Path) -> str:
    with pytest.raises(kind) as caught:
        await serve(None)
    assert str(place) in str(caught.value)
    return caught.value.strerror or ""


def test_a_directory_that_others_may_enter(place: Path) -> None:
    place.mkdir(mode=0o755)
    text = trio.run(refusal, PermissionError, place)
    assert text == "the directory must be for us alone (0700, not 0755)"


def test_a_link_to_a_directory(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")
    text = trio.run(refusal, NotADirectoryError, place)
    assert text == "the observer's sockets need a directory here, and no link"


def test_a_directory_of_another_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mkdir(mode=0o700)
    owner = place.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    text = trio.run(refusal, PermissionError, place)
    assert text == f"the directory belongs to user {owner}, not to us"


def test_no_place_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    assert trio.run(refusal, FileNotFoundError, tmp_path / "nowhere")


def test_a_path_too_long_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * LONGEST)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert trio.run(refusal, OSError, long) == f"a socket's path may have {LONGEST} bytes"


def test_a_port_that_is_taken(place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        async def taken() -> None:
            with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
                await serve(None, port=port)

        trio.run(taken)
    assert found() == ([], 0)
    assert list(place.iterdir()) == []
