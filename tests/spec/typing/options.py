"""Options are typed wherever they are taken as keywords, or as a dict of defaults."""

from __future__ import annotations

import trio

from spry_py import (
    AlwaysRestart,
    AutoShutdown,
    Child,
    ChildOptions,
    DynamicSupervisor,
    Kind,
    RateLimited,
    Reason,
    RestartType,
    Scope,
    Status,
    Strategy,
    System,
    SystemOptions,
    SystemSupervisor,
    open_system,
    run,
)
from spry_py.pipes import Pipe, Stage, Worker

restart: RestartType = "permanent"
strategy: Strategy = "rest_for_one"
wrong: Strategy = "all_for_one"  # error
auto_shutdown: AutoShutdown = "never"
status: Status = "running"
kind: Kind = "worker"


async def work(size: int) -> None: ...


async def shop(scope: Scope) -> None: ...


system: System = shop


def judge(reason: Reason) -> None: ...


child = Child("a", work, 3, restart=restart, shutdown=3, breaker=RateLimited(3, 10.0))
Child("a", work, 3, shutdwon=3)  # error
Child("a", work, 3, restart="never")  # error
Child("a", work, 3, shutdown="3")  # error
Child("a", work, 3, breaker=AlwaysRestart())
Child("a", work, 3, breaker=3)  # error
Child("a", SystemSupervisor(shop), shutdwon=3)  # error
child.replace(shutdown=3, key="b", args=(4,))
child.replace(shutdwon=3)  # error
child.replace(key=3)  # error
child.replace(start=3)  # error

options: ChildOptions = {"restart": "transient", "shutdown": 3}
Child("a", work, 3, **options)
misspelt: ChildOptions = {"shutdwon": 3}  # error
SystemSupervisor(shop, defaults=options)
SystemSupervisor(shop, defaults={"shutdown": 3})
SystemSupervisor(shop, defaults={"shutdwon": 3})  # error
SystemSupervisor(shop, defaults={"restart": "never"})  # error
SystemSupervisor(shop, strategi="one_for_one")  # error
DynamicSupervisor(defaults={"shutdown": 3})
DynamicSupervisor(defaults={"shutdwon": 3})  # error

whole: SystemOptions = {"strategy": strategy, "name": "shop", "auto_shutdown": "never"}
run(shop, **whole)
run(shop, strategy="one_for_one", traces="console")
run(shop, strategi="one_for_one")  # error
run(shop, strategy="one")  # error
run(SystemSupervisor(shop), traces="console")
run(SystemSupervisor(shop), name="shop")  # error


async def main() -> None:
    async with open_system(shop, **whole):
        pass
    async with open_system([child], defaults={"shutdown": 3}):
        pass
    async with open_system(shop, strategi="one_for_one"):  # error
        pass
    async with open_system(shop, defaults={"shutdwon": 3}):  # error
        pass
    async with open_system(SystemSupervisor(shop), name="shop"):  # error
        pass
    async with trio.open_nursery() as nursery:
        await nursery.start(SystemSupervisor(shop))


def parse(line: str) -> int:
    return len(line)


async def produce(pipe: Pipe[None, str]) -> None: ...


Stage("parse", parse, workers=2, shutdown=3)
Stage("parse", parse, shutdwon=3)  # error
Stage("parse", parse, restart="permanent")  # error
Worker("lines", produce, shutdown=3, heartbeat=2.0)
Worker("lines", produce, shutdwon=3)  # error
Worker("lines", parse)  # error
