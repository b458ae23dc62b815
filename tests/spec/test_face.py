"""The face: what each public class shows by a name without underscore is what is written here."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

import spry_py

LOOKING = "history incarnation info key kind last_report path restarts stack status value"
NODE = (
    "budget by_hand child failures heartbeat_by in_a_row incarnation key kind last_report path "
    "queued restart restart_at restarts shutdown_by started_at status value"
)
SYSTEM = (
    f"{LOOKING} abort child count_children delete_child events find follow host map new_key render "
    "replay restart_child run snapshot start_child stop system terminate_child wait wait_started "
    "which_children"
)
# what `spry_py.lowlevel.Supervisor` asks of one, for extensions
SUPERVISOR = "adopted handle_of is_work listen live_as_child name"
MAPPING = "clear copy fromkeys get items keys pop popitem setdefault update values"

SHOWN = {
    "Aborted": "",
    "AlwaysRestart": "budget may_restart",
    "Backoff": "reset_after wait",
    "Breaker": "may_restart",
    "Budget": "frees_at left of within",
    "Child": "args backoff breaker heartbeat key kind on_termination on_unrecoverable recoverable "
    "replace restart run_timeout shutdown significant start start_attempts start_timeout "
    "takes_status with_defaults",
    "ChildCounts": "active specs supervisors workers",
    "ChildHandle": f"{LOOKING} as_system fail restart terminate wait wait_incarnation wait_started",
    "ChildInfo": NODE,
    "ChildOptions": MAPPING,
    "Context": "cancel_on_settle fail heartbeat incarnation is_settling key path root settled "
    "settling_for system",
    "DynamicHandle": SYSTEM,
    "DynamicSupervisor": f"{SUPERVISOR} breaker defaults max_children max_queued max_running",
    "Failed": "exception",
    "HistoryEntry": "count index path text time",
    "NeverRestart": "budget may_restart",
    "Normal": "value",
    "PartitionHandle": f"{SYSTEM} partition partitions resize",
    "PartitionSupervisor": f"{SUPERVISOR} children supervisor",
    "RateLimited": "max_restarts within",
    "Scope": "context start start_together system",
    "Snapshot": f"{NODE} children seq walk",
    "Streak": "max_restarts reset_after",
    "SystemHandle": SYSTEM,
    "SystemOptions": MAPPING,
    "SystemSupervisor": f"{SUPERVISOR} auto_shutdown breaker defaults scope_class strategy system",
    "TerminationReport": "burden cause ended_at exception failed incarnation key lifetime path "
    "reason started_at time",
}


def shown(name: str) -> set[str]:
    return {word for word in dir(getattr(spry_py, name)) if not word.startswith("_")}


def classes() -> set[str]:
    public = {name: getattr(spry_py, name) for name in spry_py.__all__}
    found = {name for name, value in public.items() if inspect.isclass(value)}
    return {name for name in found if not issubclass(public[name], BaseException)}


@pytest.mark.parametrize("name", sorted(classes()))
def test_a_class_shows_what_is_written_here(name: str) -> None:
    assert shown(name) == set(SHOWN[name].split())


def test_each_public_class_is_written_here() -> None:
    assert set(SHOWN) == classes()


CALLED = {
    spry_py.ChildHandle.fail: "exception",
    spry_py.ChildHandle.wait_incarnation: "n",
    spry_py.Context.fail: "exc",
    spry_py.SystemHandle.delete_child: "key",
    spry_py.SystemHandle.events: "capacity",
    spry_py.SystemHandle.follow: "capacity history",
    spry_py.SystemHandle.map: "fn items limit ordered timeout",
    spry_py.SystemHandle.new_key: "prefix",
    spry_py.SystemHandle.restart_child: "key",
    spry_py.SystemHandle.start_child: "child on_conflict",
    spry_py.SystemHandle.terminate_child: "key",
}


@pytest.mark.parametrize("method", CALLED, ids=lambda method: str(method.__qualname__))
def test_what_may_be_given_by_name_has_the_name_in_the_design(
    method: Callable[..., object],
) -> None:
    assert " ".join(list(inspect.signature(method).parameters)[1:]) == CALLED[method]
