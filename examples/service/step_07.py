"""Step 7: backoff, breakers, and parts that fail alone."""

from functools import partial

import tenacity
import trio

from spry_py import Backoff, Child, DynamicSupervisor, RateLimited, Scope, SystemSupervisor
from spry_py.periodic import periodic

from .step_03 import PORT
from .step_04 import back_up
from .step_05 import TALK_PORT, door
from .step_06 import FILES, answer_all
from .store import DATABASE, Store, keep_store
from .web import keep_listening, serve

WAIT = tenacity.wait_exponential(multiplier=0.05, max=30) + tenacity.wait_random(0, 0.05)
BACKOFF = Backoff(WAIT)


async def conversations(entrance: trio.SocketListener, store: Store, scope: Scope) -> None:
    """All who come to talk: a part of the service that fails alone."""
    sessions = await scope.start(Child("sessions", DynamicSupervisor(max_children=100)))
    await scope.start(Child("door", door, entrance, sessions, store, backoff=BACKOFF))


async def system(scope: Scope) -> None:
    socket = await scope.start(Child("socket", keep_listening, PORT))
    entrance = await scope.start(Child("entrance", keep_listening, TALK_PORT))
    store = await scope.start(
        Child("store", keep_store, DATABASE, start_attempts=5, backoff=BACKOFF)
    )
    await scope.start(Child("backup", periodic(back_up, store, every=3600, timeout=60)))
    talk = SystemSupervisor(
        partial(conversations, entrance, store),
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
