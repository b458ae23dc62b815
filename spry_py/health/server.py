"""The probes over HTTP: three paths, each with a verdict, and nothing else.

Those who ask are not to be trusted: each has a few seconds and a small head, there are never more
than so many at a time, and whatever they do is nobody's error. Of too many the oldest has to go: a
probe that comes now is more likely to be one than a connection that has been silent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

import h11
import trio

from spry_py.lowlevel import log, tell

from .health import Health, Verdict

LONGEST: Final = 5.0
# that a client whose last bytes are not wanted gets to read what it was sent
LINGERS: Final = 1.0
MOST_CLIENTS: Final = 64
LARGEST_HEAD: Final = 8192
CHUNK: Final = 4096
PAUSE: Final = 1.0

Source: TypeAlias = Callable[[], Health | None]
"""The health of a tree, once there is one."""

_Ask: TypeAlias = Callable[[Health], Verdict]
# path: what is asked, the word for no
_PROBES: Final[dict[str, tuple[_Ask, str]]] = {
    "/livez": (Health.live, "not live"),
    "/readyz": (Health.ready, "not ready"),
    "/startupz": (Health.started, "not started"),
}


class Response(NamedTuple):
    """What is sent: a status, and lines of text."""

    status: int
    lines: tuple[str, ...]


class Probes:
    """The server of one tree's verdicts, for as long as `serve` is not cancelled."""

    def __init__(
        self, listeners: list[trio.SocketListener], source: Source, path: str = ""
    ) -> None:
        self.listeners = listeners
        self._source = source
        # whose logger is told of trouble
        self._path = path
        # the clients that are served now, in the order in which they came
        self._clients: dict[trio.CancelScope, None] = {}

    async def serve(self) -> None:
        """Accept and serve until cancelled, and then close the listeners."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in self.listeners:
                    nursery.start_soon(self._accept, listener, nursery)
        finally:
            for listener in self.listeners:
                listener.socket.close()

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                # no file left, or something that concerns the network of this machine
                self._complain(error)
                await trio.sleep(PAUSE)
            else:
                nursery.start_soon(self.serve_one, stream)

    async def serve_one(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One request and its response. Raises nothing but `trio.Cancelled`; closes the stream."""
        if len(self._clients) >= MOST_CLIENTS:
            next(iter(self._clients)).cancel()
        with trio.move_on_after(LONGEST) as scope:
            self._clients[scope] = None
            try:
                await self._converse(stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it has gone
            except Exception as error:
                self._complain(error)
            finally:
                del self._clients[scope]
                await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.abc.HalfCloseableStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        request: h11.Request | None = None
        try:
            request = await _request(http, stream)
            if request is None:
                return
            response = self._respond(request)
        except h11.RemoteProtocolError as error:
            response = Response(error.error_status_hint, ("not a request that is understood",))
        await stream.send_all(_bytes(http, request, response))
        await stream.send_eof()
        with trio.move_on_after(LINGERS):
            left = LARGEST_HEAD
            while left > 0 and (data := await stream.receive_some(CHUNK)):
                left -= len(data)

    def _respond(self, request: h11.Request) -> Response:
        try:
            target = urlsplit(request.target.decode("ascii"))
        except ValueError:
            return Response(400, ("not a target that is understood",))
        if target.path not in _PROBES:
            return Response(404, ("not found",))
        if request.method not in (b"GET", b"HEAD"):
            return Response(405, ("only GET and HEAD are allowed",))
        is_verbose = "verbose" in parse_qs(target.query, keep_blank_values=True)
        response = self._judge(target.path)
        return response if is_verbose else Response(response.status, response.lines[:1])

    def _judge(self, path: str) -> Response:
        """The word, and behind it the reasons."""
        health = self._source()
        ask, no = _PROBES[path]
        if health is None:
            # that the loop turns is seen by this very call
            is_live = path == "/livez"
            return Response(200, ("ok",)) if is_live else Response(503, (no, "no boot has begun"))
        try:
            verdict = ask(health)
            degraded = health.degraded() if path == "/readyz" else Verdict(True)
        except Exception as error:
            # the function that says who counts
            self._complain(error)
            return Response(503, (no, tell(error)))
        word = ("ok" if degraded.ok else "degraded") if verdict.ok else no
        return Response(200 if verdict.ok else 503, (word, *verdict.reasons, *degraded.reasons))

    def _complain(self, error: Exception) -> None:
        text = f"the probes over HTTP go on after: {tell(error)}"
        log(self._path, logging.WARNING, text)


async def _request(
    http: h11.Connection, stream: trio.abc.HalfCloseableStream
) -> h11.Request | None:
    """The head of a request; ``None`` from a client that has left without one."""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        http.receive_data(bytes(await stream.receive_some(CHUNK)))


def _bytes(http: h11.Connection, request: h11.Request | None, response: Response) -> bytes:
    body = "".join(f"{_on_one_line(line)}\n" for line in response.lines).encode()
    headers = [
        ("Date", formatdate(usegmt=True)),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    if response.status == 405:
        headers.append(("Allow", "GET, HEAD"))
    is_head = request is not None and request.method == b"HEAD"
    parts = [
        http.send(h11.Response(status_code=response.status, headers=headers)),
        b"" if is_head else http.send(h11.Data(data=body)),
        http.send(h11.EndOfMessage()),
    ]
    return b"".join(filter(None, parts))


def _on_one_line(text: str) -> str:
    return " ".join(text.splitlines())


async def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Raises `OSError`, with what cannot be listened at."""
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        where = f"cannot serve the probes at {host} port {port}"
        raise OSError(error.errno, f"{where}: {error.strerror or error}") from error
