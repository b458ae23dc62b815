"""The way in from asyncio, and asyncio's tasks as children.

::

    from spry_py.aio import open_system, task

    async def shop(scope: Scope) -> None:
        await scope.start(Child("api", task(serve, app)))

    async with open_system(shop) as handle:    # in a program of asyncio
        ...
"""

from .handles import ChildHandle, PartitionHandle, SystemHandle
from .system import open_system, run
from .tasks import TaskStart, task
from .voice import CancelOnSettle, cancel_on_settle, settled, started

__all__ = [
    "CancelOnSettle",
    "ChildHandle",
    "PartitionHandle",
    "SystemHandle",
    "TaskStart",
    "cancel_on_settle",
    "open_system",
    "run",
    "settled",
    "started",
    "task",
]

_name, _value = "", None
for _name in __all__:
    _value = globals()[_name]
    # tracebacks and spans name where users import it from
    _value.__module__ = __name__
del _name, _value
