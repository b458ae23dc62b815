"""Restarts and their strategies, after supervisor_SUITE: each test bears its scenario's number."""

from __future__ import annotations

import pytest
import trio

from spry_py import (
    Child,
    Normal,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import story
from workers import Crash, Crew, Refusal, causes, counts, die, listing, subsystem, supervise


def told(error: TooManyRestarts) -> tuple[str, int, str]:
    return (error.path, error.restarts, str(error.root_cause))


@story
async def test_a30_one_for_one() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.worker("child2")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "one_for_one")) as handle:
            assert crew.news() == ["child1 start", "child2 start"]
            assert await crew.tell("child1", die) == ["child1 raised Crash", "child1 start #2"]
            assert listing(handle) == [("child1", "running", 2), ("child2", "running", 1)]
            assert counts(handle) == (2, 2, 0, 2)
            assert await crew.tell("child2", die) == ["child2 raised Crash", "child2 start #2"]
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == ["child1 raised Crash", "child2 returned"]
    assert told(caught.value) == ("system/child1", 1, "child1#2")
    assert [type(error) for error in causes(caught.value)] == [TooManyRestarts, Crash]
    assert str(caught.value) == (
        "too many restarts: 'system/child1' was restarted 1 time and may not be again; "
        "root cause: Crash: child1#2"
    )


@story
async def test_a31_one_for_one_escalation() -> None:
    crew = Crew()
    children = [crew.fail2("child1"), crew.worker("child2")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "one_for_one", restarts=4)):
            crew.news()
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == [
        "child1 raised Crash",
        "child1 raised Refusal",
        "child1 raised Refusal",
        "child1 raised Refusal",
        "child1 raised Refusal",
        "child2 returned",
    ]
    assert told(caught.value) == ("system/child1", 4, "child1#5")
    assert isinstance(caught.value.root_cause, Refusal)
    assert causes(caught.value)[-1] is caught.value.root_cause


@story
async def test_a32_one_for_all() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.worker("child2")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "one_for_all")) as handle:
            assert crew.news() == ["child1 start", "child2 start"]
            assert await crew.tell("child1", die) == [
                "child1 raised Crash",
                "child2 returned",
                "child1 start #2",
                "child2 start #2",
            ]
            assert listing(handle) == [("child1", "running", 2), ("child2", "running", 2)]
            assert counts(handle) == (2, 2, 0, 2)
            assert await crew.tell("child2", die) == [
                "child2 raised Crash",
                "child1 returned",
                "child1 start #3",
                "child2 start #3",
            ]
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == ["child1 raised Crash", "child2 returned"]
    assert told(caught.value) == ("system/child1", 2, "child1#3")


@story
async def test_a33_one_for_all_escalation() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.fail2("child2")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "one_for_all", restarts=4)):
            crew.news()
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == [
        "child1 raised Crash",
        "child2 returned",
        "child1 start #2",
        "child2 raised Refusal",
        "child1 returned",
        "child1 start #3",
        "child2 raised Refusal",
        "child1 returned",
        "child1 start #4",
        "child2 raised Refusal",
        "child1 returned",
        "child1 start #5",
        "child2 raised Refusal",
        "child1 returned",
    ]
    assert told(caught.value) == ("system/child2", 4, "child2#5")


@story
async def test_a41_rest_for_one() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.worker("child2"), crew.worker("child3")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "rest_for_one")) as handle:
            assert crew.news() == ["child1 start", "child2 start", "child3 start"]
            assert await crew.tell("child2", die) == [
                "child2 raised Crash",
                "child3 returned",
                "child2 start #2",
                "child3 start #2",
            ]
            assert listing(handle) == [
                ("child1", "running", 1),
                ("child2", "running", 2),
                ("child3", "running", 2),
            ]
            assert counts(handle) == (3, 3, 0, 3)
            assert await crew.tell("child3", die) == ["child3 raised Crash", "child3 start #3"]
            await crew.tell_soon("child2", die)
            await trio.sleep_forever()
    assert crew.news() == ["child2 raised Crash", "child3 returned", "child1 returned"]
    assert told(caught.value) == ("system/child2", 1, "child2#2")


