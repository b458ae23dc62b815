"""First starts that are tried several times: a database that is late need not end the program."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from actors import STAYS, Actor, no_start
from callers import Desk, busy, listed
from listeners import listened
from spry_py import (
    Backoff,
    Child,
    ChildAlreadyStarted,
    ChildFailure,
    ChildRunning,
    DynamicSupervisor,
    Ignore,
    Interrupted,
    NeverRestart,
    NonChildFailure,
    Scope,
    StartTimeout,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    Unrecoverable,
    open_system,
)
from stories import Boom, Ledger, Record, story


class Late:
    """A child whose first starts fail, one after the other, each after a second."""

    def __init__(self, *failures: BaseException) -> None:
        self.record = Record()
        self.failures = list(failures)

    async def start(self, *, task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(1)
        if self.failures:
            self.record("!")
            raise self.failures.pop(0)
        self.record("+")
        task_status.started("up")
        try:
            await trio.sleep_forever()
        finally:
            self.record("-")

    def child(self, attempts: float, **options: Any) -> Child[Any]:
        return Child("db", self.start, start_attempts=attempts, **options)


def two(state: Any) -> float:
    """Two seconds after the first failure, four after the second, and so on."""
    return 2.0 * float(state.attempt_number)


# At a boot


@story
async def test_a_boot_tries_again_after_each_pause_and_goes_on_when_it_is_up() -> None:
    late, b = Late(Boom(), Boom()), Actor(Record(), "b")
    values: list[object] = []

    async def system(scope: Scope) -> None:
        values.append(await scope.start(late.child(3, backoff=two)))
        values.append(await scope.start(b.child()))

    async with open_system(system, breaker=NeverRestart(), strategy="one_for_one") as handle:
        assert values == ["up", "b#1"]
        assert late.record.facts == [(1, "!"), (4, "!"), (9, "+")]
        info = {one.key: one for one in handle.which_children()}["db"]
        assert (info.incarnation, info.restarts, info.status) == (3, 0, "running")


@story
async def test_the_last_failure_counts() -> None:
    errors = [Boom("one"), Boom("two"), Boom("three")]
    late = Late(*errors)
    with pytest.raises(ChildFailure) as caught:
        async with open_system([late.child(3)], name="top"):
            pass
    assert caught.value.__cause__ is errors[2]
    assert late.record.facts == [(1, "!"), (2, "!"), (3, "!")]


@story
async def test_a_key_whose_tries_are_over_is_free_again() -> None:
    late, other = Late(Boom(), Boom()), Actor(Record(), "db")

    async def system(scope: Scope) -> None:
        with pytest.raises(ChildFailure):
            await scope.start(late.child(2))
        assert await scope.start(other.child()) == "db#1"

    async with open_system(system) as handle:
        assert handle.child("db").incarnation == 1


@story
async def test_a_supervisor_may_be_tried_again_as_a_whole() -> None:
    late = Late(Boom())
    a = Actor(Record(), "a")
    sub = SystemSupervisor([a.child(), Child("db", late.start)])
    async with open_system([Child("sub", sub, start_attempts=2)]) as handle:
        assert a.record.order == "+a1 -a1 +a2"
        assert handle.child("sub").incarnation == 2


@story
async def test_each_try_has_its_own_start_timeout() -> None:
    record = Record()

    async def starts(*, task_status: trio.TaskStatus[None]) -> None:
        record("~")
        if len(record.facts) < 3:
            await trio.sleep_forever()
        task_status.started()

    child = Child("a", starts, start_timeout=2, start_attempts=3, backoff=lambda state: 1.0)
    async with open_system([child]):
        assert record.facts == [(0, "~"), (3, "~"), (6, "~")]
    record.take()
    with pytest.raises(ChildFailure) as caught:
        async with open_system([child.replace(start_attempts=2)]):
            pass
    assert isinstance(caught.value.__cause__, StartTimeout)


@story
async def test_infinitely_many_tries() -> None:
    late = Late(*(Boom() for _ in range(50)))
    child = late.child(math.inf, backoff=Backoff(lambda state: 0.0))
    async with open_system([child]) as handle:
        assert handle.child("db").incarnation == 51


@pytest.mark.parametrize("error", [Unrecoverable(), KeyError()])
@story
async def test_what_no_restart_cures_ends_the_tries(error: Exception) -> None:
    late = Late(error, Boom())
    child = late.child(9, recoverable=lambda error: not isinstance(error, KeyError))
    with pytest.raises(ChildFailure) as caught:
        async with open_system([child]):
            pass
    assert caught.value.__cause__ is error
    assert late.record.order == "!"


@story
async def test_ignore_leaves_out_at_once() -> None:
    late = Late(Ignore())
    async with open_system([late.child(9)]) as handle:
        assert (handle.child("db").status, late.record.order) == ("ignored", "!")


@pytest.mark.parametrize("option", ["recoverable", "backoff"])
@pytest.mark.parametrize("how", ["start", "start_together", "start_child"])
@story
async def test_what_the_users_own_options_raise_is_the_cause(option: str, how: str) -> None:
    def broken(state: object) -> float:
        raise KeyError("broken")

    late, record = Late(Boom()), Record()
    options: dict[str, Any] = {option: broken}
    child = late.child(3, **options)
    other = Actor(record, "b")

    async def system(scope: Scope) -> None:
        if how == "start":
            await scope.start(child)
        elif how == "start_together":
            await scope.start_together(other.child(), child)

    with pytest.raises(ChildFailure) as caught:
        async with open_system(system) as handle:
            await handle.start_child(child)
    assert repr(caught.value.__cause__) == "KeyError('broken')"
    assert record.order == ("+b1 -b1" if how == "start_together" else "")


@story
async def test_together_the_others_stay_up_meanwhile() -> None:
    record, late = Record(), Late(Boom())
    a, b = Actor(record, "a", [4, *STAYS]), Actor(record, "b")

    async def system(scope: Scope) -> None:
        child = late.child(2, backoff=two)
        assert await scope.start_together(a.child(), child, b.child()) == ("a#1", "up", "b#1")

    async with open_system(system):
        assert sorted(record.facts) == [(0, "+b1"), (0, "~a1"), (4, "+a1")]
        assert late.record.facts == [(1, "!"), (4, "+")]


@story
async def test_together_the_last_failure_shuts_down_the_group() -> None:
    record, late = Record(), Late(Boom(), Boom())
    a = Actor(record, "a")

    async def system(scope: Scope) -> None:
        await scope.start_together(a.child(), late.child(2, backoff=two))

    with pytest.raises(ChildFailure):
        async with open_system(system):
            pass
    assert record.facts == [(0, "+a1"), (4, "-a1")]


@story
async def test_the_facts_of_two_tries() -> None:
    late = Late(Boom())
    async with listened([]) as (handle, heard):
        await handle.start_child(late.child(2, backoff=two))
        await trio.sleep(1)
        assert heard.take() == [
            "0 ChildStarting top/db #1",
            "1 ChildStartFailed top/db #1 Boom() none",
            "3 ChildStarting top/db #2",
            "4 ChildStarted top/db #2",
        ]
        info = handle.child("db")
        assert (info.restarts, info.incarnation) == (0, 2)


@pytest.mark.parametrize(("attempts", "of"), [(3, " of 3"), (math.inf, "")])
@story
async def test_the_log_has_when_a_start_is_tried_again_and_which_try_that_is(
    attempts: float, of: str, caplog: pytest.LogCaptureFixture
) -> None:
    late = Late(Boom("one"), Boom("two"))
    async with open_system([late.child(attempts, backoff=two)], name="top"):
        pass
    assert [(one.levelname, one.getMessage()) for one in caplog.records if one.levelno > 20] == [
        ("ERROR", "top/db failed to start: Boom: one"),
        ("WARNING", f"top/db is started again in 2 s (attempt 2{of})"),
        ("ERROR", "top/db failed to start: Boom: two"),
        ("WARNING", f"top/db is started again in 4 s (attempt 3{of})"),
    ]


@story
async def test_between_two_tries_a_child_is_starting_in_the_tick_of_its_failure_as_well() -> None:
    late, seen = Late(Boom()), set[str]()

    async def look(handle: SystemHandle) -> None:
        await trio.sleep(1)
        for _ in range(20):
            seen.add(handle.child("db").status)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:

        async def system(scope: Scope) -> None:
            nursery.start_soon(look, scope.system)
            await scope.start(late.child(2, backoff=two))

        async with open_system(system):
            assert seen == {"starting"}


# Stops, cancellations and other callers in the pause


@pytest.mark.parametrize("beside", [0, 1])
@story
async def test_a_stop_interrupts_the_pause_of_a_boot(beside: int) -> None:
    late, others = Late(Boom()), [Actor(Record(), "b").child()] * beside
    seen: list[str] = []

    async def system(scope: Scope) -> None:
        child = late.child(2, backoff=lambda state: 100.0)
        try:
            await (scope.start_together(*others, child) if others else scope.start(child))
        except Interrupted:
            seen.append(f"interrupted at {trio.current_time():g}")
            raise

    with trio.move_on_after(5):
        async with open_system(system):
            seen.append("never")
    assert (seen, trio.current_time()) == (["interrupted at 5"], 5)


@story
async def test_a_system_that_gives_up_the_pause_takes_the_start_back() -> None:
    late, b = Late(Boom(), Boom()), Actor(Record(), "db")

    async def system(scope: Scope) -> None:
        with trio.move_on_after(5):
            await scope.start(late.child(2, backoff=lambda state: 100.0))
        assert await scope.start(b.child()) == "db#1"

    async with open_system(system) as handle:
        await trio.sleep(1000)
        assert (handle.child("db").value, late.record.order) == ("db#1", "!")


@story
async def test_a_pause_is_starting_for_all_who_ask() -> None:
    late = Late(Boom())
    async with open_system([], name="top") as handle, trio.open_nursery() as nursery:
        child = late.child(2, backoff=lambda state: 10.0)
        nursery.start_soon(handle.start_child, child)
        await trio.sleep(2)
        assert handle.child("db").status == "starting"
        with pytest.raises(ChildAlreadyStarted, match="starting"):
            await handle.start_child(child)
        with pytest.raises(ChildRunning, match="starting"):
            await handle.restart_child("db")
        with pytest.raises(ChildRunning, match="starting"):
            await handle.delete_child("db")
        assert await handle.child("db").wait_started() == "up"
        assert trio.current_time() == 12


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("how", ["terminate", "cancel", "stop"])
@story
async def test_a_pause_that_ends_early_leaves_nothing(how: str, dynamic: bool) -> None:
    late, record = Late(Boom()), Record()

    async def calls() -> None:
        try:
            await handle.start_child(late.child(2, backoff=lambda state: 10.0))
        except (Interrupted, SupervisorStopped, trio.Cancelled) as error:
            record(type(error).__name__)
            raise

    async def ask() -> None:
        with pytest.RaisesGroup(Interrupted, allow_unwrapped=True), trio.CancelScope():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(calls)
                await trio.sleep(2)
                if how == "terminate":
                    await handle.terminate_child("db")
                elif how == "stop":
                    await handle.stop()
                else:
                    nursery.cancel_scope.cancel()
                    raise Interrupted

    supervisor = DynamicSupervisor(max_running=1) if dynamic else SystemSupervisor([])
    async with open_system(supervisor) as handle:
        await ask()
        if how != "stop":
            assert handle.which_children() == []
            assert (await handle.start_child(Late().child(1))).value == "up"
        await trio.sleep(100)
    assert (late.record.order, record.facts) == (
        "!",
        [(2, "Cancelled" if how == "cancel" else "Interrupted")],
    )


@story
async def test_a_pause_that_is_over_while_a_stop_is_under_way_is_followed_by_nothing() -> None:
    late, record = Late(Boom()), Record()
    slow = Actor(record, "slow", cleanup=9)

    async def system(scope: Scope) -> None:
        try:
            await scope.start_together(late.child(2, backoff=lambda state: 3.0), slow.child())
        finally:
            record("let go of what they use")

    with trio.move_on_after(2):
        async with open_system(system):
            pass
    assert trio.current_time() == 2 + 9
    assert late.record.facts == [(1, "!")]
    assert record.facts == [(0, "+slow1"), (11, "-slow1"), (11, "let go of what they use")]


@pytest.mark.parametrize("over", ["start", "pause"])
@story
async def test_a_try_that_was_given_up_before_its_supervisor_got_to_it_is_not_made(
    over: str,
) -> None:
    late, record = Late(Boom()), Record()
    at, until = (0.5, 5.5) if over == "start" else (1.5, 6.5)
    async with (
        open_system([busy(record)], strategy="one_for_one") as handle,
        trio.open_nursery() as nursery,
    ):
        desk = Desk(record, nursery)
        child = late.child(2, backoff=lambda state: 2.0)
        calling = desk.call("start", handle.start_child, child)
        await trio.sleep(at)
        desk.call("terminate", handle.terminate_child, "busy")
        await trio.sleep(2)
        calling.cancel()
        await trio.sleep(99)
        told = [(0, "hook"), (at + 2, "start:cancelled"), (until, "terminate:ok")]
        assert (late.record.facts, record.facts) == ([(1, "!")], told)
        assert listed(handle) == "busy=stopped"


@story
async def test_a_replay_that_tries_it_in_vain_leaves_the_pause_as_it_was() -> None:
    late = Late(Boom(), Boom())
    child = late.child(3, backoff=lambda state: 10.0)
    declared: list[Child[Any]] = []

    async def system(scope: Scope) -> None:
        for one in declared:
            await scope.start(one)

    async with (
        open_system(system, strategy="one_for_one", breaker=NeverRestart()) as handle,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(handle.start_child, child)
        await trio.sleep(2)
        declared.append(child)
        with pytest.raises(ChildFailure):
            await handle.replay()
        assert handle.child("db").status == "starting"
        await trio.sleep(99)
        assert late.record.facts == [(1, "!"), (3, "!"), (12, "+")]


@story
async def test_a_replay_that_tries_it_after_a_change_makes_a_restart_of_the_pause() -> None:
    late, record = Late(Boom(), Boom()), Record()
    child = late.child(3, backoff=lambda state: 10.0)
    declared: list[Child[Any]] = []

    async def system(scope: Scope) -> None:
        for one in declared:
            await scope.start(one)

    async with (
        open_system(system, strategy="one_for_one", breaker=Ledger(record)) as handle,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("start", handle.start_child, child)
        await trio.sleep(2)
        declared += [Child("new", trio.sleep_forever), child]
        with pytest.raises(ChildFailure):
            await handle.replay()
        await trio.sleep(99)
        assert late.record.facts == [(1, "!"), (3, "!"), (14, "+")]
        assert record.facts == [(3, "?db"), (14, "start:ok")]


@story
async def test_the_pause_keeps_a_place_of_max_running() -> None:
    late, record = Late(Boom(), Boom()), Record()
    b = Actor(record, "b")
    async with (
        open_system(DynamicSupervisor(max_running=1)) as pool,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(pool.start_child, late.child(9, backoff=two))
        await trio.sleep(0.5)
        nursery.start_soon(pool.start_child, b.child())
        await trio.sleep(20)
        assert [info.status for info in pool.which_children()] == ["running", "waiting"]
        assert late.record.facts == [(1, "!"), (4, "!"), (9, "+")]
        await pool.terminate_child("db")
        await trio.sleep(1)
        assert record.order == "+b1"
        await pool.terminate_child("b")


@story
async def test_a_place_that_was_kept_in_vain_is_given_to_the_next() -> None:
    late, record = Late(Boom(), Boom()), Record()
    b = Actor(record, "b")
    pool_of_one = DynamicSupervisor(max_running=1)
    async with open_system(pool_of_one) as pool, trio.open_nursery() as nursery:

        async def fails() -> None:
            with pytest.raises(ChildFailure):
                await pool.start_child(late.child(2, backoff=two))
            record("failed")

        nursery.start_soon(fails)
        await trio.sleep(0.5)
        await pool.start_child(b.child())
        await trio.sleep(1)
        assert sorted(record.facts) == [(4, "+b1"), (4, "failed")]


# What it is not


@story
async def test_a_restart_is_tried_once_for_each_answer_of_the_breaker() -> None:
    a = Actor(Record(), "a", STAYS, [no_start], STAYS)
    with pytest.raises(Exception, match="was restarted 1 time"):
        async with open_system([a.child(start_attempts=9)], breaker=OnlyOnce) as _:
            a.die(Boom())
            await trio.sleep_forever()


class OnlyOnce:
    """A breaker that lets one restart pass."""

    def __init__(self) -> None:
        self.asked = 0

    def may_restart(self, key: str, now: float) -> bool:
        self.asked += 1
        return self.asked == 1


@story
async def test_a_restart_by_call_is_tried_once() -> None:
    a = Actor(Record(), "a", STAYS, [no_start], STAYS)
    async with open_system([a.child(start_attempts=9)], strategy="one_for_one") as handle:
        await handle.terminate_child("a")
        with pytest.raises(ChildFailure):
            await handle.restart_child("a")
        assert a.record.order == "+a1 -a1 !a2"


@pytest.mark.parametrize(
    ("attempts", "options", "error"),
    [
        (0, {}, ValueError),
        (-1, {}, ValueError),
        (1.5, {}, TypeError),
        (math.nan, {}, (TypeError, ValueError)),
        ("2", {}, TypeError),
        (True, {}, TypeError),
        (math.inf, {}, ValueError),
    ],
)
def test_bad_values_are_refused(attempts: Any, options: Any, error: Any) -> None:
    with pytest.raises(error, match="start_attempts"):
        Child("a", trio.sleep_forever, start_attempts=attempts, **options)


def test_the_tries_of_a_child_are_one_of_its_options() -> None:
    child = Child("a", trio.sleep_forever, start_attempts=4)
    assert (child.start_attempts, Child("a", trio.sleep_forever).start_attempts) == (4, 1)
    assert child != Child("a", trio.sleep_forever)


@story
async def test_a_failing_system_function_is_not_tried_again_by_itself() -> None:
    runs = Record()

    async def system(scope: Scope) -> None:
        runs("run")
        raise KeyError

    with pytest.raises(NonChildFailure):
        async with open_system(system):
            pass
    assert runs.order == "run"
