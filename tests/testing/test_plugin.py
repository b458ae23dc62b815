"""The plugin for pytest in projects of its own: what fails, what is shown then, other plugins."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from programs import finished

# What each test of these projects should become stands in its name.
PROJECT = """
import pytest, trio
from spry_py import Child, NeverRestart
from spry_py.events import ChildStarted
from spry_py.testing import Script, chaos, crash

def steady(*keys):
    return [Child(key, Script(["start", "wait"])) for key in keys]

@pytest.mark.spry
async def test_passed_with_a_tree(spry):
    await spry.start(steady("db"))

@pytest.mark.spry
async def test_skipped_within(spry):
    await spry.start(steady("db"))
    pytest.skip("so")

@pytest.mark.spry
@pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
async def test_xfailed_by_its_own_exception(spry):
    await spry.start(steady("db"))
    1 / 0

@pytest.mark.spry
async def test_failed_by_itself(spry):
    first, record = await spry.start(steady("db"), name="first")
    await spry.start(steady("api"), name="second")
    await trio.sleep(1)
    crash(first, "first/db", OSError("gone"))
    await record.wait_for(ChildStarted, "first/db", count=2)
    await trio.sleep(1)
    print("said before")
    assert 1 + 1 == 3

@pytest.mark.spry
async def test_failed_by_its_tree(spry):
    await spry.start([Child("db", Script(["start", 1, OSError("gone")]))], name="app")
    await trio.sleep_forever()

@pytest.mark.spry
async def test_failed_by_a_tree_that_does_not_come_up(spry):
    await spry.start([Child("db", Script([1, OSError("no start")]))], name="app")

@pytest.mark.spry
async def test_failed_by_a_child_that_is_not_stopped_as_it_should_be(spry):
    await spry.start([Child("db", Script(["start", "deaf"]))], name="app")

@pytest.mark.spry
async def test_failed_by_itself_and_by_its_tree(spry):
    await spry.start([Child("db", Script(["start", "deaf"]))], name="app")
    raise ValueError("mine")

@pytest.mark.spry
async def test_failed_by_chaos(spry):
    handle, _ = await spry.start(steady("db"), name="app", breaker=NeverRestart())
    await chaos(handle, seed=7)

@pytest.mark.spry
async def test_failed_as_it_waits_for_ever(spry):
    await spry.start(steady("db"))
    await trio.sleep_forever()

def test_failed_without_trio(spry):
    spry.start([]).send(None)

async def test_failed_without_a_marker(spry):
    pass
"""

OTHERS = """
import pytest, trio
from spry_py import Child
from spry_py.testing import Script

def steady():
    return [Child("db", Script(["start", "wait"]))]

@pytest.fixture
async def seen():
    await trio.sleep(0)
    yield "fixture of another plugin"

@pytest.mark.trio
async def test_passed_by_pytest_trio_on_real_time(seen, spry):
    assert seen == "fixture of another plugin"
    assert trio.current_time() > 0
    handle, _ = await spry.start(steady())
    assert handle.status == "running"

@pytest.mark.trio
@pytest.mark.spry
async def test_passed_by_pytest_trio_on_virtual_time(seen, spry, nursery):
    assert seen == "fixture of another plugin"
    await spry.start(steady())
    await trio.sleep(3600)
    assert trio.current_time() == 3600

@pytest.mark.trio
@pytest.mark.spry
async def test_passed_by_pytest_trio_with_a_clock_of_its_own(mock_clock, spry):
    await spry.start(steady())
    mock_clock.jump(5)
    assert trio.current_time() == 5

@pytest.mark.trio
@pytest.mark.spry
async def test_failed_by_pytest_trio(spry):
    await spry.start([Child("db", Script(["start", "deaf"]))], name="app")

@pytest.mark.anyio
@pytest.mark.spry
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_passed_by_anyio(anyio_backend, seen, spry):
    assert seen == "fixture of another plugin"
    handle, _ = await spry.start(steady())
    assert handle.status == "running"

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_failed_by_anyio_without_trio(anyio_backend, spry):
    await spry.start(steady())

@pytest.mark.spry
async def test_passed_by_us(spry):
    await spry.start(steady())
    await trio.sleep(3600)
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    points = importlib.metadata.entry_points(group="pytest11")
    assert "spry_py" in points.names, "the plugin is not installed: run `pip install -e .` again"


