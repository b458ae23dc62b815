"""Components: an object over all its runs, its failures, and its one clean-up."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio

from spry_py import (
    Child,
    ChildFailure,
    NeverRestart,
    RateLimited,
    SystemSupervisor,
    TooManyRestarts,
    Unrecoverable,
    UnrecoverableFailure,
    current_context,
    open_system,
)
from spry_py.components import component
from stories import Boom, Record, story
from things import Plain, Thing, Things, boom, fail, finish, in_words, of, stay, watch


async def report(thing: Thing) -> object:
    """Say that it cannot go on, and return at once."""
    await trio.sleep(1)
    current_context().fail(Unrecoverable("lost"))
    return "done"


@story
async def test_one_object_lives_through_all_its_runs() -> None:
    things = Things()
    make = things.make(fail(boom(1)), fail(boom(2)), stay)
    async with open_system([Child("thing", component(make))], name="top") as tree:
        assert tree.render() == (
            "top/  [running]\n  thing/  [running]\n    object  [running]\n    run  [running]"
        )
        seen = of(tree)
        assert (seen.path, seen.object, seen.value) == ("top/thing", things.made[0], "thing1.1")
        await trio.sleep(2.5)
        assert (of(tree), of(tree).value, repr(seen)) == (
            seen,
            "thing1.3",
            "<Component 'top/thing', running>",
        )
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "recover Boom('number 1')"),
        (1, "+thing1.2"),
        (2, "-thing1.2"),
        (2, "recover Boom('number 2')"),
        (2, "+thing1.3"),
        (2.5, "-thing1.3"),
        (2.5, "cleanup 1"),
    ]
    assert (seen.value, in_words(seen.status)) == (None, "2.5 stopped")


@story
async def test_an_unrecoverable_failure_is_not_retried_and_the_end_says_what_it_was() -> None:
    things, told = Things(), list[str]()
    bug = Unrecoverable("a bug")
    async with trio.open_nursery() as nursery:
        with pytest.raises(UnrecoverableFailure) as caught:
            async with open_system([Child("thing", component(things.make(fail(bug))))]) as tree:
                nursery.start_soon(watch, of(tree), told)
                await trio.sleep_forever()
    assert (caught.value.path, caught.value.root_cause) == ("system/thing", bug)
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "irrecoverable Unrecoverable('a bug')"),
        (1, "cleanup 1"),
    ]
    assert told == [
        "0 running",
        "1 stopping Unrecoverable('a bug')",
        "1 stopped Unrecoverable('a bug')",
    ]


@story
async def test_a_stop_while_it_waits_for_its_restart_starts_nothing() -> None:
    things, told = Things(), list[str]()
    waits = Child("thing", component(things.make(fail(boom(1)))), backoff=tenacity.wait_fixed(50))
    async with trio.open_nursery() as nursery:
        async with open_system([waits]) as tree:
            nursery.start_soon(watch, of(tree), told)
            await trio.sleep(3)
        assert trio.current_time() == 3
    assert things.record.facts == [(0, "+thing1.1"), (1, "-thing1.1"), (3, "cleanup 1")]
    assert told == ["0 running", "1 restarting Boom('number 1')", "3 stopping", "3 stopped"]


@story
async def test_those_that_failed_together_come_back_one_by_one() -> None:
    things = [Things() for _ in range(20)]
    wait = tenacity.wait_random(1, 100)
    crowd = [
        Child(f"thing{n}", component(thing.make(fail(boom(1)), stay)), backoff=wait)
        for n, thing in enumerate(things)
    ]
    async with open_system(crowd):
        await trio.sleep(200)
        again = [thing.record.facts[-1] for thing in things]
    assert [fact for _, fact in again] == ["+thing1.2"] * 20
    assert len({at for at, _ in again}) == 20
    assert all(2 <= at <= 101 for at, _ in again)


@story
async def test_no_status_is_missing_however_slowly_it_is_read() -> None:
    things, told, late = Things(), list[str](), list[str]()
    make = things.make(fail(boom(1)), fail(boom(2)), finish("enough"))
    slow = Child("thing", component(make), restart="transient", backoff=tenacity.wait_fixed(1))
    async with trio.open_nursery() as nursery:
        async with open_system([slow], auto_shutdown="when_empty") as tree:
            changes = of(tree).statuses()
            nursery.start_soon(watch, of(tree), told)
            await trio.sleep(2.5)
            nursery.start_soon(watch, of(tree), late)
            await tree.wait()
        await trio.sleep(1)
        assert [in_words(change) async for change in changes] == told
    assert told == [
        "0 running",
        "1 restarting Boom('number 1')",
        "2 recovering Boom('number 1')",
        "2 starting",
        "2 running",
        "3 restarting Boom('number 2')",
        "4 recovering Boom('number 2')",
        "4 starting",
        "4 running",
        "5 stopping",
        "5 stopped",
    ]
    assert late == told[4:]


@story
async def test_a_reader_that_was_cancelled_goes_on_where_it_was() -> None:
    things = Things()
    make = things.make(fail(boom(1)), stay)
    async with open_system([Child("thing", component(make))]) as tree:
        changes, told = of(tree).statuses(), list[str]()
        for _ in range(5):
            with trio.move_on_after(0.4):
                while True:
                    told.append(in_words(await anext(changes)))
    told += [in_words(change) async for change in changes]
    assert told == [
        "0 running",
        "1 restarting Boom('number 1')",
        "1 recovering Boom('number 1')",
        "1 starting",
        "1 running",
        "2 stopping",
        "2 stopped",
    ]


@story
async def test_r1_the_handler_sees_what_was_reported_and_the_old_one_ends_before_the_new() -> None:
    things = Things()

    async def fresh(thing: Thing) -> object:
        return await (report(thing) if thing.number == 1 else stay(thing))

    inner = SystemSupervisor([Child("thing", component(things.make(fresh)))])

    async with open_system([Child("inner", inner)]) as tree:
        await trio.sleep(3)
        assert of(tree, "inner/thing").object is things.made[1]
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "irrecoverable Unrecoverable('lost')"),
        (1, "cleanup 1"),
        (1, "+thing2.1"),
        (3, "-thing2.1"),
        (3, "cleanup 2"),
    ]


@story
async def test_r2_a_crash_without_a_report_is_what_the_handler_sees() -> None:
    things, crash = Things(), boom(1)
    make = things.make(fail(crash))
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("thing", component(make), breaker=NeverRestart)]):
            await trio.sleep_forever()
    assert caught.value.root_cause is crash
    assert things.record.order == ("+thing1.1 -thing1.1 irrecoverable Boom('number 1') cleanup 1")


@story
async def test_r3_a_handler_that_raises_ends_supervision_with_its_error() -> None:
    things, ours = Things(), boom(9)
    make = things.make(report, handle_irrecoverable=fail(ours))
    gone = Child("thing", component(make), on_unrecoverable="discard")
    async with open_system([gone]) as tree:
        end = await tree.child("thing").wait()
        assert isinstance(end.exception, UnrecoverableFailure)
        assert end.exception.root_cause is ours
        assert repr(ours.__context__) == "Unrecoverable('lost')"
        assert tree.child("thing").status == "done"
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "irrecoverable Unrecoverable('lost')"),
        (2, "cleanup 1"),
    ]


@story
async def test_r4_what_was_sent_counts_and_not_the_return_behind_it() -> None:
    things = Things()
    make = things.make(report, stay)
    transient = Child("thing", component(make), restart="transient", on_unrecoverable="discard")
    async with open_system([transient]) as tree:
        end = await tree.child("thing").wait()
        assert isinstance(end.exception, UnrecoverableFailure)
        assert repr(end.exception.root_cause) == "Unrecoverable('lost')"
    assert things.record.order == (
        "+thing1.1 -thing1.1 irrecoverable Unrecoverable('lost') cleanup 1"
    )


@story
async def test_the_least_component_has_a_run_and_nothing_else() -> None:
    record = Record()
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(
            [Child("plain", component(Plain, record), breaker=RateLimited(2))]
        ) as tree:
            assert of(tree, "plain").value is None
            await trio.sleep_forever()
    assert record.facts == [(0, "runs"), (1, "runs"), (2, "runs")]
    assert repr(caught.value.root_cause) == "Boom('plain')"


@pytest.mark.parametrize(
    ("recoverable", "told"),
    [
        (lambda error: not isinstance(error, Boom), "irrecoverable Boom('number 1') cleanup 1"),
        (tenacity.retry_if_exception_type(OSError), "irrecoverable Boom('number 1') cleanup 1"),
        (tenacity.retry_if_exception_type(Boom), "recover Boom('number 1') +thing1.2"),
        (None, "recover Boom('number 1') +thing1.2"),
    ],
)
@story
async def test_recoverable_says_whether_it_recovers(recoverable: Any, told: str) -> None:
    things = Things()
    make = things.make(fail(boom(1)), stay)
    choosy = Child(
        "thing",
        component(make),
        recoverable=recoverable,
        on_unrecoverable="discard",
        restart="transient",
    )
    async with open_system([choosy]):
        await trio.sleep(1.5)
        assert things.record.order == f"+thing1.1 -thing1.1 {told}"


@story
async def test_a_group_is_told_as_what_it_holds() -> None:
    things = Things()

    async def nested(thing: Thing) -> object:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail(boom(thing.runs) if thing.runs < 3 else Unrecoverable()), thing)
        return None

    with pytest.raises(UnrecoverableFailure):
        async with open_system([Child("thing", component(things.make(nested)))]):
            await trio.sleep_forever()
    told = [fact for _, fact in things.record.facts if not fact.startswith(("+", "-"))]
    assert told == [
        "recover Boom('number 1')",
        "recover Boom('number 2')",
        "irrecoverable Unrecoverable()",
        "cleanup 1",
    ]


@story
async def test_a_group_of_several_is_told_whole_and_holds_back_what_it_holds() -> None:
    things = Things()

    async def twice(thing: Thing) -> object:
        second = boom(2) if thing.runs == 1 else Unrecoverable()
        await trio.sleep(1)
        raise ExceptionGroup("both", [boom(1), ExceptionGroup("nested", [second])])

    with pytest.raises(UnrecoverableFailure):
        async with open_system([Child("thing", component(things.make(twice)))]):
            await trio.sleep_forever()
    told = [fact for _, fact in things.record.facts if not fact.startswith(("+", "-"))]
    inside = "[Boom('number 1'), ExceptionGroup('nested', [{}])]"
    assert told == [
        f"recover ExceptionGroup('both', {inside.format(repr(boom(2)))})",
        f"irrecoverable ExceptionGroup('both', {inside.format(repr(Unrecoverable()))})",
        "cleanup 1",
    ]


@story
async def test_too_many_recoveries_are_none() -> None:
    things = Things()
    make = things.make(fail(boom(1)))
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("thing", component(make), breaker=RateLimited(1, 10.0))]):
            await trio.sleep_forever()
    assert not isinstance(caught.value.__cause__, TooManyRestarts)
    assert things.record.order == (
        "+thing1.1 -thing1.1 recover Boom('number 1') +thing1.2 -thing1.2 "
        "irrecoverable Boom('number 1') cleanup 1"
    )


@story
async def test_a_permanent_one_that_returns_runs_again_and_needs_no_recovery() -> None:
    things = Things()
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(
            [Child("thing", component(things.make(finish(1))), breaker=RateLimited(1))]
        ):
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, UnrecoverableFailure)
    assert caught.value.__cause__.root_cause is None
    assert things.record.order == "+thing1.1 -thing1.1 +thing1.2 -thing1.2 cleanup 1"


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@story
async def test_one_that_returns_is_done(restart: Any) -> None:
    things = Things()
    once = Child("thing", component(things.make(finish(1))), restart=restart)
    async with open_system([once], auto_shutdown="when_empty") as tree:
        assert not (await tree.child("thing").wait()).failed
        await tree.wait()
        assert trio.current_time() == 1
    assert things.record.order == "+thing1.1 -thing1.1 cleanup 1"


@story
async def test_a_temporary_one_fails_once_and_harms_nobody() -> None:
    things = Things()
    once = Child("thing", component(things.make(fail(boom(1)))), restart="temporary")
    async with open_system([once], auto_shutdown="when_empty") as tree:
        end = await tree.child("thing").wait()
        assert isinstance(end.exception, UnrecoverableFailure)
        await tree.wait()
    assert things.record.order == ("+thing1.1 -thing1.1 irrecoverable Boom('number 1') cleanup 1")


@story
async def test_a_first_start_that_fails_is_told_to_who_starts_it_and_cleaned_up() -> None:
    things, error = Things(), boom(0)
    make = things.make(stay, start=fail(error))
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("thing", component(make))]):
            raise AssertionError("it cannot be up")
    assert caught.value.path == "system/thing"
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__cause__ is error
    assert things.record.facts == [(1, "cleanup 1")]
