"""Restart type, reason, burden, strategy: what becomes of a child and of its siblings.

The system is always `base, trigger, subject, last`. The expected columns are written out by hand
from the rules, never computed.
"""

from __future__ import annotations

import pytest
import trio

from spry_py import (
    Child,
    Normal,
    RestartType,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    open_system,
)
from stories import story
from workers import RESTARTS, STRATEGIES, AnyChild, Crew, calm, die, subsystem, supervise

OneEnd = tuple[str, str]  # burden, reason

# The word with which a subject records that it has ended so.
WORDS = {"normal": "returned", "failed": "raised", "aborted": "aborted"}


def subject(crew: Crew, end: OneEnd, restart: RestartType) -> AnyChild:
    """A child that ends with that reason under that burden.

    Nobody but the handle of a subsystem can end a child as aborted that nobody aborted.
    """
    if end == ("none", "aborted"):
        return Child("subject", SystemSupervisor([crew.worker("subject")]), restart=restart)
    if end == ("settling", "aborted"):
        below = SystemSupervisor([crew.deaf("subject", shutdown=1000.0)])
        return Child("subject", below, restart=restart)
    make = {
        ("none", "normal"): crew.worker,
        ("none", "failed"): crew.worker,
        ("settling", "normal"): crew.worker,
        ("settling", "failed"): crew.sulky,
        ("aborted", "normal"): crew.stoic,
        ("aborted", "failed"): crew.bitter,
        ("aborted", "aborted"): crew.heedless,
    }[end]
    return make("subject", restart=restart)


def family(crew: Crew, end: OneEnd, restart: RestartType, strategy: Strategy) -> SystemSupervisor:
    middle = subject(crew, end, restart)
    children = [crew.worker("base"), crew.worker("trigger"), middle, crew.worker("last")]
    return supervise(children, strategy, restarts=1)


def short(facts: list[str]) -> str:
    """Without the incarnations, which the listing tells, and the exceptions."""
    return ", ".join(" ".join(fact.split()[:2]) for fact in facts)


def listed(handle: SystemHandle) -> str:
    """Key and incarnation of what runs; the status of what does not."""
    return " ".join(
        f"{info.key}{info.incarnation if info.status == 'running' else ':' + info.status}"
        for info in handle.which_children()
    )


def end_of(report: TerminationReport | None) -> OneEnd:
    assert report is not None
    assert (report.path.rpartition("/")[2], report.incarnation) == ("subject", 1)
    return (report.burden, type(report.reason).__name__.lower())


async def let_it_end(crew: Crew, handle: SystemHandle, reason: str) -> None:
    """Let the subject end by itself."""
    if reason == "aborted":
        subsystem(handle, "subject").abort()
        await calm()
    else:
        await crew.tell_soon("subject", None if reason == "normal" else die)
        await calm()


ALONE = "subject start"
REST = "last returned, subject start, last start"
ALL = (
    "last returned, trigger returned, base returned, "
    "base start, trigger start, subject start, last start"
)
NOBODY = ""

ONE_NEW = "base1 trigger1 subject2 last1"
DONE = "base1 trigger1 subject:done last1"
FORGOTTEN = "base1 trigger1 last1"

BY_ITSELF: list[tuple[RestartType, str, Strategy, str, str]] = [
    ("permanent", "normal", "one_for_one", ALONE, ONE_NEW),
    ("permanent", "failed", "one_for_one", ALONE, ONE_NEW),
    ("permanent", "aborted", "one_for_one", ALONE, ONE_NEW),
    ("permanent", "normal", "rest_for_one", REST, "base1 trigger1 subject2 last2"),
    ("permanent", "failed", "rest_for_one", REST, "base1 trigger1 subject2 last2"),
    ("permanent", "aborted", "rest_for_one", REST, "base1 trigger1 subject2 last2"),
    ("permanent", "normal", "one_for_all", ALL, "base2 trigger2 subject2 last2"),
    ("permanent", "failed", "one_for_all", ALL, "base2 trigger2 subject2 last2"),
    ("permanent", "aborted", "one_for_all", ALL, "base2 trigger2 subject2 last2"),
    ("transient", "normal", "one_for_one", NOBODY, DONE),
    ("transient", "failed", "one_for_one", ALONE, ONE_NEW),
    ("transient", "aborted", "one_for_one", NOBODY, DONE),
    ("transient", "normal", "rest_for_one", NOBODY, DONE),
    ("transient", "failed", "rest_for_one", REST, "base1 trigger1 subject2 last2"),
    ("transient", "aborted", "rest_for_one", NOBODY, DONE),
    ("transient", "normal", "one_for_all", NOBODY, DONE),
    ("transient", "failed", "one_for_all", ALL, "base2 trigger2 subject2 last2"),
    ("transient", "aborted", "one_for_all", NOBODY, DONE),
    ("temporary", "normal", "one_for_one", NOBODY, FORGOTTEN),
    ("temporary", "failed", "one_for_one", NOBODY, FORGOTTEN),
    ("temporary", "aborted", "one_for_one", NOBODY, FORGOTTEN),
    ("temporary", "normal", "rest_for_one", NOBODY, FORGOTTEN),
    ("temporary", "failed", "rest_for_one", NOBODY, FORGOTTEN),
    ("temporary", "aborted", "rest_for_one", NOBODY, FORGOTTEN),
    ("temporary", "normal", "one_for_all", NOBODY, FORGOTTEN),
    ("temporary", "failed", "one_for_all", NOBODY, FORGOTTEN),
    ("temporary", "aborted", "one_for_all", NOBODY, FORGOTTEN),
]


