"""The pure values: specifications, reasons, breakers, backoffs, errors."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import tenacity
import trio

import spry_py
from spry_py import (
    Aborted,
    AlwaysRestart,
    Backoff,
    Child,
    ChildFailure,
    ChildOptions,
    DynamicSupervisor,
    Escalation,
    Failed,
    NeverRestart,
    Normal,
    PartitionSupervisor,
    RateLimited,
    ReusedKey,
    SpryError,
    StartupFailure,
    Streak,
    SystemSupervisor,
    TerminationReport,
    TooManyRestarts,
    UnrecoverableFailure,
    open_system,
)
from stories import story


async def serve(*args: Any) -> None:
    await trio.sleep_forever()


def test_a_child_has_defaults() -> None:
    child = Child("a", serve, 1, 2)
    values = {
        name: getattr(child, name)
        for name in (
            "key",
            "start",
            "args",
            "restart",
            "shutdown",
            "start_timeout",
            "run_timeout",
            "backoff",
            "breaker",
            "recoverable",
            "on_unrecoverable",
            "on_termination",
            "heartbeat",
            "significant",
        )
    }
    assert values == {
        "key": "a",
        "start": serve,
        "args": (1, 2),
        "restart": "permanent",
        "shutdown": 5.0,
        "start_timeout": math.inf,
        "run_timeout": math.inf,
        "backoff": None,
        "breaker": None,
        "recoverable": None,
        "on_unrecoverable": "escalate",
        "on_termination": None,
        "heartbeat": math.inf,
        "significant": False,
    }


def test_a_supervisor_has_for_ever_to_stop() -> None:
    assert Child("a", SystemSupervisor([])).shutdown == math.inf
    assert Child("a", SystemSupervisor([]), shutdown=3).shutdown == 3


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Child("a", serve), "key"),
        (Child("a", serve), "restart"),
        (Normal(1), "value"),
        (Failed(ValueError()), "exception"),
        (RateLimited(), "within"),
        (Backoff(tenacity.wait_fixed(1)), "reset_after"),
        (TerminationReport("a", "top/a", 1, Aborted(), "none", 0.0, 1.0), "reason"),
    ],
)
def test_values_are_frozen(value: Any, field: str) -> None:
    with pytest.raises((AttributeError, TypeError)):
        setattr(value, field, "other")
    with pytest.raises((AttributeError, TypeError)):
        value.invented = 1


def test_reasons_are_equal_by_value() -> None:
    error = ValueError()
    assert Normal(1) == Normal(1) != Normal(2)
    assert Aborted() == Aborted()
    assert Failed(error) == Failed(error) != Failed(ValueError())
    assert Failed(error) != error
    assert len({Failed(error), Failed(error), Failed(ValueError())}) == 2
    assert Normal() == Normal(None)


@pytest.mark.parametrize("started_at", [None, 2.0])
def test_a_report_derives_the_rest(started_at: float | None) -> None:
    error = ValueError("told")
    report = TerminationReport("a", "top/a", 3, Failed(error), "settling", started_at, 5.0)
    lifetime = None if started_at is None else 3.0
    assert (report.lifetime, report.failed, report.exception) == (lifetime, True, error)
    group = ExceptionGroup("one", [ExceptionGroup("inside", [error])])
    several = ExceptionGroup("two", [error, ValueError()])
    causes = [dataclasses.replace(report, reason=Failed(x)).cause for x in (error, group, several)]
    assert causes == [error, error, several]
    assert dataclasses.replace(report, time=7.0) == report
    other = dataclasses.replace(report, reason=Aborted())
    assert (other.failed, other.exception) == (False, None)


# Breakers


def answers(breaker: Any, *times: float) -> list[bool]:
    return [breaker.may_restart("a", now) for now in times]


def test_rate_limited_defaults() -> None:
    assert RateLimited() == RateLimited(3, 10.0) == RateLimited(max_restarts=3, within=10.0)


def test_rate_limited_refuses_the_one_after_the_last_allowed() -> None:
    assert answers(RateLimited(3, 10.0)(), 0, 1, 2, 3) == [True, True, True, False]
    assert answers(RateLimited(0)(), 0) == [False]
    assert answers(RateLimited(1, 1)(), 0, 0) == [True, False]


def test_an_entry_aged_exactly_the_window_no_longer_counts() -> None:
    assert answers(RateLimited(1, 10.0)(), 0, 9.999) == [True, False]
    assert answers(RateLimited(1, 10.0)(), 0, 10) == [True, True]
    assert answers(RateLimited(2, 10.0)(), 0, 5, 10, 14.5, 15) == [True, True, True, False, True]


def test_a_window_without_end_never_forgets() -> None:
    assert answers(RateLimited(2, math.inf)(), 0, 1e9, 1e18) == [True, True, False]


def test_one_window_counts_all_keys() -> None:
    breaker = RateLimited(2)()
    assert [breaker.may_restart(key, 0) for key in "aba"] == [True, True, False]


def test_each_call_of_the_factory_gives_a_breaker_of_its_own() -> None:
    factory = RateLimited(1)
    one, other = factory(), factory()
    assert answers(one, 0, 0) == [True, False]
    assert answers(other, 0, 0) == [True, False]


def test_a_large_window_is_walked_only_once() -> None:
    # Were each answer to walk the window, this would take hours.
    breaker = RateLimited(100_000, 1e9)()
    assert all(answers(breaker, *range(100_000)))
    assert answers(breaker, 100_000) == [False]
    assert answers(breaker, 1e9 + 99_999) == [True]


def test_always_and_never() -> None:
    assert answers(AlwaysRestart()(), *[0.0] * 100) == [True] * 100
    assert answers(NeverRestart()(), 0, 1e9) == [False, False]


# Errors


def test_the_family_of_errors() -> None:
    family = {
        "SpryError": "Exception",
        "StartupFailure": "SpryError",
        "ReusedKey": "StartupFailure",
        "ChildFailure": "StartupFailure",
        "NonChildFailure": "StartupFailure",
        "Interrupted": "StartupFailure",
        "Escalation": "SpryError",
        "TooManyRestarts": "Escalation",
        "UnrecoverableFailure": "Escalation",
        "ChildNotFound": "SpryError",
        "ChildAlreadyStarted": "SpryError",
        "ChildAlreadyPresent": "SpryError",
        "ChildRunning": "SpryError",
        "ChildRestarting": "SpryError",
        "MaxChildrenReached": "SpryError",
        "SupervisorStopped": "SpryError",
        "WouldDeadlock": "SpryError",
    }
    found = {name: getattr(spry_py, name).__base__.__name__ for name in family}
    assert found == family
    for name in ("Unrecoverable", "Ignore", "StartTimeout", "RunTimeout", "Unresponsive"):
        assert issubclass(getattr(spry_py, name), Exception)


def test_errors_say_what_they_are_about() -> None:
    cause = ValueError("the cause")
    many = TooManyRestarts("top/a", 3, cause)
    stop = UnrecoverableFailure("top/a", cause)
    start = ChildFailure("a", "top/a")
    assert (many.path, many.restarts, many.root_cause) == ("top/a", 3, cause)
    assert (stop.path, stop.root_cause) == ("top/a", cause)
    assert (start.key, start.path) == ("a", "top/a")
    for error in (many, stop):
        assert str(error).count("top/a") == 1
        assert str(error).count("the cause") == 1
        assert isinstance(error, Escalation)
    assert "top/a" in str(start)
    assert isinstance(start, StartupFailure)


@pytest.mark.parametrize(
    "error",
    [
        TooManyRestarts("top/a", 3, ValueError("the cause")),
        UnrecoverableFailure("top/a", None),
        UnrecoverableFailure("top/a", None, restarts=3),
        UnrecoverableFailure("top/a", ValueError("the cause"), asked="its on_termination"),
        ChildFailure("a", "top/a"),
        SpryError("plain"),
    ],
)
def test_errors_survive_pickling(error: SpryError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_the_text_of_an_escalation_stays_short() -> None:
    cause: BaseException = ValueError("x" * 10_000)
    assert len(str(TooManyRestarts("top/a", 3, cause))) < 500
    group = ExceptionGroup("many", [ValueError(f"line\n{n}") for n in range(1000)])
    assert len(str(TooManyRestarts("top/a", 3, group))) < 500
    assert "\n" not in str(TooManyRestarts("top/a", 3, group))


def test_a_reused_key_is_a_failed_startup() -> None:
    assert issubclass(ReusedKey, StartupFailure)


def test_everything_of_the_public_face_is_importable() -> None:
    names = [
        "Child",
        "SystemSupervisor",
        "Scope",
        "SystemHandle",
        "ChildHandle",
        "ChildInfo",
        "TerminationReport",
        "current_context",
        "Context",
        "cancel_on_settle",
        "open_system",
        "run",
        "Normal",
        "Aborted",
        "Failed",
        "Burden",
        "RateLimited",
        "AlwaysRestart",
        "NeverRestart",
        "Backoff",
        "SpryError",
        "StartupFailure",
        "ReusedKey",
        "ChildFailure",
        "NonChildFailure",
        "Interrupted",
        "Escalation",
        "TooManyRestarts",
        "UnrecoverableFailure",
        "ChildNotFound",
        "SupervisorStopped",
        "Unrecoverable",
        "Ignore",
        "StartTimeout",
        "RunTimeout",
        "Unresponsive",
    ]
    assert [name for name in names if not hasattr(spry_py, name)] == []
    assert set(names) <= set(spry_py.__all__)


# Copies


async def idle(*_: object) -> None:
    """A start function that can be pickled, by its name."""


def first_alone(error: BaseException) -> bool:
    return True


def nested() -> list[Child[Any]]:
    """Children with all that can be said of them, and with supervisors as their parts."""
    deep = SystemSupervisor([Child("x", idle, 1)], name="deep", strategy="rest_for_one")
    made = PartitionSupervisor(partial(Child, "any", idle), partitions=2, name="hall")
    return [
        Child("plain", idle),
        Child("args", idle, {"list": [1, 2]}, restart="transient", shutdown=2, heartbeat=3),
        Child("policy", idle, breaker=RateLimited(1), recoverable=first_alone),
        Child("partial", partial(idle, 1), backoff=Backoff(tenacity.wait_fixed(1))),
        Child("system", SystemSupervisor(idle, defaults={"shutdown": 3})),
        Child("deep", SystemSupervisor([Child("again", deep, restart="temporary")])),
        Child("pool", DynamicSupervisor(max_running=2, max_queued=3, breaker=Streak(2))),
        Child("hall", made),
    ]


def pickled(protocol: int, it: Any) -> Any:
    return pickle.loads(pickle.dumps(it, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": partial(pickled, protocol)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("index", range(len(nested())))
def test_a_child_can_be_copied_and_pickled(index: int, way: str) -> None:
    one = nested()[index]
    if "wait_fixed" in repr(one.backoff) and "pickle" not in way:
        assert WAYS[way](one).backoff.wait.wait_fixed == 1  # no == of tenacity's own
        return
    other = WAYS[way](one)
    if one.backoff is None:
        assert (other, hash(other), repr(other)) == (one, hash(one), repr(one))
    assert other is not one
    assert (other.kind, other.takes_status) == (one.kind, one.takes_status)
    defaults: ChildOptions = {"shutdown": 9.0, "restart": "temporary"}
    assert other.with_defaults(defaults).shutdown == one.with_defaults(defaults).shutdown
    with pytest.raises(AttributeError, match="frozen"):
        other.key = "another"


def test_a_deep_copy_shares_no_argument_and_a_shallow_one_all() -> None:
    argument = [1]
    inner = Child("a", idle, argument)
    one = Child("sub", SystemSupervisor([inner]))
    assert copy.copy(inner).args[0] is argument
    assert copy.deepcopy(inner).args[0] is not argument
    shared = copy.deepcopy([inner, one])
    shared[0].args[0].append(2)
    assert argument == [1]


def test_a_child_whose_parts_cannot_be_pickled_cannot_be_either() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(Child("a", lambda: idle(1)))


@story
async def test_a_copied_tree_starts_what_was_copied() -> None:
    record: list[object] = []

    async def writes(what: list[int]) -> None:
        record.append(what)
        await trio.sleep_forever()

    one = Child("sub", SystemSupervisor([Child("a", writes, [1])]))
    argument = one.start.system[0].args[0]  # type: ignore[attr-defined]
    other = copy.deepcopy(one)
    argument.append(2)
    async with open_system([other]):
        assert record == [[1]]


def test_a_system_bound_by_partial_is_equal_to_one_that_is_bound_to_the_same() -> None:
    async def system(*args: object, **options: object) -> None: ...

    def bound(*args: object, **options: object) -> object:
        return SystemSupervisor(partial(system, *args, **options))

    assert bound(1, x=2, y=3) == bound(1, y=3, x=2)
    assert bound(1, x=2) not in (bound(2, x=2), bound(1, x=3), bound(1, y=2), bound(1), bound(1, 2))


def test_reasons_show_what_they_hold() -> None:
    assert (repr(Normal(7)), repr(Normal())) == ("Normal(value=7)", "Normal(value=None)")
