"""A pipeline whose parsing runs on a Ray cluster, or on a local Ray if FARM names none::

    FARM=10.0.0.1:6379 FARM_SPANS=/tmp/farm spry-py run examples.farm:farm
    cat /tmp/farm/*.jsonl | spry-py incidents -

A line whose worker is killed while it has it in hand is parsed again by the next one. With
FARM_SPANS each process, here and there, writes its spans into a file of that directory: the loss,
the restart and what is parsed after it are one trace.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Never

import trio
from opentelemetry import trace

from spry_py import Child, RateLimited, Scope, SystemSupervisor, telemetry
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from spry_py.ray import RayEngine, ray_gateway
from spry_py.remote import remote

LINES = [f"{number} {number * number}" for number in range(20)]
# what has arrived, and in which process it was parsed
STORED: list[tuple[int, int, int]] = []

if "FARM_SPANS" in os.environ:
    telemetry.configure(f"{os.environ['FARM_SPANS']}/{os.getpid()}.jsonl")


async def read(pipe: Pipe[Never, str]) -> None:
    """Put all lines; started again, go on where it was."""
    for line in LINES[pipe.passed_on :]:
        await pipe.put(line)


async def parse(line: str) -> tuple[int, int, int]:
    """Run on the cluster."""
    tracer = trace.get_tracer("farm")
    with tracer.start_as_current_span("parse", attributes={"line": line}):
        await trio.sleep(0.1)
        number, square = line.split()
        return int(number), int(square), os.getpid()


async def parse_there(engine: RayEngine, line: str) -> tuple[int, int, int]:
    """Run here, once for each line; fails if the worker there is lost."""
    number, square, pid = await remote(engine, parse, line, lease=10.0).call()
    return number, square, pid


async def store(pipe: Pipe[tuple[int, int, int], Never]) -> None:
    """Keep what comes."""
    async for found in pipe:
        STORED.append(found)
        print(*found, flush=True)


async def parts(scope: Scope) -> None:
    """Start the gateway, and the pipeline behind it."""
    env = {name: os.environ[name] for name in ("FARM_SPANS",) if name in os.environ}
    gateway = ray_gateway(os.environ.get("FARM"), namespace="farm", env=env)
    engine = await scope.start(Child("gateway", gateway, start_timeout=90, shutdown=15))
    stages = pipeline(
        Worker("read", read),
        # one at a time, so that a lost worker is one loss; with more, each line in hand is one
        Stage("parse", partial(parse_there, engine)),
        Worker("store", store),
        breaker=RateLimited(10, 10.0),
    )
    await scope.start(Child("pipeline", stages, restart="transient", significant=True))


# it ends with the pipeline, and a lost gateway takes the pipeline along
farm = SystemSupervisor(
    parts, name="farm", strategy="rest_for_one", auto_shutdown="any_significant"
)
