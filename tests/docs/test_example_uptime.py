"""The example `uptime`: probes, store, report, and the whole of it on real sockets."""

from __future__ import annotations

import errno
import math
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.abc import Stream
from trio.testing import memory_stream_pair

from examples.uptime import demonstration, uptime
from examples.uptime.check import Check
from examples.uptime.probe import Unreachable, probes
from examples.uptime.report import keep_reporting, table
from examples.uptime.servers import ANY_PORT, HOST, ServerCrash, answer, port_of
from examples.uptime.store import Store, StoreFailed, Tally, keep_store
from examples.uptime.targets import Target
from spry_py import (
    Child,
    ChildFailure,
    Scope,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import story, story_with_threads

# probes


class Ledger:
    """Keeps what probes record, with the time of each."""

    def __init__(self) -> None:
        self.ups: dict[str, list[float]] = {}
        self.downs: dict[str, list[float]] = {}

    async def record(self, name: str, check: Check) -> None:
        times = self.ups if check.up else self.downs
        times.setdefault(name, []).append(trio.current_time())


def plain(output: str) -> list[str]:
    """The lines of an output, without the times of day."""
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in output.splitlines()]


@story
async def test_a_target_that_stays_away_is_asked_less_and_less_often_and_comes_back() -> None:
    async def connect(host: str, port: int) -> Stream:
        if host == "away" and trio.current_time() < 30.5:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return memory_stream_pair()[0]

    ledger = Ledger()
    targets = [
        Target(host, "tcp", host, 1, every=1.0, timeout=1.0) for host in ("before", "away", "there")
    ]
    async with open_system(probes(targets, ledger, connect)) as handle:
        away = handle.child("away")
        await trio.sleep(9.5)
        # Three checks a crash; pauses of 1 and 2 seconds; the third crash is one too many.
        assert ledger.downs == {"away": [0, 1, 2, 3, 4, 5, 7, 8, 9]}
        assert (away.status, away.incarnation) == ("restarting", 1)
        assert away.last_report is not None
        gave_up = away.last_report.exception
        assert isinstance(gave_up, TooManyRestarts)
        assert (gave_up.path, gave_up.restarts) == ("system/away/check", 2)
        assert isinstance(gave_up.root_cause, Unreachable)
        assert str(gave_up.root_cause) == "no connection 3 times in a row: Connection refused"
        await trio.sleep(23.0)
        # The subsystem came back after 4 seconds, gave up again, and came back after 8.
        again = [13, 14, 15, 16, 17, 18, 20, 21, 22, 30]
        assert ledger.downs == {"away": [0, 1, 2, 3, 4, 5, 7, 8, 9, *again]}
        assert (away.status, away.incarnation) == ("running", 3)
    assert ledger.ups == {
        "before": list(range(33)),
        "away": [31, 32],
        "there": list(range(33)),
    }


@story
async def test_a_few_failures_are_data_and_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    async def connect(host: str, port: int) -> Stream:
        if int(trio.current_time()) % 3:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return memory_stream_pair()[0]

    ledger = Ledger()
    target = Target("flapping", "tcp", "h", 1, every=1.0, timeout=1.0)
    async with open_system(probes([target], ledger, connect)) as handle:
        await trio.sleep(6.5)
        assert handle.find("flapping/check").restarts == 0
    assert ledger.ups == {"flapping": [0, 3, 6]}
    assert ledger.downs == {"flapping": [1, 2, 4, 5]}
    up, down = "flapping is up", "flapping is down: Connection refused"
    assert plain(capsys.readouterr().out) == [up, down, up, down, up]


# store


@story_with_threads
async def test_the_store_counts_and_its_file_outlives_it(tmp_path: Path) -> None:
    database = str(tmp_path / "uptime.sqlite")
    for times in (1, 2):
        async with open_system([Child("store", keep_store, database)]) as handle:
            store: Store = handle.child("store").value
            await store.record("a", Check(True))
            await store.record("a", Check(True, "status 500"))
            await store.record("a", Check(True))
            await store.record("b", Check(False, "Connection refused"))
            assert await store.tallies() == {
                "a": Tally(3 * times, 2 * times, True, "status 500"),
                "b": Tally(times, 0, False, "Connection refused"),
            }
        with pytest.raises(StoreFailed, match="the store is closed"):
            await store.tallies()


