"""The type of a started value comes out of `Scope.start` and `Scope.start_together`."""

from __future__ import annotations

from typing import Any, assert_type

import trio

from spry_py import (
    Child,
    ChildHandle,
    DynamicHandle,
    DynamicSupervisor,
    PartitionHandle,
    PartitionSupervisor,
    Scope,
    SystemHandle,
    SystemSupervisor,
    open_system,
)


class Pool: ...


class Cache: ...


async def connect(url: str, *, task_status: trio.TaskStatus[Pool]) -> None: ...


async def keep(
    size: int, *, task_status: trio.TaskStatus[Cache] = trio.TASK_STATUS_IGNORED
) -> None: ...


async def work(pool: Pool) -> None: ...


async def handler(stream: trio.SocketStream) -> None: ...


def use(cache: Cache) -> None: ...


async def start(scope: Scope) -> None:
    pool = await scope.start(Child("pool", connect, "url"))
    assert_type(pool, Pool)
    wrong: Cache = await scope.start(Child("pool", connect, "url"))  # error
    child = Child("pool", connect, "url", shutdown=3)
    assert_type(child, Child[Pool])
    assert_type(child.replace(key="other", restart="transient"), Child[Pool])
    assert_type(child.replace(start=keep, args=(3,)), Child[Any])
    again: Cache = await scope.start(child)  # error
    use(wrong or again)
    use(await scope.start(Child("pool", connect, "url")))  # error
    use(await scope.start(child))  # error
    assert_type(await scope.start(Child("cache", keep, 3)), Cache)
    use(await scope.start(Child("cache", keep, 3)))
    assert_type(Child("work", work, pool), Child[None])
    listeners = await scope.start(Child("tcp", trio.serve_tcp, handler, 80))
    assert_type(listeners, list[trio.SocketListener])


async def start_together(scope: Scope) -> None:
    pool, cache = Child("a", connect, "url"), Child("b", keep, 3)
    assert_type(await scope.start_together(pool, cache), tuple[Pool, Cache])
    five = await scope.start_together(pool, cache, pool, cache, pool)
    assert_type(five, tuple[Pool, Cache, Pool, Cache, Pool])
    many = await scope.start_together(*[pool] * 10)
    assert_type(many, tuple[Pool, ...])
    first, second = await scope.start_together(pool, cache)
    use(first)  # error
    use(second)
    await scope.start_together(pool, connect)  # error


async def supervisors(scope: Scope) -> None:
    system = await scope.start(Child("system", SystemSupervisor([])))
    assert_type(system, SystemHandle)
    dynamic = await scope.start(Child("pool", DynamicSupervisor()))
    assert_type(dynamic, DynamicHandle)
    divided = await scope.start(
        Child("parts", PartitionSupervisor(lambda index: Child("part", keep, index)))
    )
    assert_type(divided, PartitionHandle)
    async with open_system(DynamicSupervisor()) as opened:
        assert_type(opened, DynamicHandle)
        child = await opened.start_child(Child("a", keep, 3), on_conflict="queue")
        assert_type(child, ChildHandle)
        await opened.start_child(Child("a", keep, 3), on_conflict="wait")  # error
    async with open_system([Child("a", keep, 3)]) as tree:
        assert_type(tree, SystemHandle)
    async with open_system(supervisors) as tree:
        assert_type(tree, SystemHandle)
