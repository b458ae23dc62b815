"""The probes over HTTP: three paths, each with a verdict, and nothing else.

Those who ask are not to be trusted: each has a few seconds and a small head, there are never more
than so many at a time, and whatever they do is no error of ours. Of too many the oldest has to go:
a probe that comes now is more likely to be one than a connection that has been silent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, TypeAlias

import trio

from spry_py._http import Limits, Reply, Request, accept, converse
from spry_py.lowlevel import log, summary_of

from .health import Health, Verdict

# for all of a conversation
LONGEST: Final = 5.0
MOST_CLIENTS: Final = 64

Source: TypeAlias = Callable[[], Health | None]
"""The health of a tree, once there is one."""

_Ask: TypeAlias = Callable[[Health], Verdict]
# path: what is asked, the word for no
_PROBES: Final[dict[str, tuple[_Ask, str]]] = {
    "/livez": (Health.live, "not live"),
    "/readyz": (Health.ready, "not ready"),
    "/startupz": (Health.started, "not started"),
}


class Probes:
    """The server of one tree's verdicts, for as long as `serve` is not cancelled."""

    def __init__(
        self, listeners: list[trio.SocketListener], source: Source, path: str = ""
    ) -> None:
        self.listeners = listeners
        self._source = source
        # whose logger takes trouble
        self._path = path
        # the clients that are served now, in the order in which they came
        self._clients: dict[trio.CancelScope, None] = {}

    async def serve(self) -> None:
        """Accept and serve until cancelled, and then close the listeners."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in self.listeners:
                    nursery.start_soon(accept, listener, nursery, self.serve_one, self._complain)
        finally:
            for listener in self.listeners:
                listener.socket.close()

    async def serve_one(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One request and its response. Raises nothing but `trio.Cancelled`; closes the stream."""
        if len(self._clients) >= MOST_CLIENTS:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.cancel()
        with trio.move_on_after(LONGEST) as scope:
            self._clients[scope] = None
            try:
                await converse(stream, self._reply, _refuse, Limits(LONGEST, LONGEST))
            except Exception as error:
                self._complain(error)
            finally:
                self._clients.pop(scope, None)

    async def _reply(self, request: Request) -> Reply:
        """The verdict that is asked for; of what is asked else, what is wrong with it."""
        if request.path not in _PROBES:
            return _refuse(404, "not found")
        if request.method not in ("GET", "HEAD"):
            return _refuse(405, "only GET and HEAD are allowed")
        status, lines = self._judge(request.path)
        return _text(status, lines if "verbose" in request.query else lines[:1])

    def _judge(self, path: str) -> tuple[int, tuple[str, ...]]:
        """The status, and lines: the word, and behind it the reasons."""
        health = self._source()
        ask, no = _PROBES[path]
        if health is None:
            # that the loop turns is seen by this very call
            is_live = path == "/livez"
            return (200, ("ok",)) if is_live else (503, (no, "no boot has begun"))
        try:
            verdict = ask(health)
            degraded = health.degraded() if path == "/readyz" else Verdict(True)
        except Exception as error:
            # the function that decides who counts
            self._complain(error)
            return 503, (no, summary_of(error))
        word = ("ok" if degraded.ok else "degraded") if verdict.ok else no
        return 200 if verdict.ok else 503, (word, *verdict.reasons, *degraded.reasons)

    def _complain(self, error: Exception) -> None:
        text = f"the probes over HTTP go on after: {summary_of(error)}"
        log(self._path, logging.WARNING, text)


def _refuse(status: int, reason: str) -> Reply:
    return _text(status, (reason,), (("Allow", "GET, HEAD"),) if status == 405 else ())


def _text(status: int, lines: tuple[str, ...], more: tuple[tuple[str, str], ...] = ()) -> Reply:
    body = "".join(f"{_on_one_line(line)}\n" for line in lines).encode()
    headers = (("Date", formatdate(usegmt=True)), ("Cache-Control", "no-store"), *more)
    return Reply(status, body, "text/plain; charset=utf-8", headers)


def _on_one_line(text: str) -> str:
    return " ".join(text.splitlines())


async def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Raises `OSError`, with what cannot be listened at."""
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        where = f"cannot serve the probes at {host} port {port}"
        raise OSError(error.errno, f"{where}: {error.strerror or error}") from error