def run(place: Path, source: str, *options: str) -> tuple[dict[str, str], str]:
    """What became of each test, and all that pytest has printed."""
    (place / "test_project.py").write_text(source, encoding="utf-8")
    (place / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    always = ["-m", "pytest", "-rA", "-p", "no:cacheprovider", "--strict-markers"]
    result = finished([*always, *options], place)
    told = re.findall(
        r"^(PASSED|FAILED|XFAIL|ERROR) test_project\.py::(\S+)", result.stdout, re.MULTILINE
    )
    outcomes = {name: word for word, name in told}
    assert outcomes, result.stdout + result.stderr
    return outcomes, result.stdout


def wrong(outcomes: dict[str, str]) -> dict[str, str]:
    """The tests that did not become what their name says."""
    words = {"PASSED": "passed", "FAILED": "failed", "XFAIL": "xfailed"}
    return {
        name: word
        for name, word in outcomes.items()
        if not name.rpartition("::")[2].startswith(f"test_{words.get(word)}_")
    }


# Hypothesis takes seconds to be imported, and imports trio.
QUICK = ("-p", "no:hypothesispytest")
ALONE = ("-p", "no:trio", "-p", "no:anyio", *QUICK)
OUTCOME = re.compile(r"^(PASSED|FAILED|XFAIL|ERROR) test_project\.py::(\S+)", re.MULTILINE)
NEXT = re.compile(r"^(?:_{3,} \S+ _{3,}|=+ .* =+)$", re.MULTILINE)
# What a drawn tree shows behind the status.
REST = re.compile(r"\]  .*$", re.MULTILINE)
SECTION = re.compile(r"^-{3,} ([^-]+) -{3,}$", re.MULTILINE)


def shown(text: str, test: str) -> list[tuple[str, str]]:
    """The titles and the texts of what is shown of a failure, below its traceback."""
    _, _, behind = text.partition(f"_ {test} _")
    own = re.split(
        r"^(?:_{3,} \S+ _{3,}|=+ .* =+)$", behind.partition("\n")[2], flags=re.MULTILINE
    )[0]
    parts = SECTION.split(own)[1:]
    texts = [REST.sub("]", body.strip("\n")) for body in parts[1::2]]
    return list(zip(parts[::2], texts, strict=True))


FIRST = """\
0.00 first/db ChildStarting
0.00 first/db ChildStarted
0.00 first SystemStarted
1.00 first/db ChildTerminated failed OSError
1.00 first/db IncidentOpened
1.00 first/db RestartScheduled
1.00 first/db ChildStarting #2
1.00 first/db ChildStarted #2
1.00 first/db IncidentClosed cured"""
INCIDENT = (
    "first/db, a permanent worker, failed after 1 s with OSError: gone. first started db again "
    "(one_for_all). Healthy again at once."
)
SHOWN = ["spry tree", "spry record", "spry incidents"]


def test_what_becomes_of_tests_and_what_is_shown_of_those_that_fail(tmp_path: Path) -> None:
    outcomes, text = run(tmp_path, PROJECT, *ALONE)
    assert wrong(outcomes) == {}
    assert len(outcomes) == PROJECT.count("def test_") - 1
    assert "SKIPPED [1] test_project.py" in text
    own = shown(text, "test_failed_by_itself")
    assert [title for title, _ in own] == ["Captured stdout call", "Captured log call", *SHOWN * 2]
    assert own[0][1] == "said before"
    assert own[2:5] == [
        ("spry tree", "first/  [running]\n  db  [running, 1 restart]"),
        ("spry record", FIRST),
        ("spry incidents", INCIDENT),
    ]
    assert own[5] == ("spry tree", "second/  [running]\n  api  [running]")
    assert own[7] == ("spry incidents", "no incidents")
    own = shown(text, "test_failed_by_its_tree")
    assert own[1] == ("spry tree", "app/  [stopped]\n  db  [stopped, 3 restarts]")
    assert own[2][1].endswith("4.00 app/db IncidentClosed ended\n4.00 app SystemStopped")
    assert own[3][1].endswith("That was the end of the whole tree 3 s after the first failure.")
    own = shown(text, "test_failed_by_a_tree_that_does_not_come_up")
    assert [title for title, _ in own[-2:]] == ["spry record", "spry incidents"]
    assert own[-2][1].endswith("1.00 app SystemTeardown\n1.00 app SystemStopped")
    own = shown(text, "test_failed_by_a_child_that_is_not_stopped_as_it_should_be")
    assert own[-2][1].endswith("5.00 app SystemStopped")
    assert re.search(r"test_failed_by_chaos - \S*ChaosFailure: chaos\(seed=7\)", text)
    for words in (
        "children were not stopped as they should be:",
        "ExceptionGroup: the test or its trees have failed (2 sub-exceptions)",
        "the test still waits after 100000 s on trio's clock",
        "RuntimeError: spry.start is for async tests that trio runs: mark the test",
        "async def functions are not natively supported",
    ):
        assert words in text


def test_a_worker_hands_all_of_it_on(tmp_path: Path) -> None:
    outcomes, text = run(tmp_path, PROJECT, *ALONE, "-n", "1", "-k", "failed_by_itself")
    assert wrong(outcomes) == {}
    assert [title for title, _ in shown(text, "test_failed_by_itself")][-6:] == SHOWN * 2


@pytest.mark.slow
def test_other_plugins_run_what_is_theirs(tmp_path: Path) -> None:
    outcomes, text = run(tmp_path, OTHERS, *QUICK)
    assert wrong(outcomes) == {}
    assert len(outcomes) == OTHERS.count("def test_")
    assert [title for title, _ in shown(text, "test_failed_by_pytest_trio")][-3:] == SHOWN
    assert "RuntimeError: spry.start is for async tests that trio runs" in text


def test_nothing_of_it_is_imported_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text("def test_nothing(tmp_path):\n    pass\n")
    script = (
        "import sys, pytest\n"
        f"status = pytest.main(['-q', *{ALONE!r}])\n"
        "ours = ('spry_py', 'trio', 'opentelemetry', 'tenacity')\n"
        "found = [name for name in sys.modules if name.split('.')[0] in ours]\n"
        "sys.exit(f'imported: {found}' if found else int(status))\n"
    )
    result = finished(["-c", script], tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


def test_the_marker_is_shown(tmp_path: Path) -> None:
    result = finished(["-m", "pytest", "--markers", *ALONE], tmp_path)
    assert "@pytest.mark.spry: run an async test with trio" in result.stdout


WITHOUT_PYTEST = """
import sys
sys.modules["pytest"] = None
import trio
from spry_py import Child
from spry_py.testing import Script, Spry, started

async def main():
    child = Child("a", Script(["start", "wait"]))
    async with started([child], name="app") as (_, record):
        pass
    print(record.lines()[-1].split(' ', 1)[1])

trio.run(main)
"""


def test_without_pytest_there_is_a_kit_all_the_same(tmp_path: Path) -> None:
    result = finished(["-c", WITHOUT_PYTEST], tmp_path)
    assert (result.stdout, result.stderr) == ("app SystemStopped\n", "")
