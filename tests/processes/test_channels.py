"""Channels: messages between a program and a Python function in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

import talkers
from living import children_of
from logged import kept
from spry_py import Child, Normal, SystemHandle, open_system
from spry_py.processes import Process, ProcessFailed, process
from spry_py.processes.channel import HEAD, MESSAGE, MOST_AHEAD, Ahead, Frames
from stories import story_with_threads

loose: Any = process


def opened(fn: Callable[..., object], *args: Any, **options: Any) -> Any:
    # not restarted, and still known when it has ended, which may be before it is asked about
    once: Any = {"restart": "transient", "recoverable": lambda error: False}
    once["on_unrecoverable"] = "discard"
    child = Child("it", process(fn, *args, channel=True), **once | options)
    return open_system([child], name="top")


def process_of(tree: SystemHandle) -> Process[Any]:
    value: Process[Any] = tree.child("it").value
    return value


async def ended(tree: SystemHandle) -> Any:
    return (await tree.child("it").wait()).reason


ECHOES = [talkers.echo, talkers.echo_in_trio, talkers.echo_on_sigterm]


@pytest.mark.parametrize("fn", ECHOES, ids=lambda fn: fn.__name__)
@story_with_threads
async def test_messages_go_there_and_come_back_in_order(fn: Callable[..., object]) -> None:
    messages = ["one", 2, None, {"three": [b"3" * 100_000]}, *range(200)]
    async with opened(fn) as tree, trio.open_nursery() as nursery:
        it = process_of(tree)

        async def send_all() -> None:
            for message in messages:
                await it.send(message)
            it.close()

        nursery.start_soon(send_all)
        back = [message async for message in it]
        assert back[: len(messages)] == messages
        assert back[len(messages) :] == (["on the way out"] if fn is ECHOES[-1] else [])
        reason = await ended(tree)
        assert reason == Normal("no more" if fn is talkers.echo else None)


@story_with_threads
async def test_a_function_in_asyncio_takes_nothing_when_it_is_cancelled() -> None:
    async with opened(talkers.echo_in_asyncio) as tree:
        it = process_of(tree)
        assert await it.receive() == "nothing yet"
        for message in range(10):
            await it.send(message)
            assert await it.receive() == message
        it.close()
        assert await ended(tree) == Normal(None)


@story_with_threads
async def test_a_function_may_use_its_channel_in_many_threads() -> None:
    async with opened(talkers.echo_in_threads) as tree, trio.open_nursery() as nursery:
        it = process_of(tree)

        async def send_all() -> None:
            for message in range(300):
                await it.send(message)
            it.close()

        nursery.start_soon(send_all)
        assert sorted([message async for message in it]) == list(range(300))


@story_with_threads
async def test_each_side_waits_for_the_other() -> None:
    async with opened(talkers.ignore) as tree:
        it = process_of(tree)
        for message in range(MOST_AHEAD):
            await it.send(message)
        with trio.move_on_after(0.05) as limit:
            await it.send("one too many")
        assert (limit.cancelled_caught, it.unreceived) == (True, range(1, MOST_AHEAD + 1))
    async with opened(talkers.count, 5 * MOST_AHEAD) as tree:
        # it cannot end before all but the last ones have been received
        it = process_of(tree)
        numbers = [await it.receive() for _ in range(3 * MOST_AHEAD)]
        assert tree.child("it").status == "running"
        numbers += [message async for message in it]
        assert (numbers, await ended(tree)) == (list(range(5 * MOST_AHEAD)), Normal(None))


@story_with_threads
async def test_what_came_before_the_end_is_received_after_it() -> None:
    async with opened(talkers.count, 3) as tree:
        it = process_of(tree)
        assert await ended(tree) == Normal(None)
        assert [message async for message in it] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel, match="'top/it' sends no more"):
                await it.receive()
        with pytest.raises(trio.BrokenResourceError, match="'top/it' receives no more"):
            await it.send(4)


@story_with_threads
async def test_what_a_dead_process_has_not_received_is_logged_by_number() -> None:
    with kept() as book:
        async with opened(talkers.echo_some, 2) as tree:
            it = process_of(tree)
            for message in "abcde":
                await it.send(message)
            assert [await it.receive() for _ in range(2)] == ["a", "b"]
            os.kill(it.pid, signal.SIGKILL)
            assert [message async for message in it] == []
            reason = await ended(tree)
            assert isinstance(reason.exception, ProcessFailed)
            assert it.unreceived == range(3, 6)
    warnings = [r.getMessage() for r in book.records if r.levelno == logging.WARNING]
    assert [w for w in warnings if "message" in w] == [
        "top/it: ended without receiving messages 3 to 5"
    ]


@story_with_threads
async def test_so_is_what_an_aborted_process_has_not_received() -> None:
    with kept() as book:
        async with opened(talkers.ignore, shutdown=0) as tree:
            await process_of(tree).send("lost")
    assert [r.getMessage() for r in book.records if r.levelno == logging.WARNING] == [
        "top/it: ended without receiving message 1"
    ]


@story_with_threads
async def test_a_message_that_cannot_be_pickled_is_an_error_to_its_sender_alone() -> None:
    async with opened(talkers.send_lock) as tree:
        assert "cannot be pickled" in await process_of(tree).receive()
        assert await ended(tree) == Normal(None)
    async with opened(talkers.echo) as tree:
        it = process_of(tree)
        with pytest.raises(TypeError, match=r"send: the message <.*lock.*> cannot be pickled"):
            await it.send(threading.Lock())
        with pytest.raises(ValueError, match="at most 67108864 bytes when pickled, not 6710"):
            await it.send(bytes(1 << 26))
        await it.send("next")
        assert await it.receive() == "next"
        it.close()
        with pytest.raises(trio.ClosedResourceError, match="'top/it' has been closed"):
            await it.send("late")


@story_with_threads
async def test_a_message_that_cannot_be_read_is_an_error_to_its_receiver_alone() -> None:
    async with opened(talkers.echo) as tree:
        it = process_of(tree)
        await it.send(talkers.Unreadable())
        reason = await ended(tree)
        assert type(reason.exception) is ValueError


@story_with_threads
async def test_a_function_may_close_its_end() -> None:
    async with opened(talkers.close_and_stay) as tree:
        it = process_of(tree)
        assert [message async for message in it] == ["first"]
        assert tree.child("it").status == "running"


@story_with_threads
async def test_a_cancelled_receiver_takes_nothing_and_a_cancelled_sender_sends_nothing() -> None:
    async with opened(talkers.echo) as tree:
        it = process_of(tree)
        with trio.move_on_after(0.02):
            await it.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            await it.send("never")
        await it.send("first")
        with trio.CancelScope() as scope:
            scope.cancel()
            await it.receive()
        assert await it.receive() == "first"


@story_with_threads
async def test_a_stop_lets_a_function_send_its_last_words() -> None:
    async with opened(talkers.echo_on_sigterm) as tree:
        it = process_of(tree)
        await it.send("hello")
        assert await it.receive() == "hello"
    assert [message async for message in it] == ["on the way out"]


@story_with_threads
async def test_nothing_is_left_of_a_channel() -> None:
    before = threading.active_count()
    async with opened(talkers.echo):
        pass
    assert (children_of(os.getpid()), threading.active_count()) == ([], before)


@story_with_threads
async def test_a_process_without_a_channel_names_what_to_write() -> None:
    start = process(talkers.ignore, None)
    async with open_system([Child("it", start, shutdown=0)], name="top") as tree:
        it = process_of(tree)
        with pytest.raises(RuntimeError, match=r"has no channel: write process\(fn, \.\.\., chan"):
            await it.send(1)
        with pytest.raises(RuntimeError, match="has no channel"):
            await it.receive()
        with pytest.raises(RuntimeError, match="has no channel"):
            it.close()


def test_what_takes_no_channel_is_refused() -> None:
    with pytest.raises(
        TypeError, match="the function must take a parameter channel, and <built-in"
    ):
        process(len, "abc", channel=True)
    with pytest.raises(TypeError, match="process: channel must be True or False, not 1"):
        loose(talkers.echo, channel=1)


# The parts


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_frames_come_out_whole_however_they_arrive(size: int) -> None:
    heard: list[tuple[bytes, int, bytes]] = []
    frames = Frames(lambda *frame: heard.append(frame))
    messages = [b"", b"one", b"x" * 300]
    data = b"".join(HEAD.pack(MESSAGE, len(m)) + m for m in messages) + HEAD.pack(b"r", 7)
    for at in range(0, len(data), size):
        frames.feed(data[at : at + size])
    assert heard == [*((MESSAGE, len(m), m) for m in messages), (b"r", 7, b"")]


def test_a_large_message_may_go_if_little_is_on_its_way() -> None:
    ahead = Ahead()
    ahead.send(5)
    assert ahead.has_room()
    ahead.send(1 << 22)
    assert not ahead.has_room()
    ahead.received(1)
    assert (ahead.has_room(), ahead.unreceived) == (False, range(2, 3))
    ahead.received(2)
    assert (ahead.has_room(), ahead.unreceived) == (True, range(3, 3))
