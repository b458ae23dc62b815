"""asyncio.TaskGroup: no supervisor; whoever uses it cancels in order and starts again by hand."""

import asyncio
import sys
from time import perf_counter

COUNT = int(sys.argv[1])


async def idle(started):
    started.set()
    await asyncio.get_running_loop().create_future()


async def life():
    tasks = []
    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(COUNT):
            started = asyncio.Event()
            tasks.append(group.create_task(idle(started)))
            await started.wait()
        up = perf_counter()
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait([task])
    return up - began, perf_counter() - up


async def crashing():
    try:
        raise ValueError
    except ValueError:
        pass


async def restarts():
    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(COUNT):
            await group.create_task(crashing())
    return perf_counter() - began


print(*asyncio.run(life()), asyncio.run(restarts()))
