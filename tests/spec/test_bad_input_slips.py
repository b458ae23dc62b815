"""Slips that everybody makes: each is an error where it was made, and says what to write."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import tenacity
import trio

from actors import cast
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    ChildFailure,
    DynamicSupervisor,
    NeverRestart,
    NonChildFailure,
    RateLimited,
    Scope,
    Streak,
    SystemSupervisor,
    UnrecoverableFailure,
    open_system,
    run,
)
from spry_py.lowlevel import Supervisor
from stories import Record, story


async def fine(*_: object) -> None:
    await trio.sleep_forever()


# Blocks


@pytest.mark.parametrize("make", [open_system, SystemSupervisor], ids=["open_system", "supervisor"])
def test_a_tree_needs_trio(make: Callable[..., Any]) -> None:
    async def main() -> None:
        if make is open_system:
            async with open_system([Child("a", fine)]):
                raise AssertionError("never up")
        await SystemSupervisor([Child("a", fine)])()

    with pytest.raises(RuntimeError, match=r"needs trio.*trio\.run\(main\).*spry_py\.aio\."):
        asyncio.run(main())
    with pytest.raises(RuntimeError, match="needs trio"):
        main().send(None)


def block(name: str) -> Any:
    async def make() -> Any:
        if name == "open_system":
            return open_system([])
        async with open_system([]) as handle:
            return handle.events() if name == "events" else handle.map(fine, [])

    return trio.run(make)


async def awaits(it: Any) -> None:
    await it


async def iterates(it: Any) -> None:
    async for _ in it:
        raise AssertionError("never")


async def iterates_plainly(it: Any) -> None:
    for _ in it:
        raise AssertionError("never")


async def enters_plainly(it: Any) -> None:
    with it:
        raise AssertionError("never")


@pytest.mark.parametrize("slip", [awaits, iterates, iterates_plainly, enters_plainly])
@pytest.mark.parametrize("name", ["open_system", "events", "map"])
def test_a_block_is_for_async_with(
    name: str, slip: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    with pytest.raises(TypeError, match=rf"write `async with (handle\.)?{name}\(\.\.\.\) as "):
        trio.run(slip, block(name))


# A forgotten await


async def start_one(scope: Scope, child: Child[Any]) -> None:
    scope.start(child)  # type: ignore[unused-coroutine]


async def start_two(scope: Scope, child: Child[Any]) -> None:
    scope.start_together(child, child.replace(key="other"))  # type: ignore[unused-coroutine]


async def start_three(scope: Scope, child: Child[Any]) -> None:
    for key in "xyz":
        scope.start(child.replace(key=key))  # type: ignore[unused-coroutine]


async def go_on(scope: Scope, child: Child[Any]) -> None:
    pool = scope.start(child)
    await scope.start(Child("user", fine, pool))
    raise AssertionError("never comes to this")


@pytest.mark.parametrize("slip", [start_one, start_two, start_three, go_on])
@story
async def test_a_start_that_is_not_awaited_fails_the_startup(
    slip: Callable[[Scope, Child[Any]], Coroutine[Any, Any, None]],
) -> None:
    """Without the warning of Python, which comes later and names no child (here, it would fail)."""
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        await slip(scope, b.child())

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system, name="shop"):
            raise AssertionError("never up")
    assert isinstance(caught.value.__cause__, RuntimeError)
    name = "start_together" if slip is start_two else "start"
    assert f"'shop': scope.{name}(...) was called, but not awaited" in str(caught.value)
    assert f"write await scope.{name}(...)" in str(caught.value.__cause__)
    assert record.order == "+a1 -a1"


@story
async def test_starts_that_are_awaited_later_in_their_order_are_none_the_worse() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        starts = [scope.start(a.child()), scope.start(b.child())]
        record(",".join([await start for start in starts]))

    async with open_system(system):
        assert record.order == "+a1 +b1 a#1,b#1"


@story
async def test_what_the_system_raises_itself_comes_before_a_forgotten_await() -> None:
    async def system(scope: Scope) -> None:
        start = scope.start(Child("a", fine))
        start.close()
        raise ValueError("its own")

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            raise AssertionError("never up")
    assert isinstance(caught.value.__cause__, ValueError)


@story
async def test_a_startup_that_is_stopped_before_it_could_await_has_forgotten_nothing() -> None:
    forgets = False

    async def system(scope: Scope) -> None:
        start = scope.start(Child("a", fine))
        try:
            if forgets:
                await trio.sleep_forever()
            await start
        finally:
            start.close()  # else Python says that it was never awaited

    async with open_system(system) as tree:
        forgets = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_interrupted, tree.replay)
            await trio.sleep(1)
            await tree.stop()
    assert tree.last_report is not None
    assert not tree.last_report.failed


async def _interrupted(replay: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(Exception, match=r"interrupted|stopped"):
        await replay()


# What is given in the place of something else


async def generates(*_: object) -> AsyncIterator[int]:
    yield 1


def generates_plainly(*_: object) -> Iterator[int]:
    yield 1


class Generating:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1

    async def method(self) -> AsyncIterator[int]:
        yield 1


class Database:
    """A class, where an async function belongs."""


class NoBreaker:
    """Its instances have no `may_restart`."""


def says_none(*_: object) -> None:
    """Sync, and says so."""


class Sync:
    def method(self) -> None:
        """Sync, and says so."""


def child(**options: Any) -> Child[Any]:
    return Child("a", fine, **options)


def supervisor(system: Any = (), **options: Any) -> SystemSupervisor:
    return SystemSupervisor(system, **options)


def worker(start: Any) -> Child[Any]:
    return Child("a", start)


LIMITED = r"breaker must not be the class RateLimited; write RateLimited\(\.\.\.\)"
ONE = r"not Child\(.* alone; write \[child\]"
SLIPS: list[tuple[str, Callable[..., Any], Any, str]] = [
    ("", worker, generates, "generator"),
    ("", worker, generates_plainly, "generator"),
    ("", worker, functools.partial(generates, 1), "generator"),
    ("", worker, Generating(), "generator"),
    ("", worker, Generating().method, "generator"),
    ("", worker, Database, r"the class .*Database.*write Database\(\.\.\.\)"),
    ("", worker, DynamicSupervisor, r"write DynamicSupervisor\(\.\.\.\)"),
    ("", worker, says_none, "start must be an async function, but .* is a sync one"),
    ("", worker, functools.partial(says_none, 1), "is a sync one"),
    ("", worker, Sync().method, "is a sync one"),
    ("", supervisor, generates, "system must be .* generator"),
    ("", supervisor, child(), ONE),
    ("", open_system, child(), ONE),
    ("", run, child(), ONE),
    ("on_termination", child, generates, "on_termination must be .* generator"),
    ("breaker", child, RateLimited, LIMITED),
    ("breaker", child, Streak, r"write Streak\(\.\.\.\)"),
    ("breaker", child, NoBreaker, r"write NoBreaker\(\.\.\.\)"),
    ("breaker", child, RateLimited()(), "breaker must be a breaker factory such as RateLimited"),
    ("breaker", supervisor, RateLimited, LIMITED),
    ("breaker", functools.partial(open_system, []), RateLimited, LIMITED),
    ("breaker", DynamicSupervisor, RateLimited, LIMITED),
    ("defaults", supervisor, {"breaker": RateLimited}, f"defaults: {LIMITED}"),
    ("recoverable", child, OSError, r"recoverable .* class OSError.*isinstance\(error"),
    ("recoverable", child, KeyboardInterrupt, "recoverable .* class KeyboardInterrupt"),
    ("recoverable", child, (OSError, ValueError), "recoverable must be"),
    ("recoverable", child, tenacity.retry_if_exception_type, "recoverable .* class"),
    ("backoff", child, tenacity.wait_exponential, "backoff .* class wait_exponential"),
    ("backoff", child, Backoff, "backoff .* class Backoff"),
    ("wait", Backoff, tenacity.wait_fixed, r"wait .* class wait_fixed; write wait_fixed\(\.\.\.\)"),
    ("foo", functools.partial(run, []), 1, "no option foo; those of a system are name, strategy"),
    ("foo", functools.partial(open_system, []), 1, "no option foo; those of a system are name"),
    ("traces", functools.partial(run, []), 5, "traces must be 'console', 'otlp' or a path"),
    ("backofff", child, 3, r"there is no option backofff \(did you mean backoff\?\)"),
    ("host", child, "::", r"no option host \(.* write functools\.partial\(fine, host=\.\.\.\)\)"),
    ("", supervisor, 5, "system must be an async function or a sequence of Child, not 5"),
    ("", supervisor, [fine], r"only Child objects, not <function fine .*; write Child\(key, fun"),
]


@pytest.mark.parametrize(("field", "write", "value", "text"), SLIPS)
def test_a_slip_is_refused_where_it_is_written(
    field: str, write: Callable[..., Any], value: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        if field:
            write(**{field: value})
        else:
            write(value)


class Offspring(NeverRestart):
    """A breaker as a class: each instance is one."""


class Late:
    """A breaker that nobody can tell from its class."""

    def __getattr__(self, name: str) -> Any:
        if name == "may_restart":
            return lambda key, now: True
        raise AttributeError(name)


@pytest.mark.parametrize("factory", [NeverRestart, AlwaysRestart, Offspring, Late])
def test_a_class_that_makes_breakers_is_a_factory(factory: Any) -> None:
    assert child(breaker=factory).breaker is factory
    assert supervisor(breaker=factory).breaker is factory


class Calls:
    """Hands back what is to be awaited, and says so nowhere."""

    def __call__(self) -> Any:
        return fine()

    def method(self) -> Any:
        return fine()


@pytest.mark.parametrize(
    "start",
    [
        lambda: fine(),  # noqa: PLW0108 - the rule is about it
        functools.partial(lambda x: fine(x, x), 1),
        functools.partial(fine, 1),
        Calls(),
        Calls().method,
    ],
    ids=["lambda", "partial of lambda", "partial", "object", "method"],
)
@story
async def test_what_returns_a_coroutine_is_a_child_as_for_a_nursery(start: Any) -> None:
    async with open_system([worker(start)]) as tree:
        assert tree.child("a").status == "running"


@story
async def test_a_lambda_is_a_system_and_a_hook_and_a_task() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def note(fact: str) -> None:
        record(fact)

    async def system(scope: Scope, _: int) -> None:
        await scope.start(a.child(on_termination=lambda report: note("hooked")))

    async def double(number: int) -> int:
        await trio.sleep(1)
        return 2 * number

    async with open_system(lambda scope: system(scope, 0)) as tree:
        assert await tree.run(lambda: double(2)) == 4
        a.stop()
        await trio.sleep(1)
    assert record.order == "+a1 -a1 hooked +a2 -a2"


@pytest.mark.parametrize("wrong", [lambda: 3, lambda: None, print], ids=["3", "None", "print"])
@story
async def test_what_returns_no_awaitable_is_an_error_at_the_call(wrong: Any) -> None:
    record = Record()
    a, b = cast(record, "ab")
    with pytest.raises(ChildFailure, match=r"child 'top/a' must be async, but .* returned"):
        async with open_system([b.child(), worker(wrong)], name="top"):
            raise AssertionError("never up")
    assert record.take_order() == "+b1 -b1"
    with pytest.raises(NonChildFailure, match=r"function of 'top' must be async, but .* returned"):
        async with open_system(lambda scope: wrong(), name="top"):
            raise AssertionError("never up")
    with pytest.raises(UnrecoverableFailure, match=r"on_termination of child .* must be async"):
        async with open_system([a.child(on_termination=lambda report: wrong())]):
            a.stop()
            await trio.sleep(1)
    async with open_system([]) as tree:
        with pytest.raises(TypeError, match=r"runs as a task must be async, but .* returned"):
            await tree.run(wrong)
        assert tree.which_children() == []


@pytest.mark.parametrize("wrong", [None, 3, ["a"]])
@story
async def test_a_path_is_a_str(wrong: Any) -> None:
    async with open_system([Child("a", fine)]) as tree:
        for look_for in (tree.find, tree.system):
            with pytest.raises(TypeError, match=r"find: path must be a str, not"):
                look_for(wrong)


@story
async def test_a_factory_of_a_child_that_makes_no_breaker_says_so() -> None:
    record = Record()
    (a,) = cast(record, "a")
    factory: Any = lambda: 3  # noqa: E731
    with pytest.raises(UnrecoverableFailure, match="made no breaker, but 3"):
        async with open_system([a.child(breaker=factory)]):
            a.stop()
            await trio.sleep(1)


@story
async def test_a_supervisor_of_ones_own_has_to_say_how_it_runs() -> None:
    class Unfinished(Supervisor[None]):
        pass

    with pytest.raises(NotImplementedError):
        await Unfinished()(task_status=trio.TASK_STATUS_IGNORED)
