"""The example `uptime`: which targets a file names, and what one check finds out."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.abc import Stream
from trio.testing import memory_stream_pair

from examples.uptime.check import Check, check
from examples.uptime.targets import BadLine, Target, read_targets
from stories import story

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "uptime" / "targets.txt"
GET = b"GET /health?deep=1 HTTP/1.1\r\nHost: %b\r\nUser-Agent: spry-py-uptime\r\n"
GET += b"Accept: */*\r\nConnection: close\r\n\r\n"


# targets


def test_each_good_line_is_a_target_and_each_bad_line_is_told_by_number(tmp_path: Path) -> None:
    lines = (
        "\ufeff# comes with a byte order mark, as some editors leave it",
        "",
        "http://localhost:8000/a/b?c=/d",
        "  shop   HTTP://Example.org   every=2.5 timeout=1   # a comment",
        "tcp://[::1]:5432\r",
        "what",
        "https://example.org/",
        "shop http://elsewhere.org/",
        "tcp://localhost",
        "http://localhost:99999/",
        "http://:80/",
        "tcp://localhost:22/path",
        "http://localhost/ every=often",
        "http://localhost/ evry=1",
        "http://localhost/ timeout=0",
        "http://localhost/ timeout=inf",
        "http://localhost/\u00fc",
        "a/b http://localhost/",
        "last http://user@localhost/",
    )
    path = tmp_path / "targets"
    path.write_bytes("\n".join(lines).encode() + b"\nbad\xff http://localhost/\nend tcp://h:1")
    targets, bad_lines = read_targets(str(path))
    assert targets == [
        Target("http:localhost:8000_a_b?c=_d", "http", "localhost", 8000, "/a/b?c=/d"),
        Target("shop", "http", "example.org", 80, "/", 2.5, 1.0),
        Target("tcp:[::1]:5432", "tcp", "::1", 5432),
        Target("end", "tcp", "h", 1),
    ]
    assert bad_lines == [
        BadLine(6, "no http://HOST[:PORT][/PATH] or tcp://HOST:PORT in 'what'"),
        BadLine(7, "'https://example.org/' is neither http:// nor tcp://"),
        BadLine(8, "'shop' is watched already, see line 4"),
        BadLine(9, "'tcp://localhost' needs a port between 1 and 65535"),
        BadLine(10, "'http://localhost:99999/' needs a port between 1 and 65535"),
        BadLine(11, "'http://:80/': HOST or HOST:PORT must follow the '//'"),
        BadLine(12, "'tcp://localhost:22/path': nothing may follow the port of a tcp:// target"),
        BadLine(13, "'every=often': the seconds must be a number above 0"),
        BadLine(14, "'evry=1' is neither every=SECONDS nor timeout=SECONDS"),
        BadLine(15, "'timeout=0': the seconds must be a number above 0"),
        BadLine(16, "'timeout=inf': the seconds must be a number above 0"),
        BadLine(17, "'http://localhost/\u00fc' holds characters that a URL must escape"),
        BadLine(18, "the name 'a/b' holds a '/' or a control character"),
        BadLine(19, "'http://user@localhost/': HOST or HOST:PORT must follow the '//'"),
        BadLine(20, "'utf-8' codec can't decode byte 0xff in position 3: invalid start byte"),
    ]


def test_the_sample_file_has_no_bad_line() -> None:
    targets, bad_lines = read_targets(str(SAMPLE))
    assert bad_lines == []
    assert [target.name for target in targets] == [
        "website",
        "http:example.org_index.html",
        "resolver",
        "ssh-here",
        "nobody",
    ]


# checks

WEB = Target("web", "http", "h", 80, "/health?deep=1", timeout=5.0)


async def checked(target: Target, answer: bytes, chunk: int) -> tuple[Check, bytes]:
    """Check against a server that sends `answer`, and tell what it was asked."""
    client, server = memory_stream_pair()
    asked = bytearray()

    async def connect(host: str, port: int) -> Stream:
        assert (host, port) == (target.host, target.port)
        return client

    async def serve() -> None:
        while not asked.endswith(b"\r\n\r\n"):
            asked.extend(await server.receive_some())
        with suppress(trio.BrokenResourceError):
            for start in range(0, len(answer), chunk):
                await server.send_all(answer[start : start + chunk])
            await server.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        result = await check(target, connect)
    return result, bytes(asked)


@pytest.mark.parametrize("chunk", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nbody", None),
        (b"HTTP/1.0 302 Found\r\n\r\n", None),
        (b"HTTP/1.1 204\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\nServer: x\n\n", None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", "status 503"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", r"not HTTP/1: b'HTTP/1.1 2000 OK\r\n\r\n'"),
        (b"SSH-2.0-x\r\n\r\n", r"not HTTP/1: b'SSH-2.0-x\r\n\r\n'"),
        (b"", "closed after 0 bytes, in the middle of an answer"),
        (b"HTTP/1.1 200", "closed after 12 bytes, in the middle of an answer"),
    ],
)
def test_an_http_target_is_up_when_its_status_is_below_400(
    said: bytes, error: str | None, chunk: int
) -> None:
    @story
    async def tell() -> None:
        result, asked = await checked(WEB, said, chunk)
        assert (result, asked) == (Check(reached=True, error=error), GET % b"h")
        assert result.up is (error is None)

    tell()


@story
async def test_an_answer_without_end_is_given_up() -> None:
    result, asked = await checked(
        Target("v6", "http", "::1", 8080, "/health?deep=1"), b"x" * 100_000, 100_000
    )
    assert result == Check(reached=True, error=f"not HTTP/1: {b'x' * 40!r}")
    assert asked == GET % b"[::1]:8080"


@story
async def test_a_silent_server_and_a_silent_network_are_told_apart_and_take_their_timeout() -> None:
    client, _server = memory_stream_pair()

    async def silent_server(host: str, port: int) -> Stream:
        return client

    async def silent_network(host: str, port: int) -> Stream:
        await trio.sleep_forever()
        raise AssertionError

    assert await check(WEB, silent_server) == Check(True, "no answer in 5 s")
    assert trio.current_time() == 5.0
    assert await check(WEB, silent_network) == Check(False, "no connection in 5 s")
    assert trio.current_time() == 10.0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "from here to there"), "Connection refused"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "Name or service not known",
        ),
        (OSError("all attempts failed"), "all attempts failed"),
        (OSError(), "OSError"),
    ],
)
def test_a_failed_connection_is_told_by_its_deepest_reason(error: OSError, words: str) -> None:
    async def bare(host: str, port: int) -> Stream:
        raise error

    async def wrapped(host: str, port: int) -> Stream:
        raise OSError("all of them") from ExceptionGroup("all of them", [error])

    @story
    async def tell() -> None:
        assert await check(WEB, bare) == Check(reached=False, error=words)
        assert await check(WEB, wrapped) == Check(reached=False, error=words)

    tell()
