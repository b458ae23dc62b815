"""Who is refused, and how: each refusal over a raw socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from observing import TOKEN, Got, read_all, read_reply, written
from spry_py import Child, SystemHandle, SystemSupervisor, open_system
from spry_py.observer import Address, Observer, serve
from stories import story_with_threads

BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def idle() -> None:
    await trio.sleep_forever()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[Address, SystemHandle]]:
    shop = SystemSupervisor([Child("db", idle)], name="shop")
    async with trio.open_nursery() as nursery, open_system(shop) as tree:
        yield await nursery.start(partial(serve, tree, **options)), tree
        nursery.cancel_scope.cancel()


def port_of(address: Address) -> int:
    assert address.url is not None
    return int(address.url.split(":")[2].split("/")[0])


async def raw(address: Address, data: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(address))
    async with stream:
        await stream.send_all(data)
        return await read_all(stream)


async def sent(address: Address, data: bytes) -> Got:
    return read_reply(await raw(address, data))


def asked(path: str, method: str = "GET", **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return written(method, path, BEARER | named)


REFUSED = {
    "a name that was made to lead here": (asked("/tree", Host="evil.example"), 421),
    "such a name with our port": (asked("/tree", Host="evil.example:80"), 421),
    "an address of ours that is not loopback": (asked("/tree", Host="0.0.0.0"), 421),
    "a name that begins like ours": (asked("/tree", Host="localhost.evil.example"), 421),
    "a user before the name": (asked("/tree", Host="localhost@evil.example"), 421),
    "no name at all": (b"GET /tree HTTP/1.0\r\n\r\n", 421),
    "no name in HTTP/1.1": (b"GET /tree HTTP/1.1\r\n\r\n", 400),
    "two names": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    "the origin of a page elsewhere": (asked("/tree", Origin="https://evil.example"), 403),
    "the origin of another port": (
        asked("/tree", Host="localhost:1", Origin="http://localhost:2"),
        403,
    ),
    "an origin that is hidden": (asked("/tree", Origin="null"), 403),
    "a request that a page elsewhere makes": (asked("/tree", Sec_Fetch_Site="cross-site"), 403),
    "one of another port": (asked("/tree", Sec_Fetch_Site="same-site"), 403),
    "no token": (written("GET", "/tree"), 401),
    "a wrong token": (asked("/tree", Authorization=f"Bearer {TOKEN}x"), 401),
    "half a token": (asked("/tree", Authorization=f"Bearer {TOKEN[:-1]}"), 401),
    "a token that is no ASCII": (asked("/tree", Authorization="Bearer ÿ"), 401),
    "the token as a password": (asked("/tree", Authorization=f"Basic {TOKEN}"), 401),
    "the token in the query": (written("GET", f"/tree?token={TOKEN}"), 401),
    "the token in a cookie": (written("GET", "/tree", {"Cookie": f"token={TOKEN}"}), 401),
    "two tokens": (
        asked("/tree").replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer x\r\n\r\n"),
        400,
    ),
    "no token for what is not there": (written("GET", "/nowhere"), 401),
    "what is not there": (asked("/nowhere"), 404),
    "what is above": (asked("/../tree"), 404),
    "an action by GET": (asked("/do/restart?path=shop/db"), 405),
    "a look by POST": (asked("/tree", method="POST"), 405),
    "a look by PUT": (asked("/tree", method="PUT"), 405),
    "a question what may be asked": (asked("/tree", method="OPTIONS"), 405),
    "an action that is not allowed": (asked("/do/stop?path=shop", method="POST"), 403),
    "an action that there is not": (asked("/do/kill?path=shop", method="POST"), 404),
    "an address instead of a path": (asked("http://localhost/tree"), 400),
    "no path": (asked("*", method="OPTIONS"), 400),
    "a path that is no text": (asked("/tree?under=%ff"), 400),
    "a path given twice": (asked("/stack?path=shop&path=shop/db"), 400),
    "no path where one is wanted": (asked("/stack"), 400),
    "a depth that is no number": (asked("/tree?depth=-1"), 400),
    "too large a body": (
        asked("/do/restart?path=shop/db", "POST", Content_Length="9999") + b"x" * 9999,
        413,
    ),
    "too large a head": (asked("/tree", X="x" * 30_000), 431),
    "a head that does not end": (b"GET /tree HTTP/1.1\r\n" + b"X: y\r\n" * 5_000, 431),
    "what is no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "a length that is none": (asked("/tree", Content_Length="-1"), 400),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(what: str) -> None:
    request, status = REFUSED[what]

    @story_with_threads
    async def refused() -> None:
        async with served(port=0, token=TOKEN, allow=("restart",)) as (address, tree):
            got = await sent(address, request)
            assert (got.status, set(got.json)) == (status, {"error", "message"})
            assert TOKEN not in got.body.decode()
            assert "access-control-allow-origin" not in got.headers
            assert got.headers["content-security-policy"].startswith("default-src 'none'")
            assert tree.find("db").incarnation == 1

    refused()


ALLOWED = {
    "by address": asked("/tree", Host="127.0.0.1"),
    "with a port": asked("/tree", Host="localhost:8099"),
    "of the other protocol": asked("/tree", Host="[::1]:80"),
    "in capitals": asked("/tree", Host="LocalHost"),
    "from our own page": asked(
        "/tree", Host="localhost:80", Origin="http://localhost:80", Sec_Fetch_Site="same-origin"
    ),
    "typed into a browser": asked("/tree", Sec_Fetch_Site="none"),
    "the scheme in small letters": asked("/tree", Authorization=f"bearer {TOKEN}"),
    "an action": asked("/do/restart?path=shop/db", method="POST"),
    "with a body": asked("/do/restart?path=shop/db", "POST", Content_Length="2") + b"{}",
    "with a body in pieces": asked("/do/restart?path=shop/db", "POST", Transfer_Encoding="chunked")
    + b"2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("what", ALLOWED)
def test_it_is_served(what: str) -> None:
    @story_with_threads
    async def allowed() -> None:
        async with served(port=0, token=TOKEN, allow=("restart",)) as (address, _):
            got = await sent(address, ALLOWED[what])
            assert got.status == 200, got
            assert got.headers["referrer-policy"] == "no-referrer"
            assert "set-cookie" not in got.headers

    allowed()


@story_with_threads
async def test_each_observer_has_a_token_of_its_own() -> None:
    async with served(port=0) as (one, tree), trio.open_nursery() as nursery:
        other: Address = await nursery.start(partial(serve, tree, port=0, socket=False))
        assert one.url is not None
        assert other.url is not None
        tokens = {url.partition("#token=")[2] for url in (one.url, other.url)}
        assert len(tokens) == 2
        assert all(len(token) >= 43 for token in tokens)
        assert not any(token in repr((one, other)) for token in tokens)
        nursery.cancel_scope.cancel()


@story_with_threads
async def test_only_this_machine_can_connect() -> None:
    async with served(port=0) as (address, _):
        for host in ("127.0.0.2", "::1"):
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream(host, port_of(address))


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"socket": 1}, TypeError, "socket must be a bool, not 1"),
    ({"port": True}, TypeError, "port must be an int, 0 or more, not True"),
    ({"port": 65_536}, ValueError, "port must be at most 65535, not 65536"),
    ({"socket": False}, ValueError, "without socket=True it needs a port"),
    ({"allow": "stop"}, TypeError, "allow must be a collection of 'restart', 'terminate'"),
    ({"allow": ["kill"]}, ValueError, "allow may hold 'restart', .*, not 'kill'"),
    ({"history": 0}, ValueError, "history must be an int, 1 or more, not 0"),
    ({"token": b"x" * 20}, TypeError, "token must be a str or None, not bytes"),
    ({"token": "short"}, ValueError, "token must be 16 to 200 letters"),
    ({"token": "with a blank in the midst"}, ValueError, "it is not shown here"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD)
def test_bad_options_are_refused_where_they_are_written(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        Observer(**options)


@story_with_threads
async def test_a_root_is_a_handle() -> None:
    root: Any = "shop"
    with pytest.raises(TypeError, match="root must be the handle of a supervisor"):
        await serve(root)
