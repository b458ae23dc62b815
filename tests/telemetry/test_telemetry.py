"""`spry_py.telemetry` from inside: what is set, what is flushed, and for how long anybody waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fresh import Fresh, crashes_once
from logged import handled, plain
from spry_py.telemetry import Exporting, JsonLinesExporter, configure


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Fresh:
    return Fresh(monkeypatch)


# Local places


def spans_in(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


NAMES = [
    "spry.child.start",
    "spry.startup",
    "spry.child.start",
    "spry.try_restart",
    "spry.term",
    "spry.wait_for_termination",
    "spry.teardown",
]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_gets_a_line_for_each_span(kind: Any, fresh: Fresh, tmp_path: Path) -> None:
    path = tmp_path / "otlp"
    path.write_text("what was there before\n")
    with configure(kind(path)):
        crashes_once()
    assert [span["name"] for span in spans_in(path)] == NAMES
    assert fresh.names == ["tracer"]


def test_the_console_gets_all_spans(fresh: Fresh, capsys: pytest.CaptureFixture[str]) -> None:
    with configure("console"):
        crashes_once()
    said = capsys.readouterr().out
    assert [said.count(f'"name": "{name}"') for name in NAMES] == [NAMES.count(x) for x in NAMES]


def test_a_second_configure_is_refused_and_the_first_one_goes_on(
    fresh: Fresh, tmp_path: Path
) -> None:
    path = tmp_path / "spans"
    with configure(path):
        with pytest.raises(RuntimeError, match="a tracer provider has been set already"):
            configure(tmp_path / "other")
        crashes_once()
    assert (list(tmp_path.iterdir()), len(spans_in(path))) == ([path], len(NAMES))


def test_a_file_that_cannot_be_written_is_refused_and_nothing_set(
    fresh: Fresh, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="spans"):
        configure(tmp_path / "no" / "such" / "spans")
    assert fresh.names == []


@pytest.mark.parametrize(
    ("given", "variables", "name"),
    [
        (None, {}, "spry_py"),
        ("", {}, "spry_py"),
        ("paper", {}, "paper"),
        ("paper", {"OTEL_SERVICE_NAME": "ink"}, "ink"),
        (None, {"OTEL_SERVICE_NAME": "ink"}, "ink"),
        ("paper", {"OTEL_RESOURCE_ATTRIBUTES": "service.name=ink,site=x"}, "ink"),
        ("paper", {"OTEL_RESOURCE_ATTRIBUTES": "site=x"}, "paper"),
    ],
)
def test_the_name_of_the_program(
    given: str | None,
    variables: dict[str, str],
    name: str,
    fresh: Fresh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with configure(tmp_path / "spans", service_name=given):
        crashes_once()
    resources = [span["resource"]["attributes"] for span in spans_in(tmp_path / "spans")]
    assert {resource["service.name"] for resource in resources} == {name}
    sites = {resource.get("site") for resource in resources}
    assert sites == {"x" if "site=x" in str(variables) else None}


# Waiting, and for how long


class Provider:
    """Takes note of what it is asked, and waits where a test holds it."""

    def __init__(self, done: list[str], name: str = "p", error: Exception | None = None) -> None:
        self.done, self.name, self.error = done, name, error
        self.gate = threading.Event()
        self.gate.set()

    def force_flush(self) -> None:
        self._do("flush")

    def shutdown(self) -> None:
        self._do("shutdown")

    def _do(self, what: str) -> None:
        assert self.gate.wait(30)
        self.done.append(f"{what} {self.name}")
        if self.error is not None:
            raise self.error


@contextmanager
def told_on_the_side() -> Iterator[Callable[[], str]]:
    handler, stream = plain()
    with handled(("spry_py", handler)):
        yield stream.getvalue


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "spry_py export"]


def until_gone() -> None:
    for thread in threads():
        thread.join(30)
    assert threads() == []


def test_all_providers_are_flushed_and_shut_down_once() -> None:
    done: list[str] = []
    with told_on_the_side() as said:
        exporting = Exporting([Provider(done, "a"), Provider(done, "b")])
        assert (exporting.flush(30), exporting.flush(30)) == (True, True)
        assert sorted(done) == ["flush a", "flush a", "flush b", "flush b"]
        done.clear()
        assert (exporting.shutdown(30), exporting.shutdown(30)) == (True, True)
        assert exporting.flush(30)
    assert sorted(done) == ["shutdown a", "shutdown b"]
    assert said() == ""
    until_gone()


@pytest.mark.parametrize("within", [-1.0, float("nan"), "2", None])
def test_bad_bounds_are_refused_by_name(within: Any) -> None:
    done: list[str] = []
    with Exporting([Provider(done)]) as exporting:
        for call in (exporting.flush, exporting.shutdown):
            with pytest.raises((TypeError, ValueError), match="within"):
                call(within)
        assert exporting.flush(float("inf"))
    assert done == ["flush p", "shutdown p"]


def test_a_block_shuts_down_whatever_came_out_of_it() -> None:
    done: list[str] = []
    with pytest.raises(ValueError, match="boom"), Exporting([Provider(done)]) as exporting:
        assert exporting.flush(30)
        raise ValueError("boom")
    assert done == ["flush p", "shutdown p"]


def test_whoever_is_slow_holds_up_nobody_else_and_a_warning_says_so() -> None:
    done: list[str] = []
    slow = Provider(done, "slow")
    slow.gate.clear()
    with told_on_the_side() as said:
        exporting = Exporting([slow, Provider(done, "quick")])
        assert not exporting.flush(0.01)
        assert not exporting.shutdown(0.01)
        text = "not all telemetry got out within 0.01 s: the collector may be down or slow\n"
        assert said() == text * 2
        slow.gate.set()
        assert exporting.shutdown(30)
    until_gone()
    assert [name for name in done if "slow" in name] == ["flush slow", "shutdown slow"]
    assert [name for name in done if "quick" in name] == ["flush quick", "shutdown quick"]


def test_a_provider_that_fails_is_logged_and_the_others_go_on() -> None:
    done: list[str] = []
    broken = Provider(done, "broken", OSError("no route"))
    with told_on_the_side() as said:
        with Exporting([broken, Provider(done, "sound")]) as exporting:
            assert not exporting.flush(30)
        until_gone()
    assert sorted(done) == ["flush broken", "flush sound", "shutdown broken", "shutdown sound"]
    assert said().count("exporting telemetry failed") == 2
    assert said().count("OSError: no route") == 2
    assert said().count("not all telemetry got out: it was refused") == 2


def test_a_full_disk_is_no_success(fresh: Fresh) -> None:
    with told_on_the_side() as said:
        exporting = configure("/dev/full")
        assert exporting.flush(30)
        crashes_once()
        assert (exporting.flush(30), exporting.flush(30)) == (False, False)
        assert not exporting.shutdown(30)
    assert said().count("not all telemetry got out: it was refused, could not be written") == 3


def test_what_found_no_room_in_the_queue_is_not_out(
    fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # room for one, and no export before the flush
    monkeypatch.setattr("spry_py.telemetry.LOCAL_QUEUE", 1)
    monkeypatch.setattr("spry_py.telemetry.LOCAL_DELAY_MILLIS", 1e9)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    gate = threading.Event()
    export = JsonLinesExporter.export

    def slowly(self: JsonLinesExporter, spans: Any) -> Any:
        assert gate.wait(30)
        return export(self, spans)

    monkeypatch.setattr(JsonLinesExporter, "export", slowly)
    with configure(tmp_path / "spans") as exporting, told_on_the_side():
        crashes_once()
        gate.set()
        assert not exporting.flush(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked here")
def test_a_forked_child_leaves_at_once_and_exports_what_it_is_asked_to(tmp_path: Path) -> None:
    text = f"""
