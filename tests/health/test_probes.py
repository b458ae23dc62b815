"""`serve_health`: the probes over HTTP, and clients that mean no good."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import h11
import pytest
import trio
from trio.testing import memory_stream_pair

from actors import Actor
from spry_py import Child, NeverRestart, RateLimited, Scope, open_system
from spry_py._http import MOST_HEAD
from spry_py.health import Health, serve_health
from spry_py.health.server import LONGEST, MOST_CLIENTS, Probes
from stories import Record, story, story_with_threads

one_for_one = partial(open_system, strategy="one_for_one", breaker=RateLimited(9, 60.0))


class Client:
    """One connection to the probes of a tree."""

    def __init__(self, probes: Probes, nursery: trio.Nursery) -> None:
        self.stream, theirs = memory_stream_pair()
        nursery.start_soon(probes.serve_one, theirs)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def rest(self) -> bytes:
        """All that comes until the end."""
        return b"".join([data async for data in self.stream])


def read(data: bytes, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """A response as a client of HTTP understands it: status, headers, body."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    http.receive_data(b"")
    response = http.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    headers = {name.decode(): value.decode() for name, value in response.headers}
    return response.status_code, headers, body.decode()


@asynccontextmanager
async def clients(health: Health | None) -> AsyncIterator[Any]:
    """A factory of connections to probes that last as long as the block."""
    async with trio.open_nursery() as nursery:
        yield partial(Client, Probes([], lambda: health), nursery)
        nursery.cancel_scope.cancel()


async def asked(connect: Any, target: str, method: str = "GET", head: str = "") -> Any:
    client = connect()
    await client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
    status, _, body = read(await client.rest(), method)
    return status, body


# What is said


@story
async def test_each_path_has_its_word_and_its_reasons_only_for_those_who_want_them() -> None:
    a = Actor(Record(), "a")
    breaker = RateLimited(2, 60.0)
    child = a.child(backoff=lambda state: 3.0)
    async with one_for_one([child], name="shop", breaker=breaker) as handle:
        health = Health(handle)
        async with clients(health) as connect:
            for path in ("/livez", "/readyz", "/startupz", "/readyz?verbose"):
                assert await asked(connect, path) == (200, "ok\n")
            a.die()
            await trio.sleep(1)
            assert await asked(connect, "/readyz") == (503, "not ready\n")
            reasons = "shop/a is restarting\nshop: 1 of 2 restarts within 60 s left\n"
            for query in ("?verbose", "?verbose=1", "?x=1&verbose"):
                assert await asked(connect, f"/readyz{query}") == (503, f"not ready\n{reasons}")
            for path in ("/livez", "/startupz"):
                assert await asked(connect, path) == (200, "ok\n")
            await trio.sleep(5)
            assert await asked(connect, "/readyz") == (200, "degraded\n")
            lost = "shop: 1 of 2 restarts within 60 s left\n"
            assert await asked(connect, "/readyz?verbose") == (200, f"degraded\n{lost}")
            health.leave()
            assert await asked(connect, "/readyz?verbose") == (
                503,
                f"not ready\nshop is stopping\n{lost}",
            )


@story
async def test_before_the_boot_it_is_alive_and_nothing_else() -> None:
    async with clients(None) as connect:
        assert await asked(connect, "/livez?verbose") == (200, "ok\n")
        assert await asked(connect, "/readyz") == (503, "not ready\n")
        assert await asked(connect, "/startupz?verbose") == (
            503,
            "not started\nno boot has begun\n",
        )


