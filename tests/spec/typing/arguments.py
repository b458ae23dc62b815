"""The arguments behind a start function are checked against it."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from spry_py import Child, DynamicSupervisor, SystemSupervisor


class Server:
    async def serve(self, port: int, *, task_status: trio.TaskStatus[str]) -> None: ...

    async def rest(self, seconds: float) -> None: ...

    async def __call__(self, port: int, *, task_status: trio.TaskStatus[str]) -> None: ...


async def connect(url: str, tries: int = 3, *, task_status: trio.TaskStatus[Server]) -> None: ...


async def listen(
    a: int, b: int, c: int, d: int, e: int, *, task_status: trio.TaskStatus[None]
) -> None: ...


async def add(a: int, b: str) -> None: ...


async def wait(seconds: float = 1.0) -> None: ...


async def handler(stream: trio.SocketStream) -> None: ...


def blocking() -> None: ...


def unknown() -> Any: ...


Child("a", connect, "url")
Child("a", connect, "url", 4)
Child("a", connect)  # error
Child("a", connect, 3)  # error
Child("a", connect, "url", "4")  # error
Child("a", connect, "url", 4, 5)  # error
Child("a", connect("url"))  # error
Child("a", listen, 1, 2, 3, 4, 5)
Child("a", listen, 1, 2, 3, 4)  # error

Child("b", add, 1, "x")
Child("b", add, 1)  # error
Child("b", add, 1, 2)  # error
Child("b", add, 1, "x", None)  # error
Child("b", wait)
Child("b", wait, 3)
Child("b", wait, "3")  # error
Child("b", trio.sleep_forever)
Child("b", trio.sleep_forever, 3)  # error
Child("b", blocking)  # error
Child("b", lambda: wait(3))
Child("b", unknown(), 3, "x")
Child("b", partial(add, 1), "x")
Child("b", partial(add, 1, "x"))

Child("c", trio.serve_tcp, handler, 80)
Child("c", trio.serve_tcp, handler)  # error
Child("c", trio.serve_tcp, handler, "80")  # error
Child("c", Server().serve, 80)
Child("c", Server().serve)  # error
Child("c", Server(), 80)
Child("c", Server(), "80")  # error
Child("c", Server().rest, 2)
Child("c", Server().rest, "2")  # error

Child("d", DynamicSupervisor())
Child("d", SystemSupervisor([]), shutdown=3)
Child("d", SystemSupervisor([]), 3)  # error
Child(4, wait)  # error
