"""Step 1: a crash."""

import trio

from spry_py import Child


async def door() -> None:
    for name in ("Ada", "Grace"):
        await trio.sleep(0.5)
        print(f"hello {name}", flush=True)
    raise ConnectionResetError("the door is stuck")


greeter = [Child("door", door)]
