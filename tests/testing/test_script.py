"""`Script`: an actor does in each incarnation what is written, and says what it did and when."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from spry_py import Child, ChildFailure, Ignore, Normal, Scope, cancel_on_settle, open_system
from spry_py.testing import Script, Step
from stories import story


async def lives(script: Script, seconds: float = 5.0, **options: Any) -> list[tuple[float, str]]:
    """What it did as the only child of a tree that is stopped after so many seconds."""
    async with open_system([Child("a", script, **options)]):
        await trio.sleep(seconds)
    return list(script.ran)


@story
async def test_each_incarnation_plays_the_next_list_and_the_last_one_is_played_again() -> None:
    script = Script(["start", 1, OSError("gone")], ["start", 2])
    assert await lives(script, seconds=4.5) == [
        (0, "start"),
        (0, "sleep 1"),
        (1, "raised OSError"),
        (1, "start #2"),
        (1, "sleep 2"),
        (3, "returned"),
        (3, "start #3"),
        (3, "sleep 2"),
        (4.5, "aborted"),
    ]


@story
async def test_what_stands_behind_wait_is_its_clean_up() -> None:
    script = Script(["start", "wait", 1.5, OSError("no goodbye")])
    async with open_system([Child("a", script)]) as handle:
        await trio.sleep(2)
        await handle.terminate_child("a")
        report = handle.child("a").last_report
    assert report is not None
    assert (report.burden, str(report.exception)) == ("settling", "no goodbye")
    assert script.ran == [
        (0, "start"),
        (0, "wait"),
        (2, "sleep 1.5"),
        (3.5, "raised OSError"),
    ]


@story
async def test_one_that_is_deaf_has_said_that_it_listens() -> None:
    script = Script(["start", "deaf"])
    assert await lives(script, shutdown=3) == [(0, "start"), (0, "deaf"), (8, "aborted")]


@story
async def test_one_that_stays_is_aborted_at_once_and_goes_on_when_the_test_lets_it() -> None:
    script = Script(["start", "stay"])
    async with open_system([Child("a", script, shutdown=3)]):
        await trio.sleep(1)
        script.go_on(OSError("gone"))
        await trio.sleep(1)
    assert script.ran == [
        (0, "start"),
        (0, "stay"),
        (1, "raised OSError"),
        (1, "start #2"),
        (1, "stay"),
        (2, "aborted"),
    ]


@story
async def test_a_clean_up_is_done_however_a_run_ends_and_no_cancellation_cuts_it_short() -> None:
    runs: list[list[Step]] = [["start", 1], ["start", 1, OSError("gone")], [OSError], ["start", 9]]
    script = Script(*runs, cleanup=2)
    async with open_system([Child("a", script)]):
        await trio.sleep(9)
    assert script.ran == [
        (0, "start"),
        (0, "sleep 1"),
        (1, "clean up 2"),
        (3, "returned"),
        (3, "start #2"),
        (3, "sleep 1"),
        (4, "clean up 2"),
        (6, "raised OSError"),
        (6, "clean up 2"),
        (8, "raised OSError"),
        (8, "start #4"),
        (8, "sleep 9"),
        (9, "clean up 2"),
        (11, "aborted"),
    ]


@story
async def test_it_says_how_many_runs_have_begun_and_whether_one_is_under_way() -> None:
    script = Script(["start", "wait"], cleanup=2)
    seen = [(script.runs, script.is_running)]
    async with open_system([Child("a", script)]) as handle, trio.open_nursery() as nursery:
        seen += [(script.runs, script.is_running)]
        nursery.start_soon(handle.terminate_child, "a")
        await trio.sleep(1.5)
        seen += [(script.runs, script.is_running)]
        await trio.sleep(1.5)
        seen += [(script.runs, script.is_running)]
        await handle.restart_child("a")
        seen += [(script.runs, script.is_running)]
    assert seen == [(0, False), (1, True), (1, True), (1, False), (2, True)]


@story
async def test_one_that_is_stuck_goes_on_for_ten_seconds() -> None:
    script = Script(["start", "stuck"])
    assert await lives(script) == [(0, "start"), (0, "stuck"), (15, "aborted")]


@story
async def test_one_that_does_nothing_to_listen_is_aborted_at_once() -> None:
    assert await lives(Script(["start", 60])) == [(0, "start"), (0, "sleep 60"), (5, "aborted")]


@pytest.mark.parametrize("steps", [[2, OSError("no start")], [2], [2, OSError]])
def test_without_start_its_start_fails(steps: list[Any]) -> None:
    @story
    async def play() -> None:
        with pytest.raises(ChildFailure):
            await lives(Script(steps))
        assert trio.current_time() == 2

    play()


@story
async def test_it_may_leave_itself_out() -> None:
    script = Script([Ignore()])
    async with open_system([Child("a", script)]) as handle:
        assert handle.child("a").status == "ignored"


@story
async def test_it_starts_with_a_value_of_its_own_and_writes_down_what_it_was_given() -> None:
    db, api = Script(["start", 1, OSError], ["start", "wait"]), Script(["start", "wait"])

    async def shop(scope: Scope) -> None:
        value = await scope.start(Child("db", db))
        await scope.start(Child("api", api, value, 7))

    async with open_system(shop) as handle:
        assert handle.child("api").value == "api#1"
        await trio.sleep(2)
    assert [deed for deed in api.ran if deed.what.startswith("start")] == [
        (0, "start(db#1, 7)"),
        (1, "start(db#2, 7) #2"),
    ]


@story
async def test_it_calls_functions_of_both_colours_and_returns_what_the_last_one_returned() -> None:
    ready = trio.Event()

    async def fetch() -> str:
        await ready.wait()
        return "fetched"

    def count() -> int:
        return 3

    script = Script(["start", fetch], ["start", "wait", count])
    async with open_system([Child("a", script)]) as handle:
        await trio.sleep(1)
        ready.set()
        await handle.child("a").wait_incarnation(2)
        first = handle.child("a").last_report
    last = handle.child("a").last_report
    assert first is not None
    assert last is not None
    assert (first.reason, last.reason) == (Normal("fetched"), Normal(3))
    assert script.ran == [
        (0, "start"),
        (0, "fetch"),
        (1, "returned"),
        (1, "start #2"),
        (1, "wait"),
        (1, "count"),
        (1, "returned"),
    ]


@story
async def test_an_exception_is_raised_as_it_is_in_each_run_without_frames_of_the_last_one() -> None:
    error = OSError("gone")
    depths: list[int] = []

    async with open_system([Child("a", Script(["start", 1, error]))]) as handle:
        child = handle.child("a")
        for number in (2, 3, 4):
            await child.wait_incarnation(number)
            report = child.last_report
            assert report is not None
            assert report.exception is error
            depths.append(depth_of(error))
    assert len(set(depths)) == 1


def depth_of(error: BaseException) -> int:
    place, depth = error.__traceback__, 0
    while place is not None:
        place, depth = place.tb_next, depth + 1
    return depth


@story
async def test_a_nested_function_that_is_cancelled_counts_as_aborted() -> None:
    async def nested() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    script = Script(["start", nested])
    await lives(script, seconds=1)
    assert script.ran == [(0, "start"), (0, "nested"), (1, "aborted")]


@story
async def test_a_function_may_listen() -> None:
    async def serve() -> None:
        with cancel_on_settle():
            await trio.sleep_forever()

    script = Script(["start", serve, 1])
    await lives(script, seconds=1)
    assert script.ran[-1] == (2, "returned")


@story
async def test_one_that_waits_goes_on_when_the_test_lets_it() -> None:
    script = Script(["start", "wait", 1], ["start", "deaf"], ["wait", "start", "wait", 1])
    async with open_system([Child("a", script)]) as handle:
        child = handle.child("a")
        await trio.sleep(1)
        script.go_on()
        await child.wait_incarnation(2)
        script.go_on(OSError("gone"))
        await trio.sleep(1)
        first = child.last_report
        script.go_on(2)
        await child.wait_incarnation(3)
    assert first is not None
    assert (first.burden, str(first.exception)) == ("none", "gone")
    assert script.ran == [
        (0, "start"),
        (0, "wait"),
        (1, "sleep 1"),
        (2, "returned"),
        (2, "start #2"),
        (2, "deaf"),
        (2, "raised OSError"),
        (2, "wait"),
        (3, "sleep 2"),
        (5, "start #3"),
        (5, "wait"),
        (5, "sleep 1"),
        (6, "returned"),
    ]


@story
async def test_the_value_of_a_step_to_go_on_with_is_that_of_the_run() -> None:
    script = Script(["start", "deaf"])
    async with open_system([Child("a", script, restart="transient")]) as handle:
        script.go_on(lambda: 7)
        assert (await handle.child("a").wait()).reason == Normal(7)


@story
async def test_one_that_does_not_wait_cannot_go_on() -> None:
    script = Script(["start", "wait", 1])
    words = r"Script\(\['start', 'wait', 1\]\) is not at \"wait\", \"stay\" or \"deaf\": there"
    with pytest.raises(RuntimeError, match=words):
        script.go_on()
    async with open_system([Child("a", script)]):
        with pytest.raises(ValueError, match="a word must be one of"):
            script.go_on("begin")
        script.go_on()
        with pytest.raises(RuntimeError, match=words):
            script.go_on()
        await trio.sleep(0.5)
        with pytest.raises(RuntimeError, match=words):
            script.go_on()


@story
async def test_two_children_cannot_play_one_script_at_a_time() -> None:
    script = Script(["start", "wait"])
    with pytest.raises(ChildFailure) as failure:
        async with open_system([Child("a", script), Child("b", script)], name="app"):
            raise AssertionError("it was started")
    assert str(failure.value.__cause__) == (
        "'app/b' cannot play the script that 'app/a' is playing: write one Script for each child"
    )
    assert [deed.what for deed in script.ran] == ["start", "wait", "overlap of b", "returned"]


@story
async def test_one_child_after_another_may_play_it() -> None:
    script = Script(["start", 1], ["start", 2])
    for key in "ab":
        child = Child(key, script, restart="temporary")
        async with open_system([child], auto_shutdown="when_empty") as handle:
            await handle.wait()
    assert [deed.at for deed in script.ran if deed.what == "returned"] == [1, 3]


async def coroutine() -> None:
    """Never awaited."""


@pytest.mark.parametrize(
    ("runs", "error", "words"),
    [
        ((), TypeError, "the list of steps of the first incarnation is missing"),
        (("start", 1), TypeError, r'write Script\(\["start", "wait"\]\)'),
        ((["begin"],), ValueError, '"start", "wait", "stay", "deaf", "stuck", not \'begin\''),
        ((["start", -1],), ValueError, "a step must be 0 or more seconds"),
        ((["start", True],), TypeError, "a step must be a number of seconds, not True"),
        ((["start", float("nan")],), ValueError, "a step must be"),
        ((["start", None],), TypeError, "a step must be a word, a number of seconds"),
        ((["start", 1, "start"],), ValueError, '"start" stands twice'),
        ((["start", OSError(), 1],), ValueError, r"nothing behind OSError\(\) is ever reached"),
        ((["start", OSError, 1],), ValueError, "nothing behind .* is ever reached"),
        ((["start", "stay", 1],), ValueError, "nothing behind 'stay' is ever reached"),
        ((["start", "deaf", 1],), ValueError, "nothing behind 'deaf' is ever reached"),
        ((["start", "stuck", "wait"],), ValueError, "nothing behind 'stuck' is ever reached"),
        ((["start", UnicodeDecodeError],), TypeError, "cannot be made without arguments"),
        ((["start", trio.Cancelled],), TypeError, "cannot be made without arguments"),
    ],
)
def test_bad_steps_are_refused_where_they_are_written(
    runs: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Script(*runs)


def test_a_bad_clean_up_is_refused() -> None:
    with pytest.raises(ValueError, match="Script: cleanup must be 0 or more seconds"):
        Script(["start"], cleanup=-1)


def test_a_coroutine_object_is_refused_and_closed() -> None:
    with pytest.raises(TypeError, match="without calling it"):
        Script(["start", coroutine()])  # type: ignore[list-item]


def test_a_script_shows_what_is_written() -> None:
    assert repr(Script(["start", 1], ["wait"])) == "Script(['start', 1], ['wait'])"
    assert repr(Script(["start"], cleanup=0.5)) == "Script(['start'], cleanup=0.5)"
