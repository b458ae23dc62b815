"""Stops at the edges: hooks, nested trees and policies that are under way when one comes."""

from __future__ import annotations

import signal
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
import tenacity
import trio
from trio.testing import MockClock

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, status_of
from logged import kept
from pools import open_pool
from spry_py import (
    Child,
    Failed,
    Interrupted,
    Scope,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    UnrecoverableFailure,
    cancel_on_settle,
    current_context,
    open_system,
)
from spry_py._program.run import run_tree
from spry_py._program.signals import Signals
from spry_py._spec.errors import sole_leaf_of
from spry_py.testing import Step
from stories import Boom, Record, story, warnings_of


async def idle() -> None:
    await trio.sleep_forever()


class Hook:
    """An ``on_termination`` that takes its time and says how that ended."""

    def __init__(self, record: Record, shields: float = 0.0) -> None:
        self._record = record
        self._shields = shields

    async def __call__(self, report: TerminationReport) -> None:
        self._record(f"hook of {report.key}")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self._shields)
            self._record(f"end of hook of {report.key}")


@story
async def test_a_pool_that_stops_cancels_the_hooks_under_way() -> None:
    record = Record()
    a = Actor(record, "a")
    async with open_pool() as pool:
        await pool.start_child(a.child(on_termination=Hook(record)))
        a.die()
        await trio.sleep(1)
    assert record.facts == [
        (0, "+a1"),
        (0, "-a1"),
        (0, "hook of a"),
        (1, "end of hook of a"),
    ]


@story
async def test_an_abort_cancels_the_hooks_under_way() -> None:
    record = Record()
    a = Actor(record, "a")
    async with open_system([a.child(on_termination=Hook(record))]) as tree:
        a.die()
        await trio.sleep(1)
        tree.abort()
        await tree.wait()
    assert record.order == "+a1 -a1 hook of a end of hook of a"


@story
async def test_terminating_a_child_whose_hook_is_under_way_waits_for_the_hook() -> None:
    record = Record()
    a = Actor(record, "a")
    child = a.child(on_termination=Hook(record, shields=2))
    async with open_system([child], strategy="one_for_one") as tree:
        a.die()
        await trio.sleep(1)
        await tree.terminate_child("a")
        assert record.facts[-1] == (3, "end of hook of a")
        assert status_of(tree, "a") == "stopped"


# What comes due while the supervisor is busy, and so lies in its mailbox with the call: the end of
# a wait, and another attempt when the first has failed. When it is busy, and when the call comes.
DUE: list[tuple[Sequence[Sequence[Step]], float, float]] = [
    ([STAYS], 1, 1.5),
    ([STAYS, [1, no_start]], 2.5, 3.5),
]


@pytest.mark.parametrize(("runs", "busy", "called"), DUE, ids=["wait", "attempt"])
@story
async def test_a_termination_prevents_what_has_come_due_while_the_supervisor_was_busy(
    runs: Sequence[Sequence[Step]], busy: float, called: float
) -> None:
    record = Record()
    a, b = Actor(record, "a", *runs, STAYS), Actor(record, "b")
    backoff = tenacity.wait_chain(tenacity.wait_fixed(2), tenacity.wait_fixed(0))
    children = [a.child(backoff=backoff), b.child(on_termination=Hook(record, shields=3))]
    async with open_system(children, strategy="one_for_one") as tree:
        async with trio.open_nursery() as nursery:
            desk = Desk(record, nursery)
            a.die()
            b.die()
            await trio.sleep(busy)
            desk.call("end b", tree.terminate_child, "b")
            await trio.sleep(called - busy)
            desk.call("end a", tree.terminate_child, "a")
        assert sorted(record.facts[-2:]) == [(busy + 3, "end a:ok"), (busy + 3, "end b:ok")]
        await trio.sleep(9)
        assert [child.status for child in tree.which_children()] == ["stopped", "stopped"]
        assert (a.runs, b.runs) == (len(runs), 1)


@story
async def test_a_wait_without_end_is_refused() -> None:
    record = Record()
    a = Actor(record, "a")
    child = a.child(backoff=lambda state: float("inf"))
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([child]):
            a.die()
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, ValueError)
    assert "'system/a' must give a finite number" in str(caught.value.__cause__)


