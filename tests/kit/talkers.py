"""What runs on the other side in the tests of channels. Imports little, to be there soon."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spry_py.processes import Channel

FOREVER = 600.0


class Unreadable:
    """Survives the way out, not the way in."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


def echo(channel: Channel) -> str:
    for message in channel:
        channel.send(message)
    return "no more"


def count(upto: int, *, channel: Channel) -> None:
    for number in range(upto):
        channel.send(number)


def send_lock(channel: Channel) -> None:
    try:
        channel.send(threading.Lock())
    except TypeError as error:
        channel.send(str(error))


def echo_some(some: int, *, channel: Channel) -> None:
    for _ in range(some):
        channel.send(channel.receive())
    time.sleep(FOREVER)


def ignore(channel: Channel) -> None:
    time.sleep(FOREVER)


def close_and_stay(channel: Channel) -> None:
    channel.send("first")
    channel.close()
    try:
        channel.send("second")
    except BrokenPipeError as error:
        print(error, flush=True)
    time.sleep(FOREVER)


def echo_in_trio(channel: Channel) -> None:
    import trio  # noqa: PLC0415 - in that process alone

    async def main() -> None:
        async for message in channel:
            await channel.asend(message)

    trio.run(main)


def echo_in_asyncio(channel: Channel) -> None:
    import asyncio  # noqa: PLC0415 - in that process alone

    async def main() -> None:
        try:
            await asyncio.wait_for(channel.areceive(), 0.01)
        except TimeoutError:
            channel.send("nothing yet")
        async for message in channel:
            await channel.asend(message)

    asyncio.run(main())


def echo_on_sigterm(channel: Channel) -> None:
    """Send back what is received, and a last word on the way out."""
    try:
        for message in channel:
            channel.send(message)
    finally:
        channel.send("on the way out")


def echo_in_threads(channel: Channel) -> None:
    def work() -> None:
        for message in channel:
            channel.send(message)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
