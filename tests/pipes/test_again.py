"""A pipeline that is started again: as the same one, as another one, or after it was forgotten."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from pipelines import counting, letters
from spry_py import (
    Child,
    DynamicSupervisor,
    Normal,
    Scope,
    Strategy,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py.pipes import DeadLetter, Pipe, Stage, Worker, pipeline
from stories import Boom, Record, story

Make = Callable[[str], SystemSupervisor]
Act = Callable[[SystemHandle], Awaitable[object]]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of items on their way."""
    words = ("lost", "dead letter")
    return [text for text in map(_text, caplog.records) if any(word in text for word in words)]


def _text(record: Any) -> str:
    return str(record.getMessage())


class Plan:
    """A system that declares a pipeline with the value of another child in it, made each time."""

    def __init__(self, make: Make, strategy: Strategy = "rest_for_one") -> None:
        self.make = make
        self.values = 0
        self.crash = trio.Event()
        self.tree = SystemSupervisor(self, name="shop", strategy=strategy)

    async def __call__(self, scope: Scope) -> None:
        value = await scope.start(Child("db", self.db))
        await scope.start(Child("line", self.make(value), restart="transient"))

    async def db(self, *, task_status: trio.TaskStatus[str]) -> None:
        self.values += 1
        task_status.started(f"c{self.values}")
        await self.crash.wait()
        self.crash = trio.Event()
        raise Boom


# The same pipeline


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_made_in_its_system_it_goes_on_with_the_new_values(strategy: Strategy) -> None:
    stored: list[tuple[str, int]] = []

    async def store(connection: str, item: int) -> None:
        await trio.sleep(2)
        stored.append((connection, item))

    def make(connection: str) -> SystemSupervisor:
        end = Stage("store", partial(store, connection), capacity=3, shutdown=0)
        return pipeline(Worker("source", counting(6)), end)

    plan = Plan(make, strategy)
    async with open_system(plan.tree) as tree:
        await trio.sleep(5)
        plan.crash.set()
        await tree.child("line").wait()
    assert stored == [("c1", 1), ("c1", 2), *[("c2", item) for item in (3, 4, 5, 6)]]


@story
async def test_what_waits_goes_by_the_new_rules() -> None:
    deliveries: list[tuple[str, int]] = []
    old, take_old = letters()
    new, take_new = letters()

    def make(value: str) -> SystemSupervisor:
        async def work(item: int) -> None:
            deliveries.append((value, item))
            if item == 2:
                await trio.sleep_forever()

        first = value == "c1"
        rules: Any = {"max_deliveries": 9} if first else {"on_crash": "forward"}
        stage = Stage("work", work, capacity=2, shutdown=0, run_timeout=1000, **rules)
        return pipeline(Worker("source", counting(4)), stage, dead_letters=old if first else new)

    plan = Plan(make)
    async with open_system(plan.tree) as tree:
        await trio.sleep(5)
        plan.crash.set()
        await tree.child("line").wait()
    assert deliveries == [("c1", 1), ("c1", 2), ("c2", 3), ("c2", 4)]
    assert (take_old(), take_new()) == ([], [DeadLetter(2, "work", "shop/line/work", 1, None)])


@story
async def test_a_reload_with_another_function_loses_nothing() -> None:
    done: list[str] = []
    word = "old"

    async def work(name: str, item: int) -> None:
        await trio.sleep(1)
        done.append(f"{name} {item}")

    async def system(scope: Scope) -> None:
        stage = Stage("work", partial(work, word), capacity=9, shutdown=0)
        line = pipeline(Worker("source", counting(4)), stage)
        await scope.start(Child("line", line, restart="transient"))

    async with open_system(system, name="shop") as tree:
        await trio.sleep(2.5)
        word = "new"
        await tree.replay()
        await tree.child("line").wait()
    assert done == ["old 1", "old 2", "new 3", "new 4"]


@story
async def test_a_reload_leaves_an_unchanged_pipeline_alone() -> None:
    async def system(scope: Scope) -> None:
        value = await scope.start(Child("db", connect))
        line = pipeline(
            Worker("source", partial(count_to, 3)), Stage("end", partial(store, value), capacity=9)
        )
        await scope.start(Child("line", line, restart="transient"))

    async with open_system(system, name="shop") as tree:
        await trio.sleep(0.5)
        await tree.replay()
        assert [info.incarnation for info in tree.which_children()] == [1, 1]
        await tree.child("line").wait()