@pytest.mark.parametrize(("restart", "reason", "strategy", "facts", "listing"), BY_ITSELF)
@story
async def test_an_end_by_itself(
    restart: RestartType, reason: str, strategy: Strategy, facts: str, listing: str
) -> None:
    crew, end = Crew(), ("none", reason)
    async with open_system(family(crew, end, restart, strategy)) as handle:
        crew.news()
        child = handle.child("subject")
        await let_it_end(crew, handle, reason)
        first, *others = crew.news()
        assert short([first]) == f"subject {WORDS[reason]}"
        assert short(others) == facts
        assert listed(handle) == listing
        assert end_of(child.last_report) == end


# Swept along when `trigger` dies: who goes down after `last`, who comes up again, what is listed.
REST_UP = ("trigger start, subject start, last start", "base1 trigger2 subject2 last2")
REST_BUT = ("trigger start, last start", "base1 trigger2 last2")
ALL_UP = ("base start, trigger start, subject start, last start", "base2 trigger2 subject2 last2")
ALL_BUT = ("base start, trigger start, last start", "base2 trigger2 last2")

SWEPT: list[tuple[RestartType, OneEnd, Strategy, str, tuple[str, str]]] = [
    ("permanent", ("settling", "normal"), "rest_for_one", "subject returned", REST_UP),
    ("permanent", ("settling", "normal"), "one_for_all", "subject returned, base returned", ALL_UP),
    ("permanent", ("settling", "failed"), "rest_for_one", "subject raised", REST_UP),
    ("permanent", ("settling", "failed"), "one_for_all", "subject raised, base returned", ALL_UP),
    ("permanent", ("settling", "aborted"), "rest_for_one", "subject aborted", REST_UP),
    ("permanent", ("settling", "aborted"), "one_for_all", "subject aborted, base returned", ALL_UP),
    ("permanent", ("aborted", "normal"), "rest_for_one", "subject returned", REST_UP),
    ("permanent", ("aborted", "normal"), "one_for_all", "subject returned, base returned", ALL_UP),
    ("permanent", ("aborted", "failed"), "rest_for_one", "subject raised", REST_UP),
    ("permanent", ("aborted", "failed"), "one_for_all", "subject raised, base returned", ALL_UP),
    ("permanent", ("aborted", "aborted"), "rest_for_one", "subject aborted", REST_UP),
    ("permanent", ("aborted", "aborted"), "one_for_all", "subject aborted, base returned", ALL_UP),
    ("transient", ("settling", "normal"), "rest_for_one", "subject returned", REST_UP),
    ("transient", ("settling", "normal"), "one_for_all", "subject returned, base returned", ALL_UP),
    ("transient", ("settling", "failed"), "rest_for_one", "subject raised", REST_UP),
    ("transient", ("settling", "failed"), "one_for_all", "subject raised, base returned", ALL_UP),
    ("transient", ("settling", "aborted"), "rest_for_one", "subject aborted", REST_UP),
    ("transient", ("settling", "aborted"), "one_for_all", "subject aborted, base returned", ALL_UP),
    ("transient", ("aborted", "normal"), "rest_for_one", "subject returned", REST_UP),
    ("transient", ("aborted", "normal"), "one_for_all", "subject returned, base returned", ALL_UP),
    ("transient", ("aborted", "failed"), "rest_for_one", "subject raised", REST_UP),
    ("transient", ("aborted", "failed"), "one_for_all", "subject raised, base returned", ALL_UP),
    ("transient", ("aborted", "aborted"), "rest_for_one", "subject aborted", REST_UP),
    ("transient", ("aborted", "aborted"), "one_for_all", "subject aborted, base returned", ALL_UP),
    ("temporary", ("settling", "normal"), "rest_for_one", "subject returned", REST_BUT),
    (
        "temporary",
        ("settling", "normal"),
        "one_for_all",
        "subject returned, base returned",
        ALL_BUT,
    ),
    ("temporary", ("settling", "failed"), "rest_for_one", "subject raised", REST_BUT),
    (
        "temporary",
        ("settling", "failed"),
        "one_for_all",
        "subject raised, base returned",
        ALL_BUT,
    ),
    ("temporary", ("settling", "aborted"), "rest_for_one", "subject aborted", REST_BUT),
    (
        "temporary",
        ("settling", "aborted"),
        "one_for_all",
        "subject aborted, base returned",
        ALL_BUT,
    ),
    ("temporary", ("aborted", "normal"), "rest_for_one", "subject returned", REST_BUT),
    (
        "temporary",
        ("aborted", "normal"),
        "one_for_all",
        "subject returned, base returned",
        ALL_BUT,
    ),
    ("temporary", ("aborted", "failed"), "rest_for_one", "subject raised", REST_BUT),
    (
        "temporary",
        ("aborted", "failed"),
        "one_for_all",
        "subject raised, base returned",
        ALL_BUT,
    ),
    ("temporary", ("aborted", "aborted"), "rest_for_one", "subject aborted", REST_BUT),
    (
        "temporary",
        ("aborted", "aborted"),
        "one_for_all",
        "subject aborted, base returned",
        ALL_BUT,
    ),
]


