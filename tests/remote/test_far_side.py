"""The other side is a process: what it keeps to by itself, and what can be done to it."""

from __future__ import annotations

import base64
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import pytest
import trio

import faraway
from spry_py import Aborted, Child, ChildFailure, SystemHandle, Unresponsive, open_system
from spry_py.aio import task
from spry_py.remote import Far, Hold, Host, Letter, Order, RemoteLost, Word, remote
from spry_py.remote.far import LEFT
from spry_py.remote.tenant import Tenant
from spry_py.remote.work import packed_work
from stories import story, story_with_threads

# it leaves by itself, or the system ends it, whichever comes first
OVER = (LEFT, -signal.SIGALRM)
PROGRAM = (sys.executable, str(Path(faraway.__file__).with_name("farside.py")))


class Pipes:
    """An engine with one process, at the other end of two pipes."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        # letters to the process wait here, or are lost
        self.is_cut = False

    async def __aenter__(self) -> Self:
        pipe = subprocess.PIPE
        self.process = await trio.lowlevel.open_process(PROGRAM, stdin=pipe, stdout=pipe)
        self._send, self._letters = trio.open_memory_channel[bytes](1000)
        self._nursery = trio.open_nursery()
        nursery = await self._nursery.__aenter__()
        nursery.start_soon(self._write)
        nursery.start_soon(self._read)
        nursery.start_soon(self._watch)
        self._scope = nursery.cancel_scope
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._scope.cancel()
        await self._nursery.__aexit__(None, None, None)
        with trio.CancelScope(shield=True):
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            await self.process.stdin.aclose()
            await self.process.stdout.aclose()

    async def start(self, order: Order) -> Hold:
        await trio.lowlevel.checkpoint()
        hold = self._holds[order.id] = Hold(order, self._post)
        return hold

    def _post(self, letter: Letter) -> None:
        if not self.is_cut:
            self._send.send_nowait(base64.b64encode(pickle.dumps(letter)) + b"\n")

    async def _write(self) -> None:
        assert self.process.stdin is not None
        try:
            async for line in self._letters:
                await self.process.stdin.send_all(line)
        except trio.BrokenResourceError:
            pass

    async def _read(self) -> None:
        assert self.process.stdout is not None
        begun = bytearray()
        async for data in self.process.stdout:
            begun += data
            *lines, begun = begun.split(b"\n")
            for line in lines:
                report = pickle.loads(base64.b64decode(line))
                if not self.is_cut:
                    self._holds[report.id].hear(report)

    async def _watch(self) -> None:
        await self.process.wait()
        for hold in self._holds.values():
            hold.dead("its process is dead")


async def start(app: SystemHandle, key: str, engine: Pipes, fn: object, *args: object) -> object:
    """Start a child there; its started value."""
    begin = remote(engine, fn, *args, lease=1.0)  # type: ignore[call-overload]
    return (await app.start_child(Child(key, begin, restart="temporary", shutdown=1))).value


async def hold_up(flag: Path) -> None:
    """Return when the loop there is held up."""
    there = trio.Path(flag)
    await there.touch()
    while await there.exists():
        await trio.sleep(0.01)


@story_with_threads
async def test_functions_of_all_kinds_run_there() -> None:
    async with Pipes() as engine, open_system([], name="app") as app:
        run = partial(start, app)
        pid = await run("trio", engine, faraway.say_pid)
        assert pid == engine.process.pid != os.getpid()
        assert await run("blocking", engine, os.getpid) is None
        await run("asyncio", engine, task(faraway.in_asyncio, 4))
        await app.terminate_child("trio")


@story_with_threads
async def test_a_process_that_is_killed_is_lost() -> None:
    async with Pipes() as engine, open_system([], name="app") as app:
        await start(app, "far", engine, faraway.say_pid)
        far = app.child("far")
        os.kill(engine.process.pid, signal.SIGKILL)
        error = (await far.wait()).exception
        assert type(error) is RemoteLost
        assert str(error) == "remote child 'app/far' is lost: its process is dead"


@story_with_threads
async def test_a_loop_that_is_held_up_keeps_its_lease(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    async with Pipes() as engine, open_system([], name="app") as app:
        await start(app, "far", engine, faraway.hold_up_the_loop, str(flag), 2.2)
        await hold_up(flag)
        assert (await app.child("far").wait()).exception is None


@story_with_threads
async def test_a_shared_process_whose_loop_is_held_up_leaves_when_its_lease_is_over(
    tmp_path: Path,
) -> None:
    flag = tmp_path / "flag"
    async with Pipes() as engine, open_system([], name="app") as app:
        await start(app, "far", engine, faraway.hold_up_the_loop, str(flag), 600.0)
        await hold_up(flag)
        far = app.child("far")
        engine.is_cut = True
        assert await engine.process.wait() in OVER
        assert type((await far.wait()).exception) is RemoteLost


@story_with_threads
async def test_a_process_of_its_own_leaves_when_it_is_killed(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    async with Pipes() as engine, open_system([], name="app") as app:
        begin = remote(engine, faraway.hold_up_the_loop, str(flag), 600.0, host="own")
        far = await app.start_child(Child("far", begin, shutdown=0.1))
        await hold_up(flag)
        await far.terminate()
        assert await engine.process.wait() == LEFT


@story_with_threads
async def test_a_loop_that_is_held_up_cannot_hide_that_a_heartbeat_is_overdue(
    tmp_path: Path,
) -> None:
    flag = tmp_path / "flag"
    async with Pipes() as engine, open_system([], name="app") as app:
        begin = remote(engine, faraway.hold_up_the_loop, str(flag), 600.0, lease=1.0)
        child = Child("far", begin, restart="temporary", shutdown=0.1, heartbeat=2.0)
        far = await app.start_child(child)
        await hold_up(flag)
        error = (await far.wait()).exception
        assert type(error) is Unresponsive
        assert str(error).endswith("holds up the event loop on far side")
        assert await engine.process.wait() in OVER


@story_with_threads
async def test_a_process_that_was_stopped_leaves_as_soon_as_it_goes_on() -> None:
    async with Pipes() as engine, open_system([], name="app") as app:
        begin = remote(engine, faraway.say_pid, lease=1.0, host="own")
        far = await app.start_child(Child("far", begin, restart="temporary"))
        os.kill(engine.process.pid, signal.SIGSTOP)
        error = (await far.wait()).exception
        assert type(error) is RemoteLost
        assert "its lease of 1 s has run out" in str(error)
        os.kill(engine.process.pid, signal.SIGCONT)
        assert await engine.process.wait() in OVER


@story_with_threads
@pytest.mark.parametrize("host", ["own", "shared"])
async def test_a_process_that_stands_still_is_aborted_when_its_lease_is_over(host: Host) -> None:
    async with Pipes() as engine, open_system([], name="app") as app:
        begin = remote(engine, faraway.say_pid, lease=1.0, host=host)
        far = await app.start_child(Child("far", begin, shutdown=0.1))
        os.kill(engine.process.pid, signal.SIGSTOP)
        await far.terminate()
        report = far.last_report
        assert report is not None
        assert (report.reason, report.burden) == (Aborted(), "aborted")
        os.kill(engine.process.pid, signal.SIGCONT)
        assert await engine.process.wait() in OVER


@story_with_threads
@pytest.mark.parametrize("host", ["own", "shared"])
async def test_a_process_in_which_no_thread_can_run_is_ended_when_its_lease_is_over(
    host: Host, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    async with Pipes() as engine, open_system([], name="app") as app:
        begin = remote(engine, faraway.hold_the_interpreter, str(flag), lease=1.0, host=host)
        far = await app.start_child(Child("far", begin, shutdown=0.1))
        await hold_up(flag)
        await far.terminate()
        assert far.last_report is not None
        assert far.last_report.burden == "aborted"
        # this side gives it up no sooner
        assert await engine.process.wait() == -signal.SIGALRM


@story
async def test_it_leaves_also_if_its_loop_goes_on_before_what_watches_the_lease() -> None:
    work = packed_work(faraway.deaf, ("far",))
    order = Order("1", "far", "app/far", 1, 1, work, 1.0, "own", {}, 5.0, math.inf, 30, {})
    left: list[float] = []

    def leave() -> None:
        left.append(trio.current_time())

    tenant = Tenant(order, "node", trio.current_time, leave, lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tenant.run)
        report = tenant.report()
        assert report is not None
        word = Word(order.id, report.run, report.beat, 0, "run")
        tenant.hear(word)
        await trio.sleep(1.5)
        assert left == []
        # one that has waited all the time, and is read before `check` is called
        tenant.hear(word)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert left[:1] == [1.5]


@story_with_threads
async def test_a_function_that_is_not_there_is_a_failed_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def only_here() -> None:
        """Stands in a module that the other side cannot import."""

    only_here.__module__, only_here.__qualname__ = "nowhere", "only_here"
    module = ModuleType("nowhere")
    module.__dict__["only_here"] = only_here
    monkeypatch.setitem(sys.modules, "nowhere", module)
    async with Pipes() as engine, open_system([], name="app") as app:
        with pytest.raises(ChildFailure, match="No module named 'nowhere'") as failure:
            await start(app, "far", engine, only_here)
        assert type(failure.value.__cause__) is ModuleNotFoundError


def test_orders_that_come_twice_are_carried_out_once_and_threads_end() -> None:
    left: list[str] = []
    far = Far("here", lambda: left.append("left"))
    order = Order(
        "1", "a", "app/a", 1, 1, pickle.dumps((os.getpid, ())), 30.0, "shared", {}, 5.0,
        float("inf"), 30, {},
    )  # fmt: skip
    far.deliver([order, order])
    assert [report.id for report in far.collect(5)] == ["1"]
    assert far.collect(0) == []
    far.close()
    assert left == []


def test_a_thread_of_it_that_fails_takes_the_process_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = threading.Event()
    far = Far("here", left.set)
    # as the leases are looked at: nobody would keep to them any more
    monkeypatch.setattr(far, "_look", lambda: 1 / 0)
    far._wake()
    assert left.wait(30)
    far.close()
    assert "ZeroDivisionError" in caplog.text
