"""HTTP/1.1 over trio, as small as it can be while no request is lost: h11 knows the protocol.

Asked to finish, `serve` accepts no one more. Each connection still has one reply coming: for the
request that is in work, or for one that is on its way and comes in within a second. That reply says
``Connection: close``, so that the client sends the next request elsewhere.
"""

import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import inf

import h11
import trio

from spry_py import cancel_on_settle, current_context

HOST = os.environ.get("HOST", "127.0.0.1")
LAST_CALL = 1.0
MOST_BODY = 65_536
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"


Answer = Callable[[Request], Awaitable[Reply]]


def text(body: str, status: int = 200) -> Reply:
    return Reply(status, f"{body}\n".encode())


def as_json(value: object) -> Reply:
    return Reply(200, json.dumps(value).encode() + b"\n", "application/json")


async def keep_listening(port: int, *, task_status: trio.TaskStatus[trio.SocketListener]) -> None:
    """A child: holds a listening socket, so that clients can wait while a server is restarted."""
    (listener,) = await trio.open_tcp_listeners(port, host=HOST)
    async with listener:
        task_status.started(listener)
        await trio.sleep_forever()


async def serve(
    listener: trio.SocketListener, answer: Answer, *, task_status: trio.TaskStatus[int]
) -> None:
    """A child: serves what ``answer`` returns for each request. Started with its port."""
    connections = Connections(answer)
    async with trio.open_nursery() as nursery:
        # a duplicate, since trio closes the listener that it serves
        ours = trio.SocketListener(listener.socket.dup())
        accept = partial(trio.serve_listeners, connections.serve, [ours], handler_nursery=nursery)
        task_status.started(listener.socket.getsockname()[1])
        with cancel_on_settle():
            await accept()
        if current_context().settling_for == "stop":
            # there will be no other server
            await listener.aclose()
        connections.finish()


class Connections:
    """All connections of one server."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        # only after the socket is closed: a client that has to come again would come to us
        self._is_last_call = False
        # the connections that wait for a request
        self._idle: set[trio.CancelScope] = set()

    def finish(self) -> None:
        self._is_last_call = True
        for scope in self._idle:
            scope.deadline = trio.current_time() + LAST_CALL

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while (request := await self._next(connection, stream)) is not None:
                reply = await self._reply(request)
                await self._send(connection, stream, reply)
                if connection.our_state is not h11.DONE:
                    break
                connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._send(connection, stream, text(str(error), error.error_status_hint))
        except GONE:
            pass  # the client has left
        finally:
            await trio.aclose_forcefully(stream)

    async def _next(self, connection: h11.Connection, stream: trio.SocketStream) -> Request | None:
        """The next request; `None` if there is none, or none in time."""
        with trio.move_on_after(LAST_CALL if self._is_last_call else inf) as scope:
            self._idle.add(scope)
            try:
                return await read(connection, stream)
            finally:
                self._idle.discard(scope)
        return None

    async def _reply(self, request: Request) -> Reply:
        try:
            return await self._answer(request)
        except Exception:
            logging.getLogger("web").exception("no reply to %s %s", request.method, request.path)
            return text("something went wrong", 500)

    async def _send(
        self, connection: h11.Connection, stream: trio.SocketStream, reply: Reply
    ) -> None:
        headers = [("Content-Type", reply.kind), ("Content-Length", str(len(reply.body)))]
        if self._is_last_call:
            headers.append(("Connection", "close"))
        parts = [h11.Response(status_code=reply.status, headers=headers), h11.Data(data=reply.body)]
        if connection.our_state is h11.SEND_RESPONSE or connection.our_state is h11.IDLE:
            data = [connection.send(part) or b"" for part in (*parts, h11.EndOfMessage())]
            await stream.send_all(b"".join(data))


async def read(connection: h11.Connection, stream: trio.SocketStream) -> Request | None:
    """A request that has come in whole; `None` at the end of the connection."""
    head, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_BODY:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Request(head.method.decode(), head.target.decode(), body)
        else:
            return None
