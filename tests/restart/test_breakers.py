"""The supervisor's breaker: when it is asked, for whom, and what a refusal does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tenacity
import trio

from actors import STAYS, Actor, cast, no_start
from callers import Desk, busy
from pools import open_pool
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    DynamicSupervisor,
    NeverRestart,
    RateLimited,
    ReusedKey,
    Scope,
    Strategy,
    Streak,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    TooManyRestarts,
    Unrecoverable,
    UnrecoverableFailure,
    open_system,
)
from spry_py.events import Event, RestartRefused
from stories import Boom, Ledger, Record, story, told_by


@story
async def test_every_failed_attempt_asks_again_with_the_key_that_failed() -> None:
    record = Record()
    a = Actor(record, "a", STAYS, [no_start], [no_start], STAYS)
    b = Actor(record, "b")
    async with open_system([a.child(), b.child()], strategy="one_for_one", breaker=Ledger(record)):
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 +b1 -a1 ?a !a2 ?a !a3 ?a +a4 -b1 -a4"


@story
async def test_a_failed_attempt_that_is_refused_escalates_with_the_failure_of_the_start() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", STAYS, [no_start], [no_start], STAYS)
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            [a.child(), b.child()],
            name="top",
            strategy="one_for_one",
            breaker=Ledger(record, allows=2),
        ):
            b.die()
            await trio.sleep(1)
    assert caught.value.path == "top/b"
    assert str(caught.value.root_cause) == "no start of b3"
    assert record.order == "+a1 +b1 -b1 ?b !b2 ?b !b3 ?b:no -a1"


@story
async def test_each_supervisor_incarnation_has_a_breaker_of_its_own() -> None:
    record = Record()
    (b,) = cast(record, "b")
    ledger = Ledger(record, allows=1)
    sub = Child("sub", SystemSupervisor([b.child()], breaker=ledger))
    async with open_system([sub], breaker=AlwaysRestart) as tree:
        for _ in range(4):
            b.die()
            await trio.sleep(1)
        assert tree.child("sub").incarnation == 3
    assert ledger.made == 3
    assert record.order == "+b1 -b1 ?b +b2 -b2 ?b:no +b3 -b3 ?b +b4 -b4 ?b:no +b5 -b5"


@story
async def test_a_childs_own_breaker_lives_as_long_as_its_supervisor() -> None:
    record = Record()
    a, b = cast(record, "ab")
    own = Ledger(record)
    children = [a.child(breaker=own), b.child(breaker=own)]
    async with open_system(children, breaker=AlwaysRestart):
        for _ in range(2):
            a.die()
            await trio.sleep(1)
        b.die()
        await trio.sleep(1)
    assert own.made == 2


@story
async def test_rate_limited_lets_through_so_many_in_its_window() -> None:
    record = Record()
    (a,) = cast(record, "a")
    error = Boom("one too many")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], breaker=RateLimited(2, 10.0)):
            for _ in range(4):
                a.die()
                await trio.sleep(5)
            a.die()
            await trio.sleep(1)
            a.die(error)
            await trio.sleep(1)
    assert caught.value.root_cause is error
    times = [time for time, fact in record.facts if fact.startswith("+")]
    assert times == [0, 0, 5, 10, 15, 20]


@story
async def test_the_default_breaker_lets_three_through_in_ten_seconds() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()]):
            for _ in range(4):
                a.die()
                await trio.sleep(1)
            record("never")
    assert caught.value.restarts == 3
    assert any(isinstance(error, Boom) for error in told_by(caught.value))
    assert record.order == "+a1 -a1 +a2 -a2 +a3 -a3 +a4 -a4"


# What a breaker is told


class Diary:
    """A breaker that writes down all that it is told and asked; it lets everything pass."""

    def __init__(self, record: Record, name: str = "") -> None:
        self.record = record
        self.name = name

    def __call__(self) -> Diary:
        return self

    def ended(self, report: TerminationReport) -> None:
        reason = type(report.reason).__name__
        how = "start failed" if report.started_at is None else reason
        self.record(f"{self.name}ended {report.key}{report.incarnation}: {how}")

    def may_restart(self, key: str, now: float) -> bool:
        self.record(f"{self.name}?{key}")
        return True

    def forget(self, key: str) -> None:
        self.record(f"{self.name}forget {key}")


def lines(record: Record) -> list[str]:
    return [fact for _, fact in record.take() if fact[0] not in "+-!"]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_a_breaker_hears_of_each_end_by_itself_before_it_is_asked(strategy: Any) -> None:
    """Also of each failed start of a restart, and not of those that are swept along."""
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", STAYS, [no_start], [no_start], STAYS)
    children = [a.child(), b.child(), c.child(restart="transient")]
    async with open_system(children, strategy=strategy, breaker=Diary(record)):
        b.die()
        await trio.sleep(1)
        expected = ["ended b1: Failed", "?b", "ended b2: start failed", "?b"]
        expected += ["ended b3: start failed", "?b"]
        assert [line for line in lines(record) if "forget" not in line] == expected
        c.stop()
        await trio.sleep(1)
        assert lines(record)[0].endswith(": Normal")
    assert lines(record) == []


@story
async def test_a_childs_own_breaker_hears_it_after_that_of_its_supervisor() -> None:
    record = Record()
    (a,) = cast(record, "a")
    own = Diary(record, "own ")
    async with open_system([a.child(breaker=own)], breaker=Diary(record)):
        a.stop()
        await trio.sleep(1)
    assert lines(record) == ["ended a1: Normal", "own ended a1: Normal", "own ?a", "?a"]


@story
async def test_it_hears_of_an_end_whatever_the_hook_says_of_it() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def hook(report: TerminationReport) -> None:
        raise Boom("hook")

    with pytest.raises(UnrecoverableFailure):
        async with open_system([a.child(on_termination=hook)], breaker=Diary(record)):
            a.die()
            await trio.sleep(1)
    assert lines(record) == ["ended a1: Failed"]


@story
async def test_it_forgets_the_keys_that_its_supervisor_forgets() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    declared = [a.child(), b.child(restart="temporary")]

    async def system(scope: Scope) -> None:
        for child in declared:
            await scope.start(child)

    async with open_system(system, strategy="one_for_one", breaker=Diary(record)) as tree:
        b.stop()
        await trio.sleep(1)
        assert lines(record) == ["ended b1: Normal", "forget b"]
        await tree.start_child(c.child())
        await tree.terminate_child("c")
        assert lines(record) == []
        await tree.delete_child("c")
        assert lines(record) == ["forget c"]
        del declared[0]
        await tree.replay()
        assert lines(record) == ["forget a"]
        await tree.start_child(d.child(breaker=Diary(record, "own "), restart="temporary"))
        d.die()
        await trio.sleep(1)
        assert lines(record) == [
            "ended d1: Failed",
            "own ended d1: Failed",
            "forget d",
            "own forget d",
        ]


@story
async def test_in_a_pool_a_key_is_forgotten_before_the_next_one_in_line_has_it() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_pool(breaker=Diary(record)) as pool:
        await pool.start_child(a.child(restart="temporary"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start_child, a.child(restart="temporary"), "queue")
            await trio.sleep(1)
            a.stop()
        assert record.order == "+a1 -a1 ended a1: Normal forget a +a2"
        await pool.terminate_child("a")
        assert record.take_order().endswith("-a2 forget a")


class Broken(Diary):
    def __init__(self, method: str) -> None:
        super().__init__(Record())
        self.method = method

    def ended(self, report: TerminationReport) -> None:
        if self.method == "ended":
            raise Boom("breaker broken")

    def forget(self, key: str) -> None:
        if self.method == "forget":
            raise Boom("breaker broken")


class Async(Diary):
    def __init__(self, method: str) -> None:
        super().__init__(Record())
        setattr(self, method, self.wrong)

    async def wrong(self, _: object) -> None:
        raise AssertionError("never awaited")


class Future:
    def __await__(self) -> Iterator[None]:
        raise AssertionError("never awaited")


class Promising(Diary):
    def __init__(self, method: str) -> None:
        super().__init__(Record())
        setattr(self, method, lambda _: Future())


@pytest.mark.parametrize("of", ["child", "supervisor"])
@pytest.mark.parametrize("method", ["ended", "forget"])
@pytest.mark.parametrize("kind", [Broken, Async, Promising])
@story
async def test_a_breaker_that_breaks_takes_its_supervisor_down_in_order(
    kind: Callable[[str], Any], method: str, of: str
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    breaker = kind(method)
    own = {"breaker": breaker} if of == "child" else {}
    above = {"breaker": breaker} if of == "supervisor" else {}
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([a.child(), b.child(restart="temporary", **own)], **above):
            b.stop()
            await trio.sleep(1)
    cause = caught.value.__cause__
    if kind is not Broken:
        assert isinstance(cause, TypeError)
        assert f"{kind.__name__}.{method}() may not be async" in str(cause)
    else:
        assert str(cause) == "breaker broken"
    assert record.order == "+a1 +b1 -b1 -a1"


# Streak


@story
async def test_a_streak_counts_each_key_and_starts_over_after_a_long_life() -> None:
    record = Record()
    a, b = cast(record, "ab")
    breaker = Streak(2, reset_after=10)
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            [a.child(), b.child()], name="top", strategy="one_for_one", breaker=breaker
        ):
            for life in (1, 9.5, 10, 9.5):
                await trio.sleep(life)
                a.die()
            await trio.sleep(1)
            b.die()
            await trio.sleep(1)
            b.die()
            await trio.sleep(1)
            a.die()
            await trio.sleep(1)
    assert (caught.value.path, caught.value.restarts) == ("top/a", 4)


@story
async def test_a_normal_end_does_not_start_a_streak_over() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(TooManyRestarts, match=r'restart="transient"'):
        async with open_system([a.child()], breaker=Streak(3)):
            for _ in range(4):
                await trio.sleep(59)
                a.stop()
            await trio.sleep(1)
    assert record.order == "+a1 -a1 +a2 -a2 +a3 -a3 +a4 -a4"


@story
async def test_a_streak_counts_failed_starts_and_not_the_time_they_take() -> None:
    record = Record()
    a = Actor(record, "a", [100, *STAYS], [100, no_start])
    with pytest.raises(TooManyRestarts):
        async with open_system([a.child()], breaker=Streak(3)):
            a.die()
            await trio.sleep(1000)
    assert record.order.count("!a") == 3


@story
async def test_a_streak_of_a_system_function_ends_when_that_runs_well() -> None:
    record = Record()
    a, b = cast(record, "ab")
    fails = iter((False, True, False, True, False, True, True))

    async def system(scope: Scope) -> None:
        if next(fails):
            raise Boom("system")
        for actor in (a, b):
            await scope.start(actor.child())

    with pytest.raises(TooManyRestarts, match="the system function of 'top' failed"):
        async with open_system(system, name="top", breaker=Streak(1, reset_after=5)):
            for _ in range(3):
                await trio.sleep(5)
                a.die()
            await trio.sleep(1)
    assert record.order == "+a1 +b1 -a1 -b1 +a2 +b2 -a2 -b2 +a3 +b3 -a3 -b3"


@story
async def test_a_streak_forgets_keys_with_the_supervisor() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_pool(breaker=Streak(1)) as pool:
        for _ in range(5):
            await pool.start_child(a.child())
            a.die()
            await trio.sleep(1)
            await pool.terminate_child("a")
    assert a.runs == 10


@pytest.mark.parametrize(
    ("field", "values"),
    [("max_restarts", [-1, 1.5, "3", None, True]), ("reset_after", [-1, "60", None, True])],
)
def test_a_streak_refuses_bad_values_by_name(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises((TypeError, ValueError), match=f"Streak: {field}"):
            Streak(**{"max_restarts": 3, field: value})


# What a refusal says


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@pytest.mark.parametrize("end", ["die", "stop"])
@story
async def test_a_childs_own_breaker_that_refuses_says_so(strategy: Any, end: str) -> None:
    record = Record()
    (a,) = cast(record, "a")
    refused: list[tuple[float, str]] = []

    async def listen(tree: Any, task_status: Any) -> None:
        async with tree.events() as events:
            task_status.started()
            every = [event async for event in events]
            refused.extend((one.at, one.path) for one in every if isinstance(one, RestartRefused))

    child = a.child(breaker=RateLimited(2, 3600), backoff=tenacity.wait_fixed(1))
    async with trio.open_nursery() as nursery:
        with pytest.raises(UnrecoverableFailure) as caught:
            async with open_system([child], name="top", strategy=strategy) as tree:
                await nursery.start(listen, tree)
                for _ in range(3):
                    getattr(a, end)()
                    await trio.sleep(2)
    text = str(caught.value)
    assert text.startswith("'top/a' was restarted 2 times and its own breaker refuses")
    assert ('restart="transient"' in text) == (end == "stop")
    assert caught.value.restarts == 2
    assert refused == [(4, "top/a")]


@story
async def test_one_that_is_not_recoverable_says_nothing_of_breakers() -> None:
    record = Record()
    (a,) = cast(record, "a")
    child = a.child(breaker=NeverRestart, recoverable=lambda error: False)
    with pytest.raises(UnrecoverableFailure, match="'top/a' cannot be recovered; root cause: Boom"):
        async with open_system([child], name="top"):
            a.die()
            await trio.sleep(1)


@story
async def test_a_failure_too_often_suggests_nothing() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], breaker=NeverRestart):
            a.die()
            await trio.sleep(1)
    assert "transient" not in str(caught.value)


@story
async def test_a_key_used_twice_is_the_root_cause_of_a_system_function_given_up() -> None:
    record = Record()
    (a,) = cast(record, "a")
    keys = ["a"]

    async def system(scope: Scope) -> None:
        for _ in keys:
            await scope.start(a.child())

    with pytest.raises(TooManyRestarts, match="the system function of 'top' failed") as caught:
        async with open_system(system, name="top", breaker=RateLimited(1, 10)):
            keys.append("a")
            a.die()
            await trio.sleep(1)
    assert isinstance(caught.value.root_cause, ReusedKey)
    assert caught.value.__cause__ is caught.value.root_cause


@story
async def test_a_childs_own_breaker_is_asked_when_the_restart_would_begin() -> None:
    """And not at the time of the end: its on_termination has come between."""
    record = Record()
    (a,) = cast(record, "a")

    async def dawdle(report: TerminationReport) -> None:
        await trio.sleep(3)

    child = a.child(breaker=Ledger(record), on_termination=dawdle)
    async with open_system([child], breaker=AlwaysRestart):
        a.die()
        await trio.sleep(9)
    assert record.facts == [(0, "+a1"), (0, "-a1"), (3, "?a"), (3, "+a2"), (9, "-a2")]


@story
async def test_a_refusal_by_a_childs_own_breaker_is_told_once() -> None:
    record = Record()
    (a,) = cast(record, "a")
    child = a.child(breaker=Ledger(record, 0), on_unrecoverable="discard")
    heard: list[Event] = []
    async with open_system([child], strategy="one_for_one") as tree, trio.open_nursery() as nursery:
        nursery.start_soon(listen, tree, heard.append)
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        await tree.restart_child("a")
        a.die(Unrecoverable("no more"))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    refused = [type(one).__name__ for one in heard if isinstance(one, RestartRefused)]
    assert refused == ["RestartRefused"]


async def listen(tree: SystemHandle, hear: Callable[[Event], object]) -> None:
    async with tree.events() as events:
        async for event in events:
            hear(event)


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_no_breaker_is_asked_about_a_restart_that_cannot_recover(strategy: Strategy) -> None:
    record = Record()
    runs = 0

    async def once(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            raise Unrecoverable("no more")
        task_status.started()
        raise Boom("once")

    with pytest.raises(UnrecoverableFailure):
        async with open_system([Child("a", once)], strategy=strategy, breaker=Ledger(record)):
            await trio.sleep(1)
    assert (record.order, runs) == ("?a", 2)


@story
async def test_of_those_that_end_while_a_sweep_is_under_way_the_longest_wait_counts() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    slow = Actor(record, "s", cleanup=3)
    nine, five = (Backoff(tenacity.wait_fixed(seconds)) for seconds in (9, 5))
    children = [a.child(), b.child(backoff=nine), c.child(backoff=five), slow.child()]
    async with open_system(children, strategy="one_for_all", breaker=AlwaysRestart):
        a.die()
        await trio.sleep(1)
        b.die()
        c.die()
        await trio.sleep(20)
        begun = [time for time, fact in record.facts if fact.startswith("+")]
    assert begun == [0, 0, 0, 0, 12, 12, 12, 12]


@story
async def test_of_two_errors_of_a_breaker_the_first_is_why_its_supervisor_gives_up() -> None:
    record = Record()
    a, b = cast(record, "ab")
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(DynamicSupervisor(breaker=Broken("forget"))) as pool:
            for actor in (a, b):
                await pool.start_child(actor.child(restart="temporary"))
            a.stop()
            await trio.sleep(1)
    assert caught.value.path.endswith("/a")
    assert record.order == "+a1 +b1 -a1 -b1"


@pytest.mark.parametrize("first", ["a", "b"])
@story
async def test_of_two_reasons_to_give_up_the_first_counts(first: str) -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a.child(), b.child(restart="temporary"), busy(record)]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with (
            open_system(children, strategy="one_for_all", breaker=Broken("forget")) as tree,
            trio.open_nursery() as nursery,
        ):
            # meanwhile the ends wait in the mailbox, in their order
            Desk(record, nursery).call("down", tree.terminate_child, "busy")
            await trio.sleep(1)
            for key in "ab" if first == "a" else "ba":
                if key == "a":
                    a.die(Unrecoverable("a"))
                else:
                    b.stop()
                await trio.sleep(1)
            await trio.sleep(9)
    assert caught.value.path == f"system/{first}"
    assert repr(caught.value.__cause__) == (
        "Unrecoverable('a')" if first == "a" else "Boom('breaker broken')"
    )
