"""Items that are given up: when, what is told of them, and where they go."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from pipelines import Taker, counting, letters
from spry_py import Normal, TooManyRestarts, open_system
from spry_py.pipes import DeadLetter, Pipe, Stage, Worker, pipeline
from stories import Boom, Record, story


class Poison:
    """A function that fails at some items, always; remembers what else it was given."""

    def __init__(self, *items: int) -> None:
        self.items = items
        self.begun: list[int] = []
        self.errors: list[Boom] = []

    def __call__(self, item: int) -> int:
        self.begun.append(item)
        if item in self.items:
            self.errors.append(Boom(f"at {item}"))
            raise self.errors[-1]
        return item


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    own = [line for line in caplog.records if "stage '" in line.getMessage()]
    assert {line.levelno for line in own} <= {logging.ERROR}
    return [(line.name, line.getMessage()) for line in own]


@story
async def test_with_all_defaults_one_poisoned_item_is_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    poison, taker = Poison(2), Taker()
    line = pipeline(Worker("source", counting(4)), Stage("work", poison), Stage("end", taker.apply))
    async with open_system(line) as handle:
        report = await handle.wait()
    assert report.reason == Normal()
    assert poison.begun == [1, 2, 2, 2, 3, 4]
    assert taker.done == [1, 3, 4]
    text = "stage 'work' gave up 2 after 3 deliveries; the last one failed with Boom: at 2"
    assert told(caplog) == [("spry_py.pipeline.work", text)]


@story
async def test_with_all_defaults_two_in_ten_seconds_are_too_many() -> None:
    line = pipeline(Worker("source", counting(4)), Stage("work", Poison(2, 3)))
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(line) as handle:
            await handle.wait()
    assert repr(caught.value.__cause__) == "Boom('at 3')"


@pytest.mark.parametrize("most", [1, 2, 3])
@story
async def test_a_dead_letter_says_what_is_known(most: int) -> None:
    send, take = letters()
    poison = Poison(2)
    work = Stage("work", poison, max_deliveries=most)
    line = pipeline(Worker("source", counting(3)), work, name="line", dead_letters=send)
    async with open_system(line) as handle:
        await handle.wait()
    assert take() == [DeadLetter(2, "work", "line/work", most, poison.errors[-1])]
    assert len(poison.errors) == most


@story
async def test_a_function_has_nothing_to_forward_so_its_item_is_given_up_at_once() -> None:
    send, take = letters()
    poison, taker = Poison(2), Taker()
    work = Stage("work", poison, on_crash="forward")
    line = pipeline(
        Worker("source", counting(3)), work, Stage("end", taker.apply), dead_letters=send
    )
    async with open_system(line) as handle:
        await handle.wait()
    assert (poison.begun, taker.done) == ([1, 2, 3], [1, 3])
    assert take() == [DeadLetter(2, "work", "pipeline/work", 1, poison.errors[0])]


@story
async def test_a_full_channel_for_dead_letters_holds_the_stage_back() -> None:
    record = Record()
    send, receive = trio.open_memory_channel[DeadLetter](1)
    work = Stage("work", Poison(1, 2), max_deliveries=1)

    def end(item: int) -> None:
        record(f"{item} arrives")

    line = pipeline(Worker("source", counting(3)), work, Stage("end", end), dead_letters=send)
    async with open_system(line) as handle:
        await trio.sleep(5)
        # held back in a worker that is stopped meanwhile, it is neither lost nor sent twice
        await handle.child("work").restart()
        await trio.sleep(5)
        record(f"letter of {(await receive.receive()).item}")
        record(f"letter of {(await receive.receive()).item}")
        await handle.wait()
    assert receive.statistics().current_buffer_used == 0
    assert record.facts == [(10.0, "letter of 1"), (10.0, "letter of 2"), (10.0, "3 arrives")]


@story
async def test_nobody_takes_dead_letters_any_more(caplog: pytest.LogCaptureFixture) -> None:
    send, receive = trio.open_memory_channel[DeadLetter](1)
    receive.close()
    taker = Taker()
    work = Stage("work", Poison(1), max_deliveries=1)
    line = pipeline(
        Worker("source", counting(2)), work, Stage("end", taker.apply), dead_letters=send
    )
    async with open_system(line) as handle:
        await handle.wait()
    assert taker.done == [2]
    given_up = "stage 'work' gave up 1 after 1 delivery; the last one failed with Boom: at 1"
    lost = "the channel for dead letters is closed: 1 of stage 'work' is lost"
    assert told(caplog) == [("spry_py.pipeline.work", text) for text in (given_up, lost)]


@story
async def test_an_item_is_given_up_if_its_worker_returns_without_asking_for_it() -> None:
    send, take = letters()
    runs = 0

    async def work(pipe: Pipe[int, Any]) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            async for _ in pipe:
                raise Boom

    line = pipeline(Worker("source", counting(1)), Worker("work", work), dead_letters=send)
    async with open_system(line) as handle:
        await handle.wait()
    (letter,) = take()
    assert (letter.item, letter.stage, letter.deliveries) == (1, "work", 1)


@story
async def test_outside_a_tree_every_delivery_counts_and_the_exception_is_not_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    send, take = letters()
    feed, upstream = trio.open_memory_channel[int](1)
    pipe = Pipe[int, Any]("alone", upstream, dead_letters=send, max_deliveries=2)
    async with feed:
        await feed.send(7)
    deliveries = []
    for _ in range(3):
        async for item in pipe:
            deliveries.append(item)
            break
    await pipe.finish()
    assert deliveries == [7, 7]
    assert take() == [DeadLetter(7, "alone", None, 2, None)]
    assert told(caplog) == [("spry_py.alone", "stage 'alone' gave up 7 after 2 deliveries")]
