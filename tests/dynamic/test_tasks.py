"""Tasks that somebody awaits, after Elixir's Task.Supervisor, by number."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import LISTENS, Actor
from jobs import crash, double, open_desk
from spry_py import (
    Aborted,
    Child,
    ChildNotFound,
    DynamicSupervisor,
    Ignore,
    Interrupted,
    MaxChildrenReached,
    NeverRestart,
    Scope,
    SupervisorStopped,
    cancel_on_settle,
    current_context,
    open_system,
)
from stories import Boom, Record, story


def counts(desk: Any) -> tuple[int, int, int, int]:
    found = desk.count_children()
    return found.specs, found.active, found.supervisors, found.workers


def keys(desk: Any) -> list[str]:
    return [info.key for info in desk.which_children()]


@story
async def test_f01_f03_tasks_run_under_a_child_like_any_other() -> None:
    """Wherever a supervisor stands in a tree, its handle runs tasks under it."""
    said: list[object] = []

    async def user(desk: Any) -> None:
        said.append(await desk.run(double, 2))
        said.append(await desk.run(where))

    async def where() -> str:
        return current_context().path

    async def system(scope: Scope) -> None:
        desk = await scope.start(Child("desk", DynamicSupervisor(name="not its path")))
        await scope.start(Child("user", user, desk, restart="temporary"))

    async with open_system(system, name="top"):
        await trio.sleep(10)
    assert said == [4, "top/desk/task-2"]


@story
async def test_f04_no_tasks_no_children() -> None:
    async with open_desk() as desk:
        assert (counts(desk), keys(desk)) == ((0, 0, 0, 0), [])


@story
async def test_f05_f10_a_task_is_a_child_until_it_ends() -> None:
    record = Record()

    async def job() -> str:
        record(f"counts {counts(desk)}")
        await trio.sleep(1)
        return "value"

    async with open_desk() as desk:
        record(await desk.run(job))
        record(f"counts {counts(desk)}")
    assert record.facts == [
        (0, "counts (1, 1, 0, 1)"),
        (1, "value"),
        (1, "counts (0, 0, 0, 0)"),
    ]


@story
async def test_f06_f11_stopping_the_supervisor_stops_its_tasks() -> None:
    """One that listens has the time of any child; what it then returns is its value."""
    record = Record()

    async def listens() -> str:
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(3)
        return "settled"

    async def caller(desk: Any, job: Any) -> None:
        try:
            record(await desk.run(job))
        except Interrupted as error:
            record(str(error))

    async with trio.open_nursery() as nursery, open_desk() as desk:
        nursery.start_soon(caller, desk, trio.sleep_forever)
        await trio.sleep(1)
        nursery.start_soon(caller, desk, listens)
        await trio.sleep(1)
    assert record.facts == [
        (2, "the task 'desk/task-1' was stopped before it had a value"),
        (5, "settled"),
    ]


@story
async def test_f07_f12_no_more_tasks_than_children_are_allowed() -> None:
    record = Record()
    async with open_desk(max_children=1) as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.run, trio.sleep, 2)
        await trio.sleep(1)
        with pytest.raises(MaxChildrenReached):
            await desk.run(double, 1)
        record(f"left {keys(desk)}")
        await trio.sleep(2)
        record(str(await desk.run(double, 1)))
    assert record.facts == [(1, "left ['task-1']"), (4, "2")]


@story
async def test_f08_a_task_knows_who_supervises_it() -> None:
    async def where() -> list[str]:
        return [current_context().path]

    async def nested() -> list[str]:
        return [current_context().path, *await desk.run(where)]

    async with open_desk() as desk:
        assert await desk.run(nested) == ["desk/task-1", "desk/task-2"]


@story
async def test_f09_f13_arguments_are_handed_on() -> None:
    async def job(*args: object) -> tuple[object, ...]:
        return args

    class Worker:
        async def job(self, one: int) -> tuple[object, ...]:
            return (self, one)

    worker = Worker()
    async with open_desk() as desk:
        assert await desk.run(job) == ()
        assert await desk.run(job, 1, "two", None) == (1, "two", None)
        assert await desk.run(worker.job, 1) == (worker, 1)


@story
async def test_f14_f15_started_as_a_child_nobody_waits_for_it() -> None:
    """Fire and forget: neither the end of its starter nor its own crash reaches anybody."""
    record = Record()

    async def job() -> None:
        await trio.sleep(2)
        record("ran to its end")
        raise Boom

    async def starter(desk: Any) -> None:
        await desk.start_child(Child("job", job, restart="temporary"))
        record("starter ends")

    async with open_desk(breaker=NeverRestart()) as desk:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(starter, desk)
        await trio.sleep(5)
        record(desk.status)
    assert record.facts == [(0, "starter ends"), (2, "ran to its end"), (5, "running")]


@story
async def test_f16_a_child_that_is_started_has_its_own_shutdown() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    b = Actor(record, "b", LISTENS, cleanup=4)
    async with open_desk() as desk:
        await desk.start_child(a.child(restart="temporary", shutdown=1))
        job = await desk.start_child(b.child(restart="temporary", shutdown=0))
        await trio.sleep(1)
    assert sorted(record.facts) == [(0, "+a1"), (0, "+b1"), (4, "-a1"), (5, "-b1")]
    assert job.last_report is not None
    assert (job.last_report.reason, job.last_report.burden) == (Aborted(), "aborted")


@story
async def test_f17_a_permanent_one_runs_again() -> None:
    record = Record()

    async def job() -> None:
        record(f"run {current_context().incarnation}")
        await trio.sleep(2)

    async with open_desk() as desk:
        await desk.start_child(Child("job", job))
        await trio.sleep(5)
    assert record.facts == [(0, "run 1"), (2, "run 2"), (4, "run 3")]


@story
async def test_f19_a_task_can_be_terminated_by_its_key() -> None:
    """Whoever waits for it is told; a second time there is nothing to terminate."""
    record = Record()

    async def caller(desk: Any) -> None:
        with pytest.raises(Interrupted):
            await desk.run(trio.sleep_forever)
        record("interrupted")

    async with open_desk() as desk, trio.open_nursery() as nursery:
        nursery.start_soon(caller, desk)
        await trio.sleep(1)
        (key,) = keys(desk)
        await desk.terminate_child(key)
        record(f"left {keys(desk)}")
        with pytest.raises(ChildNotFound):
            await desk.terminate_child(key)
    assert sorted(record.facts) == [(1, "interrupted"), (1, "left []")]


@story
async def test_f20_giving_up_waiting_takes_the_task_along() -> None:
    """It ends in its own time, and only then is the caller let go."""
    record = Record()
    job = Actor(record, "a", cleanup=2)
    async with open_desk() as desk:
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(1):
                await desk.run(job)
        record(f"left {keys(desk)}")
    assert record.facts == [(0, "+a1"), (3, "-a1"), (3, "left []")]


@story
async def test_f20_with_no_time_at_all_nothing_is_left() -> None:
    record = Record()
    async with open_desk() as desk:
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0):
                await desk.run(double, 1)
        await trio.testing.wait_all_tasks_blocked()
        record(f"left {keys(desk)}, {await desk.run(double, 1)}")
    assert record.facts == [(1, "left [], 2")]


@pytest.mark.parametrize("takes", [None, 0, 1], ids=["at once", "one checkpoint", "later"])
@pytest.mark.parametrize("error", [Boom("broken"), Ignore(), SupervisorStopped("of another")])
@story
async def test_f21_f22_f23_the_exception_of_a_task_is_raised_where_it_is_awaited(
    error: Exception, takes: float | None
) -> None:
    """The very object, and its crash touches nobody else."""
    async with open_desk(breaker=NeverRestart()) as desk:
        with pytest.raises(type(error)) as raised:
            await desk.run(crash, error, takes)
        assert raised.value is error
        await trio.sleep(1)
        assert (desk.status, keys(desk)) == ("running", [])


@story
async def test_f23_an_exit_ends_the_program_and_interrupts_the_caller() -> None:
    record = Record()
    with pytest.raises(SystemExit) as raised:
        async with open_desk() as desk:
            try:
                await desk.run(crash, SystemExit(3), 1)
            except Interrupted:
                record("interrupted")
            await trio.sleep_forever()
    assert (raised.value.code, record.facts) == (3, [(1, "interrupted")])
