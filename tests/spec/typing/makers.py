"""What the makers of start functions make goes into `Child`, and its value comes through."""

from __future__ import annotations

import re
from typing import Any, assert_type

import trio

from spry_py import Child, Scope, SystemHandle, SystemSupervisor
from spry_py.components import component
from spry_py.periodic import periodic
from spry_py.pipes import Pipe, Worker, pipeline
from spry_py.processes import Process, command, line, notify, port, process
from spry_py.threads import thread


async def poll(url: str) -> None: ...


def count(to: int) -> int:
    return to


def serve(port: int, *, task_status: trio.TaskStatus[str]) -> None: ...


class Feed:
    def __init__(self, url: str) -> None: ...

    async def run(self) -> None: ...


async def produce(pipe: Pipe[None, str]) -> None: ...


Child("a", periodic(poll, "url", every=3), shutdown=3)
Child("a", periodic(poll, "url", every=3), shutdwon=3)  # error
periodic(poll, 3, every=3)  # error
periodic(poll, every=3)  # error
periodic(count, 3, every=3)  # error

Child("b", thread(count, 3), shutdown=3)
Child("b", thread(count, 3), 4)  # error
thread(count, "3")  # error
thread(count)  # error
thread(serve, 80)
thread(serve, "80")  # error
thread(serve)  # error

Child("c", command("make", "all"), shutdown=3, start_timeout=5)
Child("c", command("make", "all"), "clean")  # error
command("make", 3)  # error
command("make", ready="listening")  # error
Child("c", process(count, 3), heartbeat=3)
process(3)  # error

Child("e", component(Feed, "url", cleanup_timeout=3), shutdown=3, restart="transient")
Child("e", component(Feed, "url"), "again")  # error
Child("e", component(Feed, "url"), shutdwon=3)  # error
component(Feed, 3)  # error
component(Feed)  # error
component(Feed, "url", shutdown=3)  # error
component(object)  # error

Child("d", pipeline(Worker("a", produce)), restart="transient")
pipeline(produce)  # error


async def values(scope: Scope) -> None:
    assert_type(await scope.start(Child("a", periodic(poll, "url", every=3))), None)
    assert_type(await scope.start(Child("b", thread(serve, 80))), str)
    assert_type(await scope.start(Child("b", thread(count, 3))), None)
    ready = await scope.start(Child("c", command("nginx", ready=line("listening on (.*)"))))
    assert_type(ready, Process[re.Match[str]])
    ready.value.group(1)
    print(ready.value.port)  # error
    assert_type(await scope.start(Child("c", command("make"))), Process[None])
    assert_type(await scope.start(Child("c", command("a", ready=port("", 80)))), Process[None])
    assert_type(await scope.start(Child("c", command("a", ready=notify()))), Process[None])
    assert_type(await scope.start(Child("c", process(count, 3))), Process[Any])
    assert_type(await scope.start(Child("d", pipeline(Worker("a", produce)))), SystemHandle)
    assert_type(await scope.start(Child("e", component(Feed, "url"))), SystemHandle)
    assert_type(pipeline(Worker("a", produce)), SystemSupervisor)
