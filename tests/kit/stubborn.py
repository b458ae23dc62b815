"""Children that do not end when they are told to."""

from __future__ import annotations

import trio


async def the_stubborn_part(seconds: float) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


async def clinging(seconds: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        await the_stubborn_part(seconds)
