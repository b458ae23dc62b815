"""`run`: what it returns and raises, and what signals do to it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from programs import Program, running
from spry_py import (
    Child,
    Failed,
    NeverRestart,
    Scope,
    SystemSupervisor,
    TooManyRestarts,
    current_context,
    run,
)

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)

HEAD = """
import signal, sys
import trio
from spry_py import Child, NeverRestart, SystemSupervisor, cancel_on_settle, current_context, run

def child(name):
    async def live():
        print("up", name)
        with cancel_on_settle():
            await trio.sleep_forever()
        print("down", name)
    return Child(name, live)

async def ready():
    print("ready")
    await trio.sleep_forever()

async def asked(then):
    context = current_context()
    print("ready")
    await context.settled()
    print("asked")
    await then()

async def stubborn():
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say_aborted)
                await trio.sleep_forever()

# Speaks from beside: by then the stubborn task is parked, and has a stack to show.
async def say_aborted():
    print("aborted")

def show(tree):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    report = run(tree)
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    print("report", report.path, type(report.reason).__name__, report.burden, before == after)
"""


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


def program(text: str, where: Path) -> list[str]:
    file = where / "program.py"
    file.write_text(HEAD + text, encoding="utf-8")
    return [str(file)]


def told(program: Program) -> list[str]:
    words = "up ", "down ", "ready", "asked", "aborted", "report "
    return [line for line in program.lines if line.startswith(words)]


# Without a signal from outside


async def closes() -> None:
    signal.raise_signal(signal.SIGTERM)
    await trio.sleep_forever()


@pytest.mark.usefixtures("handlers")
def test_run_takes_a_bare_system_with_options() -> None:
    async def shop(scope: Scope) -> None:
        await scope.start(Child("a", closes))

    assert run(shop).path == "shop"
    assert run(shop, strategy="one_for_one", name="corner").path == "corner"
    with pytest.raises(TypeError, match="name"):
        run(SystemSupervisor(shop), name="corner")  # type: ignore[arg-type]


def test_run_in_a_task_of_asyncio_would_block_its_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"would block the event loop.*spry_py\.aio\.run"):
            run([Child("a", closes)])

    asyncio.run(main())


@pytest.mark.usefixtures("handlers")
def test_run_raises_what_the_root_raises() -> None:
    error = ValueError("boom")

    async def crash() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with pytest.raises(TooManyRestarts) as failure:
        run(SystemSupervisor([Child("a", crash)], name="shop", breaker=NeverRestart()))
    assert failure.value.__cause__ is error


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_run_raises_the_exit_exception_of_a_child_unchanged(error: BaseException) -> None:
    async def leaves() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with pytest.raises(type(error)) as failure:
        run([Child("a", leaves)])
    assert failure.value is error


def test_run_outside_the_main_thread_leaves_signals_alone() -> None:
    async def crash() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("boom")

    def in_thread() -> None:
        with pytest.raises(TooManyRestarts) as failure:
            run(SystemSupervisor([Child("a", crash)], name="shop", breaker=NeverRestart()))
        seen.append(str(failure.value))

    seen: list[str] = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(60)
    assert len(seen) == 1
    assert "shop/a" in seen[0]


# One signal


@BOTH
@pytest.mark.usefixtures("handlers")
def test_a_signal_raised_inside_the_process_stops_the_tree(number: signal.Signals) -> None:
    order: list[str] = []

    async def listens(name: str) -> None:
        await current_context().settled()
        order.append(name)

    async def raises_signal() -> None:
        signal.raise_signal(number)
        await trio.sleep_forever()

    children = Child("a", listens, "a"), Child("b", listens, "b"), Child("c", raises_signal)
    report = run(list(children), name="shop")
    assert (order, report.path, report.burden) == (["b", "a"], "shop", "settling")
    assert not isinstance(report.reason, Failed)


@BOTH
def test_one_signal_stops_the_tree_in_order(number: signal.Signals, tmp_path: Path) -> None:
    text = """
