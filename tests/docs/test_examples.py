"""The small examples: each one is run, and all that it shows is compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from examples import embed, first_tree, heartbeat, show_spans
from spry_py import ChildHandle, Unresponsive, open_system
from stories import story, story_with_threads


@story
async def test_the_first_tree_hands_the_new_connection_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_system(first_tree.tree) as handle:
        await trio.sleep(1.5)
        db = handle.child("db").last_report
        assert db is not None
        assert repr(db.exception) == "ConnectionResetError('the database went away')"
    assert capsys.readouterr().out.splitlines() == [
        "serving with connection 1",
        "hanging up connection 1",
        "serving with connection 2",
        "hanging up connection 2",
    ]


def failure_of(child: ChildHandle) -> BaseException | None:
    return child.last_report.exception if child.last_report is not None else None


@story
async def test_a_pump_that_hangs_is_missed_and_restarted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_system(heartbeat.tree) as handle:
        pump = handle.child("pump")
        await trio.sleep(1.9)
        assert (pump.incarnation, failure_of(pump)) == (1, None)
        await trio.sleep(1.9)
        assert (pump.incarnation, type(failure_of(pump))) == (2, Unresponsive)
    strokes = [f"stroke {stroke} of incarnation {n}" for n in (1, 2) for stroke in (1, 2, 3)]
    assert capsys.readouterr().out.splitlines() == strokes


@story_with_threads
async def test_the_program_asks_the_tree_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    await embed.main()
    assert capsys.readouterr().out.splitlines() == [
        "hello Ada, you are visitor 1",
        "hello Grace, you are visitor 2",
        "greeter/  [stopped]",
        "  visits  [stopped]",
        "  server  [stopped]",
    ]


def line(
    number: int, parent: int | None, description: str | None, link: int = 0, **attributes: str
) -> str:
    """A span as the exporter writes it, as far as it is shown."""
    linked = {"context": {"span_id": str(link)}, "attributes": {"spry.link": "restart_of"}}
    status = {"status_code": "UNSET"} if description is None else {"description": description}
    named = {f"spry.{name.replace('_', '.')}": value for name, value in attributes.items()}
    fields = {
        "name": f"span-{number}",
        "context": {"span_id": str(number)},
        "parent_id": parent if parent is None else str(parent),
        "start_time": f"1970-01-01T00:00:0{number}.000000Z",
        "status": status,
        "attributes": named,
        "links": [linked] if link else [],
    }
    return json.dumps(fields) + "\n"


def test_spans_are_shown_as_trees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spans.jsonl"
    lines = [
        line(3, 1, "OSError: no: disk", system_path="a", child_path="a/b"),
        line(2, 1, None, system_path="a"),
        line(1, None, None, system_path="a"),
        line(5, 4, None, 3, system_path="c"),
        line(4, None, None, system_path="c"),
    ]
    file.write_text("".join(lines))
    show_spans.main([str(file)])
    assert capsys.readouterr().out.splitlines() == [
        "  1  span-1 a",
        "  2    span-2 a",
        "  3    span-3 a/b  (OSError)",
        "  4  span-4 c",
        "  5    span-5 c  -> restart_of 3",
    ]
