"""The events of a tree, as ``handle.events()`` gives them: frozen, in exact order.

`Event` has what all of them have; the docstring of each class describes when it comes.
"""

from spry_py._kernel import facts as _facts
from spry_py._kernel.facts import (
    ChildAborted,
    ChildDiscarded,
    ChildSettling,
    ChildSlow,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildStuck,
    ChildTerminated,
    Escalated,
    Event,
    EventsLost,
    IncidentClosed,
    IncidentOpened,
    RestartRefused,
    RestartScheduled,
    SystemOrdered,
    SystemStarted,
    SystemStopped,
    SystemTeardown,
)

__all__ = [
    "ChildAborted",
    "ChildDiscarded",
    "ChildSettling",
    "ChildSlow",
    "ChildStartFailed",
    "ChildStarted",
    "ChildStarting",
    "ChildStuck",
    "ChildTerminated",
    "Escalated",
    "Event",
    "EventsLost",
    "IncidentClosed",
    "IncidentOpened",
    "RestartRefused",
    "RestartScheduled",
    "SystemOrdered",
    "SystemStarted",
    "SystemStopped",
    "SystemTeardown",
]

_name = ""
for _name in __all__:
    # tracebacks and reprs name where users import it from
    getattr(_facts, _name).__module__ = __name__
del _name, _facts
