"""Connections that are slow, cut, too many, or leave: what each of them may cost."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from observing import SOCKET, Broken, observed, read_all, read_reply, written
from spry_py import Child, SystemSupervisor, open_system
from spry_py._http import Limits
from spry_py.observer.listening import Door, _guarded
from stories import story

WHOLE = written("GET", "/tree?depth=0")


async def idle() -> None:
    await trio.sleep_forever()


shop = SystemSupervisor([Child("db", idle)], name="shop")


@story
async def test_a_request_cut_at_any_byte_is_the_end_of_its_connection_alone() -> None:
    async with open_system(shop) as tree, observed(tree) as outside:
        for length in range(len(WHOLE)):
            stream = outside.connect()
            await stream.send_all(WHOLE[:length])
            await stream.send_eof()
            data = await read_all(stream)
            assert data == b"" or read_reply(data).status == 400
        assert (await outside.get("/tree?depth=0")).status == 200
        assert tree.status == "running"


@story
async def test_a_request_may_come_byte_by_byte() -> None:
    async with open_system(shop) as tree, observed(tree) as outside:
        stream = outside.connect()
        for byte in WHOLE:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.1)
        assert read_reply(await read_all(stream)).status == 200


@story
async def test_a_request_has_ten_seconds_however_it_spends_them() -> None:
    async with open_system(shop) as tree, observed(tree) as outside:
        silent, slow = outside.connect(), outside.connect()
        began = trio.current_time()
        await slow.send_all(WHOLE[:20])
        await trio.sleep(9)
        await slow.send_all(WHOLE[20:30])
        assert await read_all(silent) == b""
        assert trio.current_time() - began == 10
        assert read_reply(await read_all(slow)).told == (408, "the request did not come in time")
        assert trio.current_time() - began == 10


@story
async def test_one_who_does_not_read_is_dropped() -> None:
    async with open_system(shop) as tree, observed(tree) as outside:
        stream = outside.connect(SOCKET, Limits(write=5.0), "lockstep")
        await stream.send_all(written("GET", "/events"))
        await trio.sleep(0.1)
        assert len(outside.changes.viewers) == 0, "nothing of the reply has been read yet"
        await stream.receive_some()
        await trio.sleep(0.1)
        assert len(outside.changes.viewers) == 1
        await trio.sleep(5)
        assert len(outside.changes.viewers) == 0


@story
async def test_one_who_leaves_is_forgotten_at_once() -> None:
    async with open_system(shop) as tree, observed(tree) as outside:
        events = await outside.events()
        assert (await events.of("tree"))[1]["nodes"][0]["path"] == "shop"
        assert len(outside.changes.viewers) == 1
        await events.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(outside.changes.viewers) == 0


@story
async def test_there_is_a_sign_of_life_while_nothing_happens() -> None:
    async with open_system(shop) as tree, observed(tree) as outside:
        events = await outside.events()
        await events.of("tree")
        began = trio.current_time()
        assert await events.next() == ("", None)
        assert trio.current_time() - began == 1


@story
async def test_trouble_of_the_observer_is_its_own() -> None:
    async with open_system(shop) as tree:
        broken = Broken(tree._root, (), tree._last)
        async with observed(broken) as outside:
            assert (await outside.get("/tree")).told == (
                500,
                "the observer has failed: see the log",
            )
        assert tree.status == "running"


@story
async def test_a_part_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[float] = []

    async def part(*, task_status: trio.TaskStatus[None]) -> None:
        runs.append(trio.current_time())
        if len(runs) > 1:
            task_status.started()
        await trio.sleep(1)
        raise OSError("no memory")

    async with trio.open_nursery() as nursery:
        # an observer begins all the same
        await nursery.start(_guarded, part)
        assert trio.current_time() == 1
        await trio.sleep(25)
        nursery.cancel_scope.cancel()
    assert runs == [0, 11, 22]
    said = [record.getMessage() for record in caplog.records if record.name == "spry_py"]
    assert said == ["a part of the observer has failed: OSError: no memory"] * 3


@story
async def test_a_door_that_fails_for_a_while_opens_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    async def sick(self: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        tries.append(trio.current_time())
        if len(tries) <= 10:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(self)

    accept = trio.SocketListener.accept
    monkeypatch.setattr(trio.SocketListener, "accept", sick)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with (
            open_system(shop) as tree,
            observed(tree) as outside,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(Door(listener, SOCKET).serve, outside.server)
            await trio.sleep(60)
            assert tries == [0, 1, 3, 6, 10, 15, 21, 28, 36, 44, 52]
            async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
                await stream.send_all(WHOLE)
                assert read_reply(await read_all(stream)).status == 200
            nursery.cancel_scope.cancel()
    said = [record.getMessage() for record in caplog.records if record.name == "spry_py"]
    trouble = "the observer goes on listening after: OSError: [Errno 24] Too many open files"
    assert said == [trouble] * 4, "the first, the second, the fourth, the eighth"


@story
async def test_an_observer_may_be_cancelled_in_any_of_its_moments() -> None:
    async with open_system(shop) as tree:
        for steps in range(40):
            async with observed(tree) as outside, trio.open_nursery() as nursery:
                nursery.start_soon(outside.get, "/tree")
                nursery.start_soon(outside.events)
                nursery.start_soon(outside.post, "/do/restart?path=shop/db")
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert tree.status == "running"
            await trio.sleep(1)
        assert tree.child("db").status == "running"
        assert len(tree._tree.stream.subscribers) == 1, "the history alone goes on"