inner = SystemSupervisor([child("b"), child("c")])
show(SystemSupervisor([child("a"), Child("inner", inner), Child("d", ready)], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(number)
        assert shop.end() == 0
    assert told(shop) == [
        "up a",
        "up b",
        "up c",
        "ready",
        "down c",
        "down b",
        "down a",
        "report shop Normal settling True",
    ]


@BOTH
def test_a_signal_during_boot_stops_what_had_started(
    number: signal.Signals, tmp_path: Path
) -> None:
    text = """
async def slow(*, task_status):
    await ready()
show(SystemSupervisor([child("a"), Child("slow", slow), child("never")], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(number)
        assert shop.end() == 0
    assert told(shop) == ["up a", "ready", "down a", "report shop Normal settling True"]


def test_a_failure_while_stopping_does_not_turn_an_ordered_end_into_a_failure(
    tmp_path: Path,
) -> None:
    text = """
async def fails():
    raise OSError("disk full")
show(SystemSupervisor([child("a"), Child("b", asked, fails)], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(signal.SIGTERM)
        assert shop.end() == 0
    assert told(shop)[-2:] == ["down a", "report shop Normal settling True"]


# A second and a third


@BOTH
def test_a_second_signal_aborts_the_tree(number: signal.Signals, tmp_path: Path) -> None:
    text = """
patient = Child("b", asked, trio.sleep_forever, shutdown=float("inf"))
show(SystemSupervisor([child("a"), patient], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(number)
        shop.until("asked")
        shop.send(number)
        assert shop.end() == 0
    assert told(shop)[-1] == "report shop Aborted aborted True"


@BOTH
def test_a_third_signal_names_who_is_stuck_and_leaves(
    number: signal.Signals, tmp_path: Path
) -> None:
    text = """
stuck = Child("b", asked, stubborn, shutdown=float("inf"))
inner = SystemSupervisor([stuck])
show(SystemSupervisor([child("a"), Child("inner", inner)], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(number)
        shop.until("asked")
        shop.send(number)
        shop.until("aborted")
        shop.send(number)
        assert shop.end() == 128 + number
    last = "\n".join(shop.lines[shop.lines.index("aborted") :])
    assert "shop/inner/b" in last
    assert "stubborn" in last
    assert told(shop)[-1] == "aborted"


def test_signals_of_both_kinds_count_together(tmp_path: Path) -> None:
    text = """
show(SystemSupervisor([Child("b", asked, stubborn, shutdown=float("inf"))], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(signal.SIGTERM)
        shop.until("asked")
        shop.send(signal.SIGINT)
        shop.until("aborted")
        shop.send(signal.SIGTERM)
        assert shop.end() == 128 + signal.SIGTERM


# A terminal that closes


def test_a_hangup_stops_the_tree_in_order_however_often_it_comes(tmp_path: Path) -> None:
    text = """
async def last():
    print("settling", current_context().is_settling)
    await trio.sleep(0.2)
show(SystemSupervisor([child("a"), Child("b", asked, last)], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(signal.SIGHUP)
        shop.until("settling True")
        for _ in range(3):
            shop.send(signal.SIGHUP)
        assert shop.end() == 0
    assert told(shop) == ["up a", "ready", "asked", "down a", "report shop Normal settling True"]


def test_a_hangup_is_no_second_signal_and_another_one_after_it_is(tmp_path: Path) -> None:
    text = """
patient = Child("b", asked, trio.sleep_forever, shutdown=float("inf"))
show(SystemSupervisor([child("a"), patient], name="shop"))
"""
    for first, then in ((signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP, signal.SIGHUP)):
        with running(program(text, tmp_path), tmp_path) as shop:
            shop.until("ready")
            shop.send(first)
            shop.until("asked")
            shop.send(then)
            shop.send(signal.SIGINT)
            assert shop.end() == 0
        assert told(shop)[-1] == "report shop Aborted aborted True"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_that_was_ignored_before_does_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    text = f"""
signal.signal({number.value}, signal.SIG_IGN)
async def raises():
    signal.raise_signal({number.value})
    print("ready")
    await trio.sleep_forever()
show(SystemSupervisor([child("a"), Child("b", raises), child("c")], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("up c")
        shop.send(signal.SIGTERM)
        assert shop.end() == 0
    assert told(shop)[-3:] == ["down c", "down a", "report shop Normal settling True"]


def test_sigterm_is_taken_even_if_it_was_ignored_before(tmp_path: Path) -> None:
    text = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
show(SystemSupervisor([child("a"), Child("b", ready)], name="shop"))
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(signal.SIGTERM)
        assert shop.end() == 0
    assert told(shop)[-1] == "report shop Normal settling True"


def test_an_ignored_interrupt_stays_ignored_after_the_run(tmp_path: Path) -> None:
    text = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
show(SystemSupervisor([child("a"), Child("b", ready)], name="shop"))
print("then", signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        shop.until("ready")
        shop.send(signal.SIGTERM)
        assert shop.end() == 0
    assert shop.lines[-1] == "then True"


def test_a_second_run_of_the_same_supervisor_in_one_process(tmp_path: Path) -> None:
    text = """
tree = SystemSupervisor([child("a"), Child("b", ready)], name="shop")
show(tree)
show(tree)
"""
    with running(program(text, tmp_path), tmp_path) as shop:
        for _ in range(2):
            shop.until("ready")
            shop.send(signal.SIGTERM)
            shop.until("report")
        assert shop.end() == 0
    assert told(shop) == ["up a", "ready", "down a", "report shop Normal settling True"] * 2
