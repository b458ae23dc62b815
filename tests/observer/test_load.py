"""Crowds that look, crowds that mean no good, and a tree that does not notice either."""

from __future__ import annotations

import gc
import logging
import resource
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import Actor, cast
from observing import SOCKET, TOKEN, Outside, observed, read_all, read_reply, written
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py._http import Limits
from spry_py.observer import Address, serve
from spry_py.observer.listening import MOST_CONNECTIONS
from spry_py.observer.rights import Rights
from stories import Facts, Record, story, story_with_threads


async def idle() -> None:
    await trio.sleep_forever()


# Who looks changes nothing


def stormy(record: Record) -> tuple[SystemSupervisor, list[Actor]]:
    """A tree with a strategy of each kind and a backoff, and those in it that crash."""
    a, b, c, d, e = actors = list(cast(record, "abcde"))
    always = AlwaysRestart()
    inner = SystemSupervisor([b.child(), c.child()], strategy="one_for_all", breaker=always)
    rest = SystemSupervisor([d.child(), e.child()], strategy="rest_for_one", breaker=always)
    waits = a.child(backoff=Backoff(lambda state: 0.7))
    children = [waits, Child("inner", inner), Child("rest", rest)]
    return (
        SystemSupervisor(children, name="top", strategy="one_for_one", breaker=always),
        actors,
    )


async def storm(actors: list[Actor], rounds: int, pace: float = 0.13) -> None:
    for number in range(rounds):
        await trio.sleep(pace)
        actor = actors[number % len(actors)]
        if actor.is_running:
            actor.die()
    await trio.sleep(1)


async def drain(outside: Outside, *, task_status: trio.TaskStatus[None]) -> None:
    events = await outside.events()
    task_status.started()
    while True:
        await events.next()


async def never_read(outside: Outside, *, task_status: trio.TaskStatus[None]) -> None:
    stream = outside.connect(SOCKET, Limits(write=1e6), "lockstep")
    await stream.send_all(written("GET", "/events"))
    await stream.receive_some()
    task_status.started()
    await trio.sleep_forever()


async def _look(tree: SystemHandle, actors: list[Actor], rounds: int, viewers: int) -> None:
    async with observed(tree) as outside, trio.open_nursery() as nursery:
        for _ in range(viewers):
            await nursery.start(drain, outside)
        if viewers:
            await nursery.start(never_read, outside)
        await storm(actors, rounds)
        nursery.cancel_scope.cancel()


def seen_by(viewers: int | None) -> Facts:
    record = Record()

    @story
    async def play() -> None:
        supervisor, actors = stormy(record)
        async with open_system(supervisor) as tree:
            if viewers is None:
                await storm(actors, 60)
            else:
                await _look(tree, actors, 60, viewers)

    play()
    return record.facts


def test_a_tree_under_a_crash_storm_is_the_same_whoever_looks() -> None:
    alone = seen_by(None)
    assert len(alone) > 100
    assert seen_by(0) == alone
    assert seen_by(3) == alone


@pytest.mark.slow
def test_looking_for_long_takes_no_more_memory_than_looking() -> None:
    grown: list[int] = []

    @story
    async def look() -> None:
        record = Record()
        supervisor, actors = stormy(record)
        async with (
            open_system(supervisor) as tree,
            observed(tree, history=20) as outside,
            trio.open_nursery() as nursery,
        ):
            for _ in range(2):
                await nursery.start(drain, outside)
            await nursery.start(never_read, outside)
            # longer than what is kept of the past: 1000 facts, and restarts of two minutes
            for _ in range(2):
                await storm(actors, 250, 0.53)
                record.take()
                for actor in actors:
                    actor.ran.clear()
                grown.append(_objects())
            nursery.cancel_scope.cancel()

    # what pytest captures of the log grows
    logging.disable(logging.CRITICAL)
    try:
        look()
    finally:
        logging.disable(logging.NOTSET)
    assert grown[1] - grown[0] < 300


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


