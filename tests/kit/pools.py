"""What the stories about dynamic supervisors share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from spry_py import AlwaysRestart, DynamicSupervisor, open_system


@asynccontextmanager
async def open_pool(**options: Any) -> AsyncIterator[Any]:
    """A dynamic supervisor called `pool`, as a root; its children may be restarted for ever."""
    options = {"name": "pool", "breaker": AlwaysRestart, **options}
    async with open_system(DynamicSupervisor(**options)) as pool:
        yield pool
