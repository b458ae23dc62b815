"""aiomisc: services of an entrypoint. It restarts none."""

import asyncio
import sys
from time import perf_counter

from aiomisc import Service, entrypoint

COUNT = int(sys.argv[1])


class Idle(Service):
    async def start(self):
        self.start_event.set()
        await asyncio.get_running_loop().create_future()


async def life():
    services = [Idle() for _ in range(COUNT)]
    began = perf_counter()
    async with entrypoint(*services, log_config=False):
        up = perf_counter()
    return up - began, perf_counter() - up


print(*asyncio.run(life()), "nan")