@story
async def test_what_else_may_be_asked() -> None:
    async with (
        open_system([Child("a", trio.sleep_forever)]) as handle,
        clients(Health(handle)) as connect,
    ):
        seen = [
            await asked(connect, "/readyz", "HEAD"),
            await asked(connect, "/readyz", "POST", "Content-Length: 0\r\n"),
            await asked(connect, "/readyz", "DELETE"),
            await asked(connect, "/", "GET"),
            await asked(connect, "/metrics", "POST"),
            await asked(connect, "/readyz/", "GET"),
            await asked(connect, "http://[/readyz", "GET"),
        ]
        assert seen == [
            (200, ""),
            (405, "only GET and HEAD are allowed\n"),
            (405, "only GET and HEAD are allowed\n"),
            (404, "not found\n"),
            (404, "not found\n"),
            (404, "not found\n"),
            (400, "the target is no path with a query\n"),
        ]


@story
async def test_a_response_word_for_word() -> None:
    async with (
        open_system([Child("a", trio.sleep_forever)]) as handle,
        clients(Health(handle)) as connect,
    ):
        for method, length in (("GET", "3"), ("HEAD", "3"), ("POST", "30")):
            client = connect()
            await client.send(f"{method} /livez HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            _, headers, _ = read(await client.rest(), method)
            assert headers.pop("date").endswith(" GMT")
            allow = {"allow": "GET, HEAD"} if method == "POST" else {}
            assert headers == allow | {
                "content-type": "text/plain; charset=utf-8",
                "content-length": length,
                "cache-control": "no-store",
                "connection": "close",
            }


@story
async def test_what_says_who_counts_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def counts(child: object) -> bool:
        raise LookupError("no such child\nat all")

    async with (
        open_system([Child("a", trio.sleep_forever)], name="shop") as handle,
        clients(Health(handle, counts=counts)) as connect,
    ):
        said = "not ready\nLookupError: no such child\n"
        assert await asked(connect, "/readyz?verbose") == (503, said)
        assert await asked(connect, "/livez") == (200, "ok\n")
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["the probes over HTTP go on after: LookupError: no such child"]


# Clients that mean no good


@story
async def test_a_client_that_is_slow_is_let_go_in_time() -> None:
    async with clients(None) as connect:
        for data in (b"", b"GET /livez HTTP/1.1\r\nHos"):
            began = trio.current_time()
            client = connect()
            await client.send(data)
            assert await client.rest() == b""
            assert trio.current_time() - began == LONGEST
        began = trio.current_time()
        client = connect()
        with pytest.raises(trio.BrokenResourceError):
            for byte in b"GET /livez HTTP/1.1\r\nHost: x":
                await client.send(bytes([byte]))
                await trio.sleep(0.9)
        assert trio.current_time() - began < LONGEST + 1


@story
async def test_a_client_that_does_not_read_is_let_go_in_time() -> None:
    class Deaf(trio.abc.SendStream):
        async def send_all(self, data: object) -> None:
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.sleep_forever()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    receive = trio.testing.MemoryReceiveStream()
    receive.put_data(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await Probes([], lambda: None).serve_one(trio.StapledStream(Deaf(), receive))
    assert trio.current_time() == LONGEST


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"GET /" + b"x" * MOST_HEAD, 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"x" * MOST_HEAD, 431),
    ],
    ids=["TLS", "no HTTP", "no host", "no length", "odd coding", "large target", "large header"],
)
@story
async def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    async with clients(None) as connect:
        client = connect()
        await client.send(data)
        assert read(await client.rest())[0] == status
        assert trio.current_time() == 0


@story
async def test_what_comes_behind_a_request_is_not_listened_to_for_ever() -> None:
    async with clients(None) as connect:
        client = connect()
        head = b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        await client.send(head)
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(100):
                await client.send(b"x" * 1000)
                await trio.sleep(0.01)
        assert trio.current_time() < 2
        status, _, body = read(await client.rest())
        assert (status, body) == (413, "the body is too large\n")


