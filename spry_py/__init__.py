"""Supervision trees for trio, after Erlang/OTP.

The layers, each importing only from those above it::

    _check _errors _child _termination           what is said
    _breaker _backoff _policy                    what is decided
    _logs _telemetry                             what is told
    _alarm _context _run_child _nursery          what lives
    _snapshot _handle                            what is seen from outside
    _tree _shutdown _loop _scope _startup        the loop
    _restart _root _supervisor
    _run                                         entry points
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
