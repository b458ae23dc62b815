"""A program as a service: probes, systemd, a pause before the end, reloads, and where it stands."""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel

from notified import notified
from programs import environment, finished, running
from servers import free_port
from spry_py import (
    Child,
    DynamicSupervisor,
    NeverRestart,
    NonChildFailure,
    Scope,
    SystemSupervisor,
    TooManyRestarts,
    current_context,
    run,
)
from spry_py.health import systemd
from spry_py.health.server import Probes
from spry_py.processes import command, notify

Answer = tuple[int, str]


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


pytestmark = pytest.mark.usefixtures("handlers")


def fetch(port: int, path: str) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


async def fetched(port: int, path: str) -> Answer:
    return await trio.to_thread.run_sync(fetch, port, path)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# The probes


def test_the_probes_are_there_from_before_the_boot_to_the_very_end() -> None:
    port = free_port()
    seen: list[str] = []

    async def probe(moment: str) -> None:
        for path in ("/livez", "/startupz", "/readyz"):
            status, body = await fetched(port, path)
            seen.append(f"{moment} {path} {status} {body.strip()}")

    async def first(task_status: trio.TaskStatus[None]) -> None:
        await probe("boot")
        task_status.started()
        await current_context().settled()
        with trio.CancelScope(shield=True):
            await probe("stop")

    async def last() -> None:
        await trio.lowlevel.checkpoint()
        while (await fetched(port, "/startupz"))[0] != 200:
            pass
        await probe("up")
        signal.raise_signal(signal.SIGTERM)

    run([Child("a", first), Child("b", last, restart="temporary")], name="shop", health=port)
    assert seen == [
        "boot /livez 200 ok",
        "boot /startupz 503 not started",
        "boot /readyz 503 not ready",
        "up /livez 200 ok",
        "up /startupz 200 ok",
        "up /readyz 200 ok",
        "stop /livez 200 ok",
        "stop /startupz 200 ok",
        "stop /readyz 503 not ready",
    ]
    assert not is_open(port)


def test_a_port_that_is_taken_is_an_error_before_the_boot() -> None:
    begun: list[object] = []

    async def boots(scope: Scope) -> None:
        begun.append(scope)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve the probes at 127.0.0.1 port {port}: "):
            run(boots, health=port)
    assert begun == []


def test_what_the_tree_ends_with_comes_out_bare_beside_probes() -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("boom")

    async def exits() -> None:
        await trio.lowlevel.checkpoint()
        raise SystemExit(3)

    for child, error in ((fails, TooManyRestarts), (exits, SystemExit)):
        with pytest.raises(error) as failure:
            run([Child("a", child)], breaker=NeverRestart(), health=f"127.0.0.1:{free_port()}")
        assert type(failure.value) is error


def test_a_failed_boot_comes_out_bare_beside_probes() -> None:
    async def system(scope: Scope) -> None:
        raise ValueError("boom")

    with pytest.raises(NonChildFailure) as failure:
        run(system, health=free_port())
    assert isinstance(failure.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"health": True}, TypeError, "run: health must be a port, or 'HOST:PORT', not True"),
        ({"health": 1.5}, TypeError, "run: health must be a port"),
        ({"health": 70000}, ValueError, "run: health must be a port from 0 to 65535"),
        ({"health": -1}, ValueError, "run: health must be"),
        ({"health": "here"}, ValueError, "run: health must be"),
        ({"health": ":80"}, ValueError, "run: health must be"),
        ({"health": "a:b"}, ValueError, "run: health must be"),
        ({"drain": -1}, ValueError, "run: drain must be 0 or more seconds"),
        ({"drain": "5"}, TypeError, "run: drain must be a number of seconds"),
        ({"reload": 1}, TypeError, "run: reload must be a bool"),
    ],
)
def test_bad_values_are_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as failure:
        run([Child("a", trio.sleep_forever)], **options)
    assert str(failure.value).startswith(text)


def test_what_cannot_be_reloaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="run: reload runs the system function again"):
        run(DynamicSupervisor(), reload=True)
    monkeypatch.delattr(signal, "SIGHUP")
    with pytest.raises(ValueError, match="SIGHUP, which this system does not have"):
        run([Child("a", trio.sleep_forever)], reload=True)


