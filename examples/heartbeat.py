"""A child that hangs is noticed by its silence: spry-py run examples.heartbeat:tree --for 5

A hanging child raises nothing, so no supervisor can see it. One that promises a heartbeat can be
seen: when the next one is overdue it is cancelled, has failed with `Unresponsive`, and is restarted
like any other failure.
"""

import trio

from spry_py import Child, RateLimited, SystemSupervisor, current_context


async def pump(strokes: int) -> None:
    context = current_context()
    for stroke in range(1, strokes + 1):
        context.heartbeat()
        print(f"stroke {stroke} of incarnation {context.incarnation}", flush=True)
        await trio.sleep(0.5)
    await trio.sleep_forever()  # stands for a reply that never comes


tree = SystemSupervisor(
    [Child("pump", pump, 3, heartbeat=1.0)],
    name="waterworks",
    breaker=RateLimited(5, 60.0),
)
