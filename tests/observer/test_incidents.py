"""Incidents told from events, in the sentences that `spry-py incidents` has for spans."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from observing import Outside, observed
from spry_py import (
    Backoff,
    Child,
    NeverRestart,
    RateLimited,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Boom, Record, story


async def told(outside: Outside) -> list[tuple[str, str]]:
    found = (await outside.get("/incidents")).json["incidents"]
    return [(one["outcome"], " ".join(one["sentences"])) for one in found]


@story
async def test_a_crash_that_a_restart_has_cured() -> None:
    a = Actor(Record(), "a")
    child = a.child(backoff=Backoff(lambda state: 2.0))
    top = SystemSupervisor([child], name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        assert await told(outside) == []
        await trio.sleep(3)
        a.die()
        await trio.sleep(1)
        (found,) = await told(outside)
        assert found[0] == "open"
        await trio.sleep(5)
        (found,) = await told(outside)
        assert found[0] == "cured"
        assert found[1] == (
            "top/a, a permanent worker, failed after 3 s with Boom: a1. top restarted it alone "
            "(one_for_one), after a wait of 2 s. Healthy again 2 s after the first failure."
        )


@story
async def test_a_child_that_keeps_failing_is_one_story_and_its_escalation_is_told() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    inner = SystemSupervisor([a.child(), b.child()], breaker=RateLimited(1, 100.0))
    top = SystemSupervisor([Child("inner", inner), c.child()], name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        for _ in range(2):
            await trio.sleep(1)
            a.die()
        await trio.sleep(1)
        ((outcome, text),) = await told(outside)
        assert outcome == "cured"
        assert text.startswith("top/inner/a, a permanent worker, failed twice in ")
        assert "top/inner stopped b and started a and b again (one_for_all)" in text
        assert (
            "The breaker of top/inner refused to restart it: top/inner stopped b and gave up"
            in text
        )
        assert "top restarted top/inner alone (one_for_one)" in text
        found = (await outside.get("/incidents")).json["incidents"][0]
        assert found["incidents"] == 2
        assert any("inner gives up: too many restarts of a" in line for line in found["picture"])


@story
async def test_a_start_that_fails_in_a_restart() -> None:
    a = Actor(Record(), "a", STAYS, [no_start], STAYS)
    top = SystemSupervisor([a.child()], name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        ((outcome, text),) = await told(outside)
        assert outcome == "cured"
        assert "top/a failed to start again: Boom: no start of a2." in text


@story
async def test_what_is_not_restarted() -> None:
    a, b = cast(Record(), "ab")
    children = [a.child(restart="temporary"), b.child()]
    top = SystemSupervisor(children, name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        ((outcome, text),) = await told(outside)
        assert outcome == "dropped"
        # what kind it was is not known any more, once it is forgotten
        assert text.replace("child", "worker") == (
            "top/a, a temporary worker, failed after 1 s with Boom: a1. Not restarted, since it is "
            "temporary: top goes on without it."
        )


@story
async def test_the_end_of_the_whole_tree() -> None:
    a = Actor(Record(), "a")
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(TooManyRestarts):
                await SystemSupervisor([a.child()], name="top", breaker=NeverRestart())()

        async with observed() as outside:
            nursery.start_soon(run)
            await trio.sleep(1)
            a.die()
            await trio.sleep(1)
            ((outcome, text),) = await told(outside)
            assert outcome == "ended"
            assert text.endswith("That was the end of the whole tree.")


@story
async def test_only_so_many_are_kept() -> None:
    actors = list(cast(Record(), "abcdefgh"))
    children = [actor.child() for actor in actors]
    top = SystemSupervisor(
        children, name="top", strategy="one_for_one", breaker=RateLimited(99, 1.0)
    )
    async with open_system(top) as tree, observed(tree, history=5) as outside:
        for actor in actors:
            actor.die()
            await trio.sleep(1)
        found = (await outside.get("/incidents")).json["incidents"]
        assert [one["path"] for one in found] == [f"top/{key}" for key in "hgfed"]
        history = (await outside.get("/child?path=top/h")).json["history"]
        assert len(history) == 5
        assert [entry["text"] for entry in history] == [
            "incident 8 begins",
            "will be restarted now",
            "incarnation 2 is starting",
            "incarnation 2 is up",
            "incident 8 is over: cured",
        ]


@story
async def test_a_story_of_many_incidents_is_told_in_slices() -> None:
    async def flap() -> None:
        await trio.sleep(1)
        raise Boom("no!")

    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    child = Child("flap", flap)
    top = SystemSupervisor(
        [child], name="top", strategy="one_for_one", breaker=RateLimited(9999, 1.0)
    )
    async with open_system(top) as tree, observed(tree) as outside, trio.open_nursery() as nursery:
        await trio.sleep(800.5)
        nursery.start_soon(take_turns)
        (found,) = (await outside.get("/incidents")).json["incidents"]
        nursery.cancel_scope.cancel()
    assert turns > 800 / 16
    assert (found["incidents"], found["outcome"]) == (800, "cured")
    assert found["sentences"] == [
        (
            "top/flap, a permanent worker, failed 800 times in 13 min 19 s (800 incidents, down "
            "for under 0.1 ms in all), each time with Boom: no!."
        ),
        "top restarted it alone (one_for_one), 800 times.",
        "Healthy again 13 min 19 s after the first failure.",
    ]
    (more,) = [line for line in found["picture"] if "more failures" in line]
    assert more.split("┄")[0].split() == ["3.000", "⋮", "794", "more", "failures", "like", "these"]
    assert len(found["picture"]) == 2 * 6 + 3


class Held(Boom):
    """Something that must be let go of."""


def test_nothing_of_a_failure_is_held_but_its_text() -> None:
    @story
    async def hold_nothing() -> None:
        a = Actor(Record(), "a")
        top = SystemSupervisor([a.child()], name="top", strategy="one_for_one")
        async with open_system(top) as tree, observed(tree) as outside:
            held = Held("x")
            gone = weakref.ref(held)
            a.die(held)
            del held
            await trio.sleep(1)
            a.die(Boom("y"))
            await trio.sleep(1)
            gc.collect()
            assert gone() is None
            assert "Held: x" in str(await told(outside))

    # what pytest captures of the log would hold it
    logging.disable(logging.CRITICAL)
    try:
        hold_nothing()
    finally:
        logging.disable(logging.NOTSET)


@story
async def test_odd_exceptions_are_told_like_any_other() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    a = Actor(Record(), "a")
    top = SystemSupervisor([a.child()], name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        odd: list[Any] = [
            Odd(),
            Boom("\x1b[2J\nsecond line"),
            ExceptionGroup("two", [Boom(), Odd()]),
        ]
        for error in odd:
            a.die(error)
            await trio.sleep(1)
        found = (await outside.get("/incidents")).json["incidents"]
        # one after another, but each of another type: three causes
        assert [one["incidents"] for one in found] == [1, 1, 1]
        lines = [line for one in found for line in (*one["picture"], *one["sentences"])]
        assert all(line.isprintable() for line in lines)
