"""The failures of a component: which are recovered from, and who is told of the others."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio

from actors import Actor
from spry_py import (
    Child,
    DynamicSupervisor,
    RateLimited,
    RunTimeout,
    StartTimeout,
    SystemSupervisor,
    Unrecoverable,
    UnrecoverableFailure,
    Unresponsive,
    current_context,
    open_system,
)
from spry_py.components import component
from stories import Boom, story
from things import (
    Act,
    Thing,
    Things,
    boom,
    by_run,
    fail,
    nothing,
    of,
    resist,
    stay,
    sulk,
    watch,
)


async def beat_once(thing: Thing) -> object:
    current_context().heartbeat()
    return await trio.sleep_forever()


Limit = tuple[dict[str, Any], Act, type[Exception]]
LIMITS: list[Limit] = [
    ({"run_timeout": 2.0}, stay, RunTimeout),
    ({"heartbeat": 2.0}, beat_once, Unresponsive),
]


@pytest.mark.parametrize(("options", "act", "kind"), LIMITS)
@story
async def test_what_the_limits_of_a_run_fail_with_is_recovered_from(
    options: dict[str, Any], act: Act, kind: type[Exception]
) -> None:
    things, told = Things(), list[str]()
    limited = Child("thing", component(things.make(act)), breaker=RateLimited(1), **options)
    async with trio.open_nursery() as nursery:
        with pytest.raises(UnrecoverableFailure) as caught:
            async with open_system([limited]) as tree:
                nursery.start_soon(watch, of(tree), told)
                await trio.sleep_forever()
    assert [line.partition(" ")[2].partition("(")[0] for line in told] == [
        "running",
        f"restarting {kind.__name__}",
        f"recovering {kind.__name__}",
        "starting",
        "running",
        f"stopping {kind.__name__}",
        f"stopped {kind.__name__}",
    ]
    assert type(caught.value.root_cause) is kind
    first, second = (fact for _, fact in things.record.facts if f"{kind.__name__}(" in fact)
    assert (first.split()[0], second) == ("recover", f"irrecoverable {caught.value.root_cause!r}")
    assert things.record.facts[-1] == (4, "cleanup 1")


@story
async def test_a_recovery_that_fails_is_a_failed_start_and_tried_again() -> None:
    things, told = Things(), list[str]()
    make = things.make(fail(boom(1)), stay, recover=by_recovery(boom(2), None))
    async with (
        open_system([Child("thing", component(make))]) as tree,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch, of(tree), told)
        await trio.sleep(3)
        await tree.stop()
    assert things.record.order == (
        "+thing1.1 -thing1.1 recover Boom('number 1') recover Boom('number 2') "
        "+thing1.2 -thing1.2 cleanup 1"
    )
    assert told == [
        "0 running",
        "1 restarting Boom('number 1')",
        "1 recovering Boom('number 1')",
        "1 restarting Boom('number 2')",
        "1 recovering Boom('number 2')",
        "1 starting",
        "1 running",
        "3 stopping",
        "3 stopped",
    ]


def by_recovery(*errors: Exception | None) -> Act:
    """The n-th recovery raises the n-th of these."""
    left = iter(errors)

    async def act(thing: Thing) -> object:
        error = next(left)
        if error is not None:
            raise error
        return None

    return act


@story
async def test_a_recovery_may_say_that_there_is_none() -> None:
    things, hopeless = Things(), Unrecoverable("hopeless")
    make = things.make(fail(boom(1)), recover=by_recovery(hopeless))
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("thing", component(make))]):
            await trio.sleep_forever()
    assert caught.value.root_cause is hopeless
    assert things.record.order == (
        "+thing1.1 -thing1.1 recover Boom('number 1') "
        "irrecoverable Unrecoverable('hopeless') cleanup 1"
    )


@story
async def test_a_start_that_keeps_failing_is_given_up_and_the_handler_has_the_last_word() -> None:
    things, ours = Things(), boom(9)
    make = things.make(
        fail(boom(1)),
        start=by_run(nothing, fail(boom(2), 0.5), fail(boom(3), 0.5)),
        handle_irrecoverable=fail(ours),
    )
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("thing", component(make), breaker=RateLimited(2))]):
            await trio.sleep_forever()
    assert caught.value.root_cause is ours
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "recover Boom('number 1')"),
        (1.5, "recover Boom('number 2')"),
        (2, "irrecoverable Boom('number 3')"),
        (3, "cleanup 1"),
    ]


async def report_and_wait(thing: Thing) -> object:
    current_context().fail(Boom("reported"))
    return await trio.sleep_forever()


@pytest.mark.parametrize(
    ("start", "error"),
    [
        (stay, StartTimeout("child 'system/thing/run' was not started within 2 s")),
        (report_and_wait, Boom("reported")),
    ],
)
@story
async def test_a_start_that_is_cut_short_in_a_restart_is_a_failure_like_any(
    start: Act, error: Exception
) -> None:
    things, told = Things(), list[str]()
    make = things.make(fail(boom(1)), start=by_run(nothing, start))
    limited = Child("thing", component(make), breaker=RateLimited(2), start_timeout=2)
    async with trio.open_nursery() as nursery:
        with pytest.raises(UnrecoverableFailure) as caught:
            async with open_system([limited]) as tree:
                nursery.start_soon(watch, of(tree), told)
                await trio.sleep_forever()
    assert repr(caught.value.root_cause) == repr(error)
    assert things.record.order == (
        "+thing1.1 -thing1.1 recover Boom('number 1') "
        f"recover {error!r} irrecoverable {error!r} cleanup 1"
    )
    assert [line.partition(" ")[2] for line in told] == [
        "running",
        "restarting Boom('number 1')",
        "recovering Boom('number 1')",
        "starting",
        f"restarting {error!r}",
        f"recovering {error!r}",
        "starting",
        f"stopping {error!r}",
        f"stopped {error!r}",
    ]


@story
async def test_a_handler_that_takes_too_long_is_cut_short() -> None:
    things = Things()
    make = things.make(fail(Unrecoverable("no")), handle_irrecoverable=stay)
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("thing", component(make))]):
            await trio.sleep_forever()
    assert repr(caught.value.root_cause) == "Unrecoverable('no')"
    assert things.record.facts[-1] == (6, "cleanup 1")


@story
async def test_a_handler_that_takes_too_long_behind_a_start_has_failed() -> None:
    things = Things()
    make = things.make(fail(boom(1)), start=by_run(nothing, stay), handle_irrecoverable=stay)
    limited = Child("thing", component(make), start_timeout=1, breaker=RateLimited(1))
    async with open_system(DynamicSupervisor()) as pool:
        tree = await pool.start_child(limited.replace(on_unrecoverable="discard"))
        held = pool.find("thing/object")
        await tree.wait()
        assert held.last_report is not None
        assert str(held.last_report.exception) == (
            "handle_irrecoverable() of component 'system/thing' took longer than 5 s"
        )
    assert things.record.facts[-1] == (7, "cleanup 1")


@story
async def test_a_stop_while_the_handler_runs_cancels_it_and_then_cleans_up() -> None:
    things = Things()
    make = things.make(fail(Unrecoverable("no")), handle_irrecoverable=stay)
    async with open_system([Child("thing", component(make))]) as tree:
        await trio.sleep(2)
        await tree.stop()
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "irrecoverable Unrecoverable('no')"),
        (2, "cleanup 1"),
    ]


@story
async def test_an_abort_while_the_handler_runs_cleans_up_behind_it() -> None:
    things = Things()
    make = things.make(fail(Unrecoverable("no")), handle_irrecoverable=resist, cleanup=note_end)
    async with open_system(
        [Child("below", SystemSupervisor([Child("thing", component(make))]))]
    ) as tree:
        await trio.sleep(2)
        tree.abort()
        await tree.wait()
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "irrecoverable Unrecoverable('no')"),
        (5, "cleanup 1"),
        (5, "cleaned up"),
    ]


async def note_end(thing: Thing) -> object:
    thing.record("cleaned up")
    return None


@story
async def test_what_a_start_raises_when_it_is_stopped_concerns_no_handler() -> None:
    things = Things()
    make = things.make(fail(boom(1)), start=by_run(nothing, sulk))
    async with open_system([Child("thing", component(make), breaker=RateLimited(1))]) as tree:
        await trio.sleep(2)
        await tree.stop()
    assert things.record.facts == [
        (0, "+thing1.1"),
        (1, "-thing1.1"),
        (1, "recover Boom('number 1')"),
        (2, "cleanup 1"),
    ]


@story
async def test_what_a_run_raises_when_it_is_stopped_concerns_no_handler() -> None:
    things, told = Things(), list[str]()
    async with open_system([Child("thing", component(things.make(sulk)))]) as tree:
        run = tree.find("thing/run")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, of(tree), told)
            await trio.sleep(1)
            await tree.stop()
        assert run.last_report is not None
        assert repr(run.last_report.exception) == "Boom('sulks')"
    assert things.record.order == "+thing1.1 -thing1.1 cleanup 1"
    assert told == ["0 running", "1 stopping", "1 stopped"]


@story
async def test_a_start_that_fails_in_a_replay_is_tried_again_with_new_objects() -> None:
    things = Things()
    a = Actor(things.record, "a")

    async def flaky(thing: Thing) -> object:
        if thing.number == 2:
            raise boom(2)
        return None

    async with open_system([a.child(), Child("thing", component(things.make(stay, start=flaky)))]):
        a.die()
        await trio.sleep(1)
    assert things.record.order == (
        "+a1 +thing1.1 -a1 -thing1.1 cleanup 1 +a2 cleanup 2 -a2 "
        "+a3 +thing3.1 -thing3.1 cleanup 3 -a3"
    )


@pytest.mark.parametrize(
    "recoverable", [lambda error: False, tenacity.retry_if_not_exception_type(Boom)]
)
@story
async def test_a_start_that_fails_in_a_replay_for_good(recoverable: Any) -> None:
    things = Things()
    a = Actor(things.record, "a")

    async def flaky(thing: Thing) -> object:
        if thing.number == 2:
            raise boom(2)
        return None

    choosy = Child("thing", component(things.make(stay, start=flaky)), recoverable=recoverable)
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([a.child(), choosy]):
            a.die()
            await trio.sleep_forever()
    assert repr(caught.value.root_cause) == "Boom('number 2')"
    assert things.record.order == "+a1 +thing1.1 -a1 -thing1.1 cleanup 1 +a2 cleanup 2 -a2"
