"""Restarts and their strategies, after supervisor_SUITE: each test bears its scenario's number."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from spry_py import (
    Child,
    DynamicSupervisor,
    Normal,
    RateLimited,
    Strategy,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import story
from workers import Crash, Crew, Refusal, causes, counts, die, listing, subsystem, supervise


def told(error: TooManyRestarts) -> tuple[str, int, str]:
    return (error.path, error.restarts, str(error.root_cause))


# By strategy: each child and the incarnation it is in after the first crash; who crashes and what
# follows, twice; who crashes once too often and what follows; and the restarts it had before.
SWEPT_BY: dict[Strategy, tuple[dict[str, int], dict[str, str], tuple[str, str], int]] = {
    "one_for_one": (
        {"child1": 2, "child2": 1},
        {"child1": "child1 start #2", "child2": "child2 start #2"},
        ("child1", "child2 returned"),
        1,
    ),
    "one_for_all": (
        {"child1": 2, "child2": 2},
        {
            "child1": "child2 returned, child1 start #2, child2 start #2",
            "child2": "child1 returned, child1 start #3, child2 start #3",
        },
        ("child1", "child2 returned"),
        2,
    ),
    "rest_for_one": (
        {"child1": 1, "child2": 2, "child3": 2},
        {
            "child2": "child3 returned, child2 start #2, child3 start #2",
            "child3": "child3 start #3",
        },
        ("child2", "child3 returned, child1 returned"),
        1,
    ),
}


@pytest.mark.parametrize("strategy", SWEPT_BY)
@story
async def test_a30_a32_a41_what_each_strategy_restarts(strategy: Strategy) -> None:
    crew = Crew()
    incarnations, crashes, (last, down), restarts = SWEPT_BY[strategy]
    children = [crew.worker(key) for key in incarnations]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(supervise(children, strategy)) as handle:
            assert crew.news() == [f"{key} start" for key in incarnations]
            first, second = crashes
            news = await crew.tell(first, die)
            assert news == [f"{first} raised Crash", *crashes[first].split(", ")]
            assert listing(handle) == [(key, "running", n) for key, n in incarnations.items()]
            assert counts(handle) == (len(children), len(children), 0, len(children))
            news = await crew.tell(second, die)
            assert news == [f"{second} raised Crash", *crashes[second].split(", ")]
            await crew.tell_soon(last, die)
            await trio.sleep_forever()
    assert crew.news() == [f"{last} raised Crash", *down.split(", ")]
    assert told(caught.value) == (f"system/{last}", restarts, f"{last}#{restarts + 1}")
    assert [type(error) for error in causes(caught.value)] == [TooManyRestarts, Crash]
    times = "1 time" if restarts == 1 else f"{restarts} times"
    assert str(caught.value) == (
        f"too many restarts: 'system/{last}' was restarted {times} and may not be again; "
        f"root cause: Crash: {last}#{restarts + 1}"
    )


# Who cannot start again, and what follows its crash or that of its sibling.
REFUSED_UNDER = {
    "one_for_one": ("child1", [*4 * ["child1 raised Refusal"], "child2 returned"]),
    "simple_one_for_one": ("child1", [*4 * ["child1 raised Refusal"], "child2 returned"]),
    "one_for_all": (
        "child2",
        [
            "child2 returned",
            *(
                news
                for n in range(2, 6)
                for news in (f"child1 start #{n}", "child2 raised Refusal", "child1 returned")
            ),
        ],
    ),
    "rest_for_one": (
        "child2",
        [
            "child2 returned",
            "child1 start #2",
            *4 * ["child2 raised Refusal"],
            "child1 returned",
        ],
    ),
}


@pytest.mark.parametrize("strategy", REFUSED_UNDER)
@story
async def test_a31_a33_a38_a42_starts_that_fail_are_counted_until_it_escalates(
    strategy: Any,
) -> None:
    crew = Crew()
    refused, news = REFUSED_UNDER[strategy]
    keys = ("child1", "child2")
    children = [crew.fail2(key) if key == refused else crew.worker(key) for key in keys]
    tree: SystemSupervisor | DynamicSupervisor
    if strategy == "simple_one_for_one":
        tree, added = DynamicSupervisor(name="system", breaker=RateLimited(4, 3600.0)), children
    else:
        tree, added = supervise(children, strategy, restarts=4), []
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(tree) as handle:
            for child in added:
                await handle.start_child(child)
            crew.news()
            await crew.tell_soon("child1", die)
            await trio.sleep_forever()
    assert crew.news() == ["child1 raised Crash", *news]
    assert told(caught.value) == (f"system/{refused}", 4, f"{refused}#5")
    assert isinstance(caught.value.root_cause, Refusal)
    assert causes(caught.value)[-1] is caught.value.root_cause


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
