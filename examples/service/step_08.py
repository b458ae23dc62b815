"""Step 8: readiness, and a configuration that can be changed while the service runs."""

import os
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from spry_py import Child, DynamicSupervisor, RateLimited, Scope, SystemSupervisor
from spry_py.periodic import periodic

from .step_03 import PORT
from .step_04 import back_up
from .step_05 import TALK_PORT, door
from .step_06 import FILES, answer_all
from .step_07 import BACKOFF
from .store import DATABASE, Store, keep_store
from .web import keep_listening, serve

CONFIG = Path(os.environ.get("GREETER_CONFIG", Path(__file__).with_name("greeter.toml")))


@dataclass(frozen=True)
class Config:
    """Seconds between two backups, and how many may talk at the same time."""

    backup_every: float
    visitors: int


def read_config() -> Config:
    """The configuration as it is now. Raises what is wrong with it."""
    return Config(**tomllib.loads(CONFIG.read_text(encoding="utf-8")))


async def conversations(
    entrance: trio.SocketListener, store: Store, visitors: int, scope: Scope
) -> None:
    sessions = await scope.start(Child("sessions", DynamicSupervisor(max_children=visitors)))
    await scope.start(Child("door", door, entrance, sessions, store, backoff=BACKOFF))


async def system(scope: Scope) -> None:
    config = read_config()
    socket = await scope.start(Child("socket", keep_listening, PORT))
    entrance = await scope.start(Child("entrance", keep_listening, TALK_PORT))
    store = await scope.start(
        Child("store", keep_store, DATABASE, start_attempts=5, backoff=BACKOFF)
    )
    job = periodic(back_up, store, every=config.backup_every, timeout=60)
    await scope.start(Child("backup", job, backoff=BACKOFF))
    talk = SystemSupervisor(
        partial(conversations, entrance, store, config.visitors),
        strategy="rest_for_one",
        breaker=RateLimited(20, 60.0),
    )
    await scope.start(Child("talk", talk, backoff=BACKOFF))
    files = await scope.start(Child("files", FILES, start_timeout=30, backoff=BACKOFF))
    api = partial(answer_all, store, files)
    await scope.start(Child("api", serve, socket, api, shutdown=10))


greeter = SystemSupervisor(
    system, name="greeter", strategy="rest_for_one", breaker=RateLimited(10, 60.0)
)
