"""The example `ingest`: a real log file, and not one line of it lost or counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from examples import ingest
from programs import finished
from spry_py import Normal, open_system
from stories import story_with_threads

ROOT = Path(__file__).resolve().parents[2]
TABLE = [
    "office    29 requests   6 failed  387577 bytes",
    "partner   11 requests   2 failed   98268 bytes",
    "public    17 requests   3 failed  124978 bytes",
]
REJECTS = [
    '203.0.113.5 - - [03/Mar/2025:06:00:45 +0000] "GET /cart HTTP/1.1" 20',
    r"\x16\x03\x01\x02\x00\x01",
    '192.0.2.44 - - [03/Mar/2025:06:03:40 +0000] "" 400 0',
]


def test_the_table_is_what_the_log_says() -> None:
    sizes = {network: [0, 0] for network in ("office", "partner", "public")}
    for line in ingest.LOG.read_text(encoding="utf-8").splitlines():
        if line not in REJECTS:
            request = ingest.parse(line)
            (network,) = (
                name for start, name in ingest.NETWORKS.items() if request.client.startswith(start)
            )
            sizes[network][0] += 1
            sizes[network][1] += request.size
    read = [line.split() for line in TABLE]
    assert {name: [int(count), int(size)] for name, count, _, _, _, size, _ in read} == sizes


@story_with_threads
async def test_a_log_goes_through_in_spite_of_all_crashes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "SECONDS_PER_LINE", 0)
    async with open_system(ingest.ingest()) as handle:
        locate, parsers = handle.find("log/locate"), handle.find("log")
        report = await handle.wait()
    told = capsys.readouterr()
    assert report.reason == Normal()
    assert told.out.splitlines() == TABLE
    rejected = [line for line in told.err.splitlines() if line.startswith("rejected")]
    assert sorted(rejected) == sorted(f"rejected after 2 tries: {line}" for line in REJECTS)
    # 57 requests at 12 to a connection
    assert (locate.restarts, parsers.restarts) == (4, 0)


@story_with_threads
async def test_the_reader_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "access.log"
    log.write_text(ingest.LOG.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(ingest, "SECONDS_PER_LINE", 0.002)
    async with open_system(ingest.ingest(str(log))) as handle:
        await trio.sleep(0.05)
        await handle.find("log/lines").restart()
        await trio.sleep(0.02)
        await handle.child("log").restart()
        await handle.wait()
    requests = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert sum(requests) == 57


def test_too_many_arguments() -> None:
    with pytest.raises(ValueError, match="2 arguments where at most 1 is allowed: ACCESS_LOG"):
        ingest.ingest("a", "b")


def test_a_file_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*/nope\.log"):
        ingest.ingest(str(tmp_path / "nope.log"))


def test_it_runs_as_a_program() -> None:
    program = ["-m", "spry_py", "run", "examples.ingest:ingest", "--for", "30"]
    result = finished(program, ROOT)
    assert result.returncode == 0
    assert [line for line in result.stdout.splitlines() if line in TABLE] == TABLE