async def connect(*, task_status: trio.TaskStatus[str]) -> None:
    task_status.started("connection")
    await trio.sleep_forever()


async def count_to(last: int, pipe: Pipe[Any, int]) -> None:
    await counting(last)(pipe)


async def store(connection: str, item: int) -> None:
    await trio.sleep(1)


@pytest.mark.parametrize("how", ["worker", "pipeline"])
@story
async def test_a_replay_of_the_pipeline_itself_changes_nothing(how: str) -> None:
    record = Record()

    async def work(item: int) -> None:
        record(f"<{item}")
        await trio.sleep(10)
        record(f"{item}>")

    line = pipeline(Worker("source", counting(3)), Stage("work", work, capacity=3))
    async with open_system([Child("line", line, restart="transient")], name="shop") as tree:
        await trio.sleep(5)
        if how == "worker":
            await tree.child("line").value.restart_child("source")
        await tree.child("line").value.replay()
        await tree.child("line").wait()
    assert record.order == "<1 1> <2 2> <3 3>"


@story
async def test_a_worker_that_is_done_is_not_started_by_the_next_incarnation() -> None:
    record = Record()

    def make(value: str) -> SystemSupervisor:
        async def source(pipe: Pipe[Any, int]) -> None:
            record(f"source {value}")
            await counting(2)(pipe)

        async def work(item: int) -> None:
            record(f"{value}<{item}")
            await trio.sleep(10)

        return pipeline(Worker("source", source), Stage("work", work, capacity=2, shutdown=0))

    plan = Plan(make)
    async with open_system(plan.tree) as tree:
        await trio.sleep(5)
        plan.crash.set()
        report = await tree.child("line").wait()
    assert report.reason == Normal()
    assert record.order == "source c1 c1<1 c2<1 c2<2"


# Another pipeline


