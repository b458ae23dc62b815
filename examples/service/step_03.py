"""Step 3: an HTTP API, which finishes what is in flight."""

import os
from functools import partial

import trio

from spry_py import Child, Scope, SystemSupervisor

from .store import DATABASE, Store, Visits, keep_store
from .web import Reply, Request, as_json, keep_listening, serve, text

PORT = int(os.environ.get("PORT", "8080"))


async def greet(store: Visits, name: str) -> str:
    return f"hello {name}, this is visit {await store.visit(name)}"


async def answer(store: Store, request: Request) -> Reply:
    match request.path.split("/")[1:]:
        case ["hello", name]:
            return text(await greet(store, name))
        case ["coffee"]:
            await trio.sleep(0.5)
            return text("here is your coffee")
        case ["visits"]:
            return as_json(await store.visits())
    return text("no such page", 404)


async def system(scope: Scope) -> None:
    socket = await scope.start(Child("socket", keep_listening, PORT))
    store = await scope.start(Child("store", keep_store, DATABASE))
    await scope.start(Child("api", serve, socket, partial(answer, store), shutdown=10))


greeter = SystemSupervisor(system, name="greeter", strategy="rest_for_one")