def test_health_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)
    for name in ("spry_py.health.server", "spry_py._http"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(RuntimeError, match=r"pip install 'spry-py\[health\]'"):
        run([Child("a", trio.sleep_forever)], health=free_port())


# Draining


def drained(then: Callable[[Any], Any], drain: float, **options: Any) -> list[object]:
    """What happens to a tree that gets a SIGTERM, and `then` whatever that does."""
    port = free_port()
    seen: list[object] = []

    async def serves() -> None:
        context = current_context()
        while not context.is_settling:
            with trio.move_on_after(0.05):
                await context.settled()
        seen.append("stops")

    async def ends() -> None:
        while await fetched(port, "/readyz") != (200, "ok\n"):
            pass
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.01)
        status = (await fetched(port, "/readyz?verbose"))[1]
        seen.append(status.splitlines()[1])
        seen.append(current_context().is_settling)
        await then(seen)

    report = run(
        [Child("api", serves), Child("b", ends)], name="shop", health=port, drain=drain, **options
    )
    return [*seen, type(report.reason).__name__, report.burden]


def test_at_first_it_is_unready_and_serves_and_then_it_stops() -> None:
    began = time.monotonic()

    async def waits(seen: list[object]) -> None:
        await trio.sleep_forever()

    assert drained(waits, 0.3) == ["shop is stopping", False, "stops", "Normal", "settling"]
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_further_signal_ends_the_pause_and_counts_as_the_first(number: signal.Signals) -> None:
    async def signals(seen: list[object]) -> None:
        signal.raise_signal(number)
        await trio.sleep_forever()

    assert drained(signals, 1000) == ["shop is stopping", False, "stops", "Normal", "settling"]


def test_after_the_pause_the_next_signal_is_the_second() -> None:
    async def signals(seen: list[object]) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    assert drained(signals, 1000)[-2:] == ["Aborted", "aborted"]


def test_an_interrupt_never_drains() -> None:
    async def interrupts() -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    report = run([Child("a", interrupts)], drain=1000)
    assert report.burden == "settling"


def test_a_boot_does_not_drain() -> None:
    async def boots(task_status: trio.TaskStatus[None]) -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    report = run([Child("a", boots)], drain=1000)
    assert report.burden == "settling"


def test_a_tree_that_ends_during_the_pause_has_ended() -> None:
    async def ends() -> None:
        await trio.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.05)

    child = Child("a", ends, restart="transient", significant=True)
    report = run([child], drain=1000, auto_shutdown="any_significant")
    assert report.burden == "none"


# Reloading


def reloaded(script: Callable[[list[str]], Awaitable[None]], **options: Any) -> list[str]:
    """What a system does that is told to reload by `script`, which is one of its children."""
    seen: list[str] = []
    runs = 0

    async def part(name: str) -> None:
        seen.append(f"+{name}")
        try:
            await trio.sleep_forever()
        finally:
            seen.append(f"-{name}")

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        seen.append(f"run {runs}")
        await scope.start(Child("script", script, seen))
        await scope.start(Child("part", part, CONFIG["name"]))

    run(system, reload=True, **options)
    return seen


CONFIG: dict[str, str] = {}


def hang_up() -> None:
    signal.raise_signal(signal.SIGHUP)


async def until(seen: list[str], what: str) -> None:
    with trio.fail_after(30):
        while what not in seen:
            await trio.sleep(0.001)


def test_a_hangup_makes_the_tree_what_the_system_now_says() -> None:
    CONFIG["name"] = "a"

    async def script(seen: list[str]) -> None:
        await until(seen, "+a")
        CONFIG["name"] = "b"
        hang_up()
        await until(seen, "+b")
        signal.raise_signal(signal.SIGTERM)
        hang_up()  # no stop, and no second signal
        await trio.sleep_forever()

    assert reloaded(script) == ["run 1", "+a", "run 2", "-a", "+b", "-b"]


def test_hangups_during_a_reload_are_one_further() -> None:
    CONFIG["name"] = "a"
    seen: list[str] = []
    gate = threading.Event()

    async def script() -> None:
        await until(seen, "up")
        hang_up()
        await until(seen, "run 2")
        for _ in range(5):
            hang_up()
            await trio.sleep(0.01)
        gate.set()
        await until(seen, "run 3")
        await trio.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        runs = sum(fact.startswith("run") for fact in seen) + 1
        seen.append(f"run {runs}")
        await scope.start(Child("script", script))
        while runs == 2 and not gate.is_set():
            await trio.sleep(0.001)
        seen.append("up")

    run(system, reload=True)
    assert seen == ["run 1", "up", "run 2", "up", "run 3", "up"]


def test_a_hangup_during_the_boot_is_a_reload_after_it() -> None:
    seen: list[str] = []

    async def script() -> None:
        await until(seen, "up 2")
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        runs = len(seen) // 2 + 1
        seen.append(f"run {runs}")
        if runs == 1:
            hang_up()
            await trio.sleep(0.05)
        await scope.start(Child("script", script))
        seen.append(f"up {runs}")

    run(system, reload=True)
    assert seen == ["run 1", "up 1", "run 2", "up 2"]


