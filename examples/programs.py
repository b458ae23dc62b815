"""Programs under supervision: spry-py run examples.programs:programs --for 3

The tree, in start order:

    programs          rest_for_one: what comes later uses what comes earlier
    ├─ server         redis-server where it is installed, else Python's http.server
    ├─ checker        asks the server again and again; a bad answer, or none, is its failure
    └─ accident       kills the server after a while, to show what happens then

What the server writes is logged. When it dies, the children that use it are stopped and started
again with the new server, and use the port that the new one listens on.
"""

import os
import re
import shutil
import signal
import socket
import sys
from dataclasses import dataclass

import trio

from spry_py import Child, Scope, SystemSupervisor
from spry_py.processes import Command, Process, command, line

HOST = "127.0.0.1"
HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True)
class Server:
    """A program that serves: how to start it, what to ask it, and how a good answer begins.

    It is ready at a line of its output; if `port` is not given, that line contains it.
    """

    start: Command[re.Match[str]]
    request: bytes
    answer: bytes
    port: int | None = None

    def port_of(self, process: Process[re.Match[str]]) -> int:
        return int(process.value["port"]) if self.port is None else self.port


def redis(port: int) -> Server:
    ready = line("Ready to accept connections")
    options = ["--bind", HOST, "--port", str(port), "--save", ""]
    return Server(command("redis-server", *options, ready=ready), b"PING\r\n", b"+PONG", port)


def http() -> Server:
    ready = line(re.escape(f"Serving HTTP on {HOST} port ") + r"(?P<port>\d+)")
    options = ["0", "--bind", HOST, "--directory", HERE]
    start = command(sys.executable, "-u", "-m", "http.server", *options, ready=ready)
    return Server(start, b"HEAD / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200")


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        number: int = probe.getsockname()[1]
    return number


async def check(server: Server, process: Process[re.Match[str]], pace: float) -> None:
    while True:
        with trio.fail_after(1):
            answer = await ask(server.port_of(process), server.request)
        if not answer.startswith(server.answer):
            raise ValueError(f"not an answer to {server.request!r}: {answer[:100]!r}")
        print(f"process {process.pid} answers: {answer.split()[0].decode()}", flush=True)
        await trio.sleep(pace)


async def ask(port: int, request: bytes) -> bytes:
    async with await trio.open_tcp_stream(HOST, port) as stream:
        await stream.send_all(request)
        return bytes(await stream.receive_some())


async def kill(process: Process[re.Match[str]], after: float) -> None:
    await trio.sleep(after)
    print(f"killing process {process.pid}", flush=True)
    os.kill(process.pid, signal.SIGKILL)


def programs(pace: str = "0.5") -> SystemSupervisor:
    """The tree; the server is asked every `pace` seconds."""
    seconds = float(pace)
    server = redis(free_port()) if shutil.which("redis-server") else http()

    async def system(scope: Scope) -> None:
        process = await scope.start(Child("server", server.start, start_timeout=10, shutdown=10))
        await scope.start(Child("checker", check, server, process, seconds))
        await scope.start(Child("accident", kill, process, 2 * seconds, restart="temporary"))

    return SystemSupervisor(system, name="programs", strategy="rest_for_one")
