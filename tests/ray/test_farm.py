"""examples/farm.py loses no line with the worker that has it in hand."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from examples import farm
from spry_py import open_system
from stories import story_with_threads

pytestmark = pytest.mark.ray


@story_with_threads
async def test_no_line_is_lost_with_its_worker() -> None:
    farm.STORED.clear()
    async with open_system(farm.farm, strategy="rest_for_one") as app:
        while len(farm.STORED) < 4:
            await trio.sleep(0.01)
        killed = farm.STORED[-1][2]
        os.kill(killed, signal.SIGKILL)
        await app.child("pipeline").wait()
    expected = [(number, number * number) for number in range(20)]
    assert sorted({(number, square) for number, square, _ in farm.STORED}) == expected
    assert {pid for _, _, pid in farm.STORED} > {killed}
