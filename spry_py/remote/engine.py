"""What `remote` wants of an engine: a few protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from .messages import Message
from .order import Order


class Running(Protocol):
    """One incarnation that runs elsewhere, seen from here. `Hold` is one, on top of any carrier."""

    @property
    def messages(self) -> AsyncIterator[Message]:
        """What is reported of it, in order, each once. The last one is a `Done` or a `Lost`."""
        ...

    async def settle(self) -> None:
        """Have the child asked to finish; returns at once. It is the caller who counts seconds."""
        ...

    async def kill(self) -> None:
        """End it; returns when it is surely dead, or its lease is over. Does nothing after that.

        Cancelling this stops the waiting alone.
        """
        ...


class Engine(Protocol):
    """Where code can run."""

    async def start(self, order: Order) -> Running:
        """Have an order carried out.

        Returns as soon as the order is on its way. Raises if it cannot be. Cancelled, it has seen
        to it that the code never runs: a lease that is not granted is enough.
        """
        ...
