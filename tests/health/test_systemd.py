"""`notify_systemd`: what a service manager is told, byte for byte, and when."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
from functools import partial
from typing import Any

import pytest
import trio

from actors import STAYS, Actor
from notified import notified, receiving
from spry_py import (
    Child,
    DynamicSupervisor,
    RateLimited,
    Scope,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
    roots,
)
from spry_py.health import Health, notify_systemd
from spry_py.health.systemd import Manager, Notifier
from stories import Record, story

one_for_one = partial(open_system, strategy="one_for_one", breaker=RateLimited(9, 60.0))


@story
async def test_a_whole_life_as_a_manager_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Actor(Record(), "a", [2.3, *STAYS], cleanup=3)
    supervisor = SystemSupervisor(
        [a.child(backoff=lambda state: 2.2)],
        name="shop",
        strategy="one_for_one",
        breaker=RateLimited(2, 60.0),
    )
    heard: list[tuple[float, str]] = []

    def hear() -> None:
        heard.extend((trio.current_time(), message) for message in manager.take())

    async def listens() -> None:
        while True:
            await trio.sleep(0.25)
            hear()

    with notified(monkeypatch) as manager:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listens)
            nursery.start_soon(supervisor)
            await trio.sleep(0.125)
            (root,) = roots()
            nursery.start_soon(notify_systemd, root)
            await trio.sleep(4)
            a.die()
            await trio.sleep(20.2)
            await root.stop()
            await trio.sleep(1)
            hear()
            nursery.cancel_scope.cancel()
    left = "shop: 1 of 2 restarts within 60 s left"
    assert heard == [
        (0.25, "STATUS=shop is starting; shop/a is starting"),
        (2.5, "READY=1\nSTATUS=1 child is running"),
        (7.25, f"STATUS=shop/a is restarting; {left}"),
        (10.25, f"STATUS=shop/a is starting; {left}"),
        (12.25, f"STATUS=shop/a was restarted 0.55 s ago; {left}"),
        (13.25, f"STATUS={left}"),
        (24.5, "STOPPING=1\nSTATUS=shop is stopping"),
        (27.5, "STATUS=shop is stopped"),
    ]


@story
async def test_it_ends_with_the_tree_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with notified(monkeypatch) as manager:
        async with trio.open_nursery() as nursery:
            a = Actor(Record(), "a", cleanup=0.5)
            async with open_system([a.child()], name="shop") as root:
                await nursery.start(notify_systemd, root)
                await trio.sleep(100)
                assert manager.take() == ["READY=1\nSTATUS=1 child is running"]
        assert manager.take() == [
            "STOPPING=1\nSTATUS=shop is stopping",
            "STATUS=shop is stopped",
        ]


@story
async def test_a_tree_that_is_well_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    info = SystemHandle.info

    def counted(self: SystemHandle) -> Any:
        nonlocal looks
        looks += 1
        return info(self)

    with notified(monkeypatch) as manager:
        async with (
            open_system([Child("pool", DynamicSupervisor())]) as root,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(notify_systemd, root)
            await trio.sleep(10)
            manager.take()
            monkeypatch.setattr(SystemHandle, "info", counted)
            await trio.sleep(86_400)
            assert looks == 0
            # a thousand events in a row are one piece of news
            for n in range(1000):
                child = Child(f"a{n}", trio.lowlevel.checkpoint, restart="temporary")
                await root.system("pool").start_child(child)
            await root.system("pool").start_child(Child("b", trio.sleep_forever))
            before = looks
            await trio.sleep(5)
            assert before < looks < 30
            assert manager.take() == ["STATUS=2 children are running"]
            nursery.cancel_scope.cancel()


# The watchdog


@story
async def test_signs_of_life_come_at_half_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    async with open_system([Child("a", trio.sleep_forever)]) as root:
        with notified(monkeypatch, **variables) as manager:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notify_systemd, root)
                await trio.sleep(21)
                signs = [message for message in manager.take() if message == "WATCHDOG=1"]
                assert signs == ["WATCHDOG=1"] * 5
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {},
    ],
    ids=str,
)
@story
async def test_signs_of_life_that_nobody_waits_for(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_system([Child("a", trio.sleep_forever)]) as root:
        with notified(monkeypatch, **variables) as manager:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notify_systemd, root)
                await trio.sleep(100)
                assert manager.take() == ["READY=1\nSTATUS=1 child is running"]
                nursery.cancel_scope.cancel()


# Limits that have time left


def extended(messages: list[str]) -> list[float]:
    lines = [line for message in messages for line in message.split("\n")]
    name = "EXTEND_TIMEOUT_USEC="
    return [int(line[len(name) :]) / 1e6 for line in lines if line.startswith(name)]


@story
async def test_a_start_with_a_limit_is_given_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Actor(Record(), "a", [3.5, *STAYS]).child(start_timeout=100.0)
    endless = Actor(Record(), "b", [5, *STAYS]).child()
    supervisor = SystemSupervisor([slow, endless], name="shop")
    with notified(monkeypatch) as manager:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor)
            await trio.sleep(0.25)
            (root,) = roots()
            nursery.start_soon(notify_systemd, root)
            await trio.sleep(6)
            assert extended(manager.take()) == [100, 99, 98, 97]
            await trio.sleep(6)
            assert "READY=1" in manager.take()[-1]
            nursery.cancel_scope.cancel()


@story
async def test_a_stop_with_a_limit_is_given_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(seconds: float) -> None:
        await current_context().settled()
        await trio.sleep(seconds)

    inner = SystemSupervisor([Child("b", slow, 4.5, shutdown=60.0)])
    children = [Child("a", slow, 3.0, shutdown=float("inf")), Child("inner", inner)]
    with notified(monkeypatch) as manager:
        async with trio.open_nursery() as nursery:
            root = await nursery.start(SystemSupervisor(children, name="shop"))
            await nursery.start(notify_systemd, root)
            await trio.sleep(10)
            manager.take()
            await root.stop()
            messages = manager.take()
    assert messages[0].startswith("STOPPING=1\nSTATUS=shop is stopping\nEXTEND_TIMEOUT_USEC=")
    assert extended(messages) == [59.95, 58.95, 57.95, 56.95, 55.95]


# By hand


@story
async def test_a_reload_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_system([Child("a", trio.sleep_forever)], name="shop") as root:
        with notified(monkeypatch) as manager:
            notifier = Notifier(Health(root), Manager(os.environ, "shop"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notifier.run)
                await trio.sleep(5)
                assert manager.take() == ["READY=1\nSTATUS=1 child is running"]
                notifier.reloading()
                reloading, micros = manager.take()[0].split("\n")
                assert reloading == "RELOADING=1"
                name, _, value = micros.partition("=")
                assert (name, int(value) > 0) == ("MONOTONIC_USEC", True)
                await trio.sleep(5)
                assert manager.take() == []
                notifier.reloaded()
                assert manager.take() == ["READY=1"]
                nursery.cancel_scope.cancel()
            notifier.close()


@story
async def test_a_reload_that_has_a_limit_is_given_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    children = [Child("a", trio.sleep_forever)]

    async def system(scope: Scope) -> None:
        for child in children:
            await scope.start(child)

    async with open_system(system, name="shop") as root, trio.open_nursery() as nursery:
        with notified(monkeypatch) as manager:
            notifier = Notifier(Health(root), Manager(os.environ, "shop"))
            nursery.start_soon(notifier.run)
            await trio.sleep(5.5)
            children.append(Actor(Record(), "b", [3.25, *STAYS]).child(start_timeout=20))
            notifier.reloading()
            await trio.sleep(0.25)
            await root.replay()
            # the limit counts from when it is first seen
            assert extended(manager.take()) == [20, 19, 18]
            notifier.reloaded()
            assert manager.take() == ["READY=1\nSTATUS=2 children are running"]
            nursery.cancel_scope.cancel()
        notifier.close()


@story
async def test_a_program_that_goes_on_for_a_while_says_until_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_system([Child("a", trio.sleep_forever)], name="shop") as root:
        with notified(monkeypatch) as manager:
            health = Health(root)
            notifier = Notifier(health, Manager(os.environ, "shop"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notifier.run)
                await trio.sleep(5.5)
                manager.take()
                health.leave()
                notifier.leave(trio.current_time() + 3)
                await trio.sleep(10)
                assert manager.take() == [
                    "STOPPING=1\nSTATUS=shop is stopping\nEXTEND_TIMEOUT_USEC=3000000",
                    "EXTEND_TIMEOUT_USEC=2000000",
                    "EXTEND_TIMEOUT_USEC=1000000",
                ]
                nursery.cancel_scope.cancel()
            notifier.close()


# The socket


@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="abstract names are Linux's own")
def test_an_abstract_name_is_one_too() -> None:
    with receiving(f"@spry-py-test-{os.getpid()}") as receiver:
        manager = Manager({"NOTIFY_SOCKET": receiver.where}, "")
        assert manager.send(["READY=1", "STATUS=é"])
        manager.close()
        assert receiver.take() == ["READY=1\nSTATUS=é"]


@pytest.mark.skipif(
    shutil.which("systemd-notify") is None, reason="there is no systemd-notify here"
)
@pytest.mark.parametrize(
    "lines",
    [
        ["READY=1"],
        ["READY=1", "STATUS=3 children are running"],
        ["STOPPING=1", "STATUS=shop is stopping"],
        ["RELOADING=1", "MONOTONIC_USEC=1234567"],
        ["WATCHDOG=1"],
        ["EXTEND_TIMEOUT_USEC=5000000"],
    ],
    ids=lambda lines: lines[0].partition("=")[0],
)
def test_it_is_byte_for_byte_what_systemd_notify_sends(lines: list[str]) -> None:
    with receiving() as receiver:
        environment = os.environ | {"NOTIFY_SOCKET": receiver.where}
        command = ["systemd-notify", "--no-block", *lines]
        subprocess.run(command, env=environment, check=True, timeout=60)
        theirs = receiver.next()
        manager = Manager({"NOTIFY_SOCKET": receiver.where}, "")
        manager.send(lines)
        manager.close()
        assert receiver.next() == theirs


@story
async def test_a_status_is_one_line_whatever_a_child_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = Actor(Record(), "a\nSTOPPING=1")
    with notified(monkeypatch) as manager:
        async with (
            one_for_one([a.child(backoff=lambda state: 99.0)], name="shop") as root,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(notify_systemd, root)
            a.die()
            await trio.sleep(5)
            assert manager.take()[-1] == "STATUS=shop/a STOPPING=1 is restarting"
            nursery.cancel_scope.cancel()


@story
async def test_news_that_do_not_get_out_are_sent_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_system([Child("a", trio.sleep_forever)], name="shop") as root:
        with receiving() as receiver:
            where = receiver.where
            os.rename(where, f"{where}.not-yet")
            monkeypatch.setenv("NOTIFY_SOCKET", where)
            async with trio.open_nursery() as nursery:
                await nursery.start(notify_systemd, root)
                await trio.sleep(5)
                os.rename(f"{where}.not-yet", where)
                await trio.sleep(2)
                assert receiver.take() == ["READY=1\nSTATUS=1 child is running"]
                nursery.cancel_scope.cancel()
    said = (
        f"the service manager at NOTIFY_SOCKET={where} cannot be notified: "
        "No such file or directory"
    )
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == [said]


@story
async def test_a_receiver_that_does_not_read_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_system([Child("a", trio.sleep_forever)], name="shop") as root:
        with notified(monkeypatch, WATCHDOG_USEC="2000000") as manager:
            async with trio.open_nursery() as nursery:
                await nursery.start(notify_systemd, root)
                await trio.sleep(1000)
                assert 0 < len(manager.take()) < 1000
                nursery.cancel_scope.cancel()


@story
async def test_a_name_that_is_no_socket_is_logged_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    async with (
        trio.open_nursery() as nursery,
        open_system([Child("a", trio.sleep_forever)], name="shop") as root,
    ):
        await nursery.start(notify_systemd, root)
        await trio.sleep(10)
    said = (
        "the service manager at NOTIFY_SOCKET=vsock:2:1234 cannot be notified: "
        "it is neither a path nor begins with @"
    )
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == [said]


@story
async def test_without_a_manager_it_waits_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with (
        trio.open_nursery() as nursery,
        open_system([Child("a", trio.sleep_forever)]) as root,
    ):
        await nursery.start(notify_systemd, root)
        await trio.sleep(10)
        assert trio.lowlevel.current_statistics().tasks_living > 1


@story
async def test_where_there_are_no_such_sockets_it_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    async with open_system([Child("a", trio.sleep_forever)]) as root:
        with pytest.raises(RuntimeError, match="notify_systemd"):
            await notify_systemd(root)