@story
async def test_a42_rest_for_one_escalation() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.fail2("child2")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "rest_for_one", restarts=4)):
            crew.news()
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == [
        "child1 raised Crash",
        "child2 returned",
        "child1 start #2",
        "child2 raised Refusal",
        "child2 raised Refusal",
        "child2 raised Refusal",
        "child2 raised Refusal",
        "child1 returned",
    ]
    assert told(caught.value) == ("system/child2", 4, "child2#5")


@story
async def test_a79_every_path_leads_to_the_new_incarnation() -> None:
    crew = Crew()
    middle = SystemSupervisor([crew.worker("worker")], strategy="one_for_one")
    async with open_system(supervise([Child("middle", middle)], "one_for_one")) as handle:
        worker, before = handle.find("middle/worker"), subsystem(handle, "middle")
        assert crew.news() == ["worker start"]
        before.abort()
        await trio.sleep(0.2)
        assert crew.news() == ["worker aborted", "worker start #2"]
        assert listing(handle) == [("middle", "running", 2)]
        assert listing(before) == [("worker", "running", 1)]
        assert (worker.status, worker.incarnation, worker.value) == ("running", 1, "worker#2")
        assert await crew.tell("worker", die) == ["worker raised Crash", "worker start #3"]
        assert (worker.status, worker.incarnation, worker.value) == ("running", 2, "worker#3")
        assert handle.find("middle/worker").value == "worker#3"
    assert crew.news() == ["worker returned"]
    assert (worker.status, handle.child("middle").status) == ("stopped", "stopped")
    assert (await worker.wait()).reason == Normal(None)


@story
async def test_an_escalation_is_decided_by_the_parent() -> None:
    crew = Crew()
    below = supervise([crew.worker("leaf1"), crew.worker("leaf2")], "one_for_one", restarts=1)
    children = [crew.worker("child1"), Child("child2", below), crew.worker("child3")]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, "rest_for_one", restarts=1)) as handle:
            crew.news()
            assert await crew.tell("leaf1", die) == ["leaf1 raised Crash", "leaf1 start #2"]
            assert await crew.tell("leaf1", die) == [
                "leaf1 raised Crash",
                "leaf2 returned",
                "child3 returned",
                "leaf1 start #3",
                "leaf2 start #2",
                "child3 start #2",
            ]
            assert listing(handle) == [
                ("child1", "running", 1),
                ("child2", "running", 2),
                ("child3", "running", 2),
            ]
            assert await crew.tell("leaf2", die) == ["leaf2 raised Crash", "leaf2 start #3"]
            await crew.tell_soon("leaf2", die)
            await trio.sleep_forever()
    assert crew.news() == [
        "leaf2 raised Crash",
        "leaf1 returned",
        "child3 returned",
        "child1 returned",
    ]
    assert [type(error) for error in causes(caught.value)] == [
        TooManyRestarts,
        TooManyRestarts,
        Crash,
    ]
    assert [
        told(error) for error in causes(caught.value) if isinstance(error, TooManyRestarts)
    ] == [
        ("system/child2", 1, "leaf2#2"),
        ("system/child2/leaf2", 1, "leaf2#2"),
    ]
    assert str(caught.value) == (
        "too many restarts: 'system/child2' was restarted 1 time and may not be again; "
        "root cause: Crash: leaf2#2"
    )


@story
async def test_a_temporary_subsystem_never_escalates() -> None:
    crew = Crew()
    below = supervise([crew.worker("leaf1"), crew.worker("leaf2")], "one_for_one", restarts=0)
    children = [crew.worker("child1"), Child("child2", below, restart="temporary")]
    async with open_system(supervise(children, "one_for_all", restarts=0)) as handle:
        crew.news()
        assert await crew.tell("leaf1", die) == ["leaf1 raised Crash", "leaf2 returned"]
        assert listing(handle) == [("child1", "running", 1)]
        assert counts(handle) == (1, 1, 0, 1)
