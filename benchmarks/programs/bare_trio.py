"""Bare trio: a scope for each task, stopped one by one, and a loop that starts what has crashed."""

import sys
from time import perf_counter

import trio

COUNT = int(sys.argv[1])


async def idle(scope, ended, *, task_status):
    with scope:
        task_status.started()
        await trio.sleep_forever()
    ended.set()


async def life():
    tasks = [(trio.CancelScope(), trio.Event()) for _ in range(COUNT)]
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        for task in tasks:
            await nursery.start(idle, *task)
        up = perf_counter()
        for scope, ended in reversed(tasks):
            scope.cancel()
            await ended.wait()
    return up - began, perf_counter() - up


async def crashing(ended, *, task_status):
    task_status.started()
    try:
        raise ValueError
    except ValueError:
        ended.set()


async def restarts():
    began = perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(COUNT):
            ended = trio.Event()
            await nursery.start(crashing, ended)
            await ended.wait()
    return perf_counter() - began


print(*trio.run(life), trio.run(restarts))
