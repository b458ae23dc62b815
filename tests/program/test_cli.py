"""`spry-py run`: a tree brought up from the command line, its story, and its exit status."""

from __future__ import annotations

import json
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from programs import Program, finished, running

MODULE = """
import trio
from spry_py import Child, NeverRestart, RateLimited, SystemSupervisor
from spry_py import cancel_on_settle, current_context

crashes = []

async def steady():
    with cancel_on_settle():
        await trio.sleep_forever()

async def flaps():
    if not crashes:
        crashes.append(1)
        await trio.sleep(0.01)
        raise ValueError("boom")
    await trio.sleep_forever()

async def dies():
    await trio.sleep(0.01)
    raise OSError("no disk")

async def patient():
    print("ready")
    await current_context().settled()
    print("asked")
    await trio.sleep_forever()

async def stubborn():
    try:
        await patient()
    finally:
        print("aborted")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

async def shop(scope):
    await scope.start(Child("db", steady))
    await scope.start(Child("api", steady))

children = [Child("db", steady), Child("api", steady)]
tree = SystemSupervisor(children, name="corner")
bare = SystemSupervisor([Child("db", steady)])
db = Child("db", steady)
both = [Child("a", steady), Child("b", flaps)]
flapping = SystemSupervisor(both, strategy="one_for_one", name="flapping")
inner = SystemSupervisor([Child("leaf", dies)], breaker=RateLimited(1, 60.0))
escalating = SystemSupervisor([db, Child("inner", inner)], name="top", breaker=NeverRestart())
slow = Child("slow", patient, shutdown=float("inf"))
waiting = SystemSupervisor([db, slow], name="waiting")
stuck = SystemSupervisor([Child("deaf", stubborn, shutdown=float("inf"))], name="stuck")
number = 7

def make(name):
    return SystemSupervisor([db], name=name)

def makes_nothing():
    return 7

class Busy(Exception):
    def __str__(self):
        raise ValueError("no words")

def fails():
    raise Busy

class Holder:
    system = [db]

async def leaves(error):
    await trio.sleep(0.01)
    raise error

interrupted = [db, Child("x", leaves, KeyboardInterrupt())]
left = [db, Child("x", leaves, SystemExit(3))]

async def arguments(scope, *words):
    print("arguments", words)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    return tmp_path


def spry(*arguments: str) -> list[str]:
    return ["-m", "spry_py", "run", *arguments]


def story(*arguments: str, place: Path) -> Program:
    """Runs the command to its end, and returns all that it said."""
    with running(spry(*arguments), place) as program:
        program.status = program.end()
    return program


# What it runs, and for how long


@pytest.mark.parametrize(
    ("name", "root"), [("shop", "shop"), ("children", "children"), ("tree", "corner")]
)
def test_for_stops_the_tree_in_order(name: str, root: str, place: Path) -> None:
    told = story(f"app:{name}", "--for", "0.2", "--traces", "none", place=place)
    assert told.status == 0
    order = [
        told.index(f"{root}/db", "started"),
        told.index(f"{root}/api", "started"),
        told.index(f"{root}/api", "stopped"),
        told.index(f"{root}/db", "stopped"),
    ]
    assert order == sorted(order)
    assert told.lines[-1] == f"stopped in this order: {root}/api, {root}/db"


def test_what_comes_after_two_dashes_is_for_the_system(place: Path) -> None:
    told = story("app:arguments", "--for", "0.1", "--", "--for", "9", "x y", place=place)
    assert told.status == 0
    assert told.lines[told.index("arguments")] == "arguments ('--for', '9', 'x y')"


@pytest.mark.parametrize(
    ("arguments", "root"),
    [
        (("app:make", "--for", "0.1", "--", "bazaar"), "bazaar"),
        (("app:Holder.system", "--for", "0.1"), "system"),
        (("app:bare", "--for", "0.1"), "bare"),
    ],
)
def test_a_system_may_be_made_by_a_function_or_held_by_an_object(
    arguments: tuple[str, ...], root: str, place: Path
) -> None:
    told = story(*arguments, place=place)
    assert (told.status, told.lines[-1]) == (0, f"stopped in this order: {root}/db")


# The story


def test_a_failure_and_its_restart_are_told_in_one_line_each(place: Path) -> None:
    told = story("app:flapping", "--for", "0.5", "--traces", "none", place=place)
    assert told.status == 0
    failure, restart = told.index("flapping/b", "boom"), told.index("flapping/b", "restart")
    assert failure <= restart
    assert len([line for line in told.lines if "boom" in line]) <= 2
    assert not any("Traceback" in line for line in told.lines)


def test_an_escalation_is_told_and_the_status_is_1(place: Path) -> None:
    told = story("app:escalating", "--traces", "none", place=place)
    assert told.status == 1
    order = [
        told.index("top/inner/leaf", "no disk"),
        told.index("top/inner/leaf", "will be restarted"),
        told.index("top/inner gives up", "no disk"),
        told.index("top gives up", "no disk"),
        told.index("the tree failed", "'top/inner'", "OSError: no disk"),
    ]
    assert order == sorted(order)
    assert sum("Traceback" in line for line in told.lines) == 1


@pytest.mark.parametrize(("name", "status"), [("interrupted", 130), ("left", 3)])
def test_an_exit_exception_of_a_child_is_the_exit_of_the_program(
    name: str, status: int, place: Path
) -> None:
    told = story(f"app:{name}", place=place)
    assert (told.status, told.lines[-1]) == (status, f"stopped in this order: {name}/db")


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_one_signal_is_an_orderly_end(number: signal.Signals, place: Path) -> None:
    with running(spry("app:waiting", "--traces", "none"), place) as program:
        program.until("ready")
        program.send(number)
        program.until("asked")
        program.send(number)
        assert program.end() == 128 + number
    with running(spry("app:shop", "--traces", "none"), place) as program:
        program.until("shop/api")
        program.send(number)
        assert program.end() == 0


def test_a_third_signal_names_who_is_stuck(place: Path) -> None:
    with running(spry("app:stuck", "--traces", "none"), place) as program:
        for word in ("ready", "asked", "aborted"):
            program.until(word)
            program.send(signal.SIGTERM)
        assert program.end() == 128 + signal.SIGTERM
    assert program.index("stuck/deaf") >= 0
    assert any("stubborn" in line for line in program.lines)


# Usage


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ["MODULE:SYSTEM"]),
        (("app",), ["app", "MODULE:SYSTEM"]),
        (("app:",), ["MODULE:SYSTEM"]),
        (("nothing_here:shop",), ["nothing_here"]),
        (("app:nobody",), ["app", "nobody"]),
        (("app:number",), ["app:number", "7"]),
        (("app:makes_nothing",), ["app:makes_nothing", "7"]),
        (("app:make",), ["app:make"]),
        (("app:tree", "--", "pear"), ["app:tree", "pear"]),
        (("app:shop", "--", "pear"), ["app:shop"]),
        (("app:shop", "--for", "soon"), ["--for", "soon"]),
        (("app:shop", "--for", "-1"), ["--for", "-1"]),
        (("app:shop", "--no-such-option"), ["--no-such-option"]),
    ],
)
def test_a_usage_error_says_what_was_wrong(
    arguments: tuple[str, ...], names: list[str], place: Path
) -> None:
    done = finished(spry(*arguments), place)
    assert done.returncode == 2
    assert [name for name in names if name not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "place_of_it", "last"),
    [
        (
            ("broken:shop",),
            "broken.py",
            ["ModuleNotFoundError: No module named 'nowhere_to_be_found'"],
        ),
        (("app:make", "--", "no/name"), "app.py", ["ValueError: ", "no/name"]),
        (("app:fails",), "app.py", ["Busy"]),
    ],
)
def test_what_the_users_own_code_raises_is_shown_with_its_traceback(
    arguments: tuple[str, ...], place_of_it: str, last: list[str], place: Path
) -> None:
    done = finished(spry(*arguments), place)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, lines[0]) == (2, "", "Traceback (most recent call last):")
    assert place_of_it in lines[1]
    assert [word for word in last if word not in lines[-2]] == []
    assert lines[-1].startswith("spry-py: ")


@pytest.mark.parametrize("name", ["app.py:tree", "./app.py:tree", "{place}/app.py:tree"])
def test_a_module_may_be_named_by_its_file(name: str, place: Path) -> None:
    told = story(name.format(place=place), "--for", "0.1", place=place)
    assert (told.status, told.lines[-1]) == (0, "stopped in this order: corner/api, corner/db")


def test_a_file_in_a_package_is_that_module_of_the_package(place: Path) -> None:
    inner = place / "shop" / "parts"
    inner.mkdir(parents=True)
    (place / "shop" / "__init__.py").write_text("from app import db\n", encoding="utf-8")
    (inner / "__init__.py").write_text("from .. import db\nweb = [db]\n", encoding="utf-8")
    (inner / "web.py").write_text("from . import web\nprint(__name__)\n", encoding="utf-8")
    for name in ("shop/parts/web.py:web", "shop/parts/__init__.py:web"):
        told = story(name, "--for", "0.1", place=place)
        assert told.status == 0
        assert ("shop.parts.web" in told.lines) == ("web.py" in name)


@pytest.mark.parametrize(
    ("name", "says"),
    [("none.py:tree", "there is no file 'none.py'"), ("signal.py:tree", "another module has that")],
)
def test_a_file_that_cannot_be_a_module_is_a_usage_error(name: str, says: str, place: Path) -> None:
    (place / "signal.py").write_text("tree = 1\n", encoding="utf-8")
    done = finished(spry(name), place)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_the_version_of_the_distribution(place: Path) -> None:
    done = finished(["-m", "spry_py", "--version"], place)
    assert (done.returncode, done.stdout) == (0, f"spry-py {version('spry_py')}\n")


def test_help_names_every_option(place: Path) -> None:
    done = finished(spry("--help"), place)
    assert done.returncode == 0
    for word in ("MODULE:SYSTEM", "--traces", "--for", "--health", "--drain", "--reload"):
        assert word in done.stdout


def test_a_command_is_needed(place: Path) -> None:
    assert finished(["-m", "spry_py"], place).returncode == 2


# Traces


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_traces_to_a_file_are_one_span_per_line(place: Path) -> None:
    told = story("app:flapping", "--for", "0.5", "--traces", "spans.jsonl", place=place)
    assert told.status == 0
    spans = read(place / "spans.jsonl")
    ids = [span["context"]["span_id"] for span in spans]
    assert len(set(ids)) == len(ids)
    assert {span["parent_id"] for span in spans} - {None, *ids} == set()
    counts = {name: [span["name"] for span in spans].count(name) for name in KINDS}
    assert counts == KINDS
    (term,) = [span for span in spans if span["name"] == "spry.term"]
    assert term["attributes"]["spry.child.path"] == "flapping/b"
    assert term["status"]["status_code"] == "ERROR"


KINDS = {
    "spry.startup": 1,
    "spry.child.start": 3,
    "spry.term": 1,
    "spry.try_restart": 1,
    "spry.teardown": 1,
    "spry.wait_for_termination": 2,
}


def test_traces_of_a_tree_that_failed_are_written_too(place: Path) -> None:
    told = story("app:escalating", "--traces", "spans.jsonl", place=place)
    assert told.status == 1
    terms = [span for span in read(place / "spans.jsonl") if span["name"] == "spry.term"]
    paths = [span["attributes"]["spry.child.path"] for span in terms]
    assert sorted(set(paths)) == ["top/inner", "top/inner/leaf"]


def test_traces_to_the_console(place: Path) -> None:
    told = story("app:shop", "--for", "0.1", "--traces", "console", place=place)
    assert told.status == 0
    assert any("spry.startup" in line for line in told.lines)


def test_without_traces_nothing_is_traced(place: Path) -> None:
    told = story("app:shop", "--for", "0.1", "--traces", "none", place=place)
    assert told.status == 0
    assert not any("spry." in line for line in told.lines)


@pytest.mark.parametrize("word", ["jaeger", "consol", "None"])
def test_traces_to_a_word_that_is_no_path_is_a_usage_error(word: str, place: Path) -> None:
    done = finished(spry("app:shop", "--for", "0.1", "--traces", word), place)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"not '{word}'; for a file of that name, './{word}'" in done.stderr
    assert not (place / word).exists()
    told = story("app:shop", "--for", "0.1", "--traces", f"./{word}", place=place)
    assert (told.status, (place / word).exists()) == (0, True)


def test_a_traces_file_that_cannot_be_written_is_a_usage_error(place: Path) -> None:
    done = finished(spry("app:shop", "--for", "1", "--traces", "no/such/place.jsonl"), place)
    assert done.returncode == 2
    assert "spry-py: --traces no/such/place.jsonl: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
