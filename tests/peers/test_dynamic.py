"""Dynamic supervisors, after supervisor_SUITE (simple_one_for_one), each test by its number."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import tenacity
import trio

from callers import answer
from pools import open_pool
from spry_py import (
    Child,
    ChildFailure,
    ChildHandle,
    Ignore,
    RateLimited,
    RestartType,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import story
from workers import (
    ORDERS,
    RESTARTS,
    Crew,
    Parcel,
    Refusal,
    be_killed,
    calm,
    counts,
    die,
    ending,
    listing,
)


@pytest.mark.parametrize("restart", ["temporary", "permanent", "transient"])
@story
async def test_a06_a07_sup_start_ignore_child_start_child_simple(restart: RestartType) -> None:
    crew = Crew()
    async with open_pool() as pool:
        child1 = await pool.start_child(crew.ignore1("child1", restart=restart))
        child2 = await pool.start_child(crew.worker("child2", restart=restart))
        assert (child1.value, child2.value) == (None, "child2#1")
        assert listing(pool) == [("child2", "running", 1)]
        assert counts(pool) == (1, 1, 0, 1)
    assert crew.news() == ["child1 raised Ignore", "child2 start", "child2 returned"]
    assert ending(await pool.wait())[:2] == ("Normal", "settling")


@story
async def test_a12_sup_start_child_returns_error_simple() -> None:
    errors = [Refusal("reason"), LookupError("some other term")]

    async def refuse(error: Exception, *, task_status: trio.TaskStatus[object]) -> None:
        raise error

    async with open_pool() as pool:
        for error in errors:
            with pytest.raises(ChildFailure) as caught:
                await pool.start_child(Child("child1", refuse, error))
            assert caught.value.__cause__ is error
            assert (listing(pool), counts(pool)) == ([], (0, 0, 0, 0))


@story
async def test_a18_sup_stop_timeout_dynamic() -> None:
    crew = Crew()
    options: dict[str, Any] = {"restart": "temporary", "shutdown": 1.0}
    async with open_pool() as pool:
        handles = [
            await pool.start_child(crew.worker("child1", **options)),
            await pool.start_child(crew.deaf("child2", **options)),
        ]
        crew.news()
    assert crew.news() == ["child1 returned", "child2 aborted"]
    assert [ending(handle.last_report) for handle in handles] == [
        ("Normal", "settling", 0),
        ("Aborted", "aborted", 1),
    ]


@story
async def test_a20_sup_stop_brutal_kill_dynamic() -> None:
    crew = Crew()
    handles: list[ChildHandle] = []
    async with open_pool() as pool:
        for number in range(10):
            child = crew.worker(f"child{number}", restart="temporary", shutdown=0)
            handles.append(await pool.start_child(child))
        crew.news()
    assert sorted(crew.news()) == [f"child{number} aborted" for number in range(10)]
    assert [ending(handle.last_report) for handle in handles] == [("Aborted", "aborted", 0)] * 10


@pytest.mark.parametrize("restart", RESTARTS)
@story
async def test_a22_sup_stop_non_shutdown_exit_dynamic(restart: RestartType) -> None:
    crew = Crew()
    children = [
        crew.worker("settles", restart=restart),
        crew.sulky("sulks", restart=restart),
        crew.heedless("heedless", restart=restart),
        crew.bitter("protests", restart=restart),
    ]
    async with open_pool() as pool:
        handles = [await pool.start_child(child) for child in children]
        crew.news()
    assert sorted(crew.news()) == [
        "heedless aborted",
        "protests raised Crash",
        "settles returned",
        "sulks raised Crash",
    ]
    assert [ending(handle.last_report) for handle in handles] == [
        ("Normal", "settling", 0),
        ("Failed", "settling", 0),
        ("Aborted", "aborted", 0),
        ("Failed", "aborted", 0),
    ]
    assert ending(await pool.wait())[:2] == ("Normal", "settling")


@story
async def test_a24_child_adm_simple() -> None:
    crew = Crew()
    async with (
        open_pool() as pool,
        open_system([crew.worker("stranger")]) as other,
    ):
        assert (listing(pool), counts(pool)) == ([], (0, 0, 0, 0))
        child1 = await pool.start_child(crew.worker("child1"))
        await pool.start_child(crew.worker("child2"))
        assert listing(pool) == [("child1", "running", 1), ("child2", "running", 1)]
        assert counts(pool) == (2, 2, 0, 2)
        await child1.terminate()
        assert (child1.status, listing(pool)) == ("stopped", [("child2", "running", 1)])
        assert counts(pool) == (1, 1, 0, 1)
        assert await answer(pool.terminate_child("child1")) == "ChildNotFound"
        assert await answer(pool.terminate_child("stranger")) == "ChildNotFound"
        assert other.child("stranger").status == "running"
        assert await answer(pool.restart_child("child1")) == "ChildNotFound"
        assert await answer(pool.delete_child("child1")) == "ChildNotFound"
        assert await answer(pool.restart_child("child2")) == "ChildRunning"
        assert await answer(pool.delete_child("child2")) == "ChildRunning"
        assert counts(pool) == (1, 1, 0, 1)


@story
async def test_a35_a37_simple_one_for_one() -> None:
    crew = Crew()
    with pytest.raises(TooManyRestarts) as caught:
        async with open_pool(breaker=RateLimited(2, 3600.0)) as pool:
            handles = [
                await pool.start_child(crew.worker("child1")),
                await pool.start_child(crew.worker("child2")),
            ]
            crew.news()
            assert await crew.tell("child1", die) == ["child1 raised Crash", "child1 start #2"]
            assert [handle.value for handle in handles] == ["child1#2", "child2#1"]
            assert counts(pool) == (2, 2, 0, 2)
            assert await crew.tell("child2", die) == ["child2 raised Crash", "child2 start #2"]
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == ["child1 raised Crash", "child2 returned"]
    assert (caught.value.path, caught.value.restarts) == ("pool/child1", 1)


@story
async def test_a36_simple_one_for_one_shutdown() -> None:
    crew = Crew()
    async with open_pool() as pool:
        for key, seconds in (("child1", 1.0), ("child2", 1.0), ("child3", 5.0)):
            await pool.start_child(crew.slow(key, seconds, shutdown=2.0))
        crew.news()
    assert trio.current_time() == 2
    news = crew.news()
    assert (sorted(news[:2]), news[2:]) == (
        ["child1 returned", "child2 returned"],
        ["child3 aborted"],
    )


@pytest.mark.parametrize("way", ["stop", "die", "terminate_child"])
@story
async def test_a39_simple_one_for_one_corruption(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A log record that pytest keeps would hold the traceback of the crash, and all its frames.
    caplog.set_level(logging.CRITICAL, "spry_py")
    crew = Crew()
    parcels: list[weakref.ref[Parcel]] = []

    async with open_pool() as pool:

        async def start() -> None:
            parcel = Parcel()
            parcels.append(weakref.ref(parcel))
            await pool.start_child(crew.worker("child1", given=[parcel], restart="temporary"))

        await start()
        gc.collect()
        assert parcels[0]() is not None
        if way == "terminate_child":
            await pool.terminate_child("child1")
        else:
            await crew.tell("child1", ORDERS[way])
        gc.collect()
        assert parcels[0]() is None
        assert counts(pool) == (0, 0, 0, 0)


@pytest.mark.parametrize("restart", ["transient", "permanent"])
@story
async def test_a40_simple_one_for_one_restart_ignore(restart: RestartType) -> None:
    crew = Crew()
    async with open_pool() as pool, trio.open_nursery() as nursery:
        nursery.start_soon(crew.tell_soon, "child1", None)
        handle = await pool.start_child(crew.gate("child1", restart=restart))
        crew.news()
        assert await crew.tell("child1", die) == ["child1 raised Crash"]
        assert await crew.tell("child1", None) == ["child1 start #2"]
        assert (handle.status, handle.value) == ("running", "child1#2")
        assert await crew.tell("child1", die) == ["child1 raised Crash"]
        assert await crew.tell("child1", Ignore) == ["child1 raised Ignore"]
        assert (listing(pool), counts(pool)) == ([], (0, 0, 0, 0))
    assert ending(await pool.wait())[:2] == ("Normal", "settling")


@story
async def test_a71_count_children() -> None:
    crew = Crew()
    async with open_pool() as pool:
        for size in (100, 200):
            for number in range(counts(pool)[0], size):
                await pool.start_child(crew.worker(f"{number}", restart="temporary"))
            assert counts(pool) == (size, size, 0, size)
            assert len(pool.which_children()) == size
            assert counts(pool) == (size, size, 0, size)
        for number in range(200):
            await crew.tell(f"{number}", be_killed)
        assert (listing(pool), counts(pool)) == ([], (0, 0, 0, 0))


@story
async def test_a72_count_children_supervisor() -> None:
    async with open_pool() as pool:
        for number in range(300):
            child: Child[Any] = Child(f"{number}", SystemSupervisor([]), restart="temporary")
            await pool.start_child(child)
        assert counts(pool) == (300, 300, 300, 0)
        assert len(pool.which_children()) == 300
        for number in range(300):
            pool.child(f"{number}").value.abort()
        await calm()
        assert counts(pool) == (0, 0, 0, 0)


@story
async def test_a73_count_restarting_children() -> None:
    crew = Crew()
    flag = trio.Event()
    keys = ["child1", "child2", "child3"]
    async with open_pool(breaker=RateLimited(20, 10.0)) as pool:
        for key in keys:
            backoff = tenacity.wait_fixed(1)
            await pool.start_child(crew.hang(key, flag, shutdown=0, backoff=backoff))
        assert counts(pool) == (3, 3, 0, 3)
        for key in keys:
            await crew.tell(key, die)
        await trio.sleep(1.5)
        assert counts(pool) == (3, 3, 0, 3)
        flag.set()
        await crew.tell("child1", die)
        await crew.tell("child2", die)
        assert counts(pool) == (3, 1, 0, 3)
        await trio.sleep(3.5)
        assert [info.status for info in pool.which_children()] == [
            "restarting",
            "restarting",
            "running",
        ]
        assert counts(pool) == (3, 1, 0, 3)
        await pool.terminate_child("child1")
        assert counts(pool) == (2, 1, 0, 2)
        await pool.terminate_child("child3")
        assert counts(pool) == (1, 0, 0, 1)
        await pool.terminate_child("child2")
        assert counts(pool) == (0, 0, 0, 0)
        await trio.sleep(20)
        assert counts(pool) == (0, 0, 0, 0)


async def calls_made_by(work: Callable[[], Awaitable[object]]) -> int:
    """How many functions are called meanwhile: the same number on every machine."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call" or event == "c_call"

    sys.setprofile(profile)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return count


