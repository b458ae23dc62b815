"""A pipeline whose parsing runs on a Ray cluster, or on a local Ray if FARM names none::

    FARM=10.0.0.1:6379 spry-py run examples.farm:farm

A line whose worker is killed while it has it in hand is parsed again by the next one.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Never, cast

import trio

from spry_py import Child, DynamicHandle, DynamicSupervisor, RateLimited, Scope
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from spry_py.ray import RayEngine, ray_gateway
from spry_py.remote import remote

LINES = [f"{number} {number * number}" for number in range(20)]
# what has arrived, and in which process it was parsed
STORED: list[tuple[int, int, int]] = []


async def read(pipe: Pipe[Never, str]) -> None:
    """Put all lines."""
    for line in LINES:
        await pipe.put(line)


async def parse(line: str) -> tuple[int, int, int]:
    """Run on the cluster."""
    await trio.sleep(0.1)
    number, square = line.split()
    return int(number), int(square), os.getpid()


async def parse_there(pool: DynamicHandle, engine: RayEngine, line: str) -> tuple[int, int, int]:
    """Run here, once for each line; fails if the worker there is lost."""
    found = await pool.run(remote(engine, parse, line, lease=10.0))
    return cast("tuple[int, int, int]", found)


async def store(pipe: Pipe[tuple[int, int, int], Never]) -> None:
    """Keep what comes."""
    async for found in pipe:
        STORED.append(found)  # noqa: PERF401 - one after another


async def farm(scope: Scope) -> None:
    """Start the gateway, a pool for what runs there, and the pipeline."""
    gateway = ray_gateway(os.environ.get("FARM"), namespace="farm")
    engine = await scope.start(Child("gateway", gateway, start_timeout=90, shutdown=15))
    pool = await scope.start(Child("parsers", DynamicSupervisor()))
    stages = pipeline(
        Worker("read", read),
        Stage("parse", partial(parse_there, pool, engine), workers=2),
        Worker("store", store),
        breaker=RateLimited(10, 10.0),
    )
    await scope.start(Child("pipeline", stages, restart="transient"))
