"""Supervision trees for trio, after Erlang/OTP.

The layers, each importing only from those above it::

    _frozen _check _errors _naming _options _child _termination       what is said
    _breaker _backoff _policy                                          what is decided
    _here _attributes _tracebacks _guard _events _subscription         what is told
    _logs _spans _metrics _telemetry                                   and in which ways
    _alarm _kept _context _run_child _incarnation _nursery _deadlock   what lives
    _snapshot _child_handle _tasks _handle                             what is seen from outside
    _shutdown _calls _slow _tree _mailbox _keeper _loop                the loop
    _scope _before _restart _startup _replay _root _supervisor         the supervisors
    _dynamic _partition                                                and of children on demand
    _otlp_lines _span_lines _incidents _incident_rows                  incidents, told again
    _timeline _account _retell                                         in words
    _threads_stack _threads_worker threads watchdog                    blocking code
    _components_status _components_life components periodic            ways of working
    _processes_call _processes_failed _processes_output _processes_birth   what a process is
    _processes_run _processes_ready _processes_order processes         and as a child
    _pipes_letters _pipes_hand _pipes_spans _pipes_pipe                items in hand
    _pipes_stage _pipes_plumbing pipes                                 and whole chains
    _log_bridge _otlp telemetry _run                                   entry points
    _printer _story _finding _cli                                      and the command line
"""

from ._backoff import Backoff
from ._breaker import AlwaysRestart, Breaker, NeverRestart, RateLimited, Streak
from ._child import Child
from ._child_handle import ChildHandle
from ._context import Context, cancel_on_settle, context_of, current_context
from ._dynamic import DynamicHandle, DynamicSupervisor
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
from ._events import (
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
    RestartRefused,
    RestartScheduled,
    SystemStarted,
    SystemStopped,
    SystemTeardown,
)
from ._handle import SystemHandle
from ._nursery import Status
from ._options import ChildOptions, Kind, RestartType
from ._partition import PartitionHandle, PartitionSupervisor
from ._policy import AutoShutdown, Strategy
from ._run import open_system, run
from ._scope import Scope
from ._snapshot import ChildCounts, ChildInfo, Snapshot
from ._supervisor import System, SystemOptions, SystemSupervisor
from ._termination import Aborted, Burden, Failed, Normal, Occasion, Reason, TerminationReport

__all__ = [
    "Aborted",
    "AlwaysRestart",
    "AutoShutdown",
    "Backoff",
    "Breaker",
    "Burden",
    "Child",
    "ChildAborted",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildDiscarded",
    "ChildFailure",
    "ChildHandle",
    "ChildInfo",
    "ChildNotFound",
    "ChildOptions",
    "ChildRestarting",
    "ChildRunning",
    "ChildSettling",
    "ChildSlow",
    "ChildStartFailed",
    "ChildStarted",
    "ChildStarting",
    "ChildStuck",
    "ChildTerminated",
    "Context",
    "DynamicHandle",
    "DynamicSupervisor",
    "Escalated",
    "Escalation",
    "Event",
    "EventsLost",
    "Failed",
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
    "RestartRefused",
    "RestartScheduled",
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
    "SystemStarted",
    "SystemStopped",
    "SystemSupervisor",
    "SystemTeardown",
    "TerminationReport",
    "TooManyRestarts",
    "Unrecoverable",
    "UnrecoverableFailure",
    "Unresponsive",
    "WouldDeadlock",
    "cancel_on_settle",
    "context_of",
    "current_context",
    "open_system",
    "run",
]

_name, _value = "", None
for _name in __all__:
    _value = globals()[_name]
    if getattr(_value, "__module__", "").startswith(f"{__name__}."):
        # tracebacks and spans name where users import it from
        _value.__module__ = __name__
del _name, _value