CHANGES: dict[str, dict[str, Any]] = {
    "key": {"key": "other"},
    "class": {"kind": Worker},
    "workers": {"workers": 2},
    "capacity": {"capacity": 6},
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("room", [0, 2, 9])
@story
async def test_another_shape_gives_what_is_on_its_way_to_the_old_dead_letters(
    what: str, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    old, dead = trio.open_memory_channel[DeadLetter](room)
    new, take_new = letters()
    begun: list[tuple[str, int]] = []

    def make(value: str) -> SystemSupervisor:
        async def work(item: int) -> None:
            begun.append((value, item))
            await trio.sleep(10)

        async def take(pipe: Pipe[int, Any]) -> None:
            async for item in pipe:
                await work(item)

        first = value == "c1"
        change = {} if first else CHANGES[what]
        kind = change.get("kind", Stage)
        options = {"workers": 1, "capacity": 3, "key": "work"} | change
        options.pop("kind", None)
        stage = kind(options.pop("key"), take if kind is Worker else work, shutdown=0, **options)
        source = Worker("source", counting(9))
        return pipeline(source, stage, dead_letters=old if first else new)

    plan = Plan(make)
    async with open_system(plan.tree):
        await trio.sleep(15)
        plan.crash.set()
        await trio.sleep(1)
        on_their_way = [
            DeadLetter(2, "work", "shop/line/work", 1, None),
            *[DeadLetter(item, "work", None, 0, None) for item in (3, 4, 5)],
        ]
        found = []
        while dead.statistics().current_buffer_used:
            found.append(dead.receive_nowait())
        assert (found, take_new()) == (on_their_way[:room], [])
    assert begun[:3] == [("c1", 1), ("c1", 2), ("c2", 1)]
    lost = max(0, 4 - room)
    whole = "shop/line is another pipeline now"
    assert told(caplog) == [
        *([f"{whole}: {min(room, 4)} items are dead letters now"] if room else []),
        *([f"{whole}: {lost} items of the former one are lost"] if lost else []),
    ]


@story
async def test_what_was_decided_of_an_item_is_what_goes_to_the_dead_letters() -> None:
    old, take = letters()
    error = Boom("at 1")

    def make(value: str) -> SystemSupervisor:
        async def source(pipe: Pipe[Any, int]) -> None:
            if value == "c1":
                await counting(2)(pipe)

        async def split(pipe: Pipe[int, str]) -> None:
            async for item in pipe:
                if item == 1:
                    raise error
                pipe.replace("2a", "2b", "2c")

        async def hold(pipe: Pipe[str, Any]) -> None:
            async for _ in pipe:
                await trio.sleep_forever()

        return pipeline(
            Worker("source", source),
            Worker("split", split, max_deliveries=1, shutdown=0),
            Worker("hold", hold, capacity=0 if value == "c1" else 1, shutdown=0),
            dead_letters=old,
        )

    plan = Plan(make)
    async with open_system(plan.tree) as tree:
        await trio.sleep(5)
        plan.crash.set()
        await tree.child("line").wait()
    path = "shop/line/split"
    assert take() == [
        DeadLetter(1, "split", path, 1, error),
        DeadLetter("2a", "hold", "shop/line/hold", 1, None),
        DeadLetter("2b", "split", path, 1, None),
        DeadLetter("2c", "split", path, 1, None),
    ]


# Forgotten, or still known


def slow(taken: list[int]) -> SystemSupervisor:
    async def work(item: int) -> None:
        await trio.sleep(1)
        taken.append(item)

    return pipeline(
        Worker("source", counting(3)), Stage("work", work, capacity=9, shutdown=0), name="slow"
    )


@pytest.mark.parametrize("pool", [True, False])
@story
async def test_a_temporary_one_begins_anew(pool: bool, caplog: pytest.LogCaptureFixture) -> None:
    taken: list[int] = []
    child = Child("job", slow(taken), restart="temporary")
    tree = DynamicSupervisor(name="root") if pool else SystemSupervisor([], name="root")
    async with open_system(tree) as root:
        await root.start_child(child)
        await trio.sleep(1.5)
        await root.terminate_child("job")
        assert told(caplog) == ["root/job has ended for good: 2 items are lost"]
        await root.start_child(child)
        await root.child("job").wait()
    assert taken == [1, 1, 2, 3]


@story
async def test_a_temporary_one_begins_anew_with_each_incarnation_of_its_system(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken: list[int] = []
    inner = SystemSupervisor([Child("job", slow(taken), restart="temporary")], name="inner")
    async with open_system([Child("inner", inner)], name="root") as root:
        await trio.sleep(1.5)
        await root.child("inner").restart()
        await root.find("inner/job").wait()
    assert taken == [1, 1, 2, 3]
    assert told(caplog) == ["root/inner/job has ended for good: 2 items are lost"]


async def _terminate(root: SystemHandle) -> None:
    await root.terminate_child("job")


async def _delete(root: SystemHandle) -> None:
    await root.terminate_child("job")
    await root.delete_child("job")


async def _terminate_and_restart(root: SystemHandle) -> None:
    await root.terminate_child("job")
    await root.restart_child("job")


@story
async def test_one_that_stays_known_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[int] = []
    child = Child("job", slow(taken), restart="transient")
    async with open_system([child], name="root") as root:
        await trio.sleep(1.5)
        await _terminate_and_restart(root)
        await root.child("job").wait()
    assert (taken, told(caplog)) == ([1, 2, 3], [])


@pytest.mark.parametrize(
    ("pool", "act"), [(True, _terminate), (False, _delete)], ids=["pool", "deleted"]
)
@story
async def test_one_whose_key_is_forgotten_begins_anew(
    pool: bool, act: Act, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[int] = []
    child = Child("job", slow(taken), restart="transient")
    tree = DynamicSupervisor(name="root") if pool else SystemSupervisor([], name="root")
    async with open_system(tree) as root:
        await root.start_child(child)
        await trio.sleep(1.5)
        await act(root)
        assert told(caplog) == ["root/job has ended for good: 2 items are lost"]
        await root.start_child(child)
        await root.child("job").wait()
    assert taken == [1, 1, 2, 3]


@pytest.mark.parametrize("nested", [False, True])
@story
async def test_one_that_is_declared_no_more_is_forgotten(
    nested: bool, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[int] = []
    child = Child("job", slow(taken), restart="transient")
    inner = Child("inner", SystemSupervisor([child], name="inner"))
    declared = [inner if nested else child]

    async def system(scope: Scope) -> None:
        for child in declared:
            await scope.start(child)

    path = "inner/job" if nested else "job"
    async with open_system(system, name="root") as root:
        await trio.sleep(1.5)
        kept, declared[:] = declared[:], []
        await root.replay()
        assert told(caplog) == [f"root/{path} has ended for good: 2 items are lost"]
        declared[:] = kept
        await root.replay()
        await root.find(path).wait()
    assert taken == [1, 1, 2, 3]


@pytest.mark.parametrize("added", [True, False])
@story
async def test_one_that_the_next_incarnation_of_its_system_does_not_know_is_forgotten(
    added: bool, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[int] = []
    child = Child("job", slow(taken), restart="transient")
    inner: Any = DynamicSupervisor(name="inner") if added else SystemSupervisor([], name="inner")
    async with open_system([Child("inner", inner)], name="root") as root:
        await root.child("inner").value.start_child(child)
        await trio.sleep(1.5)
        await root.child("inner").restart()
        assert told(caplog) == ["root/inner/job has ended for good: 2 items are lost"]
        await root.child("inner").value.start_child(child)
        await root.find("inner/job").wait()
    assert taken == [1, 1, 2, 3]


@story
async def test_replaced_in_a_pool_it_begins_anew() -> None:
    taken: list[int] = []
    child = Child("job", slow(taken), restart="transient")
    async with open_system(DynamicSupervisor(name="pool")) as pool:
        await pool.start_child(child)
        await trio.sleep(1.5)
        await pool.start_child(child, on_conflict="replace")
        await pool.child("job").wait()
    assert taken == [1, 1, 2, 3]


# What is left of it


def pipes_alive() -> int:
    gc.collect()
    gc.collect()
    return sum(type(item) is Pipe for item in gc.get_objects())


@pytest.mark.parametrize("restart", ["temporary", "transient"])
@pytest.mark.parametrize("end", ["finished", "terminated", "failed"])
@story
async def test_nothing_is_left_of_those_that_ended_in_a_pool(
    restart: Any, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "spry_py")  # records hold tracebacks, and these their frames

    async def source(pipe: Pipe[Any, int]) -> None:
        await counting(3)(pipe)
        if end == "terminated":
            await trio.sleep_forever()
        if end == "failed":
            raise Boom

    before = pipes_alive()
    options: Any = {"on_unrecoverable": "discard", "recoverable": lambda error: False}
    line: Any = None
    child: Any = None
    async with open_system(DynamicSupervisor(name="pool")) as pool:
        for number in range(30):
            line = pipeline(Worker("source", source), Stage("end", trio.sleep, capacity=9))
            child = await pool.start_child(Child(f"job-{number}", line, restart=restart, **options))
            await trio.sleep(1)
            if end == "terminated":
                await child.terminate()
            await child.wait()
        del child, line
        await trio.sleep(10)
        assert pool.which_children() == []
        assert pipes_alive() == before


def ours_alive() -> Counter[str]:
    gc.collect()
    gc.collect()
    kinds = (type(item) for item in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if "spry_py" in str(kind.__module__))


@story
async def test_a_thousand_of_them_leave_nothing_at_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "spry_py")
    line = pipeline(Worker("source", counting(2)), Stage("end", str))
    async with open_system(DynamicSupervisor(name="pool")) as pool:
        counts = []
        for number in range(1010):
            restart: Any = "transient" if number % 2 else "temporary"
            child = await pool.start_child(Child(f"job-{number}", line, restart=restart))
            await child.wait()
            if number in (9, 1009):
                await trio.sleep(1000)
                counts.append(ours_alive())
        assert counts[0] == counts[1]


@story
async def test_nothing_is_left_of_one_that_is_done_though_its_key_is_known() -> None:
    before = pipes_alive()
    line = pipeline(Worker("source", counting(3)), Stage("end", trio.sleep))
    async with open_system([Child("line", line, restart="transient")], name="root") as root:
        await root.child("line").wait()
        assert root.child("line").status == "done"
        assert pipes_alive() == before


@story
async def test_stopped_in_its_very_last_moment_it_has_nothing_left_to_do_once() -> None:
    record = Record()

    async def source(pipe: Pipe[Any, int]) -> None:
        record(f"source {current_context().incarnation}")
        await pipe.finish()
        await trio.sleep(10)

    line = pipeline(Worker("source", source, shutdown=0))
    async with open_system([Child("line", line, restart="transient")], name="root") as root:
        await trio.sleep(5)
        with pytest.raises(SupervisorStopped):  # it has ended at once
            await root.child("line").restart()
        record("again")
        await root.restart_child("line")
        await trio.sleep(5)
    assert record.order == "source 1 again source 1"