@pytest.mark.parametrize(("restart", "end", "strategy", "down", "up"), SWEPT)
@story
async def test_swept_along(
    restart: RestartType, end: OneEnd, strategy: Strategy, down: str, up: tuple[str, str]
) -> None:
    crew = Crew()
    async with open_system(family(crew, end, restart, strategy)) as handle:
        crew.news()
        child = handle.child("subject")
        await crew.tell_soon("trigger", die)
        await calm()
        if end == ("settling", "aborted"):
            subsystem(handle, "subject").abort()
            await calm()
        assert short(crew.news()) == f"trigger raised, last returned, {down}, {up[0]}"
        assert listed(handle) == up[1]
        assert end_of(child.last_report) == end


@pytest.mark.parametrize("restart", RESTARTS)
@story
async def test_under_one_for_one_nobody_is_swept_along(restart: RestartType) -> None:
    crew = Crew()
    async with open_system(family(crew, ("settling", "normal"), restart, "one_for_one")) as handle:
        crew.news()
        assert short(await crew.tell("trigger", die)) == "trigger raised, trigger start"
        assert listed(handle) == "base1 trigger2 subject1 last1"
        assert handle.child("subject").last_report is None


# Asked to end together with its whole system, whatever the restart type and the strategy.
ENDS_WITH_ITS_SYSTEM: list[tuple[OneEnd, str]] = [
    (("settling", "normal"), "last returned, subject returned, trigger returned, base returned"),
    (("settling", "failed"), "last returned, subject raised, trigger returned, base returned"),
    (("settling", "aborted"), "last returned, subject aborted, trigger returned, base returned"),
    (("aborted", "normal"), "last returned, subject returned, trigger returned, base returned"),
    (("aborted", "failed"), "last returned, subject raised, trigger returned, base returned"),
    (("aborted", "aborted"), "last returned, subject aborted, trigger returned, base returned"),
]
EVERYBODY_UP = "base start, trigger start, subject start, last start"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize(("end", "down"), ENDS_WITH_ITS_SYSTEM)
@story
async def test_stopped_with_its_system(
    end: OneEnd, down: str, restart: RestartType, strategy: Strategy
) -> None:
    crew = Crew()
    async with (
        trio.open_nursery() as nursery,
        open_system(family(crew, end, restart, strategy)) as handle,
    ):
        assert short(crew.news()) == EVERYBODY_UP
        child = handle.child("subject")
        nursery.start_soon(handle.stop)
        await calm()
        if end == ("settling", "aborted"):
            subsystem(handle, "subject").abort()
        report = await handle.wait()
        assert short(crew.news()) == down
        assert end_of(child.last_report) == end
        assert (report.reason, report.burden) == (Normal(None), "settling")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize(("end", "down"), ENDS_WITH_ITS_SYSTEM)
@story
async def test_restarted_with_its_system(
    end: OneEnd, down: str, restart: RestartType, strategy: Strategy
) -> None:
    """A new incarnation of a system starts all of its children, the temporary ones too."""
    crew = Crew()
    system = Child("system", family(crew, end, restart, strategy))
    tree = supervise([system, crew.worker("neighbour")], "one_for_all", restarts=1)
    async with open_system(tree) as handle:
        crew.news()
        await crew.tell_soon("neighbour", die)
        await calm()
        if end == ("settling", "aborted"):
            subsystem(handle, "system/subject").abort()
            await calm()
        assert short(crew.news()) == f"neighbour raised, {down}, {EVERYBODY_UP}, neighbour start"
        assert listed(handle) == "system2 neighbour2"
        assert listed(subsystem(handle, "system")) == "base1 trigger1 subject1 last1"
