"""A child on another machine is as one here: its start, its end, and what is heard of it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
import trio

import faraway
from faraway import RECORD, Broken
from spry_py import (
    Aborted,
    Child,
    ChildFailure,
    Normal,
    SystemSupervisor,
    TerminationReport,
    TooManyRestarts,
    UnrecoverableFailure,
    Unresponsive,
    open_system,
)
from spry_py.aio import task
from spry_py.processes import RemoteFailure
from spry_py.remote import Hold, Host, Lost, Order, RemoteLost, fencing_number, remote
from spry_py.testing import FakeEngine
from stories import story, story_with_threads

LEASE = 30.0
# with what clocks may differ by, and a shutdown of 5 seconds
SURELY_OVER = LEASE * 1.01 + 5


async def end_of(child: Child[object]) -> TerminationReport:
    """How it ends by itself."""
    async with open_system([], name="app") as app:
        return await (await app.start_child(child)).wait()


@story
async def test_children_start_in_order_and_stop_in_reverse_across_machines() -> None:
    async with FakeEngine(nodes=2) as engine:
        keys = "abc"
        children = [Child(key, remote(engine, faraway.serve, key)) for key in keys]
        async with open_system(children) as app:
            assert [app.child(key).value for key in keys] == [f"{key} is up" for key in keys]
            assert {info.kind for info in app.which_children()} == {"remote"}
            await trio.sleep(100)
        assert RECORD == [
            (0, "+a"), (0, "+b"), (0, "+c"), (101, "-c"), (102, "-b"), (103, "-a"),
        ]  # fmt: skip
        reports = [app.child(key).last_report for key in keys]
        assert [(it.reason, it.burden) for it in reports if it is not None] == [
            (Normal(f"{key} is done"), "settling") for key in keys
        ]


@story
async def test_letters_take_time_and_nothing_else() -> None:
    async with FakeEngine(latency=2.0) as engine:
        async with open_system([Child("far", remote(engine, faraway.serve, "far"), shutdown=20)]):
            # the order, the request for a lease, the lease; and the news that it is started
            assert trio.current_time() == 8
            await trio.sleep(12)
        assert RECORD == [(6, "+far"), (23, "-far")]
        assert trio.current_time() == 25


@story
async def test_what_it_returns_is_its_value() -> None:
    async with FakeEngine() as engine:
        child = Child("sum", remote(engine, faraway.add, 2, 3), restart="temporary")
        assert (await end_of(child)).reason == Normal(5)


@story
async def test_what_it_raises_is_the_same_exception_with_its_traceback_as_a_note() -> None:
    async with FakeEngine() as engine:
        child = Child("far", remote(engine, faraway.break_after, 7), restart="temporary")
        report = await end_of(child)
    error = report.exception
    assert type(error) is Broken
    assert error.args == ("it broke", 7)
    (told,) = error.__notes__
    assert told.startswith("on node-1:\nTraceback")
    assert "in break_after" in told
    assert (report.lifetime, report.burden) == (7, "none")


@story
async def test_what_cannot_be_sent_is_named() -> None:
    async with FakeEngine() as engine:
        with pytest.raises(TypeError, match="remote: start and its arguments must be picklable"):
            remote(engine, lambda: None)
        start = remote(engine, faraway.keep_secret)
        with pytest.raises(ChildFailure) as failure:
            await end_of(Child("far", start))
        assert type(failure.value.__cause__) is TypeError
        assert "the started value <function" in str(failure.value.__cause__)
        report = await end_of(
            Child("far", remote(engine, faraway.raise_secret), restart="temporary")
        )
        assert type(report.exception) is RemoteFailure
        assert str(report.exception) == "Secretive: secret"


@story
async def test_a_start_that_fails_there_fails_here() -> None:
    async with FakeEngine(latency=1) as engine:
        with pytest.raises(ChildFailure, match="app/far") as failure:
            await end_of(Child("far", remote(engine, faraway.break_at_start)))
        assert type(failure.value.__cause__) is Broken


@story
async def test_a_started_value_that_cannot_be_read_here_is_a_failed_start() -> None:
    async with FakeEngine() as engine:
        with pytest.raises(ChildFailure) as failure:
            await end_of(Child("far", remote(engine, faraway.start_with_what_cannot_be_read)))
        assert type(failure.value.__cause__) is Broken
        assert RECORD == [(0, "+"), (0, "-")]


@story
async def test_ignore_leaves_it_out() -> None:
    async with (
        FakeEngine() as engine,
        open_system([Child("far", remote(engine, faraway.leave_out))]) as app,
    ):
        assert app.child("far").status == "ignored"


@story
async def test_unrecoverable_is_heeded() -> None:
    async with FakeEngine() as engine:
        with pytest.raises(UnrecoverableFailure, match="do not restart me"):
            async with open_system([Child("far", remote(engine, faraway.give_up))]):
                await trio.sleep(100)


@story
async def test_a_program_that_leaves_there_does_not_leave_here() -> None:
    async with FakeEngine() as engine:
        report = await end_of(Child("far", remote(engine, faraway.exit_it), restart="temporary"))
        assert type(report.exception) is RemoteFailure
        assert str(report.exception) == "SystemExit: 3"


@story
async def test_it_is_restarted_and_escalates_as_any_other() -> None:
    async with FakeEngine() as engine:
        child = Child("far", remote(engine, faraway.break_after, 1), backoff=lambda state: 2.0)
        with pytest.raises(TooManyRestarts) as escalation:
            async with open_system([child], strategy="one_for_one"):
                await trio.sleep_forever()
        assert escalation.value.path.endswith("/far")
        assert type(escalation.value.root_cause) is Broken
        # four runs of a second, and three pauses
        assert trio.current_time() == 10


@story
@pytest.mark.parametrize("host", ["own", "shared"])
async def test_its_shutdown_seconds_are_counted_here(host: Host) -> None:
    async with FakeEngine() as engine:
        start = remote(engine, faraway.slow_to_settle, "far", host=host)
        async with open_system([Child("far", start, shutdown=7)]) as app:
            await trio.sleep(3)
        report = app.child("far").last_report
        assert report is not None
        assert (report.reason, report.burden) == (Aborted(), "aborted")
        assert RECORD == [(10, "-far")]


@story
async def test_one_that_does_not_listen_is_cancelled_at_once() -> None:
    async with FakeEngine() as engine:
        async with open_system([Child("far", remote(engine, faraway.deaf, "far"), shutdown=60)]):
            await trio.sleep(3)
        assert RECORD == [(0, "+far"), (3, "-far")]


@story
async def test_a_clean_up_that_fails_is_reported_with_the_burden() -> None:
    async with FakeEngine() as engine:
        async with open_system([Child("far", remote(engine, faraway.break_in_clean_up))]) as app:
            await trio.sleep(3)
        report = app.child("far").last_report
        assert report is not None
        assert type(report.exception) is Broken


@story
async def test_its_heartbeat_is_watched_where_it_is() -> None:
    async with FakeEngine(latency=5) as engine:
        child = Child("far", remote(engine, faraway.beat_for, 10), heartbeat=3, restart="temporary")
        report = await end_of(child)
        assert type(report.exception) is Unresponsive
        assert report.lifetime == 12


@story
async def test_it_can_fail_itself() -> None:
    async with FakeEngine() as engine:
        child = Child("far", remote(engine, faraway.fail_itself), restart="temporary")
        report = await end_of(child)
        assert type(report.exception) is Broken
        assert str(report.exception) == "by itself"


@story
async def test_what_it_logs_is_logged_under_its_path(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        FakeEngine() as engine,
        open_system([Child("far", remote(engine, faraway.talk))], name="app"),
    ):
        await trio.sleep(10)
    (record,) = (it for it in caplog.records if it.name == "spry_py.app.far" and "milk" in it.msg)
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "app/far: out of milk"
    fields = vars(record)
    assert (fields["spry.remote.node"], fields["spry.remote.logger"]) == ("node-1", "shop")


@story_with_threads
async def test_what_it_logs_in_threads_is_logged_under_its_path_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeEngine() as engine, open_system([], name="app") as app:
        for fn in (faraway.talk_in_a_thread, task(faraway.talk_in_asyncio)):
            child = await app.start_child(Child("far", remote(engine, fn), restart="temporary"))
            await child.wait()
    found = [it.getMessage() for it in caplog.records if it.name == "spry_py.app.far"]
    assert [text for text in found if "milk" in text] == [
        "app/far: out of milk in a thread",
        "app/far: out of milk in asyncio",
    ]


@story
async def test_its_stack_is_to_be_seen() -> None:
    async with (
        FakeEngine() as engine,
        open_system([Child("far", remote(engine, faraway.serve, "far"))]) as app,
    ):
        await trio.sleep(25)
        shown = app.child("far").stack()
    assert "remote remote(serve) on node-1, in a process that it shares" in shown
    assert "as of 5.0 s ago" in shown
    assert "await trio.sleep_forever()" in shown
    assert "faraway.py" in shown


@story
async def test_a_whole_subtree_lives_there() -> None:
    async with FakeEngine() as engine:
        tree = remote(engine, SystemSupervisor(faraway.shelves))
        async with open_system([Child("shelves", tree)]) as app:
            assert app.child("shelves").value is None
            await trio.sleep(10)
        assert RECORD == [(0, "+milk"), (0, "+bread"), (11, "-bread"), (12, "-milk")]


@story
async def test_each_incarnation_has_a_larger_fencing_number() -> None:
    with pytest.raises(RuntimeError, match="outside a remote child"):
        fencing_number()
    async with (
        FakeEngine() as engine,
        open_system([Child("far", remote(engine, faraway.serve, "far"))]) as app,
    ):
        await app.child("far").restart()
        await trio.sleep(10)
        await app.child("far").restart()
        await trio.sleep(10)
    assert len(faraway.FENCES) == 3
    assert sorted(set(faraway.FENCES)) == faraway.FENCES


@story
async def test_a_machine_that_dies_is_noticed_and_its_child_starts_elsewhere() -> None:
    async with FakeEngine(nodes=2) as engine:
        async with open_system([Child("far", remote(engine, faraway.serve, "far"))]) as app:
            await trio.sleep(10)
            engine.crash("node-1")
            await trio.sleep(1)
            report = app.child("far").last_report
            assert report is not None
            assert type(report.exception) is RemoteLost
            assert "its process on node-1 has died" in str(report.exception)
            assert app.child("far").incarnation == 2
        assert [at for at, what in RECORD if what == "+far"] == [0, 10]


@story
async def test_a_machine_that_dies_unnoticed_is_given_up_when_its_lease_has_run_out() -> None:
    async with (
        FakeEngine(nodes=2) as engine,
        open_system([Child("far", remote(engine, faraway.serve, "far"))]) as app,
    ):
        await trio.sleep(15)
        engine.crash("node-1", is_noticed=False)
        # the last beat came at 10
        await app.child("far").wait_incarnation(2)
        assert trio.current_time() == 10 + SURELY_OVER
        report = app.child("far").last_report
        assert report is not None
        assert "its lease of 30 s has run out" in str(report.exception)


@story
@pytest.mark.parametrize("host", ["own", "shared"])
async def test_a_side_that_is_alone_ends_what_it_does_before_the_other_begins_anew(
    host: Host,
) -> None:
    engine = FakeEngine(partition=[(15, 200)], nodes=2)
    async with engine:
        start = remote(engine, faraway.serve, "far", host=host)
        async with open_system([Child("far", start)]) as app:
            await trio.sleep(150)
            assert app.child("far").status == "starting"
            await trio.sleep(150)
        assert RECORD[:3] == [(0, "+far"), (40, "-far"), (RECORD[2][0], "+far")]
        assert 200 <= RECORD[2][0] <= 201


@story
async def test_a_shared_process_leaves_with_all_if_one_outlives_its_lease() -> None:
    async with FakeEngine() as engine:
        held = Child("held", remote(engine, faraway.stubborn, "held", 1000.0, lease=9.0))
        other = Child("other", remote(engine, faraway.serve, "other"))
        async with open_system([held, other], strategy="one_for_one") as app:
            await trio.sleep(10.5)
            await app.child("held").terminate()
            # aborted at 15.5, renewed last at 15: the lease ends at 24, and 5 more are its shutdown
            assert trio.current_time() == 29
            await trio.sleep(1)
            report = app.child("other").last_report
            assert report is not None
            assert type(report.exception) is RemoteLost


@story
async def test_a_stop_during_the_placing_starts_nothing() -> None:
    async with FakeEngine(latency=10) as engine:
        with trio.move_on_after(15):
            async with open_system([Child("far", remote(engine, faraway.serve, "far"))]):
                raise AssertionError("it was started")
        await trio.sleep(200)
        assert RECORD == []


@story
async def test_a_start_that_comes_to_nothing_has_its_limit() -> None:
    async with FakeEngine(partition=[(0, 1000)]) as engine:
        child = Child("far", remote(engine, faraway.serve, "far"), start_timeout=20)
        with pytest.raises(ChildFailure, match="not started within 20 s"):
            await end_of(child)
        assert trio.current_time() == 20


@story
async def test_bad_values_are_refused_where_they_are_written() -> None:
    engine = FakeEngine()
    anything: Any = remote
    with pytest.raises(ValueError, match="remote: host must be one of 'own', 'shared', not 'mine'"):
        anything(engine, faraway.add, 1, 2, host="mine")
    with pytest.raises(ValueError, match="remote: lease must be more than 0 and finite"):
        anything(engine, faraway.add, 1, 2, lease=0)
    with pytest.raises(TypeError, match="remote: resources must be a mapping"):
        anything(engine, faraway.add, 1, 2, resources=3)
    with pytest.raises(TypeError, match="takes no arguments"):
        anything(engine, SystemSupervisor(faraway.shelves), 3)
    with pytest.raises(TypeError, match="remote: engine must be an engine, as the started value"):
        anything(gateway_of_some_kind, faraway.add, 1, 2)
    with pytest.raises(ValueError, match="FakeEngine: loss must be a share"):
        FakeEngine(loss=2)


async def gateway_of_some_kind(*, task_status: trio.TaskStatus[FakeEngine]) -> None: ...


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"latency": "1"}, TypeError, "FakeEngine: latency must be a number of seconds, not '1'"),
        ({"latency": (1, 2, 3)}, TypeError, "FakeEngine: latency must be seconds, or a pair of"),
        ({"latency": (2, 1)}, ValueError, "FakeEngine: latency must be finite, the lower bound fi"),
        ({"loss": -0.1}, ValueError, "FakeEngine: loss must be"),
        ({"duplicates": 1.1}, ValueError, "FakeEngine: duplicates must be a share from 0 to 1"),
        ({"partition": (60, 120)}, TypeError, "FakeEngine: partition must be pairs of times, and "),
        ({"partition": [(1, 2, 3)]}, TypeError, "FakeEngine: partition must be pairs of times, an"),
        ({"partition": [(2, 1)]}, ValueError, "FakeEngine: partition must be pairs of times, the "),
        (
            {"partition": 7},
            TypeError,
            "FakeEngine: partition must be pairs of times, and 7 is none",
        ),
        ({"seed": 1.5}, TypeError, "FakeEngine: seed must be an int, not 1.5"),
        ({"nodes": 0}, ValueError, "FakeEngine: nodes must be"),
    ],
)
def test_a_network_that_cannot_be_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as refused:
        FakeEngine(**options)
    assert text in str(refused.value)


@story
async def test_a_function_of_the_main_program_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def only_here() -> None: ...

    only_here.__module__, only_here.__qualname__ = "__main__", "only_here"
    monkeypatch.setattr(sys.modules["__main__"], "only_here", only_here, raising=False)
    async with FakeEngine() as engine:
        start = remote(engine, only_here)
        # as it is in the process of another program
        monkeypatch.delattr(sys.modules["__main__"], "only_here")
        with pytest.raises(ChildFailure) as failure:
            await end_of(Child("far", start))
    cause = failure.value.__cause__
    assert type(cause) is AttributeError
    assert cause.__notes__[0] == (
        "the function and the arguments of 'app/far' have to be in modules that can be imported on "
        "node-1, and not in __main__"
    )


@story
async def test_an_engine_is_told_once_that_an_order_is_over() -> None:
    order = Order("1", "far", "app/far", 1, 1, b"", LEASE, "own", {}, 5.0, float("inf"), 30, {})
    ended: list[str] = []
    hold = Hold(order, lambda letter: None, on_end=lambda: ended.append(order.id))
    assert ended == []
    hold.dead("its process has died")
    hold.cut("its machine has gone")
    await hold.kill()
    assert ended == ["1"]
    assert [message async for message in hold.messages] == [Lost("its process has died")]
