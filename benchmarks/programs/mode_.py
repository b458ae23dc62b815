"""mode: services under a OneForOneSupervisor.

Restarts are not measured: the supervisor of 0.7 does not start a service again that crashes a few
times in a row as soon as it runs.
"""

import asyncio
import logging
import sys
from time import perf_counter

from mode import Service
from mode.supervisors import OneForOneSupervisor

COUNT = int(sys.argv[1])
logging.disable(logging.CRITICAL)


class Idle(Service):
    @Service.task
    async def idle(self):
        await self.wait_until_stopped()


async def life():
    supervisor = OneForOneSupervisor(*(Idle() for _ in range(COUNT)))
    began = perf_counter()
    await supervisor.start()
    up = perf_counter()
    await supervisor.stop()
    return up - began, perf_counter() - up


print(*asyncio.run(life()), "nan")
