"""What is sent for each route, and who it was that asked."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, cast

import trio

from spry_py import SpryError
from spry_py._http import Limits, Reply, Request, Send, converse
from spry_py.lowlevel import library_version, log, summary_of

from .actions import LINGERS, Actions, error_of
from .changes import Changes, Viewer, moment
from .lingering import Linger
from .page import page
from .rights import ACTIONS, PAGE, Action, Rights, refusal
from .tree import SLICE, Json, as_json, detail_of, nodes_below, shown, shown_lines
from .trees import Trees

# connections at the same time over one listener, and how many of them may stay
MOST_CONNECTIONS: Final = 64
MOST_VIEWERS: Final = 32
_MOST_HISTORY: Final = 200
# a sign of life for those who wait for changes, seconds
_SIGN: Final = 1.0
_POLICY: Final[str] = "Content-Security-Policy"
_SAFE: Final[tuple[tuple[str, str], ...]] = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (_POLICY, "default-src 'none'; frame-ancestors 'none'"),
)


class Server:
    """The routes, over the trees and what changes in them."""

    def __init__(
        self, trees: Trees, changes: Changes, actions: Actions, url: str | None = None
    ) -> None:
        self._trees = trees
        self._changes = changes
        self._actions = actions
        self._url = url
        self._viewers = 0

    async def serve(
        self, stream: trio.abc.HalfCloseableStream, rights: Rights, asker: str, limits: Limits
    ) -> None:
        """Serve one connection. Nothing comes out of it but a cancellation."""

        linger = Linger()

        async def reply_to(request: Request) -> Reply:
            if request.path.startswith("/do/"):
                linger.seconds = LINGERS
            return await self.reply_to(request, rights, asker)

        try:
            await linger.run(partial(converse, stream, reply_to, _refused, limits))
        except Exception as error:
            log("", logging.WARNING, f"the observer could not serve {asker}: {summary_of(error)}")

    async def reply_to(self, request: Request, rights: Rights, asker: str) -> Reply:
        """The reply to one request."""
        refused = refusal(request, rights)
        if refused is not None:
            return _refused(refused.status, refused.reason, refused.headers)
        _, is_action, action = request.path.partition("/do/")
        try:
            if is_action:
                return await self._do(cast(Action, action), request, asker)
            return await self._routes[request.path](self, request, rights)
        except _BadRequest as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))
        except SpryError as error:
            return _json(HTTPStatus.CONFLICT, error_of(error))
        except Exception as error:
            log(
                "", logging.ERROR, f"{request.path} of the observer has failed: {summary_of(error)}"
            )
            sentence = "the observer has failed: see the log"
            return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)

    async def _do(self, action: Action, request: Request, asker: str) -> Reply:
        is_clear = action in ("replay", "stop") and "path" not in request.query
        path = self._trees.only() if is_clear else _path_of(request)
        return _json(*await self._actions.do(action, path, asker))

    # The routes

    async def _page(self, request: Request, rights: Rights) -> Reply:
        found = page()
        headers = [pair for pair in _SAFE if pair[0] != _POLICY]
        return Reply(
            HTTPStatus.OK,
            found.body,
            "text/html; charset=utf-8",
            (*headers, (_POLICY, found.policy)),
        )

    async def _tree(self, request: Request, rights: Rights) -> Reply:
        depth, under = _depth_of(request), request.query.get("under", "")
        tops = [(under, self._trees.find(under))] if under else list(self._trees)
        nodes: list[str] = []
        for name, top in tops:
            for node in await nodes_below(top, name, self._trees.ahead_of(top), depth):
                nodes.append(as_json(self._changes.with_recent(node)))
                if len(nodes) % SLICE == 0:
                    await trio.lowlevel.checkpoint()
        about = as_json(self._about(rights))
        body = f'{{{moment()},"about":{about},"nodes":[{",".join(nodes)}]}}'
        return Reply(HTTPStatus.OK, body.encode(), headers=_SAFE)

    def _about(self, rights: Rights) -> Json:
        """Who is looked at. The URL has the token in it: for those alone who need none."""
        about: Json = {
            "pid": os.getpid(),
            "program": Path(sys.argv[0] if sys.argv else "").name,
            "version": library_version(),
            "actions": [action for action in ACTIONS if action in rights.allow],
        }
        if rights.token is None:
            about["url"] = self._url
        return about

    async def _child(self, request: Request, rights: Rights) -> Reply:
        path = _path_of(request)
        handle = self._trees.find(path)
        history = {"history": self._history_of(path)}
        about = self._changes.node(handle, path) | detail_of(handle.info())
        return _json(HTTPStatus.OK, about | history)

    def _history_of(self, path: str) -> list[Json]:
        handle = self._trees.find(path)
        own = [entry for entry in handle.history() if entry.path == handle.path]
        return [
            {"time": entry.time, "text": shown_lines(entry.text, 4_000)}
            for entry in own[-self._changes.history :][-_MOST_HISTORY:]
        ]

    async def _incidents(self, request: Request, rights: Rights) -> Reply:
        stories: list[str] = []
        for story in await self._changes.incidents.stories():
            stories.append(as_json(story))
            await trio.lowlevel.checkpoint()
        body = f'{{{moment()},"incidents":[{",".join(stories)}]}}'
        return Reply(HTTPStatus.OK, body.encode(), headers=_SAFE)

    async def _stack(self, request: Request, rights: Rights) -> Reply:
        path = _path_of(request)
        stack = shown_lines(self._trees.find(path).stack())
        return _json(HTTPStatus.OK, {"path": path, "stack": stack})

    async def _events(self, request: Request, rights: Rights) -> Reply:
        if self._viewers >= MOST_VIEWERS:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_VIEWERS} look already")
        about = as_json(self._about(rights))

        async def send_all(send: Send) -> None:
            self._viewers += 1
            viewer = self._changes.join()
            try:
                await send(f"event: about\ndata: {about}\n\n".encode())
                while True:
                    await send(await self._next_event(viewer))
            finally:
                self._changes.leave(viewer)
                self._viewers -= 1

        return Reply(HTTPStatus.OK, send_all, "text/event-stream", _SAFE)

    async def _next_event(self, viewer: Viewer) -> bytes:
        """What is to be sent next, or after a while a sign of life."""
        with trio.move_on_after(_SIGN):
            kind, data = await self._changes.next_for(viewer)
            return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
        return b":\n\n"

    _routes: Final[dict[str, Callable[[Server, Request, Rights], Awaitable[Reply]]]] = {
        PAGE: _page,
        "/tree": _tree,
        "/child": _child,
        "/stack": _stack,
        "/events": _events,
        "/incidents": _incidents,
    }


class _BadRequest(Exception):
    """Something is missing in the query, or is not what it must be."""


def _path_of(request: Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise _BadRequest(f"name a child: {request.path}?path=...")
    return path


def _depth_of(request: Request) -> float:
    depth = request.query.get("depth", "")
    if not depth:
        return math.inf
    if not re.fullmatch("[0-9]{1,9}", depth):
        raise _BadRequest("depth must be a whole number, 0 or more")
    return int(depth)


def _json(status: int, body: Json) -> Reply:
    return Reply(status, as_json(body).encode(), headers=_SAFE)


def _refused(status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    error = HTTPStatus(status).phrase
    body = as_json({"error": error, "message": shown(reason)}).encode()
    return Reply(status, body, headers=(*_SAFE, *headers))
