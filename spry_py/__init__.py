"""Supervision trees for trio, after Erlang/OTP.

The layers, each importing only from those above it::

    _frozen _check _errors _child _termination        what is said: frozen values
    _breaker _backoff _policy                         what is decided: pure, time is passed in
    _attributes _logs _spans _telemetry               what is told: spans and log records
    _alarm _context _run_child _incarnation _nursery  what lives
    _snapshot _handle                                 what is seen from outside
    _shutdown _tree _loop                             the loop and what it shares with its tree
    _scope _startup _restart _root _supervisor        a system: started, restarted, run as a root
    _run telemetry _cli                               entry points
"""

from ._backoff import Backoff
from ._breaker import AlwaysRestart, Breaker, NeverRestart, RateLimited
from ._child import Child
from ._context import Context, cancel_on_settle, current_context
from ._errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildFailure,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    Escalation,
    Ignore,
    Interrupted,
    MaxChildrenReached,
    NonChildFailure,
    ReusedKey,
    RunTimeout,
    SpryError,
    StartTimeout,
    StartupFailure,
    SupervisorStopped,
    TooManyRestarts,
    Unrecoverable,
    UnrecoverableFailure,
    Unresponsive,
    WouldDeadlock,
)
from ._handle import ChildHandle, SystemHandle
from ._run import open_system, run
from ._scope import Scope
from ._snapshot import ChildCounts, ChildInfo, Snapshot
from ._supervisor import SystemSupervisor
from ._termination import Aborted, Burden, Failed, Normal, TerminationReport

__all__ = [
    "Aborted",
    "AlwaysRestart",
    "Backoff",
    "Breaker",
    "Burden",
    "Child",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildFailure",
    "ChildHandle",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "Context",
    "Escalation",
    "Failed",
    "Ignore",
    "Interrupted",
    "MaxChildrenReached",
    "NeverRestart",
    "NonChildFailure",
    "Normal",
    "RateLimited",
    "ReusedKey",
    "RunTimeout",
    "Scope",
    "Snapshot",
    "SpryError",
    "StartTimeout",
    "StartupFailure",
    "SupervisorStopped",
    "SystemHandle",
    "SystemSupervisor",
    "TerminationReport",
    "TooManyRestarts",
    "Unrecoverable",
    "UnrecoverableFailure",
    "Unresponsive",
    "WouldDeadlock",
    "cancel_on_settle",
    "current_context",
    "open_system",
    "run",
]

for _name in __all__:
    _object = globals()[_name]
    if getattr(_object, "__module__", "").startswith(f"{__name__}."):
        # tracebacks and spans name where users import it from
        _object.__module__ = __name__
del _name, _object
