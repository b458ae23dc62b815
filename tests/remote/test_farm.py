"""examples/farm.py with machines that are not there: a lost worker, a lost gateway, a stop."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from examples import farm
from spans import Seen, play, recording, start, term, try_restart
from spry_py import SystemHandle, open_system
from spry_py.testing import FakeEngine
from stories import story

LINES = ["0 0", "1 1", "2 4", "3 9"]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """Those that were made in place of a gateway's, the last one last."""
    made: list[FakeEngine] = []

    async def gateway(*, task_status: trio.TaskStatus[FakeEngine]) -> None:
        async with FakeEngine(nodes=2) as engine:
            made.append(engine)
            task_status.started(engine)
            await trio.sleep_forever()

    def no_ray(address: str | None, **options: Any) -> Any:
        return gateway

    monkeypatch.setattr(farm, "ray_gateway", no_ray)
    monkeypatch.setattr(farm, "LINES", LINES)
    farm.STORED.clear()
    return made


def stored() -> list[tuple[int, int]]:
    return [(number, square) for number, square, _ in farm.STORED]


async def until_done(app: SystemHandle) -> None:
    await app.child("pipeline").wait()


def test_a_lost_worker_is_one_trace_from_the_loss_to_what_became_of_the_line(
    engines: list[FakeEngine],
) -> None:
    async def run() -> None:
        async with open_system(farm.farm) as app:
            # the third line is in hand, on the first machine again
            await trio.sleep(0.25)
            engines[0].crash("node-1")
            await until_done(app)

    with recording() as spans:
        play(run)
    assert stored() == [(0, 0), (1, 1), (2, 4), (3, 9)]
    parsed = [
        part
        for line in ("2 4", "3 9")
        for part in (
            start("parse/parse", restart="temporary"),
            Seen("parse", {"line": line}, (), "unset", (), ()),
        )
    ]
    path = "farm/pipeline/parse"
    lost = f"remote child '{path}' is lost: its process on node-1 has died"
    failed, *others = spans.trees("spry.term")
    assert failed == term(
        path,
        try_restart("farm/pipeline", start(f"{path}#2", *parsed, restart="transient")),
        lifetime=0.25,
        raised=f"spry_py.remote.RemoteLost: {lost}",
        restart="transient",
    )
    # no other incident, but ends
    assert [span.status for span in others] == ["unset"] * 4


@story
async def test_a_stop_in_the_midst_works_off_what_is_on_its_way_and_loses_nothing(
    engines: list[FakeEngine],
) -> None:
    async with open_system(farm.farm) as app:
        await trio.sleep(0.05)
        parse = app.find("pipeline/parse")
    # the first line was in hand, and the second not put yet
    assert stored() == [(0, 0)]
    assert trio.current_time() == pytest.approx(0.1)
    assert parse.status == "stopped"


@story
async def test_a_lost_gateway_loses_and_repeats_no_line(engines: list[FakeEngine]) -> None:
    async with open_system(farm.farm) as app:
        await trio.sleep(0.25)
        await app.child("gateway").restart()
        await until_done(app)
    assert stored() == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert len(engines) == 2
