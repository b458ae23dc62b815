"""A tree below an application of FastAPI:

    pip install fastapi uvicorn
    uvicorn examples.fastapi_app:app
    curl http://127.0.0.1:8000/price/ACME

The feed breaks again and again, and is restarted; requests are served meanwhile. When uvicorn
has to end, it finishes the requests in flight, and then the lifespan stops the tree in reverse
order. Signals are uvicorn's, and so is the set-up of the log: what fails is on stderr, and
`logging.basicConfig(level=logging.INFO)` shows each start and stop as well.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from spry_py import AlwaysRestart, Child, Scope, current_context
from spry_py.aio import cancel_on_settle, open_system, settled, started, task

Prices = dict[str, int]


async def keep() -> None:
    """Lend out the prices, and save them at the end."""
    prices: Prices = {}
    started(prices)
    await settled()
    print(f"saved {len(prices)} price(s)", flush=True)


async def feed(prices: Prices) -> None:
    """Follow a source that hangs up after a while."""
    me = current_context()
    async with cancel_on_settle():
        for number in range(100):
            prices["ACME"] = 1000 * me.incarnation + number
            await asyncio.sleep(0.001)
        raise ConnectionResetError("the source has hung up")
    print("hung up", flush=True)


async def market(scope: Scope) -> None:
    prices = await scope.start(Child("prices", task(keep)))
    await scope.start(Child("feed", task(feed, prices), backoff=lambda state: 0.02))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with open_system(market, strategy="one_for_one", breaker=AlwaysRestart()) as handle:
        app.state.market = handle
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/price/{name}")
async def price(name: str) -> dict[str, Any]:
    handle = app.state.market
    return {"price": handle.child("prices").value[name], "feed": handle.child("feed").incarnation}


@app.get("/report")
async def report() -> dict[str, str]:
    await asyncio.sleep(0.5)
    return {"market": app.state.market.render()}
