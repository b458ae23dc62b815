"""`Settings`: what the process of a gateway has to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# hosts that Ray would take for another address of this machine
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1", "[::1]")


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one gateway. ``patience`` is how long (seconds) an order waits for a place."""

    address: str | None
    namespace: str
    reconnect: float
    env: tuple[tuple[str, str], ...] = field(repr=False)
    patience: float

    @property
    def where(self) -> str:
        """The cluster, in words."""
        return "a local Ray" if self.address is None else f"Ray at {self.address}"

    @property
    def is_loopback(self) -> bool:
        """Whether all of it is on this machine, and not to be seen from others."""
        return self.address is None or self.address.rpartition(":")[0] in LOOPBACK
