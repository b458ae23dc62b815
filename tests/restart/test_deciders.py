"""Code of the user's that is asked what becomes of a child: what it answers, and what it raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import trio

from actors import STAYS, Actor, cast, no_start
from spry_py import AlwaysRestart, Child, Strategy, UnrecoverableFailure, open_system
from spry_py.components import component
from stories import Boom, Record, story


class Answers:
    """A breaker that gives the same answer to each question."""

    def __init__(self, answer: Callable[[], object]) -> None:
        self._answer = answer

    def __call__(self) -> Any:
        return self

    def may_restart(self, key: str, now: float) -> Any:
        return self._answer()


async def too_late() -> bool:
    return False


class Never:
    """Something to await that is no coroutine."""

    def __await__(self) -> Any:
        raise AssertionError("awaited")


def retry_if(answer: Callable[[], object]) -> Any:
    return tenacity.retry_if_exception(lambda _: answer())  # type: ignore[arg-type, return-value]


NO_ANSWERS: dict[str, Callable[[], object]] = {
    "coroutine": too_late,
    "awaitable": Never,
    "str": lambda: "no",
    "empty": lambda: "",
}
ASKED: dict[str, tuple[Callable[[Callable[[], object]], dict[str, Any]], str]] = {
    "own breaker": (lambda answer: {"breaker": Answers(answer)}, "Answers.may_restart()"),
    "predicate": (lambda answer: {"recoverable": lambda _: answer()}, "<lambda>()"),
    "strategy": (lambda answer: {"recoverable": retry_if(answer)}, "retry_if_exception()"),
}


def crashing(**options: Any) -> Child[Any]:
    async def crash() -> None:
        await trio.sleep(1)
        raise Boom("of the child")

    return Child("child", crash, **options)


@pytest.mark.parametrize("asked", [*ASKED, "breaker"])
@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
@story
async def test_what_is_no_answer_is_an_error_that_names_who_gave_it(
    asked: str, answer: Callable[[], object]
) -> None:
    options, who = ({}, "Answers.may_restart()") if asked == "breaker" else _asking(asked, answer)
    breaker = Answers(answer) if asked == "breaker" else AlwaysRestart
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([crashing(**options)], breaker=breaker, name="top"):
            await trio.sleep_forever()
    error = caught.value.__cause__
    assert caught.value.path == "top/child"
    assert str(caught.value).startswith(
        "'top/child' cannot be recovered, since its recoverable, its backoff or a breaker "
        "failed; root cause: TypeError: "
    )
    assert isinstance(error, TypeError)
    assert f"{who} must return a bool, not " in str(error)
    assert isinstance(error.__context__, Boom)
    assert trio.current_time() == 1


def _asking(asked: str, answer: Callable[[], object]) -> tuple[dict[str, Any], str]:
    options, who = ASKED[asked]
    return options(answer), who


@story
async def test_a_breaker_of_a_component_is_no_exception() -> None:
    class Thing:
        async def run(self) -> None:
            await trio.sleep(1)
            raise Boom("of the thing")

    thing = Child("thing", component(Thing), breaker=Answers(too_late))
    with pytest.raises(UnrecoverableFailure, match=r"Answers\.may_restart") as caught:
        async with open_system([thing], breaker=Answers(lambda: False)):
            await trio.sleep_forever()
    assert "must return a bool" in str(caught.value)


@pytest.mark.parametrize(
    "answer", [1, [0], pytest.param(object(), id="object()"), 0, None, [], 0.0], ids=repr
)
@story
async def test_all_else_counts_by_its_truth(answer: object) -> None:
    child = crashing(recoverable=lambda _: answer, on_unrecoverable="discard")
    async with open_system([child], breaker=AlwaysRestart) as tree:
        await trio.sleep(1.5)
        assert tree.child("child").status == ("running" if answer else "done")


@story
async def test_what_has_no_truth_is_an_error_of_its_own() -> None:
    class Undecided:
        def __bool__(self) -> bool:
            raise Boom("ask somebody else")

    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([crashing(recoverable=lambda _: Undecided())]):
            await trio.sleep_forever()
    assert str(caught.value.__cause__) == "ask somebody else"


# Whom an error is about


class Unsure:
    """A predicate that fails; notes in which task it is asked."""

    def __init__(self) -> None:
        self.error = Boom("of the predicate")
        self.tasks: list[str] = []

    def __call__(self, failure: BaseException) -> bool:
        self.tasks.append(trio.lowlevel.current_task().name)
        raise self.error


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_end_of_its_own_in_a_sweep_is_decided_in_the_loop_and_told_of_whom_it_is(
    strategy: Strategy,
) -> None:
    record = Record()
    unsure = Unsure()
    ours = Boom("of b")
    a = Actor(record, "a")
    b = Actor(record, "b")
    c = Actor(record, "c", cleanup=2)
    children = [a.child(), b.child(recoverable=unsure), c.child()]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(children, strategy=strategy, name="top"):
            record.take()
            a.die(Boom("of a"))
            await trio.sleep(1)
            b.die(ours)  # by itself, while the sweep still waits for c
            await trio.sleep_forever()
    assert (caught.value.path, caught.value.__cause__) == ("top/b", unsure.error)
    assert unsure.error.__context__ is ours
    assert unsure.tasks == ["spry_py top"]
    assert record.facts == [(0, "-a1"), (1, "-b1"), (2, "-c1")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_end_of_its_own_in_a_sweep_is_decided_when_its_turn_comes(
    strategy: Strategy,
) -> None:
    record = Record()

    def asked(error: BaseException) -> bool:
        record(f"? {error}")
        return True

    a = Actor(record, "a")
    b = Actor(record, "b", cleanup=4)
    c = Actor(record, "c")
    d = Actor(record, "d", cleanup=2)
    children = [a.child(), b.child(), c.child(recoverable=asked), d.child()]
    async with open_system(children, strategy=strategy):
        record.take()
        a.die()
        await trio.sleep(1)
        c.die(Boom("of c"))
        await trio.sleep(9)
        told = [(0, "-a1"), (1, "-c1"), (2, "-d1"), (2, "? of c"), (6, "-b1")]
        assert record.take() == [*told, *((6, f"+{key}2") for key in "abcd")]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_an_error_about_a_start_that_failed_in_a_restart_is_told_of_that_child(
    strategy: Strategy,
) -> None:
    record = Record()
    unsure = Unsure()
    a, c = cast(record, "ac")
    b = Actor(record, "b", STAYS, [no_start], STAYS)
    asked = iter([True])

    def recoverable(failure: BaseException) -> bool:
        return next(asked, False) or unsure(failure)

    children = [a.child(), b.child(recoverable=recoverable), c.child()]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(children, strategy=strategy, name="top"):
            b.die()
            await trio.sleep_forever()
    assert (caught.value.path, caught.value.__cause__) == ("top/b", unsure.error)
    assert unsure.tasks == ["spry_py top"]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_error_of_the_breaker_is_told_of_the_first_of_two_that_have_ended(
    strategy: Strategy,
) -> None:
    record = Record()
    asked: list[str] = []

    def breaks() -> object:
        raise Boom("of the breaker")

    def recoverable(failure: BaseException) -> bool:
        asked.append(str(failure))
        return True

    a, b = cast(record, "ab")
    children = [actor.child(recoverable=recoverable) for actor in (a, b)]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(children, strategy=strategy, breaker=Answers(breaks), name="top"):
            b.die(Boom("b"))
            a.die(Boom("a"))
            await trio.sleep_forever()
    # which of two that end in one tick comes first is trio's choice
    assert sorted(asked) == ["a", "b"]
    assert caught.value.path == f"top/{asked[0]}"
    assert str(caught.value.__cause__) == "of the breaker"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_error_of_a_backoff_is_told_of_the_child_whose_it_is(strategy: Strategy) -> None:
    record = Record()

    def backoff_of(key: str) -> Callable[[object], float]:
        def fail(state: object) -> float:
            raise Boom(key)

        return fail

    a, b = cast(record, "ab")
    children = [actor.child(backoff=backoff_of(actor.key)) for actor in (a, b)]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(children, strategy=strategy, name="top"):
            b.die()
            a.die()
            await trio.sleep_forever()
    assert caught.value.path == f"top/{caught.value.__cause__}"
