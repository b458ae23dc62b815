"""What `chaos` does to children, as events: ``seq`` is the number of the round."""

from __future__ import annotations

from dataclasses import dataclass

from spry_py.events import Event


@dataclass(frozen=True, slots=True)
class ChildCrashed(Event):
    """The child was made to fail, with a `ChaosCrash`."""


@dataclass(frozen=True, slots=True)
class ChildRestarted(Event):
    """The child was restarted by a call; ``refused`` is the error that this raised, if it did."""

    refused: str = ""
