"""What a child knows about itself, and what it can say."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest
import trio

from actors import cast
from spry_py import (
    Child,
    ChildFailure,
    Context,
    Failed,
    Scope,
    SystemSupervisor,
    WouldDeadlock,
    cancel_on_settle,
    current_context,
    open_system,
)
from stories import Boom, Record, story, story_with_threads


def test_there_is_no_context_outside_a_tree() -> None:
    with pytest.raises(RuntimeError):
        current_context()
    with pytest.raises(RuntimeError):
        cancel_on_settle()


@story
async def test_nor_in_the_block_of_open_system() -> None:
    async with open_system([]):
        with pytest.raises(RuntimeError):
            current_context()
        with pytest.raises(RuntimeError):
            cancel_on_settle()


@story
async def test_a_child_knows_its_key_path_and_incarnation() -> None:
    record = Record()

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        context = current_context()
        record(f"{context.key} {context.path} {context.incarnation} {context.is_settling}")
        task_status.started()
        await trio.sleep(1)
        raise Boom

    sub = SystemSupervisor([Child("leaf", child)])
    async with open_system([Child("sub", sub)], name="top"):
        await trio.sleep(2.5)
    assert record.facts == [
        (0, "leaf top/sub/leaf 1 False"),
        (1, "leaf top/sub/leaf 2 False"),
        (2, "leaf top/sub/leaf 3 False"),
    ]


@story
async def test_nested_tasks_share_the_context_of_their_child() -> None:
    record = Record()

    async def task() -> None:
        record(current_context().path)

    async def child() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            nursery.start_soon(task)
        await trio.sleep_forever()

    async with open_system([Child("a", child)], name="top"):
        await trio.sleep(1)
    assert record.order == "top/a top/a"


@story
async def test_the_system_function_has_the_context_of_its_supervisor() -> None:
    record = Record()

    async def sub(scope: Scope) -> None:
        record(f"{scope.context.key} {scope.context.path} {current_context().path}")

    async def top(scope: Scope) -> None:
        record(f"{scope.context.key} {scope.context.path} {current_context().path}")
        await scope.start(Child("sub", SystemSupervisor(sub)))

    async with open_system(top):
        pass
    assert [fact for _, fact in record.facts] == ["top top top", "sub top/sub top/sub"]


@story
async def test_is_settling_and_settled_tell_that_the_child_is_asked_to_end() -> None:
    record = Record()

    async def child() -> None:
        context = current_context()
        record(f"{context.is_settling}")
        await context.settled()
        record(f"{context.is_settling}")

    async with open_system([Child("a", child)]):
        await trio.sleep(1)
    assert record.facts == [(0, "False"), (1, "True")]


@story
async def test_cancel_on_settle_ends_accepting_and_lets_work_be_finished() -> None:
    record = Record()

    async def work(n: int) -> None:
        await trio.sleep(2)
        record(f"done {n}")

    async def server() -> None:
        async with trio.open_nursery() as nursery:
            with cancel_on_settle():
                for n in range(100):
                    nursery.start_soon(work, n)
                    await trio.sleep(1)
            record("no more")

    async with open_system([Child("server", server)]) as tree:
        handle = tree.child("server")
        await trio.sleep(1.5)
    assert record.facts == [(1.5, "no more"), (2, "done 0"), (3, "done 1")]
    assert handle.last_report is not None
    assert handle.last_report.burden == "settling"


@story
async def test_several_tasks_of_a_child_may_listen() -> None:
    record = Record()

    async def listen(n: int) -> None:
        if n % 2:
            await current_context().settled()
        else:
            with cancel_on_settle():
                await trio.sleep_forever()
        record(f"heard {n}")

    async def child() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(4):
                nursery.start_soon(listen, n)

    async with open_system([Child("a", child)]):
        await trio.sleep(1)
    assert sorted(record.facts) == [(1, f"heard {n}") for n in range(4)]


# Failing


@story
async def test_fail_from_a_nested_task_cancels_the_child_and_fails_it() -> None:
    record = Record()
    error = Boom("told")

    async def nested() -> None:
        await trio.sleep(1)
        current_context().fail(error)

    async def child() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nested)
                nursery.start_soon(trio.sleep_forever)
        finally:
            record("cancelled")

    async with open_system([Child("a", child, restart="temporary")]) as tree:
        handle = tree.child("a")
        await trio.sleep(3)
    assert handle.last_report is not None
    assert (handle.last_report.reason, handle.last_report.burden) == (Failed(error), "none")
    assert record.facts == [(1, "cancelled")]


@story
async def test_fail_stands_whatever_the_child_makes_of_its_cancellation() -> None:
    record = Record()
    first, second = Boom("first"), Boom("second")

    async def child() -> str:
        context = current_context()
        await trio.sleep(1)
        context.fail(first)
        context.fail(second)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            record("shrugs")
        return "fine"

    async with open_system([Child("a", child, restart="temporary")]) as tree:
        handle = tree.child("a")
        await trio.sleep(9)
    assert record.facts == [(4, "shrugs")]
    assert handle.last_report is not None
    assert handle.last_report.reason == Failed(first)


@story
async def test_a_failed_child_is_restarted_like_one_that_raised() -> None:
    record = Record()
    (b,) = cast(record, "b")

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        context = current_context()
        record(f"+{context.incarnation}")
        task_status.started()
        await trio.sleep(1)
        context.fail(Boom("told"))
        await trio.sleep_forever()

    async with open_system([Child("a", child), b.child()]):
        await trio.sleep(1.5)
    assert record.facts == [(0, "+1"), (0, "+b1"), (1, "-b1"), (1, "+2"), (1, "+b2"), (1.5, "-b2")]


@story
async def test_fail_before_started_fails_the_start() -> None:
    error = Boom("told")

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        current_context().fail(error)
        await trio.sleep_forever()

    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("a", child)]):
            raise AssertionError("it never starts")
    assert caught.value.__cause__ is error


@story
async def test_fail_of_an_incarnation_that_is_over_does_nothing() -> None:
    record = Record()
    contexts = []

    async def child() -> None:
        contexts.append(current_context())
        record(f"+{len(contexts)}")
        await trio.sleep(1)
        if len(contexts) == 1:
            raise Boom
        await trio.sleep_forever()

    async with open_system([Child("a", child)]) as tree:
        await trio.sleep(2)
        contexts[0].fail(Boom("too late"))
        await trio.sleep(2)
        assert tree.child("a").incarnation == 2
    assert record.facts == [(0, "+1"), (1, "+2")]


@pytest.mark.parametrize("wrong", ["text", None, Boom, 3])
@story
async def test_fail_wants_an_exception(wrong: object) -> None:
    record = Record()

    async def child() -> None:
        with pytest.raises(TypeError):
            current_context().fail(wrong)  # type: ignore[arg-type]
        record("refused")
        await trio.sleep_forever()

    async with open_system([Child("a", child)]):
        await trio.sleep(1)
    assert record.order == "refused"


@story_with_threads
async def test_fail_from_a_thread_of_trio() -> None:
    error = Boom("in the thread")

    async def child() -> None:
        await trio.to_thread.run_sync(current_context().fail, error)
        await trio.sleep_forever()

    async with open_system([Child("a", child, restart="temporary")]) as tree:
        handle = tree.child("a")
        report = await handle.wait()
    assert report.reason == Failed(error)


@story_with_threads
async def test_fail_from_a_thread_that_trio_does_not_know() -> None:
    error = Boom("in the thread")

    async def child() -> None:
        context = current_context()
        thread = threading.Thread(target=context.fail, args=(error,))
        thread.start()
        try:
            await trio.sleep_forever()
        finally:
            thread.join()

    async with open_system([Child("a", child, restart="temporary")]) as tree:
        report = await tree.child("a").wait()
    assert report.reason == Failed(error)


@story_with_threads
async def test_fail_from_a_thread_after_the_tree_is_gone_does_nothing() -> None:
    contexts = []

    async def child() -> None:
        contexts.append(current_context())
        await trio.sleep_forever()

    async with open_system([Child("a", child)]) as tree:
        handle = tree.child("a")
    await trio.to_thread.run_sync(contexts[0].fail, Boom("too late"))
    assert handle.last_report is not None
    assert not handle.last_report.failed


@story
async def test_the_child_of_a_tree_inside_a_child_has_a_context_of_its_own() -> None:
    record = Record()

    async def leaf() -> None:
        record(current_context().path)
        await trio.sleep_forever()

    async def own() -> None:
        async with open_system([Child("leaf", leaf)], name="inner"):
            record(current_context().path)
            await trio.sleep_forever()

    async with open_system([Child("own", own)], name="top"):
        await trio.sleep(1)
    assert record.order.split()[0].endswith("inner/leaf")
    assert record.order.split()[1] == "top/own"


COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


@story
async def test_context_variables_of_the_opener_are_seen_by_every_incarnation() -> None:
    record = Record()

    async def child(key: str) -> None:
        record(f"{key} sees {COLOUR.get()}")
        COLOUR.set(key)
        await trio.sleep(1)
        raise Boom

    token = COLOUR.set("red")
    children = [Child("a", child, "a"), Child("sub", SystemSupervisor([Child("b", child, "b")]))]
    async with open_system(children, strategy="one_for_one"):
        COLOUR.reset(token)
        await trio.sleep(1.5)
    assert sorted(record.facts) == [
        (0, "a sees red"),
        (0, "b sees red"),
        (1, "a sees red"),
        (1, "b sees red"),
    ]


# Handles from inside


@story
async def test_code_inside_a_tree_has_handles_from_the_first_moment() -> None:
    seen: list[tuple[str, str, str, str]] = []

    def look(who: str) -> None:
        context = current_context()
        seen.append((who, context.system.path, context.root.path, context.root.status))

    async def worker() -> None:
        look("worker")

    async def opens() -> None:
        async with open_system([Child("in", worker, restart="temporary")], name="inner"):
            look("host")

    async def below(scope: Scope) -> None:
        assert scope.system.path == "top/sub"
        assert scope.context == current_context()
        look("system")
        await scope.start(Child("a", worker, restart="temporary"))

    async def system(scope: Scope) -> None:
        look("root")
        assert (scope.system.path, scope.system.status) == ("top", "starting")
        assert scope.system.which_children() == []
        await scope.start(Child("sub", SystemSupervisor(below)))
        await scope.start(Child("host", opens, restart="temporary"))

    async with open_system(system, name="top"):
        await trio.sleep(1)
    assert sorted(seen) == [
        ("host", "top", "top", "running"),
        ("root", "top", "top", "starting"),
        ("system", "top/sub", "top", "starting"),
        ("worker", "inner", "inner", "starting"),
        ("worker", "top/sub", "top", "starting"),
    ]


@story_with_threads
async def test_threads_of_a_child_have_them_too() -> None:
    def look() -> tuple[str, str]:
        return current_context().system.path, current_context().root.path

    seen: list[tuple[str, str]] = []

    async def system(scope: Scope) -> None:
        seen.append(await trio.to_thread.run_sync(look))

    async with open_system([Child("sub", SystemSupervisor(system))], name="top"):
        assert seen == [("top/sub", "top")]


@story
async def test_a_handle_from_inside_changes_the_tree_as_any_other_does() -> None:
    record = Record()
    (b,) = cast(record, "b")

    async def adds() -> None:
        await trio.sleep(1)
        await current_context().system.start_child(b.child())
        await current_context().root.stop()

    async def system(scope: Scope) -> None:
        with pytest.raises(WouldDeadlock):
            await scope.system.start_child(b.child())
        await scope.start(Child("a", adds))

    async with open_system(system) as tree:
        await tree.wait()
    assert record.order == "+b1 -b1"


@story
async def test_what_is_over_leads_to_no_tree_any_more() -> None:
    contexts: list[Context] = []
    scopes: list[Scope] = []

    async def child() -> None:
        contexts.append(current_context())

    async def system(scope: Scope) -> None:
        scopes.append(scope)
        await scope.start(Child("a", child, restart="temporary"))

    async with open_system(system, name="top"):
        await trio.sleep(1)
        with pytest.raises(RuntimeError, match=r"context\.system: .* 'top/a' has ended"):
            _ = contexts[0].system
        with pytest.raises(RuntimeError, match=r"context\.root"):
            _ = contexts[0].root
        with pytest.raises(RuntimeError, match="its system function has returned"):
            _ = scopes[0].system