# Who means no good


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4_096 if hard == resource.RLIM_INFINITY else min(4_096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_connections_cost_no_more_than_sixty_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    @story_with_threads
    async def crowd() -> None:
        async with trio.open_nursery() as nursery, open_system([Child("a", idle)]) as tree:
            address: Address = await nursery.start(partial(serve, tree, port=0, token=TOKEN))
            assert address.url is not None
            assert address.socket is not None
            port = int(address.url.split(":")[2].split("/")[0])
            streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(1_000)]
            left = 0
            for stream in streams[MOST_CONNECTIONS:]:
                with trio.move_on_after(5) as scope:
                    await read_all(stream)
                left += scope.cancelled_caught
            assert left == 0, "those that are too many are closed at once"
            # the socket has room of its own
            async with await trio.open_unix_socket(address.socket) as own:
                await own.send_all(written("GET", "/tree"))
                assert read_reply(await read_all(own)).status == 200
            for stream in streams:
                await trio.aclose_forcefully(stream)
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            data = b""
            while not data:
                async with await trio.open_tcp_stream("127.0.0.1", port) as again:
                    with suppress(trio.BrokenResourceError):  # the crowd has not been let go yet
                        await again.send_all(written("GET", "/tree", bearer))
                        data = await read_all(again)
            assert read_reply(data).status == 200
            nursery.cancel_scope.cancel()

    crowd()


PIECES = [
    b"GET ",
    b"POST ",
    b"/tree",
    b"/do/restart?path=top/a",
    b"/events",
    b" HTTP/1.1\r\n",
    b"\r\n",
    b"Host: localhost\r\n",
    b"Host: evil.example\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: keep-alive\r\n",
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n",
    b"?under=",
    b"%00%ff",
    b"//[",
    b"\x00",
    b"0\r\n\r\n",
]
REQUESTS = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REQUESTS)
def test_whatever_is_sent_there_is_a_reply_or_an_end(pieces: list[bytes]) -> None:
    @story
    async def send() -> None:
        async with open_system([Child("a", idle)], name="top") as tree, observed(tree) as outside:
            for rights in (SOCKET, Rights((), TOKEN)):
                stream = outside.connect(rights)
                await stream.send_all(b"".join(pieces))
                await stream.send_eof()
                data = await read_all(stream)
                if data:
                    assert data.startswith(b"HTTP/1.1 ")
                    assert 100 < int(data[9:12]) < 500
            assert tree.status == "running"

    send()


# The fuzzer that asks all other routes waits for the end of a reply, which this one does not have.

WORDS = st.one_of(
    st.sampled_from(["path", "under", "depth", "-1", "top", "top/a", "%00", "%ff", "%ed%b3%bf"]),
    st.text("ab/%+&=#?;\x01", max_size=8).map(quote),
)
QUERIES = st.lists(st.tuples(WORDS, WORDS), max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(["Accept", "Last-Event-ID", "Range", "Origin", "Connection", "Upgrade"]),
    st.sampled_from(["", "*/*", "7", "bytes=0-1", "null", "http://localhost", "close", "h2c"]),
    max_size=3,
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PUT"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(METHODS, QUERIES, HEADERS)
def test_events_begin_with_the_tree_or_are_refused_whatever_is_asked(
    method: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    target = "/events?" + "&".join(f"{name}={value}" for name, value in query)

    @story
    async def ask() -> None:
        async with open_system([Child("a", idle)], name="top") as tree, observed(tree) as outside:
            stream = outside.connect()
            await stream.send_all(written(method, target, headers))
            data = b""
            with trio.move_on_after(2):
                async for part in stream:
                    data += part
            status = int(data[9:12])
            assert status in (200, 400, 403, 405)
            if status == 200 and method == "GET":
                about, _, rest = data.partition(b"event: about\ndata: {")[2].partition(b"\n\n")
                assert b'"actions":' in about
                assert b'event: tree\ndata: {"now":' in rest
                assert len(outside.changes.viewers) == 1
            await stream.aclose()
            await trio.sleep(2)
            assert not outside.changes.viewers
            assert tree.status == "running"

    ask()
