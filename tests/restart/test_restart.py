"""Who is restarted, who is not, and who is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from spry_py import (
    Child,
    NeverRestart,
    RestartType,
    Scope,
    Strategy,
    Unrecoverable,
    UnrecoverableFailure,
    open_system,
)
from stories import Boom, Ledger, Record, story

AFTER = {
    # strategy: what happens after the middle one of three has ended and is to be restarted
    "one_for_one": "?b +b2 -c1 -b2 -a1",
    "rest_for_one": "?b -c1 +b2 +c2 -c2 -b2 -a1",
    "one_for_all": "?b -c1 -a1 +a2 +b2 +c2 -c2 -b2 -a2",
}
WANTED = {
    ("permanent", "normal"): True,
    ("permanent", "failed"): True,
    ("transient", "normal"): False,
    ("transient", "failed"): True,
    ("temporary", "normal"): False,
    ("temporary", "failed"): False,
}


@pytest.mark.parametrize("strategy", AFTER)
@pytest.mark.parametrize(("restart", "reason"), WANTED)
@story
async def test_restart_type_and_reason_decide(
    restart: str, reason: str, strategy: Strategy
) -> None:
    record = Record()
    ledger = Ledger(record)
    a, b, c = cast(record, "abc")
    children = [a.child(), b.child(restart=restart), c.child()]
    async with open_system(children, strategy=strategy, breaker=ledger) as tree:
        handle = tree.child("b")
        assert record.take_order() == "+a1 +b1 +c1"
        if reason == "normal":
            b.stop()
        else:
            b.die()
        await trio.sleep(1)
        wanted = WANTED[restart, reason]
        spent = "stopped" if restart == "temporary" else "done"
        assert handle.status == ("running" if wanted else spent)
        listed = [info.key for info in tree.which_children()]
        assert listed == (["a", "c"] if restart == "temporary" else ["a", "b", "c"])
    assert record.order == f"-b1 {AFTER[strategy] if wanted else '-c1 -a1'}"


@pytest.mark.parametrize("reason", ["normal", "failed", "aborted"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@story
async def test_an_end_that_was_asked_for_is_never_restarted(
    restart: RestartType, reason: str
) -> None:
    record = Record()

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        record("up")
        task_status.started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            record("down")
            if reason == "aborted":
                raise
            if reason == "failed":
                raise Boom from None

    async with open_system([Child("a", child, restart=restart)], breaker=Ledger(record)):
        pass
    assert record.order == "up down"


@story
async def test_a_transient_child_that_ended_normal_is_skipped_by_replays() -> None:
    record = Record()
    a, b, c = cast(record, "abc")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        value = await scope.start(b.child(restart="transient"))
        await scope.start(c.child(value))

    async with open_system(system, strategy="rest_for_one") as tree:
        b.stop()
        await trio.sleep(1)
        assert tree.child("b").status == "done"
        a.die()
        await trio.sleep(1)
        assert (tree.child("b").status, tree.child("b").incarnation) == ("done", 1)
    assert record.order == "+a1 +b1 +c1(b#1) -b1 -a1 -c1 +a2 +c2(None) -c2 -a2"


@story
async def test_a_transient_child_that_was_asked_to_end_starts_again_with_its_system() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", LISTENS)
    async with open_system([a.child(), b.child(restart="transient")]):
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 +b1 -a1 -b1 +a2 +b2 -b2 -a2"


@story
async def test_a_temporary_child_swept_along_by_a_sibling_stays_down() -> None:
    record = Record()
    a, b, c = cast(record, "abc")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        value = await scope.start(b.child(restart="temporary"))
        await scope.start(c.child(value))

    async with open_system(system) as tree:
        a.die()
        await trio.sleep(1)
        assert [info.key for info in tree.which_children()] == ["a", "c"]
    assert record.order == "+a1 +b1 +c1(b#1) -a1 -c1 -b1 +a2 +c2(None) -c2 -a2"


@story
async def test_a_temporary_child_never_escalates() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def unrecoverable() -> None:
        await trio.sleep(1)
        raise Unrecoverable("but temporary")

    child = Child("c", unrecoverable, restart="temporary", recoverable=lambda error: False)
    async with open_system([a.child(), b.child(restart="temporary"), child], breaker=NeverRestart):
        b.die()
        await trio.sleep(3)
        record("still up")
    assert record.order == "+a1 +b1 -b1 still up -a1"


# Recoverable or not


def _only_boom(error: BaseException) -> bool:
    return isinstance(error, Boom)


@pytest.mark.parametrize(
    "recoverable",
    [
        _only_boom,
        tenacity.retry_if_exception_type(Boom),
        tenacity.retry_if_not_exception_type(KeyError),
    ],
    ids=["predicate", "retry_if", "retry_if_not"],
)
@story
async def test_recoverable_answering_no_escalates(recoverable: Callable[..., bool]) -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = KeyError("lost")
    children = [a.child(), b.child(recoverable=recoverable)]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(
            children, name="top", strategy="one_for_one", breaker=Ledger(record)
        ):
            b.die()
            await trio.sleep(1)
            b.die(error)
            await trio.sleep(1)
            record("never")
    assert (caught.value.path, caught.value.root_cause) == ("top/b", error)
    assert caught.value.__cause__ is error
    assert record.order == "+a1 +b1 -b1 ?b +b2 -b2 -a1"


@story
async def test_unrecoverable_raised_by_the_child_escalates() -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = Unrecoverable("do not")
    children = [a.child(), b.child(restart="transient")]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(children, name="top", breaker=Ledger(record)):
            b.die(error)
            await trio.sleep(1)
            record("never")
    assert (caught.value.path, caught.value.root_cause) == ("top/b", error)
    assert record.order == "+a1 +b1 -b1 -a1"


@pytest.mark.parametrize("how", ["recoverable", "unrecoverable", "breaker"])
@story
async def test_discarded_the_child_is_done_and_all_else_goes_on(how: str) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    options: dict[str, Any] = {
        "recoverable": {"recoverable": lambda error: False},
        "unrecoverable": {},
        "breaker": {"breaker": NeverRestart},
    }
    child = b.child(on_unrecoverable="discard", **options[how])
    async with open_system([a.child(), child, c.child()], breaker=Ledger(record)) as tree:
        b.die(Unrecoverable() if how == "unrecoverable" else None)
        await trio.sleep(1)
        assert tree.child("b").status == "done"
        assert record.take_order() == "+a1 +b1 +c1 -b1"
        a.die()
        await trio.sleep(1)
    assert record.order == "-a1 ?a -c1 +a2 +c2 -c2 -a2"


@story
async def test_a_childs_own_breaker_is_asked_before_the_supervisors() -> None:
    record = Record()
    a, b = cast(record, "ab")
    own = Ledger(record, allows=2)
    its = Ledger(record)
    error = Boom("the third")
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(
            [a.child(), b.child(breaker=own)], strategy="one_for_one", breaker=its
        ):
            a.die()
            await trio.sleep(1)
            for _ in range(2):
                b.die()
                await trio.sleep(1)
            b.die(error)
            await trio.sleep(1)
    assert caught.value.root_cause is error
    assert record.order == "+a1 +b1 -a1 ?a +a2 -b1 ?b ?b +b2 -b2 ?b ?b +b3 -b3 ?b:no -a2"


@story
async def test_recoverable_is_not_asked_about_a_normal_end() -> None:
    record = Record()
    (a,) = cast(record, "a")

    def asked(error: BaseException) -> bool:
        record("asked")
        return False

    async with open_system([a.child(recoverable=asked)]):
        a.stop()
        await trio.sleep(1)
    assert record.order == "+a1 -a1 +a2 -a2"


@story
async def test_an_unrecoverable_start_in_a_restart_escalates() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", STAYS, [no_start], STAYS)

    def recoverable(error: BaseException) -> bool:
        return "no start" not in str(error)

    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(
            [a.child(), b.child(recoverable=recoverable)],
            name="top",
            strategy="one_for_one",
            breaker=Ledger(record),
        ):
            b.die()
            await trio.sleep(1)
    assert caught.value.path == "top/b"
    assert str(caught.value.root_cause) == "no start of b2"
    assert record.order == "+a1 +b1 -b1 ?b !b2 -a1"


@story
async def test_an_unrecoverable_start_discarded_under_one_for_one_is_done() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", STAYS, [no_start], STAYS)
    child = b.child(
        recoverable=lambda error: "no start" not in str(error), on_unrecoverable="discard"
    )
    async with open_system(
        [a.child(), child], strategy="one_for_one", breaker=Ledger(record)
    ) as tree:
        b.die()
        await trio.sleep(1)
        assert tree.child("b").status == "done"
    assert record.order == "+a1 +b1 -b1 ?b !b2 -a1"


@story
async def test_an_unrecoverable_start_discarded_in_a_replay_has_failed_the_attempt() -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", STAYS, [no_start], STAYS)
    child = b.child(
        recoverable=lambda error: "no start" not in str(error), on_unrecoverable="discard"
    )
    async with open_system([a.child(), child, c.child()], breaker=Ledger(record)) as tree:
        a.die()
        await trio.sleep(1)
        assert tree.child("b").status == "done"
    assert record.order == "+a1 +b1 +c1 -a1 ?a -c1 -b1 +a2 !b2 -a2 ?b +a3 +c2 -c2 -a3"
