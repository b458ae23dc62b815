"""The example with FastAPI: requests are served while a child breaks, and the end is in order."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi and uvicorn are not installed (extra dev)")
pytest.importorskip("uvicorn", reason="fastapi and uvicorn are not installed (extra dev)")

ROOT = Path(__file__).resolve().parents[2]
RUNNING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


async def get(port: int, path: str) -> Any:
    """The answer to a request of HTTP, which must be a good one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 200 "), head
    return json.loads(body)


async def port_of(stderr: asyncio.StreamReader) -> int:
    async for line in stderr:
        if found := RUNNING.search(line.decode()):
            return int(found[1])
    raise AssertionError("uvicorn has not come up")


async def requests(port: int) -> list[int]:
    """Ask for prices until the feed has been restarted five times; its incarnations, in order."""
    seen: list[int] = []
    while not seen or seen[-1] < 6:
        replies = await asyncio.gather(*(get(port, "/price/ACME") for _ in range(8)))
        seen.extend(reply["feed"] for reply in replies)
    return seen


@asynccontextmanager
async def served() -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The example, served by uvicorn, and its port."""
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "examples.fastapi_app:app", "--port", "0"),
        # what no one reads would fill its pipe, and hold up the server
        "--no-access-log",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert server.stderr is not None
    try:
        yield server, await port_of(server.stderr)
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


async def ended_with_one_in_flight(server: asyncio.subprocess.Process, port: int) -> list[str]:
    """End the server while a request is in flight, which is answered; what the server printed."""
    in_flight = asyncio.create_task(get(port, "/report"))
    # the server has it when it has answered those behind it
    for _ in range(3):
        await get(port, "/price/ACME")
    server.send_signal(signal.SIGTERM)
    report = (await in_flight)["market"]
    assert re.match(r"market/  \[running\].*\n  prices  \[running\].*\n  feed  ", report)
    output, _ = await server.communicate()
    return [line for line in output.decode().splitlines() if not line.startswith("INFO")]


ORDERLY = (["hung up", "saved 1 price(s)"], ["saved 1 price(s)"])


def test_requests_are_served_while_the_feed_breaks_and_the_end_is_in_order() -> None:
    async def main() -> None:
        async with served() as (server, port):
            seen = await requests(port)
            # how many requests an incarnation lives for is the machine's
            assert len(set(seen)) > 1
            assert await ended_with_one_in_flight(server, port) in ORDERLY

    asyncio.run(asyncio.wait_for(main(), 60))


async def crowd(port: int) -> str:
    """Sixteen clients at once, for a second, as wrk reports it."""
    url = f"http://127.0.0.1:{port}/price/ACME"
    wrk = await asyncio.create_subprocess_exec(
        *("wrk", "--threads", "1", "--connections", "16", "--duration", "1s", url),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await wrk.communicate()
    assert wrk.returncode == 0
    return output.decode()


@pytest.mark.backend
def test_a_crowd_is_served_while_the_feed_breaks() -> None:
    async def main() -> None:
        async with served() as (server, port):
            while (await get(port, "/price/ACME"))["feed"] < 3:
                told = await crowd(port)
                assert re.search(r"[1-9]\d* requests in ", told)
                # wrk has these lines if there was one
                assert "Non-2xx" not in told, told
                assert "Socket errors" not in told, told
            assert await ended_with_one_in_flight(server, port) in ORDERLY

    asyncio.run(asyncio.wait_for(main(), 60))
