"""Trees that a child opens in a thread of its own, with a run of trio of its own."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import trio

from spry_py import AlwaysRestart, Child, Normal, cancel_on_settle, current_context, open_system
from stories import Boom, story, story_with_threads


class Inner:
    """A tree in a thread: what its child does when the host is asked to finish, or aborted."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.log: list[str] = []

    async def child(self) -> None:
        try:
            with cancel_on_settle():
                await trio.sleep_forever()
            self.log.append("settled")
        except trio.Cancelled:
            self.log.append("aborted")
            raise

    def run(self) -> None:
        async def main() -> None:
            async with open_system([Child("x", self.child)], name="inner") as tree:
                self.begun.set()
                await tree.wait()
            self.log.append(f"inner ended in {current_context().path}")

        trio.run(main)

    async def host(self) -> None:
        await trio.to_thread.run_sync(self.run)


@story_with_threads
async def test_it_settles_with_its_host() -> None:
    inner = Inner()
    async with open_system([Child("host", inner.host, shutdown=60)], name="top"):
        await trio.to_thread.run_sync(inner.begun.wait)
    assert inner.log == ["settled", "inner ended in top/host"]


@story_with_threads
async def test_it_is_aborted_with_its_host() -> None:
    inner = Inner()
    async with open_system([Child("host", inner.host, shutdown=0)], name="top"):
        await trio.to_thread.run_sync(inner.begun.wait)
    assert inner.log == ["aborted", "inner ended in top/host"]


@story
async def test_a_child_that_outlives_its_time_limit_is_stopping() -> None:
    async def stays() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    async with open_system([Child("a", stays, run_timeout=1, restart="temporary")]) as handle:
        await trio.sleep(0.5)
        assert handle.child("a").status == "running"
        await trio.sleep(1)
        assert handle.child("a").status == "stopping"


@story_with_threads
async def test_what_a_thread_says_after_the_end_of_the_run_is_not_heard() -> None:
    done = threading.Event()
    contexts = []

    def inner() -> None:
        async def main() -> None:
            async def child() -> None:
                contexts.append(current_context())

            async with open_system([Child("x", child)]):
                await trio.lowlevel.checkpoint()

        trio.run(main)
        contexts[0].heartbeat()
        contexts[0].fail(ValueError("too late"))
        done.set()

    await trio.to_thread.run_sync(inner)
    assert done.is_set()


def test_a_context_is_of_no_use_outside_a_tree() -> None:
    with pytest.raises(RuntimeError, match="outside a supervision tree"):
        current_context()


@pytest.mark.parametrize("says", ["heartbeat", "fail"])
@pytest.mark.parametrize("restart", ["permanent", "temporary"])
@story
async def test_what_a_thread_says_in_the_moment_of_the_end_does_nothing(
    says: str, restart: Any
) -> None:
    """It is on its way to trio's thread when the child ends, and comes there after that."""
    runs: list[str] = []

    async def child() -> str:
        context = current_context()
        runs.append(f"run {context.incarnation}")
        context.heartbeat()
        await trio.sleep(1)
        if context.incarnation == 1:
            say = context.heartbeat if says == "heartbeat" else partial(context.fail, Boom("late"))
            thread = threading.Thread(target=say)
            thread.start()
            thread.join()
        else:
            await trio.sleep_forever()
        return "its own end"

    spec = Child("a", child, heartbeat=3, restart=restart)
    async with open_system([spec], breaker=AlwaysRestart()) as tree:
        handle = tree.child("a")
        await trio.sleep(2)
        report = handle.last_report
        assert report is not None
        assert (report.reason, report.burden) == (Normal("its own end"), "none")
        assert handle.status == ("running" if restart == "permanent" else "stopped")
    assert runs == (["run 1", "run 2"] if restart == "permanent" else ["run 1"])
