"""Work that gets a little more time when all else is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class Linger:
    """So many seconds are left to the work when it is cancelled from outside."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._shield = trio.CancelScope(shield=True)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await ``work()``; raises what it raises, bare."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_cancelled)
            with self._shield:
                try:
                    await work()
                except Exception as error:
                    failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _until_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._shield.deadline = trio.current_time() + self.seconds
