"""The record of a tree: lines that compare well, waiting without polling, silence and order."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio
import trio.testing

from spry_py import AlwaysRestart, Child, DynamicSupervisor, Ignore, NeverRestart, TooManyRestarts
from spry_py.events import (
    ChildAborted,
    ChildSlow,
    ChildStarted,
    ChildStarting,
    ChildTerminated,
    Escalated,
    Event,
    IncidentClosed,
    RestartScheduled,
    SystemStarted,
    SystemStopped,
)
from spry_py.testing import LiveRecord, Record, Script, crash, started
from stories import story, story_with_threads


def crashing(after: float = 1.0) -> Script:
    return Script(["start", after, OSError("gone")], ["start", "wait"])


# Lines


@story
async def test_a_record_has_all_from_the_boot_on_with_times_since_its_beginning() -> None:
    await trio.sleep(100)
    children = [Child("db", crashing()), Child("api", Script([0.5, "start", "wait", 0.25]))]
    async with started(children, name="app") as (handle, record):
        assert handle.path == "app"
        await trio.sleep(2)
    assert record.lines() == [
        "0.00 app/db ChildStarting",
        "0.00 app/db ChildStarted",
        "0.00 app/api ChildStarting",
        "0.50 app/api ChildStarted",
        "0.50 app SystemStarted",
        "1.00 app/db ChildTerminated failed OSError",
        "1.00 app/db IncidentOpened",
        "1.00 app/db RestartScheduled",
        "1.00 app/api ChildSettling",
        "1.25 app/api ChildTerminated normal settling",
        "1.25 app/db ChildStarting #2",
        "1.25 app/db ChildStarted #2",
        "1.25 app/api ChildStarting #2",
        "1.75 app/api ChildStarted #2",
        "1.75 app/db IncidentClosed cured after 0.75",
        "2.50 app SystemTeardown",
        "2.50 app/api ChildSettling #2",
        "2.75 app/api ChildTerminated normal settling",
        "2.75 app/db ChildSettling #2",
        "2.75 app/db ChildTerminated normal settling",
        "2.75 app SystemStopped",
    ]
    assert record.lines(ChildTerminated) == [
        "1.00 app/db ChildTerminated failed OSError",
        "1.25 app/api ChildTerminated normal settling",
        "2.75 app/api ChildTerminated normal settling",
        "2.75 app/db ChildTerminated normal settling",
    ]
    assert record.lines(SystemStarted, SystemStopped) == [
        "0.50 app SystemStarted",
        "2.75 app SystemStopped",
    ]
    assert len(record.events) == len(record.lines())


@story
async def test_lines_say_what_is_not_as_usual() -> None:
    flaky = Script(["start", 3, OSError], [OSError], ["start", "wait"])
    children = [
        Child("slow", Script([12, "start", "wait"])),
        Child("out", Script([Ignore()])),
        Child("done", Script(["start", 1]), restart="transient"),
        Child("flaky", flaky, backoff=tenacity.wait_fixed(0.25)),
        Child("heedless", Script(["start", 60])),
    ]
    async with started(children, name="app", strategy="one_for_one") as (_, record):
        await trio.sleep(5)
    words = [line for line in record.lines() if not line.startswith("0.00")]
    assert words == [
        "10.00 app/slow ChildSlow 10.00",
        "12.00 app/slow ChildStarted",
        "12.00 app/out ChildStarting",
        "12.00 app/out ChildTerminated failed Ignore",
        "12.00 app/done ChildStarting",
        "12.00 app/done ChildStarted",
        "12.00 app/flaky ChildStarting",
        "12.00 app/flaky ChildStarted",
        "12.00 app/heedless ChildStarting",
        "12.00 app/heedless ChildStarted",
        "12.00 app SystemStarted",
        "13.00 app/done ChildTerminated normal",
        "15.00 app/flaky ChildTerminated failed OSError",
        "15.00 app/flaky IncidentOpened",
        "15.00 app/flaky RestartScheduled in 0.25",
        "15.25 app/flaky ChildStarting #2",
        "15.25 app/flaky ChildStartFailed failed OSError",
        "15.25 app/flaky RestartScheduled in 0.25 attempt 2",
        "15.50 app/flaky ChildStarting #3",
        "15.50 app/flaky ChildStarted #3",
        "15.50 app/flaky IncidentClosed cured after 0.50",
        "17.00 app SystemTeardown",
        "17.00 app/heedless ChildAborted",
        "17.00 app/heedless ChildTerminated aborted",
        "17.00 app/flaky ChildSettling #3",
        "17.00 app/flaky ChildTerminated normal settling",
        "17.00 app/slow ChildSettling",
        "17.00 app/slow ChildTerminated normal settling",
        "17.00 app SystemStopped",
    ]
    assert [type(event) for event in record.events].count(ChildSlow) == 1
    assert record.lines(RestartScheduled)[0] == "15.00 app/flaky RestartScheduled in 0.25"


@story
async def test_a_supervisor_that_gives_up_is_told_with_what_it_raises() -> None:
    records: list[LiveRecord] = []
    with pytest.raises(TooManyRestarts):
        async with started([Child("db", crashing())], name="app", breaker=NeverRestart()) as opened:
            records.append(opened[1])
            await trio.sleep_forever()
    assert records[0].lines(ChildTerminated, Escalated) == [
        "1.00 app/db ChildTerminated failed OSError",
        "1.00 app Escalated TooManyRestarts",
    ]


@story
async def test_a_subsystem_aborted_by_its_own_handle_is_no_child_that_was_stopped() -> None:
    children = [Child("pool", DynamicSupervisor(), restart="temporary")]
    async with started(children, name="app") as (handle, record):
        handle.system("pool").abort()
        ended = await record.wait_for(ChildTerminated, "app/pool")
    assert ended.report.burden == "none"
    assert record.lines(ChildTerminated) == ["0.00 app/pool ChildTerminated aborted by itself"]


@pytest.mark.parametrize("kind", [int, "ChildStarted", Exception])
def test_a_kind_is_a_class_of_events(kind: Any) -> None:
    for asked in (Record().lines, lambda kind: Record().assert_order((kind, "app/db"))):
        with pytest.raises(TypeError, match=r"must be a class of spry_py\.events"):
            asked(kind)


# Waiting


@story
async def test_waiting_counts_from_the_beginning_and_returns_the_event() -> None:
    async with started([Child("db", crashing())], name="app") as (_, record):
        first = await record.wait_for(ChildStarted, "app/db")
        assert trio.current_time() == 0
        second = await record.wait_for(ChildStarted, "app/db", count=2)
        assert (trio.current_time(), first.incarnation, second.incarnation) == (1, 1, 2)
        again = await record.wait_for(ChildStarted, count=2)
        assert (trio.current_time(), again) == (1, second)


@story
async def test_on_virtual_time_it_returns_when_the_moment_is_over() -> None:
    children = [Child("db", crashing()), Child("api", Script(["start", "wait"]))]
    async with started(children, name="app") as (_, record):
        await record.wait_for(ChildTerminated, "app/db")
        assert record.lines()[-1] == "1.00 app/db IncidentClosed cured"


@story
async def test_waiting_does_not_see_what_is_about_another_path_or_of_another_kind() -> None:
    children = [Child("a", crashing(1)), Child("b", crashing(3))]
    async with started(children, name="app", strategy="one_for_one") as (_, record):
        await record.wait_for(ChildTerminated, "app/b")
        assert trio.current_time() == 3


@story
async def test_what_happens_in_the_last_moment_is_still_in_time() -> None:
    async with started([Child("db", crashing(10))], name="app") as (_, record):
        await record.wait_for(ChildTerminated, "app/db", within=10)
        assert trio.current_time() == 10


@story
async def test_what_never_comes_fails_with_the_tree_and_the_record() -> None:
    async with started([Child("db", crashing())], name="app") as (_, record):
        with pytest.raises(AssertionError) as failure:
            await record.wait_for(ChildStarted, "app/db", count=3, within=60)
        assert trio.current_time() == 60
        with pytest.raises(AssertionError, match=r"^ChildAborted never came within 10 s\n"):
            await record.wait_for(ChildAborted)
    assert [line.partition("]  ")[0] for line in str(failure.value).splitlines()] == [
        "ChildStarted of 'app/db' came 2 of 3 times within 60 s",
        "the tree:",
        "  app/  [running",
        "    db  [running, 1 restart",
        "the record:",
        "  0.00 app/db ChildStarting",
        "  0.00 app/db ChildStarted",
        "  0.00 app SystemStarted",
        "  1.00 app/db ChildTerminated failed OSError",
        "  1.00 app/db IncidentOpened",
        "  1.00 app/db RestartScheduled",
        "  1.00 app/db ChildStarting #2",
        "  1.00 app/db ChildStarted #2",
        "  1.00 app/db IncidentClosed cured",
    ]


@story
async def test_a_tree_that_has_ended_in_order_is_not_waited_for() -> None:
    async with started([Child("db", crashing())], name="app") as (handle, record):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.stop)
            with pytest.raises(AssertionError, match="ChildStarted of 'app/db' came 1 of 2 times"):
                await record.wait_for(ChildStarted, "app/db", count=2)
        assert trio.current_time() == 0
        with pytest.raises(AssertionError, match="never came"):
            await record.wait_for(ChildTerminated, "app/api")
        assert trio.current_time() == 0


@story
async def test_a_tree_that_fails_comes_out_bare_also_while_it_is_waited_for() -> None:
    records: list[LiveRecord] = []
    with pytest.raises(TooManyRestarts) as failure:
        async with started([Child("db", crashing())], breaker=NeverRestart()) as (_, record):
            records.append(record)
            await record.wait_for(ChildStarted, count=2)
    assert repr(failure.value.root_cause) == "OSError('gone')"
    with pytest.raises(AssertionError, match="ChildAborted never came before the tree ended"):
        await records[0].wait_for(ChildAborted)
    assert trio.current_time() == 1


@story
async def test_a_wait_can_be_cancelled_and_leaves_nothing_behind() -> None:
    async with started([Child("db", crashing(5))], name="app") as (_, record):
        with trio.move_on_after(1) as time:
            await record.wait_for(ChildTerminated)
        assert time.cancelled_caught
        with trio.move_on_after(1) as time:
            await record.expect_silence(60)
        assert time.cancelled_caught
        ended = await record.wait_for(ChildTerminated)
        assert ended.at == 5


@story
async def test_many_may_wait_at_the_same_time() -> None:
    seen: list[tuple[float, int]] = []
    async with started([Child("db", Script(["start", 1]))], breaker=AlwaysRestart()) as (_, record):

        async def wait(count: int) -> None:
            await record.wait_for(ChildTerminated, count=count)
            seen.append((trio.current_time(), count))

        async with trio.open_nursery() as nursery:
            for count in (3, 1, 2):
                nursery.start_soon(wait, count)
    assert seen == [(1, 1), (2, 2), (3, 3)]


class Wakes(trio.abc.Instrument):
    """Counts how often a task has been run."""

    def __init__(self) -> None:
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name == "waiting"


@story
async def test_waiting_does_not_poll() -> None:
    wakes = Wakes()

    async with started([Child("db", crashing(3600))]) as (_, record):

        async def wait() -> None:
            await record.wait_for(ChildTerminated, within=7200)

        trio.lowlevel.add_instrument(wakes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, name="waiting")
        trio.lowlevel.remove_instrument(wakes)
    assert wakes.count <= 5


@story
async def test_each_wait_is_a_checkpoint() -> None:
    async with started([Child("db", crashing())], name="app") as (_, record):
        with trio.testing.assert_checkpoints():
            await record.wait_for(ChildStarted)
        with trio.testing.assert_checkpoints():
            await record.expect_silence(0)


@story
async def test_bad_waits_are_refused() -> None:
    async with started([Child("db", crashing())], name="app") as (_, record):
        with pytest.raises(ValueError, match="a whole path of this tree, such as 'app/db'"):
            await record.wait_for(ChildStarted, "db")
        with pytest.raises(TypeError, match="path must be a str"):
            await record.wait_for(ChildStarted, 7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a kind must be a class"):
            await record.wait_for("ChildStarted")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="count must be an int, 1 or more"):
            await record.wait_for(ChildStarted, count=0)
        with pytest.raises(ValueError, match="within must be 0 or more"):
            await record.wait_for(ChildStarted, within=-1)
        with pytest.raises(ValueError, match="seconds must be 0 or more"):
            await record.expect_silence(-1)


@story_with_threads
async def test_on_real_time_too() -> None:
    async with started([Child("db", crashing(0))], name="app") as (_, record):
        await record.wait_for(ChildStarted, "app/db", count=2)
        with pytest.raises(AssertionError, match="never came"):
            await record.wait_for(ChildAborted, within=0.01)
    assert "".join(record.lines()).count("ChildStarted") == 2


# Silence


@story
async def test_silence_is_silence_of_all_and_ends_before_what_happens_then() -> None:
    async with started([Child("db", crashing(8))], name="app") as (_, record):
        await record.expect_silence(3)
        await record.expect_silence(5)
        assert trio.current_time() == 8
        await record.wait_for(ChildTerminated)


@story
async def test_silence_is_broken_by_the_first_event() -> None:
    async with started([Child("db", crashing(8))], name="app") as (_, record):
        with pytest.raises(AssertionError) as failure:
            await record.expect_silence(9)
        assert trio.current_time() == 8
        first, second, *_ = str(failure.value).splitlines()
        assert first == "not 9 s of silence, but 8.00 app/db ChildTerminated failed OSError"
        assert second == "the tree:"


@story
async def test_what_was_brought_about_before_breaks_the_silence() -> None:
    async with started([Child("db", crashing(8))], name="app") as (handle, record):
        crash(handle, "app/db", OSError("now"))
        with pytest.raises(AssertionError, match=r"not 1 s of silence, but 0\.00 app/db"):
            await record.expect_silence(1)


@story
async def test_that_an_incident_is_closed_does_not_break_the_silence() -> None:
    record = LiveRecord()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(record.expect_silence, 60)
        await trio.sleep(1)
        record.offer(IncidentClosed(1, 1.0, "app/db", "cured", 1.0))
    assert trio.current_time() == 60


@story
async def test_a_tree_that_has_ended_is_silent() -> None:
    async with started([Child("db", crashing())], name="app") as (handle, record):
        await handle.stop()
        await record.expect_silence(60)
        assert trio.current_time() == 60


# Order


@story
async def test_order_is_asserted_by_landmarks() -> None:
    children = [Child("db", crashing()), Child("api", Script(["start", "wait"]))]
    async with started(children, name="app") as (_, record):
        await record.wait_for(ChildStarted, "app/api", count=2)
    record.assert_order()
    record.assert_order(
        SystemStarted,
        (ChildTerminated, "app/db"),
        "app/api  ChildSettling",
        "app/db ChildStarted #2",
        (ChildStarted, "app/api"),
        SystemStopped,
    )
    record.assert_order("1.00 app/db ChildTerminated failed OSError", "app/api")
    with pytest.raises(AssertionError) as failure:
        record.assert_order((ChildStarted, "app/api"), (ChildStarting, "app/api"), "app/a")
    first, second, *_ = str(failure.value).splitlines()
    assert first == "there is no 'app/a' behind ChildStarting of 'app/api'"
    assert second == "the record:"
    with pytest.raises(AssertionError, match=r"^there is no Escalated\n"):
        record.assert_order(Escalated)
    with pytest.raises(AssertionError, match="no SystemStarted behind SystemStopped"):
        record.assert_order(SystemStopped, SystemStarted)


def test_a_long_record_is_drawn_from_its_end() -> None:
    events = [Event(number, number / 4, "app") for number in range(100)]
    lines = Record(events, since=1).drawn().splitlines()
    assert lines[:3] == ["the record:", "  … 40 more before", "  9.00 app Event"]
    assert lines[-1] == "  23.75 app Event"
    assert len(lines) == 62
    assert Record(events, since=1).lines()[0] == "0.00 app Event"


def test_an_empty_record_says_so() -> None:
    assert Record().drawn() == "the record:\n  (nothing)"
    assert repr(Record()) == "<Record of 0 events>"


@story
async def test_a_record_without_a_tree_draws_none() -> None:
    assert LiveRecord().with_record("nothing yet") == "nothing yet\nthe record:\n  (nothing)"
    with pytest.raises(AssertionError, match="never came"):
        await LiveRecord().wait_for(ChildStarted, "anything")
