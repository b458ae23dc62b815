"""The way in from asyncio, and asyncio's tasks as children.

::

    from spry_py.aio import open_system, task

    async def shop(scope: Scope) -> None:
        await scope.start(Child("api", task(serve, app)))

    async with open_system(shop) as handle:    # in a program of asyncio
        ...
"""

from .tasks import TaskStart, task
from .voice import CancelOnSettle, cancel_on_settle, settled, started

__all__ = [
    "CancelOnSettle",
    "TaskStart",
    "cancel_on_settle",
    "settled",
    "started",
    "task",
]
