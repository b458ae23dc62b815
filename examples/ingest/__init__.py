"""Ingest: a log file through a pipeline whose workers crash, without losing a line.

    spry-py run examples.ingest:ingest --for 3              the log file beside this
    spry-py run examples.ingest:ingest -- ACCESS_LOG        another one, in the Common Log Format

The tree:

    ingest           ends when the log is through
    ├─ rejects       prints the lines that no worker got through
    └─ log           the pipeline; its last stage starts first
       ├─ count      counts requests and bytes, and prints the table at the end
       ├─ locate     asks a database who a client is; loses its connection now and then
       ├─ parse-2    crash at lines that are no requests
       ├─ parse-1
       └─ lines      reads the file; started again, it goes on where it was

A line at which `parse` crashes twice becomes a dead letter. A line that `locate` had in hand when
its connection broke is delivered again, over the next connection: no line is counted twice.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import trio

from spry_py import Child, RateLimited, SystemSupervisor, cancel_on_settle
from spry_py.pipes import DeadLetter, Pipe, Stage, Worker, pipeline

LOG = Path(__file__).with_name("access.log")
PATTERN = re.compile(r'(\S+) \S+ \S+ \[[^]]+\] "(?:GET|HEAD|POST|PUT) (\S+)[^"]*" (\d{3}) (\d+|-)')
NETWORKS = {"192.0.2.": "office", "198.51.100.": "partner", "203.0.113.": "public"}
CALLS_PER_CONNECTION = 12
SECONDS_PER_LINE = 0.02


@dataclass(frozen=True)
class Request:
    client: str
    path: str
    status: int
    size: int


@dataclass(frozen=True)
class Located:
    network: str
    request: Request


async def read_lines(path: Path, pipe: Pipe[Never, str]) -> None:
    async with await trio.open_file(path, encoding="utf-8", errors="replace") as file:
        number = 0
        async for line in file:
            number += 1
            if number > pipe.passed_on:
                await pipe.put(line.rstrip("\n"))
                await trio.sleep(SECONDS_PER_LINE)


def parse(line: str) -> Request:
    match = PATTERN.match(line)
    if match is None:
        raise ValueError(f"this is no request: {line!r}")
    client, path, status, size = match.groups()
    return Request(client, path, int(status), 0 if size == "-" else int(size))


async def locate(pipe: Pipe[Request, Located]) -> None:
    connection = Connection()
    async for request in pipe:
        pipe.replace(Located(await connection.network_of(request.client), request))


class Connection:
    """To a database of networks; it breaks when it has been used too often."""

    def __init__(self) -> None:
        self.calls = 0

    async def network_of(self, client: str) -> str:
        self.calls += 1
        await trio.sleep(0.001)
        if self.calls > CALLS_PER_CONNECTION:
            raise ConnectionResetError("the database has hung up")
        return next((name for start, name in NETWORKS.items() if client.startswith(start)), "?")


async def count(pipe: Pipe[Located, Never]) -> None:
    requests: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    async for located in pipe:
        requests[located.network] += 1
        sizes[located.network] += located.request.size
        failed[located.network] += located.request.status >= 400
    for network in sorted(requests):
        print(
            f"{network:8} {requests[network]:3} requests {failed[network]:3} failed "
            f"{sizes[network]:7} bytes",
            flush=True,
        )


async def print_rejects(letters: trio.MemoryReceiveChannel[DeadLetter]) -> None:
    with cancel_on_settle():
        async for letter in letters:
            tell(letter)
    while letters.statistics().current_buffer_used:
        tell(letters.receive_nowait())


def tell(letter: DeadLetter) -> None:
    print(f"rejected after {letter.deliveries} tries: {letter.item}", file=sys.stderr)


def ingest(*arguments: str) -> SystemSupervisor:
    """The tree for `[ACCESS_LOG]`. Raises `ValueError` if that is no file, or not all there is."""
    if len(arguments) > 1:
        raise ValueError(f"{len(arguments)} arguments where at most 1 is allowed: ACCESS_LOG")
    path = Path(*arguments) if arguments else LOG
    if not path.is_file():
        # here, once: a child that cannot open it would be started again and again
        raise ValueError(f"there is no file {path}")

    async def lines(pipe: Pipe[Never, str]) -> None:
        await read_lines(path, pipe)

    send, receive = trio.open_memory_channel[DeadLetter](100)
    log = pipeline(
        Worker("lines", lines),
        Stage("parse", parse, workers=2, capacity=10, max_deliveries=2),
        Worker("locate", locate),
        Worker("count", count),
        breaker=RateLimited(20, 10.0),
        dead_letters=send,
    )
    return SystemSupervisor(
        [
            Child("rejects", print_rejects, receive),
            Child("log", log, restart="transient", significant=True),
        ],
        name="ingest",
        strategy="one_for_one",
        auto_shutdown="any_significant",
    )
