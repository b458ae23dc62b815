"""What the stories about replays share: a system that declares what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from spry_py import Child, Scope
from workers import STRATEGIES

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


class Wanted:
    """A system that declares what is wanted now; a child may be given the values of others.

    Each line is a `Child`, or a pair of an actor and the keys whose values it is given.
    """

    def __init__(self, *lines: Any) -> None:
        self.lines = lines
        self.error: Exception | None = None

    async def __call__(self, scope: Scope) -> None:
        values: dict[str, Any] = {}
        for line in self.lines:
            if isinstance(line, Child):
                values[line.key] = await scope.start(line)
            else:
                actor, keys = line
                given = [values[key] for key in keys]
                values[actor.key] = await scope.start(actor.child(*given))
        if self.error is not None:
            raise self.error
