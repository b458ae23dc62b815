"""Supervision trees for trio, after Erlang/OTP.

The rooms, each importing only from those above it::

    _spec/        what is written: frozen values, refused where they are wrong
    _policy/      what is decided: pure functions; time is passed in
    _kernel/      what runs: one child, the loop of one supervisor, the tree
    _telemetry/   what is emitted about it: spans, metrics, log records
    _handles/     what is seen of it from outside
    _incidents/   recorded spans, shown as incidents
    _export/      the OpenTelemetry SDK
    telemetry     export in one line
    _program/     whole programs: run, signals, the command line
    events        the classes of events
    lowlevel      what libraries on top of this one need

Beside them, on the public face, as a user's own code is::

    aio/          tasks of asyncio, and the way in from there
    _http         one HTTP request, for those that serve some
    components/   objects as children
    health/       how a tree is, for those who start, stop and call the program
    observer/     looking in from outside
    periodic      functions that run again and again
    pipes/        hand-over that loses nothing
    processes/    programs and functions in processes of their own
    ray/          children on a cluster of Ray
    remote/       children on other machines
    testing/      tests of trees
    threads/      blocking functions
    watchdog      who blocks the event loop
"""

from spry_py._handles.child import ChildHandle
from spry_py._handles.context import Context, cancel_on_settle, current_context
from spry_py._handles.history import HistoryEntry
from spry_py._handles.partition import PartitionHandle
from spry_py._handles.scope import Scope, System
from spry_py._handles.snapshot import ChildCounts, ChildInfo, Snapshot
from spry_py._handles.supervisors import (
    DynamicHandle,
    DynamicSupervisor,
    PartitionSupervisor,
    SystemSupervisor,
)
from spry_py._handles.system import SystemHandle, roots
from spry_py._kernel.phases import Status
from spry_py._kernel.system import SystemOptions
from spry_py._policy.backoff import Backoff
from spry_py._policy.breaker import AlwaysRestart, Budget, NeverRestart, RateLimited, Streak
from spry_py._policy.restart import AutoShutdown, Strategy
from spry_py._program.run import open_system, run
from spry_py._spec.child import Child
from spry_py._spec.errors import (
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
from spry_py._spec.options import Breaker, ChildOptions, Kind, RestartType
from spry_py._spec.termination import (
    Aborted,
    Burden,
    Failed,
    Normal,
    Occasion,
    Reason,
    TerminationReport,
)

__all__ = [
    "Aborted",
    "AlwaysRestart",
    "AutoShutdown",
    "Backoff",
    "Breaker",
    "Budget",
    "Burden",
    "Child",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildFailure",
    "ChildHandle",
    "ChildInfo",
    "ChildNotFound",
    "ChildOptions",
    "ChildRestarting",
    "ChildRunning",
    "Context",
    "DynamicHandle",
    "DynamicSupervisor",
    "Escalation",
    "Failed",
    "HistoryEntry",
    "Ignore",
    "Interrupted",
    "Kind",
    "MaxChildrenReached",
    "NeverRestart",
    "NonChildFailure",
    "Normal",
    "Occasion",
    "PartitionHandle",
    "PartitionSupervisor",
    "RateLimited",
    "Reason",
    "RestartType",
    "ReusedKey",
    "RunTimeout",
    "Scope",
    "Snapshot",
    "SpryError",
    "StartTimeout",
    "StartupFailure",
    "Status",
    "Strategy",
    "Streak",
    "SupervisorStopped",
    "System",
    "SystemHandle",
    "SystemOptions",
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
    "roots",
    "run",
]

_name, _value = "", None
for _name in __all__:
    _value = globals()[_name]
    if getattr(_value, "__module__", "").startswith(f"{__name__}."):
        # tracebacks and spans name where users import it from
        _value.__module__ = __name__
del _name, _value