@story_with_threads
async def test_a_failing_database_fails_the_store_and_everyone_gets_the_next(
    tmp_path: Path,
) -> None:
    database = str(tmp_path / "uptime.sqlite")
    send, receive = trio.open_memory_channel[Store](10)

    async def use(store: Store) -> None:
        await send.send(store)
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        store = await scope.start(Child("store", keep_store, database))
        await scope.start(Child("user", use, store))

    async with open_system(SystemSupervisor(system, strategy="rest_for_one")) as handle:
        first = await receive.receive()
        with closing(sqlite3.connect(database)) as other:
            other.execute("DROP TABLE tally")
        with pytest.raises(StoreFailed, match="no such table: tally"):
            await first.record("a", Check(True))
        second = await receive.receive()
        assert second is not first
        report = handle.child("store").last_report
        assert report is not None
        assert isinstance(report.exception, sqlite3.OperationalError)
        await second.record("a", Check(True))
        assert await second.tallies() == {"a": Tally(1, 1, True, None)}
        with pytest.raises(StoreFailed, match="the store is closed"):
            await first.record("a", Check(True))
        numbers = [(info.key, info.incarnation) for info in handle.which_children()]
        assert numbers == [("store", 2), ("user", 2)]


@story_with_threads
async def test_a_database_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    database = tmp_path / "uptime.sqlite"
    database.write_bytes(b"this is no database" * 100)
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("store", keep_store, str(database))]):
            raise AssertionError("the tree came up")
    assert (caught.value.key, caught.value.path) == ("store", "system/store")
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


# report


def test_the_table_has_a_line_for_every_target() -> None:
    targets = [Target(name, "tcp", "h", 1) for name in ("here", "there-and-there", "new")]
    tallies = {
        "here": Tally(1234, 1234, True, None),
        "there-and-there": Tally(8, 7, False, "status 503"),
        "forgotten": Tally(1, 1, True, None),
    }
    assert table(targets, tallies) == [
        "target           state    checks  available  last error",
        "here             up         1234    100.0 %",
        "there-and-there  down          8     87.5 %  status 503",
        "new              unknown       0",
    ]


class Book:
    """Tallies that change with time; gone if `closes` seconds have passed."""

    def __init__(self, closes: float = math.inf) -> None:
        self.closes = closes

    async def tallies(self) -> dict[str, Tally]:
        now = int(trio.current_time())
        if now >= self.closes:
            raise StoreFailed("the store is closed")
        return {"a": Tally(now, now, True, None)}


