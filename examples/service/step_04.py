"""Step 4: a job that runs again and again."""

from functools import partial

from spry_py import Child, Scope, SystemSupervisor
from spry_py.periodic import periodic

from .step_03 import PORT, answer
from .store import BACKUPS, DATABASE, Store, keep_store
from .web import keep_listening, serve


async def back_up(store: Store) -> None:
    await store.back_up(BACKUPS / "visits.db")


async def system(scope: Scope) -> None:
    socket = await scope.start(Child("socket", keep_listening, PORT))
    store = await scope.start(Child("store", keep_store, DATABASE))
    await scope.start(Child("backup", periodic(back_up, store, every=3600, timeout=60)))
    await scope.start(Child("api", serve, socket, partial(answer, store), shutdown=10))


greeter = SystemSupervisor(system, name="greeter", strategy="rest_for_one")