@story
async def test_a_client_that_goes_away_is_forgotten() -> None:
    async with clients(None) as connect:
        for data in (b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"):
            client = connect()
            await client.send(data)
            await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
        assert await asked(connect, "/livez") == (200, "ok\n")
        assert trio.current_time() == 0


@story
async def test_of_too_many_clients_the_oldest_is_let_go() -> None:
    async with clients(None) as connect:
        crowd = []
        for _ in range(MOST_CLIENTS):
            crowd.append(connect())
            await trio.testing.wait_all_tasks_blocked()
        assert await asked(connect, "/livez") == (200, "ok\n")
        assert await crowd[0].rest() == b""
        assert trio.current_time() == 0
        await crowd[1].send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read(await crowd[1].rest())[0] == 200


# Over sockets


async def fetched(port: int, target: str) -> tuple[int, str]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, _, body = read(b"".join([data async for data in stream]))
        return status, body


def port_of(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


@story_with_threads
async def test_a_tree_serves_its_own_health_as_long_as_it_lives() -> None:
    ports: list[int] = []

    async def shop(scope: Scope) -> None:
        health = partial(serve_health, scope.system, port=0)
        ports.append(port_of(await scope.start(Child("health", health))))
        assert await fetched(ports[0], "/startupz") == (503, "not started\n")
        await scope.start(Child("a", trio.sleep_forever))

    async with open_system(shop):
        assert await fetched(ports[0], "/readyz") == (200, "ok\n")
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await fetched(ports[0], "/readyz")


@story_with_threads
async def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    async with open_system([Child("a", trio.sleep_forever)]) as handle:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_health, handle, port=0)
            port = port_of(await nursery.start(serve))
            with pytest.raises(OSError, match=f"at 127.0.0.1 port {port}: ") as failure:
                await serve_health(handle, port=port)
            assert failure.value.errno == errno.EADDRINUSE
            assert await fetched(port, "/livez") == (200, "ok\n")
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:  # it is free again
            assert port_of(await nursery.start(partial(serve_health, handle, port=port))) == port
            nursery.cancel_scope.cancel()


@story
async def test_a_listener_that_fails_for_a_while_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Sick:
        def __init__(self) -> None:
            self.socket = trio.socket.socket()
            self.left = 4

        async def accept(self) -> trio.SocketStream:
            await trio.lowlevel.checkpoint()
            self.left -= 1
            if self.left < 0:
                await trio.sleep_forever()
            raise OSError(errno.EMFILE, "Too many open files")

    sick: Any = Sick()
    with trio.move_on_after(10):
        await Probes([sick], lambda: None, "shop").serve()
    said = "the probes over HTTP go on after: OSError: [Errno 24] Too many open files"
    assert [record.message for record in caplog.records] == [said] * 3
    assert sick.socket.fileno() == -1


@story_with_threads
async def test_a_stop_in_the_midst_of_a_request() -> None:
    async with open_system([Child("a", trio.sleep_forever)], breaker=NeverRestart()) as handle:
        async with trio.open_nursery() as nursery:
            port = port_of(await nursery.start(partial(serve_health, handle, port=0)))
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHo")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        # the same may be told as a reset
        with trio.fail_after(10), suppress(trio.BrokenResourceError):
            assert await stream.receive_some(100) == b""
        await stream.aclose()


# Slips


@story
async def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)
    for name in ("spry_py.health.server", "spry_py._http"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    async with open_system([Child("a", trio.sleep_forever)]) as handle:
        with pytest.raises(RuntimeError, match=r"pip install 'spry-py\[health\]'"):
            await serve_health(handle)


@story
async def test_what_is_no_address_is_refused() -> None:
    serve: Any = serve_health
    async with open_system([Child("a", trio.sleep_forever)]) as handle:
        for where, error, text in (
            ({"port": -1}, ValueError, "port must be from 0 to 65535"),
            ({"port": 65536}, ValueError, "port must be from 0 to 65535"),
            ({"port": "http"}, TypeError, "port must be an int"),
            ({"port": True}, TypeError, "port must be an int"),
            ({"host": 1}, TypeError, "host must be a str"),
        ):
            with pytest.raises(error, match=f"serve_health: {text}"):
                await serve(handle, **where)
        with pytest.raises(TypeError, match="root must be"):
            await serve(None)
