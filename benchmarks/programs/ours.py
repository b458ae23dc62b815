"""spry_py: a list of children, and one that crashes."""

import logging
import sys
from time import perf_counter

import trio

from spry_py import Child, RateLimited, open_system

COUNT = int(sys.argv[1])
logging.getLogger("spry_py").setLevel(logging.CRITICAL + 1)


async def idle(*, task_status):
    task_status.started()
    await trio.sleep_forever()


async def life():
    children = [Child(f"child-{number}", idle) for number in range(COUNT)]
    began = perf_counter()
    async with open_system(children):
        up = perf_counter()
    return up - began, perf_counter() - up


async def restarts():
    left, over = COUNT, trio.Event()

    async def crashing(*, task_status):
        nonlocal left
        task_status.started()
        left -= 1
        if left < 0:
            over.set()
            await trio.sleep_forever()
        raise ValueError

    began = perf_counter()
    limit = RateLimited(10 * COUNT, 1e9)
    async with open_system([Child("one", crashing)], strategy="one_for_one", breaker=limit):
        await over.wait()
        return perf_counter() - began


print(*trio.run(life), trio.run(restarts))
