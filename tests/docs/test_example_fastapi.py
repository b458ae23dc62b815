"""The example with FastAPI: requests are served while a child breaks, and the end is in order."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
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


async def main() -> tuple[list[int], str, list[str]]:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "examples.fastapi_app:app", "--port", "0"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stderr is not None
    try:
        port = await port_of(server.stderr)
        seen = await requests(port)
        in_flight = asyncio.create_task(get(port, "/report"))
        # the server has it when it has answered those behind it
        for _ in range(3):
            await get(port, "/price/ACME")
        server.send_signal(signal.SIGTERM)
        report = (await in_flight)["market"]
        output, _ = await server.communicate()
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
    return seen, report, output.decode().splitlines()


def test_requests_are_served_while_the_feed_breaks_and_the_end_is_in_order() -> None:
    seen, report, output = asyncio.run(asyncio.wait_for(main(), 60))
    # how many requests an incarnation lives for is the machine's
    assert len(set(seen)) > 1
    assert re.match(r"market/  \[running\].*\n  prices  \[running\].*\n  feed  ", report)
    lines = [line for line in output if not line.startswith("INFO")]
    assert lines in (["hung up", "saved 1 price(s)"], ["saved 1 price(s)"])
