"""Mistakes are refused where they are made, and leave nothing running."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import tenacity
import trio

from actors import Actor, cast
from spry_py import (
    Backoff,
    Child,
    ChildFailure,
    RateLimited,
    Scope,
    Strategy,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Record, story, told_by


async def fine() -> None:
    await trio.sleep_forever()


def sync() -> None:
    """Not an async function."""


async def generates() -> Any:
    yield 1


WRONG_SECONDS: list[Any] = [-1, -0.5, -math.inf, math.nan, "5", None, True]
WRONG_CHILDREN: dict[str, list[Any]] = {
    "key": ["", "a/b", "/", None, 3, b"a", ("a",)],
    "start": [None, 3, "fine", sync, generates],
    "restart": ["always", "", None, "PERMANENT", 3, True],
    "shutdown": WRONG_SECONDS,
    "start_timeout": WRONG_SECONDS,
    "run_timeout": WRONG_SECONDS,
    "heartbeat": WRONG_SECONDS,
    "backoff": [3, "exponential", 0.5],
    "breaker": [3, "limited"],
    "recoverable": [3, "no", True],
    "on_unrecoverable": ["ignore", "", None, True],
    "on_termination": [3, "hook", sync],
    "significant": [1, "yes", None],
}
# `None` means the default here, since the default depends on what is started.
WRONG_CHILDREN["shutdown"] = [value for value in WRONG_SECONDS if value is not None]


def opened(system: Any, **options: Any) -> None:
    """Open a tree and leave it."""

    async def main() -> None:
        async with open_system(system, **options):
            pass

    trio.run(main)


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in table.items() for value in values]


@pytest.mark.parametrize(("field", "value"), cases(WRONG_CHILDREN))
def test_a_child_refuses_bad_values_by_name(field: str, value: Any) -> None:
    options: dict[str, Any] = {"key": "a", "start": fine, field: value}
    key, start = options.pop("key"), options.pop("start")
    with pytest.raises((TypeError, ValueError)) as caught:
        Child(key, start, **options)
    text = str(caught.value)
    assert field in text
    assert repr(value) in text or getattr(value, "__name__", "?") in text


WRONG_SUPERVISORS: dict[str, list[Any]] = {
    "system": [None, 3, "shop", sync, generates, [fine], [None], ["a"]],
    "name": ["", "a/b", 3],
    "strategy": ["one_for_some", "", None, 3, "ONE_FOR_ONE"],
    "breaker": [None, 3, "limited"],
    "auto_shutdown": ["always", "", None, True],
}


@pytest.mark.parametrize(("field", "value"), cases(WRONG_SUPERVISORS))
@pytest.mark.parametrize("make", [SystemSupervisor, opened])
def test_a_supervisor_refuses_bad_values_by_name(
    make: Callable[..., Any], field: str, value: Any
) -> None:
    options: dict[str, Any] = {"system": [], field: value}
    system = options.pop("system")
    with pytest.raises((TypeError, ValueError)) as caught:
        make(system, **options)
    assert field in str(caught.value)


@pytest.mark.parametrize("make", [functools.partial(Child, "a", fine), SystemSupervisor, opened])
def test_unknown_options_are_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="retries"):
        make([], retries=3)


@pytest.mark.parametrize(
    ("field", "value"),
    cases(
        {
            "max_restarts": [-1, 1.5, "3", None, True, math.nan],
            "within": [0, -1, math.nan, "10", None, True],
        }
    ),
)
def test_rate_limited_refuses_bad_values_by_name(field: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        RateLimited(**{field: value})
    assert field in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    cases({"wait": [None, 3, "fixed"], "reset_after": [-1, math.nan, "60", None, True]}),
)
def test_backoff_refuses_bad_values_by_name(field: str, value: Any) -> None:
    options: dict[str, Any] = {"wait": tenacity.wait_fixed(1), field: value}
    with pytest.raises((TypeError, ValueError)) as caught:
        Backoff(**options)
    assert field in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("make", [functools.partial(Child, "a"), SystemSupervisor, opened])
def test_a_coroutine_object_where_an_async_function_belongs(make: Callable[..., Any]) -> None:
    coroutine = fine()
    try:
        with pytest.raises(TypeError, match="coroutine"):
            make(coroutine)
    finally:
        coroutine.close()


def test_a_significant_permanent_child_is_refused() -> None:
    with pytest.raises(ValueError, match="significant"):
        Child("a", fine, significant=True)
    with pytest.raises(ValueError, match="significant"):
        Child("a", fine, restart="permanent", significant=True)


class Pretender:
    """Looks like an async function, and is none."""

    def __call__(self) -> Any:
        return 3


@story
async def test_a_callable_that_gives_no_awaitable_fails_its_start_with_a_clear_error() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(Exception, match=r".") as caught:
        async with open_system([a.child(), Child("pretender", Pretender())]):
            record("never")
    texts = [str(error) for error in told_by(caught.value) if isinstance(error, TypeError)]
    assert any("Pretender" in text and "async" in text for text in texts)
    assert record.order in ("+a1 -a1", "")


@story
async def test_wrong_arguments_fail_the_start_with_the_error_of_python() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(Exception, match=r".") as caught:
        async with open_system([a.child(), Child("b", fine, 1, 2, 3)]):  # type: ignore[call-arg, arg-type]
            record("never")
    told = [error for error in told_by(caught.value) if isinstance(error, TypeError)]
    assert any("positional argument" in str(error) for error in told)
    assert record.order in ("+a1 -a1", "")


@pytest.mark.parametrize("value", [3, "text", [], False])
@story
async def test_a_system_that_returns_something_fails_its_start(value: object) -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> Any:
        await scope.start(a.child())
        await scope.start(b.child())
        return value

    with pytest.raises(Exception, match=r".") as caught:
        async with open_system(system):
            record("never")
    assert any(
        "return" in str(error) and repr(value) in str(error) for error in told_by(caught.value)
    )
    assert record.order == "+a1 +b1 -b1 -a1"


@pytest.mark.parametrize("wrong", [None, fine, "a", [Child("a", fine)]])
@story
async def test_scope_start_wants_a_child(wrong: Any) -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        for start in (scope.start, scope.start_together):
            with pytest.raises(TypeError, match="Child"):
                await start(wrong)
        record("refused")

    async with open_system(system) as tree:
        assert [info.key for info in tree.which_children()] == ["a"]
    assert record.order == "+a1 refused -a1"


@story
async def test_a_system_that_takes_no_scope_fails_its_start() -> None:
    async def system() -> None:
        raise AssertionError("never called")

    with pytest.raises(Exception, match=r".") as caught:
        async with open_system(system):  # type: ignore[arg-type]
            raise AssertionError("never up")
    assert any(isinstance(error, TypeError) for error in told_by(caught.value))


@story
async def test_started_called_twice_fails_the_child_that_did() -> None:
    record = Record()
    (a,) = cast(record, "a")
    errors: list[RuntimeError] = []

    async def twice(*, task_status: trio.TaskStatus[int]) -> None:
        task_status.started(1)
        await trio.sleep(1)
        with pytest.raises(RuntimeError) as caught:
            task_status.started(2)
        errors.append(caught.value)
        raise caught.value

    async with open_system([a.child(), Child("twice", twice, restart="temporary")]) as tree:
        handle = tree.child("twice")
        assert handle.value == 1
        await trio.sleep(2)
    assert handle.last_report is not None
    assert [handle.last_report.exception] == errors
    assert "started" in str(errors[0])
    assert record.order == "+a1 -a1"


@story
async def test_started_called_twice_at_once_leaves_nothing_running() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def twice(*, task_status: trio.TaskStatus[int]) -> None:
        task_status.started(1)
        task_status.started(2)
        await trio.sleep_forever()

    children = [a.child(), Child("twice", twice, restart="temporary")]
    with suppress(ChildFailure):
        async with open_system(children):
            await trio.sleep(1)
    assert record.order == "+a1 -a1"


@story
async def test_started_called_after_a_timeout_changes_nothing() -> None:
    record = Record()
    a = Actor(record, "a")
    late = Actor(record, "late")

    async def stubborn(*, task_status: trio.TaskStatus[str]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        task_status.started("late")
        await late()

    with pytest.raises(Exception, match=r".") as caught:
        async with open_system([a.child(), Child("stubborn", stubborn, start_timeout=2)]):
            record("never")
    assert any(type(error).__name__ == "StartTimeout" for error in told_by(caught.value))
    assert record.order in ("+a1 +late1 -late1 -a1", "+a1 -a1")
    assert trio.current_time() == 5


@story
async def test_started_called_after_a_stop_changes_nothing() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def stubborn(*, task_status: trio.TaskStatus[str]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        with pytest.raises(RuntimeError, match="started"):
            task_status.started("late")
        try:
            await trio.sleep_forever()
        finally:
            record("stubborn gone")

    with trio.move_on_after(2) as outside:
        async with open_system([a.child(), Child("stubborn", stubborn)]):
            record("never")
    assert outside.cancelled_caught
    assert record.facts == [(0, "+a1"), (5, "stubborn gone"), (5, "-a1")]


class Opaque:
    """A live breaker that does not answer."""

    def may_restart(self, key: str, now: float) -> bool:
        raise Boom("breaker broken")


def broken_breaker() -> Opaque:
    return Opaque()


def broken_backoff(state: tenacity.RetryCallState) -> float:
    raise Boom("backoff broken")


def broken_predicate(error: BaseException) -> bool:
    raise Boom("predicate broken")


@pytest.mark.parametrize(
    ("options", "supervisor"),
    [
        ({"breaker": broken_breaker}, {}),
        ({"backoff": broken_backoff}, {}),
        ({"recoverable": broken_predicate}, {}),
        ({}, {"breaker": broken_breaker}),
    ],
    ids=["own breaker", "backoff", "recoverable", "breaker"],
)
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_policy_that_raises_takes_the_tree_down_in_order(
    strategy: Strategy, options: Any, supervisor: Any
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    theirs = Boom("of the child")
    children = [a.child(), b.child(**options)]
    with pytest.raises(Exception, match=r".") as caught:
        async with open_system(children, strategy=strategy, **supervisor):
            b.die(theirs)
            await trio.sleep_forever()
    told = list(told_by(caught.value))
    assert any("broken" in str(error) for error in told)
    assert theirs in told
    assert record.order == "+a1 +b1 -b1 -a1"


@pytest.mark.parametrize("answer", [-1, math.nan, "soon", None])
@story
async def test_a_backoff_that_gives_no_seconds_takes_the_tree_down(answer: Any) -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a.child(), b.child(backoff=lambda state: answer)]
    with pytest.raises(Exception, match=r".") as caught:
        async with open_system(children):
            b.die()
            await trio.sleep_forever()
    assert any(re.search(r"backoff|seconds", str(error)) for error in told_by(caught.value))
    assert record.order == "+a1 +b1 -b1 -a1"
