"""What the engine and its gateway write to each other beside letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from spry_py.remote import Letter, Report


@dataclass(frozen=True, slots=True)
class Destroy:
    """To the gateway: the process of this order has to die, whatever it does."""

    id: str


@dataclass(frozen=True, slots=True)
class Gone:
    """To the gateway: this order is over."""

    id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """From the gateway: no letter of this order comes any more.

    ``is_dead``: its code is known not to run.
    """

    id: str
    why: str
    is_dead: bool


ToGateway: TypeAlias = Letter | Destroy | Gone
FromGateway: TypeAlias = Report | Ended