@pytest.mark.parametrize(
    ("book", "last"),
    [
        (
            Book(),
            [
                "availability at the end",
                "  target  state  checks  available  last error",
                "  a       up          5    100.0 %",
            ],
        ),
        (Book(closes=5.0), ["no table at the end", "  the store is closed"]),
    ],
)
def test_the_table_is_printed_now_and_then_and_when_asked_to_finish(
    book: Book, last: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    @story
    async def tell() -> None:
        targets = [Target("a", "tcp", "h", 1)]
        async with open_system([Child("report", keep_reporting, book, targets, 2.0)]):
            await trio.sleep(5.0)
        assert plain(capsys.readouterr().out) == [
            "availability",
            "  target  state  checks  available  last error",
            "  a       up          2    100.0 %",
            "availability",
            "  target  state  checks  available  last error",
            "  a       up          4    100.0 %",
            *last,
        ]

    tell()


# the whole


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("none", "such", "here"), ValueError, "3 arguments where at most 2 are allowed; usage: "),
        (("no-such-file",), FileNotFoundError, "no-such-file"),
        (("bad",), ValueError, "bad: no target to watch"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    arguments: tuple[str, ...],
    error: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad").write_text("# nothing here\nhttps://localhost/\n")
    with pytest.raises(error, match=words):
        uptime(*arguments)
    told = "bad:2: 'https://localhost/' is neither http:// nor tcp://\n"
    assert capsys.readouterr().err == (told if arguments == ("bad",) else "")


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else gets it, and not listened to."""
    with socket.socket() as bound:
        bound.bind((HOST, ANY_PORT))
        yield bound.getsockname()[1]


async def tallies_with(handle: SystemHandle, *names: str) -> dict[str, Tally]:
    """The tallies, as soon as there is one for each of the names."""
    store: Store = handle.child("store").value
    while True:
        tallies = await store.tallies()
        if tallies.keys() >= set(names):
            return tallies
        await trio.sleep(0.01)


@story_with_threads
async def test_real_endpoints_are_watched_and_a_bad_line_harms_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "targets"
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, ANY_PORT, host=HOST))
        with closed_port() as closed:
            path.write_text(
                f"web http://{HOST}:{port_of(listeners)}/ every=0.05\n"
                "what is this\n"
                f"open tcp://{HOST}:{port_of(listeners)} every=0.05\n"
                f"shut tcp://{HOST}:{closed} every=30\n"
            )
            async with open_system(uptime(str(path))) as handle:
                assert [info.path for info in handle.which_children()] == [
                    "uptime/store",
                    "uptime/probes",
                    "uptime/report",
                ]
                tallies = await tallies_with(handle, "web", "open", "shut")
        nursery.cancel_scope.cancel()
    states = {name: (tally.up, tally.last_error) for name, tally in tallies.items()}
    assert states == {
        "web": (True, None),
        "open": (True, None),
        "shut": (False, "Connection refused"),
    }
    output = capsys.readouterr()
    wanted = "http://HOST[:PORT][/PATH] or tcp://HOST:PORT"
    assert output.err == f"{path}:2: no {wanted} in 'what is this'\n"
    lines = plain(output.out)
    assert sorted(lines[:3]) == [
        "open is up",
        "shut is down: Connection refused",
        "web is up",
    ]
    assert lines[3] == "availability at the end"
    assert [line.split()[:2] for line in lines[4:]] == [
        ["target", "state"],
        ["web", "up"],
        ["open", "up"],
        ["shut", "down"],
    ]


@story_with_threads
async def test_a_store_that_fails_takes_probes_and_report_along_and_all_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, database = tmp_path / "targets", tmp_path / "uptime.sqlite"
    with closed_port() as closed:
        path.write_text(f"shut tcp://{HOST}:{closed} every=0.2\n")
        async with open_system(uptime(str(path), str(database))) as handle:
            await tallies_with(handle, "shut")
            with closing(sqlite3.connect(database)) as other:
                other.execute("DROP TABLE tally")
            await until(lambda: handle.child("report").incarnation == 2)
            assert (await tallies_with(handle, "shut"))["shut"].ups == 0
            numbers = [(info.key, info.incarnation) for info in handle.which_children()]
            assert numbers == [("store", 2), ("probes", 2), ("report", 2)]
    said = [line for line in plain(capsys.readouterr().out) if line.startswith(("no", "shut"))]
    down = "shut is down: Connection refused"
    assert said == [down, "no table at the end", down]


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await trio.sleep(0.01)


def ended(handle: SystemHandle, path: str) -> tuple[float, str]:
    report = handle.find(path).last_report
    assert report is not None
    return report.ended_at, path


@story_with_threads
async def test_the_demonstration_crashes_restarts_escalates_and_stops_in_order() -> None:
    async with open_system(demonstration(pace=0.04)) as handle:
        flapping = handle.find("servers/flapping")
        dying = handle.find("servers/dying")
        probe = handle.find("probes/dying")
        await until(lambda: flapping.restarts >= 2 and probe.incarnation >= 2)
        assert dying.restarts == 0
        assert dying.last_report is not None
        assert isinstance(dying.last_report.exception, ServerCrash)
        gave_up = probe.last_report
        assert gave_up is not None
        assert isinstance(gave_up.exception, TooManyRestarts)
        assert gave_up.exception.path == "uptime/probes/dying/check"
        assert isinstance(gave_up.exception.root_cause, Unreachable)
        others = ("store", "servers", "probes", "report")
        assert [handle.child(key).incarnation for key in others] == [1, 1, 1, 1]
    in_order = ["report", "probes/flapping", "probes/healthy", "probes"]
    in_order += ["servers/healthy", "servers", "store"]
    assert [path for _, path in sorted(ended(handle, path) for path in in_order)] == in_order