def test_a_bad_configuration_leaves_all_as_it_is_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    CONFIG["name"] = "a"
    manager_heard: list[str] = []

    async def script(seen: list[str]) -> None:
        await until(seen, "+a")
        while "READY=1" not in "".join(manager_heard):
            manager_heard.extend(manager.take())
            await trio.sleep(0.01)
        del CONFIG["name"]
        hang_up()
        await until(seen, "run 2")
        await trio.sleep(0.05)
        manager_heard.extend(manager.take())
        CONFIG["name"] = "a"
        hang_up()
        await until(seen, "run 3")
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    with notified(monkeypatch) as manager:
        seen = reloaded(script, name="shop")
        manager_heard.extend(manager.take())
    assert seen == ["run 1", "+a", "run 2", "run 3", "-a"]
    said = [r.message.splitlines()[0] for r in caplog.records if "reloaded" in r.message]
    assert said[0] == "shop was not reloaded: KeyError: 'name'"
    lines = [line for message in manager_heard for line in message.split("\n")]
    states = [line for line in lines if not line.startswith(("STATUS", "MONOTONIC", "EXTEND"))]
    assert states[:3] == ["READY=1", "RELOADING=1", "READY=1"]
    assert states[-1] == "STOPPING=1"


# systemd


def test_a_manager_is_told_of_a_whole_program(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    async def hears(what: str) -> None:
        while not any(message.startswith(what) for message in heard):
            heard.extend(manager.take())
            await trio.sleep(0.01)

    async def ends(task_status: trio.TaskStatus[None]) -> None:
        await hears("STATUS=shop is starting")
        task_status.started()
        await hears("READY=1")
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    with notified(monkeypatch, WATCHDOG_USEC="60000000") as manager:
        run([Child("a", ends)], name="shop")
        heard.extend(manager.take())
    assert heard.count("WATCHDOG=1") == 1
    heard.remove("WATCHDOG=1")
    assert heard[0].startswith("STATUS=shop is starting")
    assert heard[1] == "READY=1\nSTATUS=1 child is running"
    assert heard[2].startswith("STOPPING=1\nSTATUS=shop is stop")


def test_a_manager_that_is_not_there_is_nobodys_trouble(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")

    async def ends() -> None:
        await trio.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    assert run([Child("a", ends)], name="shop").burden == "settling"
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "NOTIFY_SOCKET=/nowhere/at/all cannot be notified: No such file" in warnings[0]


def test_a_manager_hears_until_when_a_tree_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    async def hears(what: str) -> None:
        while not any(message.startswith(what) for message in heard):
            heard.extend(manager.take())
            await trio.sleep(0.01)

    async def ends() -> None:
        await hears("READY=1")
        signal.raise_signal(signal.SIGTERM)
        await hears("STOPPING=1")
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    with notified(monkeypatch) as manager:
        report = run([Child("a", ends)], name="shop", drain=1000)
    (stopping,) = (message for message in heard if message.startswith("STOPPING=1"))
    lines = stopping.split("\n")
    assert lines[:2] == ["STOPPING=1", "STATUS=shop is stopping"]
    name, _, micros = lines[2].partition("=")
    assert (name, 990e6 < int(micros) <= 1000e6) == ("EXTEND_TIMEOUT_USEC", True)
    assert report.burden == "settling"


async def ends_soon() -> None:
    await trio.sleep(0.05)
    signal.raise_signal(signal.SIGTERM)
    await trio.sleep_forever()


def test_where_there_are_no_such_sockets_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    monkeypatch.setattr(systemd, "socket", SimpleNamespace())
    assert run([Child("a", ends_soon)], name="shop").burden == "settling"


def test_what_fails_beside_a_tree_is_logged_and_does_not_touch_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(self: Probes) -> None:
        await trio.lowlevel.checkpoint()
        self.listeners[0].socket.close()
        raise LookupError("no such client")

    real = systemd.Notifier.close

    def close(self: systemd.Notifier) -> None:
        real(self)
        raise LookupError("no such manager")

    monkeypatch.setattr(Probes, "serve", serve)
    monkeypatch.setattr(systemd.Notifier, "close", close)
    with notified(monkeypatch):
        report = run([Child("a", ends_soon)], name="shop", health=free_port())
    assert report.burden == "settling"
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.splitlines()[0] for error in errors] == [
        "shop goes on without what has failed beside it: LookupError: no such client",
        "shop ends without what has failed beside it: LookupError: no such manager",
    ]


# Where it stands


def shown(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err


def test_where_everything_stands_with_a_blocked_loop(capfd: pytest.CaptureFixture[str]) -> None:
    async def waits() -> None:
        await trio.sleep_forever()

    async def blocks() -> None:
        await trio.sleep(0.01)
        signal.raise_signal(signal.SIGUSR1)  # nothing else can run now
        seen.append(shown(capfd))
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    seen: list[str] = []
    inner = SystemSupervisor([Child("db", waits)])
    run([Child("inner", inner), Child("b", blocks)], name="shop")
    lines = seen[0].splitlines()
    assert lines[0] == f"the trees of process {os.getpid()}:"
    tree = [line for line in lines if line.endswith("  [running]")]
    assert tree == [
        "shop/  [running]",
        "  inner/  [running]",
        "    db  [running]",
        "  b  [running]",
    ]
    where = lines.index("    db  [running]")
    assert lines[where + 1].endswith("in waits")
    assert lines[where + 3] == "        waiting in trio.sleep_forever"
    loop = seen[0][seen[0].index("the event loop is at") :]
    assert "in blocks" in loop
    assert "signal.raise_signal(signal.SIGUSR1)" in loop


def test_where_everything_stands_on_a_stream_that_is_no_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def asks() -> None:
        await trio.sleep(0.01)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    run([Child("a", asks)], name="shop")
    assert "shop/  [running]\n  a  [running]\n" in stream.getvalue()


def test_a_handler_that_the_program_has_set_is_left_alone() -> None:
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: numbers.append(number))

    async def asks() -> None:
        await trio.sleep(0.01)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)

    try:
        run([Child("a", asks)])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert numbers == [signal.SIGUSR1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows who catches a signal")
def test_so_is_that_of_faulthandler(capfd: pytest.CaptureFixture[str]) -> None:
    async def asks() -> None:
        await trio.sleep(0.01)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    with open(os.dup(2), "w") as stderr:
        faulthandler.register(signal.SIGUSR1, file=stderr, all_threads=False)
        try:
            run([Child("a", asks)])
        finally:
            faulthandler.unregister(signal.SIGUSR1)
    err = shown(capfd)
    assert "the trees of process" not in err
    assert "in asks" in err


def test_a_program_below_one_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    words = [sys.executable, "-m", "spry_py", "run", "shop:shop"]
    start = command(*words, cwd=tmp_path, env=environment(), ready=notify())

    async def ends() -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    report = run([Child("inner", start, start_timeout=60), Child("ends", ends)], name="outer")
    assert report.burden == "settling"


def test_a_stream_that_nobody_reads_holds_it_up_for_a_moment_only(tmp_path: Path) -> None:
    text = """
import fcntl, os, signal, sys
import trio
from spry_py import Child, run

async def asks():
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(4096))
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    os.dup2(write, 2)
    await trio.sleep(0.01)
    signal.raise_signal(signal.SIGUSR1)
    print("goes on")
    signal.raise_signal(signal.SIGTERM)
    await trio.sleep_forever()

run([Child("a", asks)])
"""
    (tmp_path / "program.py").write_text(text, encoding="utf-8")
    result = finished(["program.py"], tmp_path)
    assert (result.returncode, result.stdout) == (0, "goes on\n")


# The command line

SHOP = """
import os, signal, sys
import trio
from spry_py import Child, current_context

async def serves(task_status):
    task_status.started()
    print("serving", flush=True)
    await current_context().settled()

shop = [Child("api", serves)]
"""


def test_the_command_line_takes_it_all(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    port = free_port()
    options = ["--health", f"127.0.0.1:{port}", "--drain", "1000", "--reload"]
    words = ["-m", "spry_py", "run", "shop:shop", *options]
    with running(words, tmp_path) as program:
        program.until("serving")
        assert fetch(port, "/livez") == (200, "ok\n")
        program.send(signal.SIGHUP)
        program.until("was reloaded")
        program.send(signal.SIGTERM)
        program.until("stops in 1000 s, or at the next signal")
        assert fetch(port, "/readyz") == (503, "not ready\n")
        program.send(signal.SIGTERM)
        assert program.end() == 0
    first = f"serves its health at http://127.0.0.1:{port}"
    assert first in program.lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--health", "x"], "spry-py: health must be a port from 0 to 65535"),
        (["--health", "{port}"], "cannot serve the probes at 127.0.0.1 port {port}"),
        (["--drain", "soon"], "'soon' is not a number of seconds"),
    ],
    ids=["no port", "taken port", "no seconds"],
)
def test_what_the_command_line_refuses(options: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [option.replace("{port}", port) for option in options]
        result = finished(["-m", "spry_py", "run", "shop.py:shop", *given], tmp_path)
    assert result.returncode == 2
    assert said.replace("{port}", port) in result.stderr
    assert "serving" not in result.stdout
