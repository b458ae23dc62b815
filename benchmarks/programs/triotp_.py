"""triotp: a supervisor of child specs. It is stopped by cancelling all at once."""

import sys
from time import perf_counter

import logbook
import trio
from triotp import supervisor

COUNT = int(sys.argv[1])
logbook.NullHandler().push_application()


async def life():
    running, all_run = 0, trio.Event()

    async def idle():
        nonlocal running
        running += 1
        if running == COUNT:
            all_run.set()
        await trio.sleep_forever()

    specs = [supervisor.child_spec(str(number), idle, []) for number in range(COUNT)]
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.start, specs, supervisor.options())
        await all_run.wait()
        up = perf_counter()
        nursery.cancel_scope.cancel()
    return up - began, perf_counter() - up


async def restarts():
    left, over = COUNT, trio.Event()

    async def crashing():
        nonlocal left
        left -= 1
        if left < 0:
            over.set()
            await trio.sleep_forever()
        raise ValueError

    specs = [supervisor.child_spec("one", crashing, [])]
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.start, specs, supervisor.options(10 * COUNT, 1))
        await over.wait()
        seconds = perf_counter() - began
        nursery.cancel_scope.cancel()
    return seconds


print(*trio.run(life), trio.run(restarts))
