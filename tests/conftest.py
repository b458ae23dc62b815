"""What the whole suite stands on: which spry_py it tests, and how it searches."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import trio

import spry_py

ROOT = Path(__file__).resolve().parent.parent

# Last, not first: `examples` comes from the checkout, spry_py from where it is installed.
sys.path.append(str(ROOT))

# A child process in ROOT would otherwise look there first, and find the spry_py of the checkout.
os.environ["PYTHONSAFEPATH"] = "1"

# A test that passes once passes always, on a loaded machine as well. To search further:
# `pytest --hypothesis-profile=explore`.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("steady")

# What a root without a name is named after, however the tests are run.
sys.argv[0] = "system"


# Where signals are ignored from birth (under nohup, behind a shell's &), Ctrl-C would reach no
# test, and no signal would reach a program that a test starts. A handler that does nothing ignores
# them as well, but is not inherited.
for number in (signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# trio wakes the tasks of one tick in an order of its own choice, another each time. A test that
# depends on it fails now and then, on somebody else's machine. With a seed the order is the same
# each time, and a difference that one seed shows can be looked at. What runs in threads, processes
# or on real time is no more repeatable for that, and is left out by the group in .ci/run.


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that makes trio's order repeatable."""
    parser.addoption(
        "--scheduler-seed",
        type=int,
        metavar="N",
        help="let trio wake the tasks of a tick in an order that N decides, the same in each run",
    )


@pytest.fixture(autouse=True)
def scheduler_seed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with the order that the seed begins with, also if it is run alone."""
    seed = request.config.getoption("--scheduler-seed")
    if seed is not None:
        run = trio._core._run
        monkeypatch.setattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        monkeypatch.setattr(run, "_r", random.Random(seed))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which spry_py is tested, so that the log of a run shows it."""
    seed = config.getoption("--scheduler-seed")
    order = [] if seed is None else [f"trio's scheduler: seed {seed}"]
    return [f"spry_py: {Path(spry_py.__file__).parent}", *order]


# coverage writes what a process has measured when the interpreter ends, and a worker that is not
# down ten seconds after its last test is killed before: by a thread of it, or on a loaded machine.


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what a worker of pytest-xdist has measured, before it reports that it is done."""
    if hasattr(session.config, "workerinput") and "coverage" in sys.modules:
        measured = sys.modules["coverage"].Coverage.current()
        if measured is not None:
            measured.stop()
            measured.save()


@pytest.fixture
def nothing_is_logged() -> Iterator[None]:
    """For tests of which thousands of records would be left, each with its exception."""
    logger = logging.getLogger("spry_py")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)
