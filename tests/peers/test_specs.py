"""Values that are refused where they are written, after supervisor_SUITE and SupervisorTest."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio

from spry_py import Child, RateLimited, SystemSupervisor
from workers import RESTARTS


async def idle() -> None:
    await trio.sleep_forever()


def sync() -> None:
    """What it is called for does not matter: nobody shall call it."""
    raise AssertionError("a sync function was called")


def told(field: str, given: dict[str, Any], error: type[Exception]) -> str:
    """What a row of a table is called."""
    return f"{field}-{type(given[field]).__name__}-{error.__name__}"


def test_a13_sup_start_map() -> None:
    child = Child("child1", idle)
    assert (child.key, child.restart, child.shutdown, child.significant) == (
        "child1",
        "permanent",
        5.0,
        False,
    )
    assert Child("child1", idle, shutdown=0).shutdown == 0
    assert Child("child1", SystemSupervisor([])).shutdown == math.inf
    assert Child("child1", SystemSupervisor([]), shutdown=2.0).shutdown == 2.0
    loose: Any = child
    with pytest.raises(AttributeError):
        loose.restart = "temporary"


def test_a15_sup_start_map_faulty_specs() -> None:
    loose: Any = Child
    with pytest.raises(TypeError, match="key"):
        loose(start=idle)
    with pytest.raises(TypeError, match="start"):
        loose("child1")
    with pytest.raises(TypeError, match="colour"):
        loose("child1", idle, colour="red")
    with pytest.raises(TypeError, match="Child"):
        SystemSupervisor([idle])  # type: ignore[list-item]


BAD_CHILDREN: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("key", {"key": ""}, ValueError),
    ("key", {"key": "a/b"}, ValueError),
    ("key", {"key": 1}, TypeError),
    ("start", {"start": 1}, TypeError),
    ("start", {"start": sync}, TypeError),
    ("start", {"start": None}, TypeError),
    ("restart", {"restart": "prmanent"}, ValueError),
    ("restart", {"restart": None}, TypeError),
    ("shutdown", {"shutdown": -10}, ValueError),
    ("shutdown", {"shutdown": -1}, ValueError),
    ("shutdown", {"shutdown": "brutal_kill"}, TypeError),
    ("shutdown", {"shutdown": math.nan}, ValueError),
    ("start_timeout", {"start_timeout": -1}, ValueError),
    ("run_timeout", {"run_timeout": "1"}, TypeError),
    ("heartbeat", {"heartbeat": -0.5}, ValueError),
    ("backoff", {"backoff": 3}, TypeError),
    ("breaker", {"breaker": 3}, TypeError),
    ("recoverable", {"recoverable": 3}, TypeError),
    ("on_unrecoverable", {"on_unrecoverable": "shrug"}, ValueError),
    ("on_termination", {"on_termination": 3}, TypeError),
    ("significant", {"significant": "yes"}, TypeError),
]


@pytest.mark.parametrize(
    ("field", "given", "error"), BAD_CHILDREN, ids=[told(*row) for row in BAD_CHILDREN]
)
def test_a26_c14_invalid_child_specs(
    field: str, given: dict[str, Any], error: type[Exception]
) -> None:
    fields: dict[str, Any] = {"key": "child1", "start": idle, **given}
    loose: Any = Child
    with pytest.raises(error) as caught:
        loose(fields.pop("key"), fields.pop("start"), **fields)
    assert field in str(caught.value)
    assert repr(given[field]) in str(caught.value)


def test_a26_c15_valid_child_specs() -> None:
    loose: Any = Child
    for restart, shutdown, start in itertools.product(
        RESTARTS, (0, 1, 1.5, math.inf), (idle, SystemSupervisor([]))
    ):
        child = loose("child1", start, restart=restart, shutdown=shutdown)
        assert (child.restart, child.shutdown) == (restart, shutdown)


def test_a27_significant_needs_a_child_that_may_end() -> None:
    with pytest.raises(ValueError, match="significant"):
        Child("child1", idle, significant=True)
    with pytest.raises(ValueError, match="significant"):
        Child("child1", idle, significant=True, restart="permanent")
    assert Child("child1", idle, significant=True, restart="transient").significant
    assert Child("child1", idle, significant=True, restart="temporary").significant


BAD_FLAGS: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("strategy", {"strategy": "_1"}, ValueError),
    ("strategy", {"strategy": None}, TypeError),
    ("breaker", {"breaker": 3}, TypeError),
    ("auto_shutdown", {"auto_shutdown": "_1"}, ValueError),
    ("auto_shutdown", {"auto_shutdown": True}, TypeError),
    ("name", {"name": ""}, ValueError),
    ("name", {"name": "a/b"}, ValueError),
    ("name", {"name": 1}, TypeError),
    ("system", {"system": 1}, TypeError),
    ("system", {"system": sync}, TypeError),
]


@pytest.mark.parametrize(
    ("field", "given", "error"), BAD_FLAGS, ids=[told(*row) for row in BAD_FLAGS]
)
def test_a28_c08_sup_flags(field: str, given: dict[str, Any], error: type[Exception]) -> None:
    flags: dict[str, Any] = {"system": [], **given}
    with pytest.raises(error) as caught:
        SystemSupervisor(flags.pop("system"), **flags)
    assert field in str(caught.value)
    assert repr(given[field]) in str(caught.value)


BAD_LIMITS: list[tuple[str, tuple[Any, Any], type[Exception]]] = [
    ("max_restarts", (-1, 10), ValueError),
    ("max_restarts", (math.inf, 10), TypeError),
    ("max_restarts", (1.5, 10), TypeError),
    ("within", (3, 0), ValueError),
    ("within", (3, -1), ValueError),
    ("within", (3, math.nan), ValueError),
    ("within", (3, "10"), TypeError),
]


@pytest.mark.parametrize(("field", "given", "error"), BAD_LIMITS)
def test_a28_intensity_and_period(
    field: str, given: tuple[Any, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        RateLimited(*given)
    assert field in str(caught.value)


def test_a28_an_unknown_flag_is_refused() -> None:
    loose: Any = SystemSupervisor
    with pytest.raises(TypeError, match="colour"):
        loose([], colour="red")


def test_c02_other_values_are_no_children() -> None:
    loose: Any = Child
    for value in (sync, 42, "idle", object()):
        with pytest.raises(TypeError, match="async function"):
            loose("child1", value)
    called = idle()
    with pytest.raises(TypeError, match="without calling it"):
        loose("child1", called)
