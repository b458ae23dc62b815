"""An observer without sockets, on virtual time: requests over streams in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import h11
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from spry_py import SystemHandle, roots
from spry_py._http import Limits
from spry_py.observer.actions import Actions
from spry_py.observer.changes import Changes
from spry_py.observer.rights import ACTIONS, Rights
from spry_py.observer.server import Server
from spry_py.observer.trees import Trees

SOCKET = Rights(ACTIONS, None)
TOKEN = "a-token-that-nobody-guesses"


@dataclass
class Got:
    """A reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def told(self) -> tuple[int, str]:
        """The status, and the sentence that goes with it."""
        return self.status, self.json["message"]


def written(method: str, target: str, headers: dict[str, str] | None = None) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [
        f"{name}: {value}" for name, value in ({"Host": "localhost"} | (headers or {})).items()
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_reply(data: bytes) -> Got:
    """The reply in what was received, which must be whole."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response), data
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), data
    headers = {name.decode(): value.decode() for name, value in head.headers}
    return Got(head.status_code, headers, body)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    try:
        async for part in stream:
            data += part
    except trio.BrokenResourceError:
        pass  # it was closed with something left unread
    return data


class Outside:
    """Asks an observer, as somebody outside the process would."""

    def __init__(self, server: Server, changes: Changes, nursery: trio.Nursery) -> None:
        self.server = server
        self.changes = changes
        self._nursery = nursery

    def connect(
        self,
        rights: Rights = SOCKET,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        kind: Literal["roomy", "lockstep"] = "roomy",
    ) -> trio.StapledStream[Any, Any]:
        """A new connection. A lockstep one takes nothing that is not read."""
        ours, theirs = memory_stream_pair() if kind == "roomy" else lockstep_stream_pair()
        self._nursery.start_soon(self.server.serve, theirs, rights, "a test", limits)
        return ours

    async def send(self, data: bytes, rights: Rights = SOCKET) -> Got:
        """The reply to what is sent over a new connection."""
        stream = self.connect(rights)
        await stream.send_all(data)
        return read_reply(await read_all(stream))

    async def get(self, target: str) -> Got:
        return await self.send(written("GET", target))

    async def post(self, target: str) -> Got:
        return await self.send(written("POST", target))

    async def events(self) -> Events:
        """The stream of events, over a new connection."""
        stream = self.connect()
        await stream.send_all(written("GET", "/events"))
        return Events(stream)


class Events:
    """Server-sent events, one at a time."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self.stream = stream
        self._client = h11.Connection(h11.CLIENT)
        self._client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
        self._client.send(h11.EndOfMessage())
        self._text = ""

    async def next(self) -> tuple[str, Any]:
        """The kind and the data of the next one; of a sign of life, nothing."""
        while "\n\n" not in self._text:
            event = self._client.next_event()
            if event is h11.NEED_DATA:
                self._client.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Data):
                self._text += event.data.decode()
            else:
                assert isinstance(event, h11.Response), event
        block, _, self._text = self._text.partition("\n\n")
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line != ":")
        return lines.get("event", ""), json.loads(lines["data"]) if lines else None

    async def of(self, *kinds: str) -> tuple[str, Any]:
        """The next one of these kinds."""
        while True:
            kind, data = await self.next()
            if kind in kinds:
                return kind, data


@asynccontextmanager
async def observed(root: SystemHandle | None = None, history: int = 1000) -> AsyncIterator[Outside]:
    """An observer of a tree, or of all that there are, for the duration of a block."""
    trees = Trees(roots if root is None else lambda: (root,))
    # however slow this machine is, looking takes no time
    changes = Changes(trees, history, lambda: 0.0)
    async with trio.open_nursery() as nursery:
        server = Server(trees, changes, Actions(trees, nursery))
        await nursery.start(changes.run)
        yield Outside(server, changes, nursery)
        nursery.cancel_scope.cancel()


class Broken(SystemHandle):
    """A root that cannot be followed by those who look at it now."""

    __slots__ = ()

    def follow(self, capacity: float = 1024, history: bool = False) -> Any:
        if history:
            return super().follow(capacity, history)
        raise ValueError("broken")