import atexit, os, sys, time
from spry_py import Child, run, telemetry
exporting = telemetry.configure({str(tmp_path / "spans")!r})
async def work(): pass
def tree(key): run([Child(key, work, restart="temporary")], auto_shutdown="when_empty")
tree("parent")
assert exporting.flush(30)
if not os.fork():
    began = time.monotonic()
    atexit.register(lambda: print("at once", time.monotonic() - began < 1.5, flush=True))
    sys.exit(0)
os.wait()
if not os.fork():
    tree("child")
    print("child", exporting.flush(30), flush=True)
    os._exit(0)
os.wait()
print("parent", exporting.shutdown(30))
"""
    order = [sys.executable, "-W", "ignore", "-c", text]
    done = subprocess.run(order, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("at once True\nchild True\nparent True\n", "")
    keys = [span["attributes"].get("spry.child.key") for span in spans_in(tmp_path / "spans")]
    assert (keys.count("parent"), keys.count("child")) == (2, 2)


def test_a_program_that_shuts_nothing_down_has_it_done_at_its_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_exit: list[Any] = []
    registry = SimpleNamespace(register=at_exit.append, unregister=at_exit.remove)
    monkeypatch.setattr("spry_py.telemetry.atexit", registry)
    done: list[str] = []
    Exporting([Provider(done)])
    (call,) = at_exit
    call()
    assert (done, at_exit) == (["shutdown p"], [])


def test_spans_after_the_shutdown_go_nowhere_and_harm_nobody(fresh: Fresh, tmp_path: Path) -> None:
    with configure(tmp_path / "spans"), told_on_the_side():
        pass
    crashes_once()
    assert spans_in(tmp_path / "spans") == []
