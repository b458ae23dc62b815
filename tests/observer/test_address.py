"""Where the socket is: in a directory of ours alone, and nowhere else."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from observing import read_all, read_reply, written
from spry_py import Child, SystemSupervisor, open_system
from spry_py.observer import Address, listening, serve
from spry_py.observer.address import LONGEST, found, is_alive, new_report_of, report_of, take_place
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


async def seen_at(path: str) -> list[str]:
    """The roots that are seen over a socket."""
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(written("GET", "/tree?depth=0"))
        got = read_reply(await read_all(stream))
    return [node["path"] for node in got.json["nodes"]]


def touch(path: Path, seconds: float) -> None:
    """Let it be as old as that."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def dead(seconds: float = 60.0) -> Path:
    """A socket of this process that no one listens at any more, and as old as that."""
    taken = take_place(1)
    taken.listener.close()
    touch(taken.path, seconds)
    return taken.path


def mode_of(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_it_is_for_its_owner_and_gone_in_the_end(place: Path) -> None:
    @story_with_threads
    async def look() -> None:
        async with served() as address:
            path = place / f"{os.getpid()}.sock"
            assert address == Address(str(path), None)
            assert (mode_of(place), mode_of(path)) == ("0700", "0600")
            assert await seen_at(str(path)) == ["shop"]
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
    path = dead()
    report_of(path).write_text("{}")
    new_report_of(path).write_text("")
    assert not is_alive(path)
    assert found() == ([], 1)
    assert list(place.iterdir()) == []


def test_a_dead_socket_with_our_own_number_is_taken_over(place: Path) -> None:
    path = dead()
    again = take_place(1)
    assert again.path == path
    again.leave()


def test_one_that_has_its_path_and_does_not_listen_yet_is_left_alone(place: Path) -> None:
    path = dead(seconds=0)
    assert found() == ([], 0)
    touch(path, 60)
    assert found() == ([], 1)


def test_one_that_does_not_let_us_in_is_not_dead(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dead()

    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert found() == ([path], 0)


def test_what_is_no_socket_of_an_observer_is_left_alone(place: Path) -> None:
    path = dead()
    strangers = [place / "notes.sock", place / "7.sock", place / "8.sock", place / "9.sock"]
    path.rename(strangers[0])
    strangers[1].write_text("a file")
    strangers[2].mkdir()
    strangers[3].symlink_to(strangers[0])
    assert found() == ([], 0)
    assert sorted(place.iterdir()) == sorted(strangers)


def test_a_socket_whose_queue_is_full_is_alive(place: Path) -> None:
    taken = take_place(0)
    waiting = []
    for _ in range(5):
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(str(taken.path))
    assert is_alive(taken.path)
    for one in waiting:
        one.close()
    taken.leave()


def test_what_another_one_has_put_in_its_place_is_not_removed(place: Path) -> None:
    taken = take_place(1)
    taken.path.unlink()
    other = take_place(1)
    assert other.path == taken.path
    taken.leave()
    assert found() == ([other.path], 0)
    other.leave()
    assert list(place.iterdir()) == []


def test_a_copy_of_the_process_removes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_place(1)
    with monkeypatch.context() as copy:
        copy.setattr(os, "getpid", lambda: 1)
        taken.leave()
    assert taken.path.exists()


def test_a_socket_that_may_not_be_removed_is_left(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    @story_with_threads
    async def look() -> None:
        async with served():
            monkeypatch.setattr(Path, "unlink", refuse)

    look()
    assert list(place.glob("*.sock")) == [place / f"{os.getpid()}.sock"]


def lose_directory(place: Path) -> None:
    shutil.rmtree(place)


def lose_socket(place: Path) -> None:
    next(place.glob("*.sock")).unlink()


@pytest.mark.parametrize("lose", [lose_directory, lose_socket])
def test_a_socket_that_has_gone_is_made_again(
    place: Path,
    lose: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(listening, "_PAUSE", 0.01)

    @story_with_threads
    async def look() -> None:
        async with served() as address:
            assert address.socket is not None
            lose(place)
            while not is_alive(Path(address.socket)):
                await trio.sleep(0.01)
            assert await seen_at(address.socket) == ["shop"]
            assert (mode_of(place), mode_of(Path(address.socket))) == ("0700", "0600")

    look()
    assert [record.getMessage() for record in caplog.records if record.name == "spry_py"] == [
        f"the observer's socket {place}/{os.getpid()}.sock has gone, and will be made again"
    ]
    assert list(place.iterdir()) == []


def test_a_path_that_another_one_has_taken_is_waited_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same number, in another namespace of processes."""
    monkeypatch.setattr(listening, "_PAUSE", 0.01)

    @story_with_threads
    async def look() -> None:
        async with served() as address:
            assert address.socket is not None
            lose_socket(place)
            other = take_place(1)
            assert str(other.path) == address.socket
            await trio.sleep(0.1)
            assert other.is_there
            other.leave()
            while not is_alive(other.path):
                await trio.sleep(0.01)
            assert await seen_at(address.socket) == ["shop"]

    look()
    assert list(place.iterdir()) == []


def test_without_a_directory_of_sockets_there_are_none(place: Path) -> None:
    assert found() == ([], 0)


def test_without_a_runtime_directory_it_is_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    taken = take_place(1)
    taken.leave()
    assert taken.path.parent == tmp_path / f"spry_py-{os.geteuid()}"


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
