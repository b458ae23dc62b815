"""One HTTP request over a stream, and its reply; h11 knows the protocol.

Each connection serves one request and is closed: what a connection may cost is then known, and no
request can hide behind another. Heads, bodies and times are bounded. What goes wrong with a
connection is the end of that connection, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

MOST_HEAD: Final = 16_384
MOST_BODY: Final = 4_096
_MOST_LEFT: Final = 65_536
_READ: Final = 4_096
_WRITE: Final = 65_536
_LONGEST_PAUSE: Final = 8
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
# what is decided by these must not depend on which of two is read
_ONCE: Final = frozenset(("host", "origin", "authorization", "sec-fetch-site"))

Send: TypeAlias = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a request may take to come in, a piece of the reply to be taken, and the rest."""

    request: float = 10.0
    write: float = 10.0
    linger: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has come in whole. Names of headers are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back: a body, or a function that sends one in pieces until it returns."""

    status: int
    body: bytes | Callable[[Send], Awaitable[None]] = b""
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default=())


Answer: TypeAlias = Callable[[Request], Awaitable[Reply]]
Refuse: TypeAlias = Callable[[int, str], Reply]


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


async def accept(
    listener: trio.SocketListener,
    nursery: trio.Nursery,
    serve: Callable[[trio.SocketStream], Awaitable[None]],
    complain: Callable[[Exception], object],
) -> NoReturn:
    """Serve each who comes in a task of ``nursery``, until cancelled; the listener stays open.

    Trouble with the listener (no file left, something about the network of this machine) is tried
    again after a pause that grows from a second to eight. ``complain`` is called with it at first,
    and then more and more rarely.
    """
    failures = 0
    while True:
        try:
            stream = await listener.accept()
        except (OSError, trio.ClosedResourceError) as error:
            failures += 1
            if failures.bit_count() == 1:
                complain(error)
            await trio.sleep(min(failures, _LONGEST_PAUSE))
        else:
            failures = 0
            nursery.start_soon(serve, stream)


async def converse(
    stream: trio.abc.HalfCloseableStream,
    answer: Answer,
    refuse: Refuse,
    limits: Limits = Limits(),
) -> None:
    """Read one request from ``stream``, send what ``answer`` returns for it, and close.

    ``refuse`` makes the reply to what is no request, or too much of one. Raises what ``answer``
    raises; never what the other side does. Cancelling it closes the stream.
    """
    conversation = _Conversation(stream, limits)
    try:
        try:
            request = await conversation.read()
        except _Refused as refused:
            await conversation.reply(refuse(refused.status, refused.reason))
            await conversation.linger()
            return
        if request is not None:
            await conversation.reply(await answer(request))
    except _GONE:
        pass  # the other side has gone
    finally:
        await trio.aclose_forcefully(stream)


class _Conversation:
    """One connection."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        # a reply to HEAD has no body
        self._is_head = False

    async def read(self) -> Request | None:
        """The request; ``None`` if none has come. Raises `_Refused`."""
        with trio.move_on_after(self._limits.request) as scope:
            try:
                return await self._request()
            except h11.RemoteProtocolError as error:
                raise _Refused(error.error_status_hint, str(error)) from None
        assert scope.cancelled_caught
        if self._protocol.their_state is h11.IDLE and not self._protocol.trailing_data[0]:
            return None
        raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time")

    async def _request(self) -> Request | None:
        head = await self._next()
        if not isinstance(head, h11.Request):
            return None
        self._is_head = head.method == b"HEAD"
        size = 0
        while isinstance(event := await self._next(), h11.Data):
            size += len(event.data)
            if size > MOST_BODY:
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        return _request_of(head)

    async def _next(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(bytes(await self._stream.receive_some(_READ)))
        return event

    async def reply(self, reply: Reply) -> None:
        """Send a reply. What is not taken in time is not sent."""
        headers = [("Content-Type", reply.kind), ("Connection", "close"), *reply.headers]
        body = reply.body
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
        reason = HTTPStatus(reply.status).phrase
        await self._send(h11.Response(status_code=reply.status, headers=headers, reason=reason))
        if self._is_head:
            pass
        elif isinstance(body, bytes):
            await self._send_data(body)
        else:
            await self._send_pieces(body)
        await self._send(h11.EndOfMessage())

    async def _send_pieces(self, body: Callable[[Send], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, nursery.cancel_scope)
            with suppress(*_GONE):
                await body(self._send_data)
            nursery.cancel_scope.cancel()

    async def _until_gone(self, scope: trio.CancelScope) -> None:
        """End the reply when the other side has left; what it still sends is dropped."""
        left = _MOST_LEFT
        with suppress(*_GONE):
            while left > 0 and (data := await self._stream.receive_some(_READ)):
                left -= len(data)
        scope.cancel()

    async def _send_data(self, data: bytes) -> None:
        for at in range(0, len(data), _WRITE):
            await self._send(h11.Data(data=data[at : at + _WRITE]))

    async def _send(self, event: h11.Event) -> None:
        data = self._protocol.send(event)
        if not data:
            return
        with trio.move_on_after(self._limits.write) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the other side does not read")

    async def linger(self) -> None:
        """Let the other side read the refusal before what it still sends resets the connection."""
        left = _MOST_LEFT
        with trio.move_on_after(self._limits.linger):
            await self._stream.send_eof()
            while left > 0 and (data := await self._stream.receive_some(_READ)):
                left -= len(data)


def _request_of(head: h11.Request) -> Request:
    """The request in a head. Raises `_Refused` for one that could be read in two ways."""
    headers: dict[str, str] = {}
    for raw, value in head.headers:
        name = raw.decode("ascii")
        if name in _ONCE and name in headers:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"there are two headers {name}")
        headers.setdefault(name, value.decode("latin-1"))
    path, query = _target_of(head.target)
    return Request(head.method.decode("ascii"), path, query, headers)


def _target_of(target: bytes) -> tuple[str, Mapping[str, str]]:
    try:
        parts = urlsplit(target.decode("ascii"))
        # surrogates: a key may be the name of a file, which may be no text
        pairs = parse_qsl(
            parts.query, keep_blank_values=True, errors="surrogatepass", max_num_fields=16
        )
        path = unquote(parts.path, errors="strict")
    except ValueError:
        raise _Refused(HTTPStatus.BAD_REQUEST, "the target is no path with a query") from None
    query = dict(pairs)
    if parts.scheme or parts.netloc or not path.startswith("/") or len(query) < len(pairs):
        raise _Refused(HTTPStatus.BAD_REQUEST, "the target must be a path with a query")
    return path, query