class _Raises:
    """A breaker that raises."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> _Raises:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        try:
            raise Boom("inner")
        except Boom:
            raise self._error  # noqa: B904 - the context is what this is about


@story
async def test_what_a_breaker_raised_in_an_error_of_its_own_keeps_its_context() -> None:
    record = Record()
    a = Actor(record, "a")
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([a.child()], breaker=_Raises(ValueError("outer"))):
            a.die(Boom("of the child"))
            await trio.sleep_forever()
    cause = caught.value.__cause__
    assert repr(cause) == "ValueError('outer')"
    assert repr(cause.__context__ if cause is not None else None) == "Boom('inner')"


@story
async def test_a_breaker_that_asks_the_program_to_end_ends_it_in_order() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    error = SystemExit(3)
    with pytest.raises(SystemExit) as caught:
        async with open_system([a.child(), b.child()], breaker=_Raises(error)):
            b.die()
            await trio.sleep_forever()
    assert caught.value is error
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_one_aborted_that_asks_whether_it_has_been_asked_hears_so_at_once() -> None:
    record = Record()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await current_context().settled()
            record("asked")

    async with open_system([Child("a", child)]):
        await trio.sleep(1)
    assert record.facts == [(1, "asked")]


@pytest.mark.parametrize("listens", [True, False])
@story
async def test_a_tree_opened_by_one_that_is_to_end_does_not_come_up(listens: bool) -> None:
    record = Record()
    a = Actor(record, "a", [1, *STAYS])

    async def open_one() -> None:
        try:
            async with open_system([a.child()]):
                record("never")
        except Interrupted as error:
            record(str(error))

    async def child() -> None:
        try:
            if listens:
                with cancel_on_settle():
                    await trio.sleep_forever()
            else:
                await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await open_one()

    async with open_system([Child("host", child)]):
        await trio.sleep(1)
    assert record.order == "'system' was stopped before it was started"


@pytest.mark.parametrize("nested", [False, True])
@story
async def test_one_that_a_stop_interrupts_while_a_tree_of_its_own_comes_up_has_not_failed(
    nested: bool,
) -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b", [5, *STAYS])

    async def boots() -> None:
        async with open_system([a.child(), b.child()], name="inner"):
            record("never")

    async def host() -> None:
        await trio.lowlevel.checkpoint()
        if not nested:
            await boots()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(boots)

    with kept() as book:
        async with open_system([Child("host", host)], name="top") as tree:
            await trio.sleep(1)
    assert record.facts == [(0, "+a1"), (0, "~b1"), (1, "-b1"), (1, "-a1")]
    report = tree.child("host").last_report
    assert report is not None
    assert (report.burden, report.failed, report.exception) == ("settling", False, None)
    assert isinstance(report.reason, Failed)
    assert isinstance(sole_leaf_of(report.reason.exception), Interrupted)
    assert "top/host stopped (settling)" in [one.getMessage() for one in book.records]
    assert {level for level, _ in book.told()} == {"INFO"}


@story
async def test_a_subtree_cancelled_whole_takes_the_trees_opened_in_it_along() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=1)

    async def host() -> None:
        async with open_system([a.child(shutdown=50)]):
            await trio.sleep_forever()

    sub = Child("sub", SystemSupervisor([Child("host", host)]))
    async with open_system([sub]) as tree:
        await trio.sleep(1)
        tree.abort()
        await tree.wait()
    assert record.facts == [(0, "+a1"), (2, "-a1")]


@story
async def test_one_asked_to_end_after_its_limit_is_named_once_at_a_time() -> None:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    with warnings_of("top") as heard:
        async with open_system([Child("a", child, run_timeout=2)], name="top"):
            await trio.sleep(2.5)
    stuck = [time for time, _, text in heard if "does not end" in text]
    assert stuck == [3.5, 5.5]


@story
async def test_the_stack_of_one_stuck_shows_its_nested_tasks() -> None:
    async def deeper() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)

    async def child() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deeper, name="the deeper one")

    with warnings_of("top") as heard:
        async with open_system([Child("a", child)], name="top"):
            pass
    assert [(time, "in its nested task the deeper one" in text) for time, _, text in heard] == [
        (1, True)
    ]


@pytest.mark.parametrize("returns", [True, False])
@story
async def test_the_wait_for_a_nested_supervisor_outlasts_that_of_the_one_above(
    returns: bool,
) -> None:
    record = Record()
    a = Actor(record, "a")

    async def middle(scope: Scope) -> None:
        if returns or current_context().incarnation == 1:
            await scope.start(Child("inner", SystemSupervisor([a.child()])))

    top = [Child("middle", SystemSupervisor(middle), backoff=tenacity.wait_fixed(2))]
    async with open_system(top, strategy="one_for_one") as tree, trio.open_nursery() as nursery:
        outer: SystemHandle = tree.child("middle").value
        inner: SystemHandle = outer.child("inner").value
        desk = Desk(record, nursery)
        desk.call("stop", outer.stop)
        await trio.sleep(1)
        desk.call("wait", inner.wait)
        await trio.sleep(4)
        expected = [(0, "+a1"), (0, "-a1"), (0, "stop:ok")]
        expected += [(2, "+a2")] if returns else [(2, "wait:ok")]
        assert record.take() == expected
        await tree.stop()
        assert record.take_order() == ("-a2 wait:ok" if returns else "")


class _Early(Signals):
    """A signal comes before there is anything that it could stop."""

    def __enter__(self) -> Any:
        super().__enter__()
        signal.raise_signal(signal.SIGTERM)
        return self


def test_a_signal_that_comes_very_early_stops_the_tree_as_soon_as_there_is_one() -> None:
    ran: list[str] = []

    async def child() -> None:
        ran.append("child")
        await trio.sleep_forever()

    signals = _Early()
    report = run_tree(SystemSupervisor([Child("a", child)]), signals=signals)
    assert (signals.count, signals.last) == (1, signal.SIGTERM)
    assert (report.burden, report.started_at, ran) == ("settling", None, [])


@trio.lowlevel.enable_ki_protection
def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_an_aborted_tree_ends_is_not_lost() -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                _interrupt()
                await trio.sleep(1)
            ended.append("child")

    class Status:
        def started(self, value: Any = None) -> None:
            value.abort()

    async def main() -> None:
        await SystemSupervisor([Child("a", child)])(task_status=Status())

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert ended == ["child"]


@story
async def test_a_termination_that_comes_during_a_restart_wins() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=2)
    async with open_system([a.child()]) as tree, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("restart", tree.child("a").restart)
        await trio.sleep(1)
        desk.call("end", tree.terminate_child, "a")
        await trio.sleep(3)
        assert record.take_order() == "+a1 -a1 end:ok restart:SupervisorStopped"


class Steps:
    """What somebody's own awaitable may be made of: not a generator, and without a frame."""

    def __init__(self, steps: Coroutine[Any, Any, object]) -> None:
        self._steps: Any = steps.__await__()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        return next(self._steps)

    def send(self, value: Any) -> Any:
        return self._steps.send(value)

    def throw(self, error: BaseException) -> Any:
        return self._steps.throw(error)


