"""A tree as a part of another trio program: python -m examples.embed

The tree serves; the program around it asks, and stops the tree by leaving the block. Any function
that trio could run is a child as it stands, here `trio.serve_tcp`.
"""

from collections.abc import Iterator
from functools import partial
from itertools import count

import trio

from spry_py import Child, Scope, open_system

HOST = "127.0.0.1"


async def keep_count(*, task_status: trio.TaskStatus[Iterator[int]]) -> None:
    task_status.started(count(1))
    await trio.sleep_forever()


async def greet(visits: Iterator[int], stream: trio.SocketStream) -> None:
    name = await stream.receive_some()
    await stream.send_all(b"hello %s, you are visitor %d" % (name, next(visits)))


async def greeter(scope: Scope) -> None:
    visits = await scope.start(Child("visits", keep_count))
    serve = partial(trio.serve_tcp, partial(greet, visits), 0, host=HOST)
    await scope.start(Child("server", serve))


async def ask(port: int, name: bytes) -> str:
    async with await trio.open_tcp_stream(HOST, port) as stream:
        await stream.send_all(name)
        return bytes(await stream.receive_some()).decode()


async def main() -> None:
    async with open_system(greeter) as handle:
        (listener,) = handle.child("server").value
        port = listener.socket.getsockname()[1]
        for name in (b"Ada", b"Grace"):
            print(await ask(port, name))
    print(handle.render())


if __name__ == "__main__":
    trio.run(main)
