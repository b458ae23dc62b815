"""Handles, contexts and scopes used in other threads, in other runs of trio, and after the run."""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import count, cycle
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import spry_py
from spry_py import (
    Child,
    ChildHandle,
    ChildInfo,
    Context,
    DynamicSupervisor,
    PartitionHandle,
    PartitionSupervisor,
    Scope,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py.lowlevel import add_stack
from stories import story, story_with_threads
from trapped import unraisable

HOUSE = str(Path(spry_py.__file__).parent)
READS: dict[str, Callable[[SystemHandle], Any]] = {
    "status": lambda tree: (tree.status, tree.child("a").status, tree.find("sub/b").status),
    "value": lambda tree: tree.find("sub/b").value,
    "kind": lambda tree: (tree.kind, tree.child("sub").kind),
    "incarnation": lambda tree: tree.child("a").incarnation,
    "restarts": lambda tree: tree.child("a").restarts,
    "last_report": lambda tree: tree.child("a").last_report,
    "path": lambda tree: (tree.path, tree.key, tree.find("sub/b").path),
    "which_children": lambda tree: tree.which_children(),
    "count_children": lambda tree: tree.count_children(),
    "snapshot": lambda tree: tree.snapshot(),
    # without how long all have been up, which goes on
    "render": lambda tree: [line.partition("]")[0] for line in tree.render().splitlines()],
    "info": lambda tree: (tree.info(), tree.find("sub/b").info()),
    "history": lambda tree: (tree.history(), tree.find("sub/b").history()),
    "repr": repr,
    "limited": lambda tree: tree.child("limited").status,
    "partitions": lambda tree: tree.child("hall").value and tree.child("hall").value.partitions,
    "partition": lambda tree: (
        tree.child("hall").value and tree.child("hall").value.partition("k").path
    ),
}


async def valued(value: object, *, task_status: trio.TaskStatus[object]) -> None:
    task_status.started(value)
    await trio.sleep_forever()


def idle(index: int) -> Child[Any]:
    return Child("any", valued, index)


def house() -> SystemSupervisor:
    """A tree with something of everything."""
    return SystemSupervisor(
        [
            Child("a", trio.sleep_forever),
            Child("sub", SystemSupervisor([Child("b", valued, "value of b")])),
            Child("limited", valued, 1, run_timeout=1000),
            Child("pool", DynamicSupervisor()),
            Child("hall", PartitionSupervisor(idle, partitions=2)),
        ],
        name="house",
    )


@pytest.mark.parametrize("what", READS)
@story_with_threads
async def test_what_only_reads_says_the_same_in_every_thread(what: str) -> None:
    async with open_system(house()) as tree:
        here = READS[what](tree)
        assert await trio.to_thread.run_sync(READS[what], tree) == here
        assert await trio.to_thread.run_sync(asyncio.run, called(READS[what], tree)) == here


async def called(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.mark.parametrize("what", READS)
def test_what_only_reads_works_after_the_run(what: str) -> None:
    kept = []

    async def main() -> Any:
        async with open_system(house()) as tree:
            kept.append(tree)
        return READS[what](tree)

    last = trio.run(main)
    assert READS[what](kept[-1]) == last


@story
async def test_a_time_limit_that_has_struck_is_seen_from_another_thread() -> None:
    """A reader there may not ask the cancel scope, which would cancel itself in that thread."""

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    seen: list[str] = []
    async with open_system([Child("a", stubborn, run_timeout=1, restart="temporary")]) as tree:
        handle = tree.child("a")
        for _ in range(3):
            thread = threading.Thread(target=lambda: seen.append(handle.status))
            thread.start()
            thread.join()
            await trio.sleep(0.75)
    assert seen == ["running", "running", "stopping"]


class Meddler:
    """Lets one thing happen in the tree in the middle of a read: before its n-th instruction."""

    def __init__(self, change: Callable[[], Awaitable[object]], n: int) -> None:
        self.change = change
        self.left = n

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(HOUSE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                trio.from_thread.run(self.change)
        return self

    def watch(self, read: Callable[[], Any]) -> Any:
        # Python 3.12 tells of opcodes only if some frame has asked for them by now
        sys._getframe().f_trace_opcodes = True
        # trio uses the thread again: what measures coverage there shall go on with that
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return read()
        finally:
            sys.settrace(before)


async def numbered(*, task_status: trio.TaskStatus[int]) -> None:
    task_status.started(current_context().incarnation)
    await trio.sleep_forever()


LISTS: dict[str, Callable[[SystemHandle], Sequence[ChildInfo]]] = {
    "which_children": lambda tree: tree.which_children(),
    "snapshot": lambda tree: tree.snapshot().children,
}


def fits_together(infos: Sequence[ChildInfo]) -> bool:
    keys = [info.key for info in infos]
    return keys in (["first", "second"], ["first", "second", "third"]) and all(
        info.value == (info.incarnation if info.status == "running" else None) for info in infos
    )


@pytest.mark.parametrize("what", LISTS)
@story_with_threads
async def test_whatever_happens_in_the_middle_of_a_read_it_is_true(what: str) -> None:
    """Each node fits together, and none that is there all the time is missing or there twice."""
    first, second, third = (Child(key, numbered) for key in ("first", "second", "third"))
    declared = [first, second]

    async def system(scope: Scope) -> None:
        for child in declared:
            await scope.start(child)

    async def declare(*children: Child[int]) -> None:
        declared[:] = children
        await tree.replay()

    async with open_system(system, strategy="one_for_one") as tree:
        changes: Iterator[Callable[[], Awaitable[object]]] = cycle(
            [
                partial(tree.start_child, third),
                partial(declare, first, second, third),
                tree.child("first").restart,
                partial(declare, first, second),
            ]
        )
        n = 0
        for n in count(1, 5):
            meddler = Meddler(next(changes), n)
            infos = await trio.to_thread.run_sync(meddler.watch, partial(LISTS[what], tree))
            assert fits_together(infos), (n, infos)
            if meddler.left > 0:
                break
    assert n > 100


@story_with_threads
async def test_one_that_ends_while_its_stack_is_read_stands_nowhere_or_where_it_stood() -> None:
    async with open_system([Child("a", numbered)], strategy="one_for_one") as tree:
        handle = tree.child("a")
        n = 0
        for n in count(1, 3):
            meddler = Meddler(partial(tree.terminate_child, "a"), n)
            with unraisable() as heard:
                stack = await trio.to_thread.run_sync(meddler.watch, handle.stack)
            assert (heard, stack == "" or ", in numbered\n" in stack) == ([], True), (n, stack)
            if meddler.left > 0:
                break
            await tree.restart_child("a")
    assert n > 100


# What changes something


def handles(tree: SystemHandle) -> dict[str, Any]:
    return {
        "system": tree,
        "child": tree.child("a"),
        "dynamic": tree.child("pool").value,
        "partition": tree.child("hall").value,
    }


async def nothing(*_: object) -> None:
    """What is never to be run."""


EXTRA = Child("extra", trio.sleep_forever)
CHANGES: list[tuple[str, str, tuple[Any, ...]]] = [
    ("system", "start_child", (EXTRA,)),
    ("system", "terminate_child", ("a",)),
    ("system", "restart_child", ("a",)),
    ("system", "delete_child", ("a",)),
    ("system", "replay", ()),
    ("system", "run", (nothing,)),
    ("system", "stop", ()),
    ("system", "abort", ()),
    ("system", "wait", ()),
    ("system", "wait_started", ()),
    ("system", "new_key", ()),
    ("system", "events", ()),
    ("system", "follow", ()),
    ("system", "map", (nothing, [1])),
    ("child", "wait", ()),
    ("child", "wait_started", ()),
    ("child", "terminate", ()),
    ("child", "restart", ()),
    ("child", "wait_incarnation", (1,)),
    ("child", "fail", (ValueError(),)),
    ("dynamic", "start_child", (EXTRA, "queue")),
    ("dynamic", "abort", ()),
    ("partition", "resize", (1,)),
    ("partition", "replay", ()),
    ("context", "settled", ()),
    ("context", "cancel_on_settle", ()),
    ("lowlevel", "add_stack", (str,)),
    ("scope", "start", (EXTRA,)),
    ("scope", "start_together", (EXTRA, EXTRA)),
]
READING = {
    "child",
    "find",
    "system",
    "info",
    "stack",
    "which_children",
    "count_children",
    "snapshot",
    "render",
    "partition",
    "of",
    "carrier",
    # said to be callable from everywhere
    "heartbeat",
    "fail",
    # the system's own code that ends the scope
    "close",
    "refuse_unawaited",
}


def test_the_list_of_what_changes_something_is_whole() -> None:
    kinds: dict[str, type] = {
        "system": SystemHandle,
        "child": ChildHandle,
        "partition": PartitionHandle,
        "context": Context,
        # whose methods are the kernel's
        "scope": Scope.__bases__[0],
    }
    listed = {(name, method) for name, method, _ in CHANGES}
    for name, kind in kinds.items():
        own = {word for word, f in vars(kind).items() if inspect.isroutine(f) and word[0] != "_"}
        assert own - READING <= {method for which, method in listed if which == name}


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return trio.to_thread.run_sync(partial(function, *args))


def in_another_run(function: Callable[..., Any], *args: Any) -> Any:
    """Call in a run of trio in another thread, and wait for it there if it is async."""

    async def main() -> Any:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    return trio.to_thread.run_sync(trio.run, main)


def in_asyncio(function: Callable[..., Any], *args: Any) -> Any:
    async def main() -> Any:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    return trio.to_thread.run_sync(lambda: asyncio.run(main()))


def driven_there(function: Callable[..., Any], *args: Any) -> Any:
    """Made here, and driven in another thread."""

    async def main(result: Awaitable[Any]) -> Any:
        return await result

    return trio.to_thread.run_sync(trio.run, main, function(*args))


AT_ONCE = ("abort", "new_key", "events", "follow", "map", "cancel_on_settle", "add_stack", "fail")
# waits for nothing where what it waits for is there
WAITS = ("settled", "wait_started", "wait_incarnation")
CASES = [
    (*change, elsewhere)
    for change in CHANGES
    for elsewhere in (in_thread, in_another_run, in_asyncio, driven_there)
    if elsewhere is not driven_there or change[1] not in (*AT_ONCE, *WAITS)
]


@pytest.mark.parametrize(("which", "method", "args", "elsewhere"), CASES)
@story_with_threads
async def test_what_changes_something_is_refused_elsewhere_and_changes_nothing(
    which: str, method: str, args: tuple[Any, ...], elsewhere: Callable[..., Any]
) -> None:
    contexts: list[Context] = []
    refused: list[str] = []

    async def knows_itself() -> None:
        contexts.append(current_context())
        await trio.sleep_forever()

    async def attempt(target: Any) -> None:
        with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run") as caught:
            await elsewhere(getattr(target, method), *args)
        refused.append(str(caught.value))

    async def system(scope: Scope) -> None:
        await scope.start(Child("a", knows_itself))
        await scope.start(Child("pool", DynamicSupervisor()))
        await scope.start(Child("hall", PartitionSupervisor(idle, partitions=2)))
        if which == "scope":
            await attempt(scope)

    async with open_system(system) as tree:
        before = tree.snapshot()
        if which != "scope":
            targets = {**handles(tree), "context": contexts[0]}
            targets["lowlevel"] = SimpleNamespace(
                add_stack=lambda tell: add_stack(tell, contexts[0])
            )
            await attempt(targets[which])
        await trio.testing.wait_all_tasks_blocked()
        assert tree.snapshot() == before
    assert len(refused) == 1
    assert tree.last_report is not None
    assert tree.last_report.burden == "settling"


@story_with_threads
async def test_from_thread_brings_a_call_to_where_it_is_served() -> None:
    def work(tree: SystemHandle) -> list[Any]:
        key = trio.from_thread.run_sync(tree.new_key)
        child = trio.from_thread.run(tree.start_child, Child(key, valued, "v"))
        value = trio.from_thread.run(child.wait_started)
        trio.from_thread.run(tree.terminate_child, key)
        trio.from_thread.run_sync(tree.abort)
        return [key, value]

    async with open_system([Child("a", trio.sleep_forever)]) as tree:
        assert await trio.to_thread.run_sync(work, tree) == ["child-1", "v"]
        assert (await tree.wait()).burden == "aborted"


def test_after_the_run_a_tree_is_changed_no_more() -> None:
    kept: list[SystemHandle] = []

    async def main() -> None:
        async with open_system([Child("a", trio.sleep_forever)], name="top") as tree:
            kept.append(tree)

    trio.run(main)
    for change in (kept[0].abort, kept[0].stop, kept[0].child("a").terminate, kept[0].events):
        with pytest.raises(RuntimeError, match="from_thread"):
            change()
    with pytest.raises(RuntimeError, match="from_thread"):
        trio.run(kept[0].stop)
    assert kept[0].status == "stopped"


@story_with_threads
async def test_started_said_in_another_thread_is_refused() -> None:
    said: list[str] = []

    async def child(*, task_status: trio.TaskStatus[int]) -> None:
        for elsewhere in (in_thread, in_another_run):
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync") as caught:
                await elsewhere(task_status.started, 1)
            said.append(str(caught.value))
        await trio.to_thread.run_sync(trio.from_thread.run_sync, task_status.started, 2)
        await trio.sleep_forever()

    async with open_system([Child("a", child)]) as tree:
        assert (tree.child("a").value, len(said)) == (2, 2)


@pytest.mark.parametrize("call", ["terminate", "restart"])
@story_with_threads
async def test_a_call_made_here_and_awaited_in_another_run_is_refused(call: str) -> None:
    async with open_system([Child("a", trio.sleep_forever)]) as tree:
        made: Awaitable[object] = getattr(tree.child("a"), call)()

        async def elsewhere() -> None:
            await made

        with pytest.raises(RuntimeError, match="from_thread"):
            await trio.to_thread.run_sync(trio.run, elsewhere)
        assert (tree.child("a").status, tree.child("a").incarnation) == ("running", 1)


@story_with_threads
async def test_a_reader_of_events_in_another_run_is_refused() -> None:
    async with open_system([Child("a", trio.sleep_forever)]) as tree:
        made = tree.events(math.inf)

        async def read() -> None:
            async with made as events:
                async for event in events:
                    raise AssertionError(event)

        with pytest.raises(RuntimeError, match="from_thread"):
            await trio.to_thread.run_sync(trio.run, read)