@story
async def test_a_stack_goes_as_far_as_python_shows_it() -> None:
    async def child() -> None:
        await Steps(idle())

    async with open_system([Child("a", child)]) as tree:
        stack = tree.child("a").stack()
    assert "in child\n    await Steps(idle())" in stack


@story
async def test_a_limit_of_a_supervisor_is_what_its_children_end_for_from_that_instant() -> None:
    """trio cancels by itself, and nobody below the supervisor has been asked for anything yet."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    record = Record()

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        record(str(current_context().settling_for))
        await trio.sleep(1)
        clock.jump(3)
        record(str(current_context().settling_for))
        await trio.sleep_forever()

    sub = SystemSupervisor([Child("inner", SystemSupervisor([Child("a", child)]))])
    children = [Child("sub", sub, run_timeout=2, restart="temporary")]
    async with open_system(children) as tree:
        assert (await tree.child("sub").wait()).failed
    assert record.facts == [(0, "None"), (4, "limit")]


@story
async def test_a_tree_opened_by_a_task_that_its_child_has_left_behind_is_on_its_own() -> None:
    record = Record()
    a = Actor(record, "a")

    async def left_behind() -> None:
        await trio.sleep(2)
        async with open_system([a.child()]):
            await trio.sleep(1)

    async def child() -> None:
        cancel_on_settle()
        nursery.start_soon(left_behind)

    children = [Child("child", child, restart="temporary")]
    async with trio.open_nursery() as nursery, open_system(children):
        await trio.sleep(1)
    assert record.facts == [(2, "+a1"), (3, "-a1")]


@pytest.mark.parametrize("limit", ["run_timeout", "heartbeat"])
@story
async def test_the_limits_of_one_that_was_asked_to_finish_count_no_more(limit: str) -> None:
    record = Record()

    async def child() -> None:
        current_context().heartbeat()
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(4)
        record("finished")

    limits: dict[str, Any] = {limit: 2}
    async with open_system([Child("a", child, **limits)]) as tree:
        await trio.sleep(1)
        await tree.terminate_child("a")
        report = tree.child("a").last_report
    assert report is not None
    assert (report.failed, report.burden) == (False, "settling")
    assert record.facts == [(5, "finished")]
