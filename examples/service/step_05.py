"""Step 5: a pool of sessions, one child for each visitor who comes to talk."""

import os
from functools import partial

import trio

from spry_py import (
    Child,
    DynamicSupervisor,
    MaxChildrenReached,
    Scope,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
)
from spry_py.periodic import periodic

from .step_03 import PORT, answer, greet
from .step_04 import back_up
from .store import DATABASE, Store, Visits, keep_store
from .web import keep_listening, serve

TALK_PORT = int(os.environ.get("TALK_PORT", "8090"))


async def talk(store: Visits, stream: trio.abc.Stream) -> None:
    """One session: for each name a greeting, until the visitor leaves or the service stops."""
    async with stream:
        while True:
            name = None
            with cancel_on_settle():
                name = await stream.receive_some(100)
            if name is None:
                await stream.send_all(b"we are closing, goodbye\n")
                return
            if not name:
                return
            greeting = await greet(store, name.decode().strip())
            await stream.send_all(f"{greeting}\n".encode())


async def door(listener: trio.SocketListener, sessions: SystemHandle, store: Store) -> None:
    """Hand each visitor over to a session."""
    while True:
        stream = await listener.accept()
        key = sessions.new_key("visitor")
        session = Child(key, talk, store, stream, restart="temporary", shutdown=3)
        try:
            await sessions.start_child(session)
        except MaxChildrenReached:
            await trio.aclose_forcefully(stream)


async def system(scope: Scope) -> None:
    socket = await scope.start(Child("socket", keep_listening, PORT))
    entrance = await scope.start(Child("entrance", keep_listening, TALK_PORT))
    store = await scope.start(Child("store", keep_store, DATABASE))
    await scope.start(Child("backup", periodic(back_up, store, every=3600, timeout=60)))
    sessions = await scope.start(Child("sessions", DynamicSupervisor(max_children=100)))
    await scope.start(Child("door", door, entrance, sessions, store))
    await scope.start(Child("api", serve, socket, partial(answer, store), shutdown=10))


greeter = SystemSupervisor(system, name="greeter", strategy="rest_for_one")
