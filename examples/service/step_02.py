"""Step 2: a store, and a door that counts its visitors in it."""

import trio

from spry_py import Child, Scope, SystemSupervisor, current_context

from .store import DATABASE, Store, keep_store


async def door(store: Store) -> None:
    for name in ("Ada", "Grace", "Ada"):
        await trio.sleep(0.2)
        print(f"hello {name}, this is visit {await store.visit(name)}", flush=True)
    me = current_context()
    if me.incarnation == 1:
        me.system.child("store").fail(OSError("the disk went away"))
    await trio.sleep_forever()


async def system(scope: Scope) -> None:
    store = await scope.start(Child("store", keep_store, DATABASE))
    await scope.start(Child("door", door, store))


greeter = SystemSupervisor(system, name="greeter", strategy="rest_for_one")
