"""The hook that is told of an end before anything is decided about it."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import STAYS, Actor, cast, no_start
from callers import Desk, listed
from spry_py import (
    AlwaysRestart,
    Child,
    Context,
    NeverRestart,
    Strategy,
    SystemSupervisor,
    TerminationReport,
    UnrecoverableFailure,
    WouldDeadlock,
    current_context,
    open_system,
)
from stories import Boom, Ledger, Record, story, told_by


@story
async def test_on_termination_is_told_of_an_end_before_the_decision() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def tell(report: TerminationReport) -> None:
        record(f"told {report.key}{report.incarnation}")
        await trio.sleep(2)
        record("told all")

    child = a.child(on_termination=tell)
    async with open_system([child], breaker=Ledger(record)):
        await trio.sleep(1)
        a.die()
        await trio.sleep(5)
    assert record.facts == [
        (0, "+a1"),
        (1, "-a1"),
        (1, "told a1"),
        (3, "told all"),
        (3, "?a"),
        (3, "+a2"),
        (6, "-a2"),
    ]


@pytest.mark.parametrize("is_system", [False, True], ids=["worker", "supervisor"])
@story
async def test_the_context_of_on_termination_is_that_of_the_end_and_leads_to_the_tree(
    is_system: bool,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    others: list[Context] = []

    async def look(report: TerminationReport) -> None:
        own = current_context()
        record(f"{own.path}#{own.incarnation} in {own.system.path} in {own.root.path}")
        with pytest.raises(WouldDeadlock):
            await own.system.terminate_child("z")
        with pytest.raises(RuntimeError, match="has ended"):
            _ = others[0].root

    async def short() -> None:
        others.append(current_context())

    start = SystemSupervisor([a.child()], breaker=NeverRestart()) if is_system else a
    child = Child("sub" if is_system else "a", start, on_termination=look)
    inner = child if is_system else Child("sub", SystemSupervisor([child]))
    async with open_system([Child("z", short, restart="temporary"), inner], name="top"):
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
    assert record.order.startswith(
        "+a1 -a1 top/sub#1 in top in top +a2"
        if is_system
        else "+a1 -a1 top/sub/a#1 in top/sub in top +a2"
    )


@story
async def test_on_termination_is_cancelled_after_five_seconds() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def dawdle(report: TerminationReport) -> None:
        try:
            await trio.sleep(50)
        finally:
            record("cut short")

    async with open_system([a.child(on_termination=dawdle)], breaker=Ledger(record)):
        a.die()
        await trio.sleep(9)
    assert record.facts == [
        (0, "+a1"),
        (0, "-a1"),
        (5, "cut short"),
        (5, "?a"),
        (5, "+a2"),
        (9, "-a2"),
    ]


@story
async def test_on_termination_that_raises_escalates_and_loses_neither_exception() -> None:
    record = Record()
    a, b = cast(record, "ab")
    ours, theirs = Boom("of the hook"), Boom("of the child")

    async def sour(report: TerminationReport) -> None:
        raise ours

    children = [a.child(), b.child(on_termination=sour)]
    with pytest.raises(Exception, match=r".") as caught:
        async with open_system(children, strategy="one_for_one", breaker=Ledger(record)):
            b.die(theirs)
            await trio.sleep(9)
    told = list(told_by(caught.value))
    assert ours in told
    assert theirs in told
    assert not isinstance(caught.value, BaseExceptionGroup)
    assert "/b' cannot be recovered, since its on_termination failed; root" in str(caught.value)
    assert record.order == "+a1 +b1 -b1 -a1"


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@story
async def test_on_termination_runs_for_every_restart_type_and_every_reason(restart: str) -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def tell(report: TerminationReport) -> None:
        record(type(report.reason).__name__)

    async with open_system([a.child(restart=restart, on_termination=tell)]):
        a.stop()
        await trio.sleep(1)
    again = " +a2 -a2" if restart == "permanent" else ""
    assert record.order == f"+a1 -a1 Normal{again}"


@story
async def test_on_termination_is_not_told_of_ends_that_were_asked_for() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def tell(report: TerminationReport) -> None:
        record(f"told {report.key}")

    children = [a.child(on_termination=tell), b.child(on_termination=tell)]
    async with open_system(children):
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 +b1 -a1 told a -b1 +a2 +b2 -b2 -a2"


@story
async def test_a_stop_during_on_termination_stops_the_rest_and_restarts_nothing() -> None:
    record = Record()
    a, b, c = cast(record, "abc")

    async def dawdle(report: TerminationReport) -> None:
        await trio.sleep(4)

    children = [a.child(), b.child(on_termination=dawdle), c.child()]
    async with open_system(children, strategy="one_for_one", breaker=Ledger(record)) as tree:
        b.die()
        await trio.sleep(1)
        await tree.stop()
        assert trio.current_time() <= 5
    assert record.order == "+a1 +b1 +c1 -b1 -c1 -a1"


@story
async def test_siblings_are_served_while_one_for_one_waits_for_on_termination() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def dawdle(report: TerminationReport) -> None:
        await trio.sleep(4)

    async with open_system([a.child(on_termination=dawdle), b.child()], strategy="one_for_one"):
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(9)
    assert record.facts == [
        (0, "+a1"),
        (0, "+b1"),
        (0, "-a1"),
        (1, "-b1"),
        (1, "+b2"),
        (4, "+a2"),
        (10, "-b2"),
        (10, "-a2"),
    ]


@pytest.mark.parametrize("way", ["terminate", "restart"])
@story
async def test_one_that_raises_while_a_call_takes_its_child_down_is_no_reason_to_give_up(
    way: str,
) -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def sour(report: TerminationReport) -> None:
        if report.incarnation == 1:
            try:
                await trio.sleep(4)
            finally:
                raise Boom("of the hook")

    child = a.child(on_termination=sour)
    async with open_system([child], strategy="one_for_one", breaker=Ledger(record)) as tree:
        a.die()
        await trio.sleep(1)
        if way == "terminate":
            await tree.terminate_child("a")
            await tree.restart_child("a")
        else:
            await tree.child("a").restart()
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 -a1 +a2 -a2 ?a +a3 -a3"


@story
async def test_a_caller_who_wants_it_down_waits_for_the_end_of_on_termination() -> None:
    """Whatever else happens meanwhile: the hook has been cancelled, and does not end at once."""
    record = Record()
    a, b = cast(record, "ab")

    async def clings(report: TerminationReport) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    children = [a.child(on_termination=clings), b.child()]
    async with (
        open_system(children, strategy="one_for_one", breaker=Ledger(record)) as tree,
        trio.open_nursery() as nursery,
    ):
        a.die()
        await trio.sleep(1)
        record.take()
        Desk(record, nursery).call("down", tree.terminate_child, "a")
        await trio.sleep(1)
        b.die()
        await trio.sleep(9)
        facts = record.take()
        facts.remove((4, "down:ok"))
        assert facts == [(2, "-b1"), (4, "?b"), (4, "+b2")]
        assert listed(tree) == "a=stopped b=running"


@story
async def test_one_that_runs_while_a_call_keeps_the_restart_of_a_sibling_down_is_waited_for() -> (
    None
):
    record = Record()
    a, b = cast(record, "ab")

    async def slow(report: TerminationReport) -> None:
        await trio.sleep(3)
        record("told")

    children = [a.child(on_termination=slow), b.child(backoff=tenacity.wait_fixed(60))]
    async with open_system(children, strategy="rest_for_one", breaker=AlwaysRestart()) as tree:
        b.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        await tree.terminate_child("b")
        assert listed(tree) == "a=restarting b=stopped"
        await trio.sleep(5)
        assert listed(tree) == "a=running b=running"
        assert record.order == "+a1 +b1 -b1 -a1 told +a2 +b2"


@story
async def test_on_termination_is_not_told_of_a_restart_that_failed_to_start() -> None:
    record = Record()
    a = Actor(record, "a", STAYS, [no_start], STAYS)

    async def tell(report: TerminationReport) -> None:
        record(f"told {report.incarnation}")

    child = a.child(on_termination=tell)
    async with open_system([child], strategy="one_for_one", breaker=Ledger(record)):
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 -a1 told 1 ?a !a2 ?a +a3 -a3"


@story
async def test_on_termination_is_not_told_of_the_end_of_the_program() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def tell(report: TerminationReport) -> None:
        record(f"told {report.incarnation}")

    with pytest.raises(SystemExit):
        async with open_system([a.child(on_termination=tell)]):
            a.die(SystemExit(3))
            await trio.sleep(9)
    assert record.facts == [(0, "+a1"), (0, "-a1")]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_of_two_that_raise_at_once_both_are_shown(
    strategy: Strategy, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    errors = {"a": Boom("of the hook of a"), "b": Boom("of the hook of b")}
    ends = {"a": Boom("a"), "b": Boom("b")}

    async def sour(report: TerminationReport) -> None:
        raise errors[report.key]

    children = [actor.child(on_termination=sour) for actor in (a, b)]
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system(children, strategy=strategy, breaker=Ledger(record)):
            a.die(ends["a"])
            b.die(ends["b"])
            await trio.sleep(9)
    first = caught.value.path[-1]
    (second,) = {"a", "b"} - {first}
    assert caught.value.__cause__ is errors[first]
    # its supervisor gives up only once
    assert failed_hooks(caplog) == [(f"system/{second}", errors[second])]
    assert errors[second].__context__ is ends[second]


@pytest.mark.parametrize("way", ["stop", "abort", "terminate", "restart"])
@story
async def test_one_that_raises_while_its_child_is_being_stopped_is_shown(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    error = Boom("of the hook")

    async def sour(report: TerminationReport) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    children = [a.child(on_termination=sour)]
    async with open_system(children, strategy="one_for_one", breaker=Ledger(record)) as tree:
        a.die()
        await trio.sleep(1)
        if way == "stop":
            await tree.stop()
        elif way == "abort":
            tree.abort()
            await tree.wait()
        elif way == "terminate":
            await tree.terminate_child("a")
        else:
            await tree.child("a").restart()
        assert failed_hooks(caplog) == [("system/a", error)]
    # once, and for all
    assert failed_hooks(caplog) == [("system/a", error)]


def failed_hooks(caplog: pytest.LogCaptureFixture) -> list[tuple[object, object]]:
    """What is logged of hooks that have failed: the path of the child, and the error."""
    return [
        (vars(record)["spry.child.path"], record.exc_info and record.exc_info[1])
        for record in caplog.records
        if record.levelname == "ERROR" and "failed in its on_termination" in record.getMessage()
    ]
