"""What remote children cost in letters, as docs/how-to/other-machines.md has it."""

from __future__ import annotations

import pytest
import trio

import faraway
from spry_py import Child, open_system
from spry_py.remote import remote
from spry_py.testing import FakeEngine
from stories import story

CHILDREN = 20


@story
@pytest.mark.parametrize("lease", [30.0, 10.0])
async def test_letters_for_a_start_for_each_third_of_a_lease_and_for_a_stop(lease: float) -> None:
    async with FakeEngine(latency=(0.001, 0.01), nodes=CHILDREN) as engine:
        starts = [
            remote(engine, faraway.watched, str(number), lease=lease) for number in range(CHILDREN)
        ]
        async with open_system([Child(str(number), it) for number, it in enumerate(starts)]):
            counts = [engine.letters]
            await trio.sleep(4 * lease)
            counts.append(engine.letters)
        counts.append(engine.letters)
    start, beats, stop = counts[0], counts[1] - counts[0], counts[2] - counts[1]
    # the order, a beat, its word, the news, its word; the last may be under way still
    assert start in (5 * CHILDREN, 5 * CHILDREN - 1)
    # a beat and its word in each third of the lease
    assert beats == pytest.approx(4 * 3 * 2 * CHILDREN, abs=2 * CHILDREN)
    # the wish, its end as news, and the word
    assert stop in (3 * CHILDREN, 3 * CHILDREN + 1)