async def idle() -> None:
    await trio.sleep_forever()


async def cost_among(supervisor: Any, size: int) -> int:
    """The cost of one start and one termination beside so many other children."""

    async def come_and_go() -> None:
        await tree.start_child(Child("new", idle, restart="temporary"))
        await tree.terminate_child("new")

    async with supervisor() as tree:
        for number in range(size):
            await tree.start_child(Child(f"{number}", idle, restart="temporary"))
        await come_and_go()
        return await calls_made_by(come_and_go)


def open_plain() -> Any:
    return open_system([], strategy="one_for_one")


@pytest.mark.parametrize("supervisor", [open_pool, open_plain])
@story
async def test_a77_simple_one_for_one_scale_many_temporary_children(supervisor: Any) -> None:
    """The cost of a call does not depend on how many other children there are."""
    few, many = await cost_among(supervisor, 10), await cost_among(supervisor, 1000)
    assert many <= 1.3 * few


@story
async def test_a71_a_thousand_at_once() -> None:
    crew = Crew()
    async with open_pool() as pool:
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(pool.start_child, crew.worker(f"{number}"))
        assert counts(pool) == (1000, 1000, 0, 1000)
        await crew.tell("500", die)
        assert (pool.child("500").value, counts(pool)[1]) == ("500#2", 1000)
