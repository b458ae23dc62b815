"""A small service, as systemd and Kubernetes run one: it greets everyone who connects.

    spry-py run examples.service:greeter --health 8081 --drain 5 --reload

`greeter.service` is a unit file for systemd, `kubernetes.yaml` a manifest for Kubernetes; both run
the line above. The configuration is `greeter.toml`, or the file that GREETER_CONFIG names. It is
read by the system function: SIGHUP runs that again, and only the children whose arguments have
changed are started anew. A file that cannot be read leaves everything as it is, and is logged.

    greeter
    ├─ visits     counts them, and outlives a new configuration
    └─ server     finishes the conversations that it has begun, in its 10 seconds
"""

import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from spry_py import Child, Scope, cancel_on_settle

CONFIG = Path(__file__).with_name("greeter.toml")


@dataclass(frozen=True)
class Config:
    """Where to serve, and how to greet."""

    host: str
    port: int
    greeting: str


@dataclass
class Visits:
    """How many there have been."""

    count: int = 0


def read_config() -> Config:
    """The configuration as it is now. Raises what is wrong with it."""
    path = Path(os.environ.get("GREETER_CONFIG", CONFIG))
    return Config(**tomllib.loads(path.read_text(encoding="utf-8")))


async def keep_visits(*, task_status: trio.TaskStatus[Visits]) -> None:
    """Hold the count for as long as this child lives."""
    task_status.started(Visits())
    await trio.sleep_forever()


async def serve(
    config: Config, visits: Visits, *, task_status: trio.TaskStatus[list[trio.SocketListener]]
) -> None:
    """Greet until asked to finish; then accept no one more, and end the last conversation."""

    async def greet(stream: trio.SocketStream) -> None:
        visits.count += 1
        # a visitor may leave at any time
        async with stream:
            with suppress(trio.BrokenResourceError):
                name = (await stream.receive_some(100)).decode(errors="replace").strip()
                text = f"{config.greeting} {name}, you are {visits.count}\n"
                await stream.send_all(text.encode())

    async with trio.open_nursery() as conversations:
        with cancel_on_settle():
            await trio.serve_tcp(
                greet,
                config.port,
                host=config.host,
                handler_nursery=conversations,
                task_status=task_status,
            )


async def greeter(scope: Scope) -> None:
    """The system: the configuration comes first, so that a bad one changes nothing."""
    config = read_config()
    visits = await scope.start(Child("visits", keep_visits))
    await scope.start(Child("server", serve, config, visits, shutdown=10))
