"""Servers: three small HTTP servers to watch, each a supervised child.

They are for those who have no endpoints at hand. `healthy` is `trio.serve_tcp` as it stands.
`flapping` crashes again and again, and its supervisor brings it back on the same port. `dying`
crashes once and is temporary, so it stays away.
"""

from functools import partial
from typing import Any

import trio
from tenacity import wait_fixed

from spry_py import AlwaysRestart, Child, SystemHandle, SystemSupervisor

from .targets import Target

HOST = "127.0.0.1"
ANY_PORT = 0
REQUEST_LIMIT = 64 * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nup\n"


class ServerCrash(Exception):
    """What a server raises when its time has come."""


class CrashingServer:
    """Serves for `seconds`, then raises; its next incarnation is found on the same port."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._port = ANY_PORT

    async def serve(self, *, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        listeners = await trio.open_tcp_listeners(self._port, host=HOST)
        self._port = port_of(listeners)
        with trio.move_on_after(self._seconds):
            await trio.serve_listeners(answer, listeners, task_status=task_status)
        raise ServerCrash(f"the server on port {self._port} crashed")


def local_servers(pace: float) -> SystemSupervisor:
    """The three servers, with lives and pauses that suit checks made every `pace` seconds."""
    healthy = partial(trio.serve_tcp, answer, ANY_PORT, host=HOST)
    flapping = CrashingServer(4.0 * pace)
    dying = CrashingServer(2.5 * pace)
    return SystemSupervisor(
        [
            Child("healthy", healthy),
            # Down for less than three checks: its probe records that, and does not crash.
            Child("flapping", flapping.serve, backoff=wait_fixed(1.5 * pace)),
            Child("dying", dying.serve, restart="temporary"),
        ],
        strategy="one_for_one",
        breaker=AlwaysRestart(),
    )


def targets_of(servers: SystemHandle, pace: float) -> list[Target]:
    """Where the servers, just started, can be reached: each started value is its listeners."""
    return [
        Target(child.key, "http", HOST, port_of(child.value), every=pace, timeout=2.5 * pace)
        for child in servers.which_children()
    ]


def port_of(listeners: list[trio.SocketListener]) -> int:
    address: tuple[Any, ...] = listeners[0].socket.getsockname()
    return int(address[1])


async def answer(stream: trio.SocketStream) -> None:
    """Reply that all is well; a client that goes away in the middle is no reason to crash."""
    received = b""
    try:
        while b"\r\n\r\n" not in received and len(received) < REQUEST_LIMIT:
            data = await stream.receive_some()
            if not data:
                return
            received += data
        await stream.send_all(ANSWER)
    except trio.BrokenResourceError:
        return
