"""The listeners of an observer, and what is done for each connection."""

from __future__ import annotations

import json
import logging
import os
import socket as sockets
import struct
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from spry_py import SystemHandle, roots
from spry_py._http import Limits, accept
from spry_py.lowlevel import log, summary_of
from spry_py.watchdog import Blocked, watch

from .actions import Actions
from .address import Address, Place, new_report_of, report_of, take_again, take_place
from .changes import Changes
from .rights import ACTIONS, Rights, new_token
from .server import Server
from .trees import Trees

if TYPE_CHECKING:
    from .serving import Observer

MOST_CONNECTIONS: Final = 64
_BACKLOG: Final = 32
# a task that keeps the loop for so many seconds of real time is reported
_BOUND: Final = 1.0
# before a part that has failed is tried again, and between two looks at the socket's path, seconds
_PAUSE: Final = 10.0


async def observe(
    observer: Observer, root: SystemHandle | None, task_status: trio.TaskStatus[Address]
) -> None:
    """Listen as ``observer`` says, until cancelled."""
    with ExitStack() as stack:
        path = url = None
        doors: list[Door] = []
        if observer.socket:
            door = OwnDoor(take_place(_BACKLOG))
            stack.callback(door.close)
            doors.append(door)
            path = str(door.path)
        if observer.port is not None:
            token = observer.token or new_token()
            listener = _bound_to(observer.port)
            stack.callback(listener.close)
            doors.append(Door(listener, Rights(frozenset(observer.allow), token)))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/#token={token}"
        await _serve(doors, Address(path, url), root, observer.history, task_status)


async def _serve(
    doors: list[Door],
    address: Address,
    root: SystemHandle | None,
    history: int,
    task_status: trio.TaskStatus[Address],
) -> None:
    trees = Trees(roots if root is None else lambda: (root,))
    changes = Changes(trees, history)
    async with trio.open_nursery() as nursery:
        server = Server(trees, changes, Actions(trees, nursery), address.url)
        if address.socket is not None:
            report = Report(Path(address.socket))
            await nursery.start(_guarded, partial(watch, _BOUND, report.write))
        await nursery.start(_guarded, changes.run)
        for door in doors:
            await nursery.start(_guarded, partial(door.serve, server))
        task_status.started(address)


async def _guarded(
    task: Callable[..., Awaitable[None]], *, task_status: trio.TaskStatus[None]
) -> None:
    """Run a part of the observer; its trouble is logged and over, and that of no tree."""
    status = task_status
    while True:
        try:
            await task(task_status=status)
            return
        except Exception as error:
            log("", logging.ERROR, f"a part of the observer has failed: {summary_of(error)}")
        with suppress(RuntimeError):  # it had started
            task_status.started()
        # which may be done once
        status = trio.TASK_STATUS_IGNORED
        await trio.sleep(_PAUSE)


class Door:
    """One listener, and what is allowed to those who come in by it."""

    def __init__(self, listener: sockets.socket, rights: Rights) -> None:
        self._listener = _listener_of(listener)
        self._rights = rights
        self._inside = 0

    async def serve(self, server: Server, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve all who come in, until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            await self._accept(server, nursery)

    async def _accept(self, server: Server, nursery: trio.Nursery) -> None:
        await accept(self._listener, nursery, partial(self._let_in, server), _complain)

    async def _let_in(self, server: Server, stream: trio.SocketStream) -> None:
        if self._inside >= MOST_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._inside += 1
        try:
            with suppress(OSError):  # it has left already
                asker = _asker_of(stream.socket)
                await server.serve(stream, self._rights, asker, Limits())
        finally:
            self._inside -= 1


def _complain(error: Exception) -> None:
    log("", logging.WARNING, f"the observer goes on listening after: {summary_of(error)}")


class OwnDoor(Door):
    """The socket of the user's own. It is made again when its path does not lead to it any more.

    Who logs out may lose the whole directory, while the program goes on.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place.listener, Rights(ACTIONS, None))
        # written by `_move`
        self._place = place

    @property
    def path(self) -> Path:
        return self._place.path

    def close(self) -> None:
        """Listen no more, and leave nothing."""
        self._place.leave()

    async def _accept(self, server: Server, nursery: trio.Nursery) -> None:
        while True:
            with trio.CancelScope() as scope:
                nursery.start_soon(self._until_lost, scope)
                await super()._accept(server, nursery)
            await self._move()

    async def _until_lost(self, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(_PAUSE)
            if not self._place.is_there:
                scope.cancel()
                return

    async def _move(self) -> None:
        """Listen under the same path once more, as soon as there is a place for it."""
        said = f"the observer's socket {self.path} has gone, and will be made again"
        log("", logging.WARNING, said)
        self._place.leave()
        while True:
            with suppress(OSError):
                self._place = take_again(self.path, _BACKLOG)
                self._listener = _listener_of(self._place.listener)
                return
            await trio.sleep(_PAUSE)


def _listener_of(socket: sockets.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(socket))


def _bound_to(port: int) -> sockets.socket:
    """A listener on the loopback interface alone. Raises `OSError` by its address."""
    listener = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
    try:
        if os.name == "posix":
            # there is nothing left of connections that a browser has kept
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"127.0.0.1:{port}") from None
    return listener


_CREDENTIALS: Final = struct.Struct("3i")


def _asker_of(socket: trio.socket.SocketType) -> str:
    """Who has connected, as far as the system knows."""
    if socket.family == sockets.AF_INET:
        host, port = socket.getpeername()[:2]
        return f"{host}:{port}"
    option = getattr(sockets, "SO_PEERCRED", None)
    if option is None:
        return "the socket"
    found = socket.getsockopt(sockets.SOL_SOCKET, option, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(found)
    return f"process {pid} of user {user}"


class Report:
    """The file beside the socket that names who blocks the loop; written in the watchdog's thread.

    Who asks while the loop is blocked gets no reply, and finds the reason here.
    """

    def __init__(self, socket: Path) -> None:
        self._path = report_of(socket)
        self._new = new_report_of(socket)

    def write(self, blocked: Blocked) -> None:
        """Keep a report, until the loop turns again."""
        with suppress(OSError):
            if blocked.is_over:
                self._path.unlink(missing_ok=True)
                return
            text = json.dumps(
                {
                    "path": blocked.path,
                    "task": blocked.task,
                    "seconds": round(blocked.seconds, 3),
                    "stack": blocked.stack,
                }
            )
            self._new.write_text(text, encoding="utf-8")
            self._new.replace(self._path)
