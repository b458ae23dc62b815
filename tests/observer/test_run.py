"""`run(tree, observe=...)`: up before the boot, down after the end, and no one's trouble."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from spry_py import Child, Normal, Scope, SystemSupervisor, run
from spry_py.observer import Address, Observer, address
from stories import Boom


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.glob("spry_py/*")) == []


async def looks_around(seen: list[Path]) -> None:
    found, _ = address.found()
    seen.extend(found)


def test_it_is_up_before_the_boot_and_gone_after_the_end() -> None:
    seen: list[Path] = []

    async def system(scope: Scope) -> None:
        await looks_around(seen)

    report = run(system, auto_shutdown="when_empty", observe=True)
    assert isinstance(report.reason, Normal)
    assert len(seen) == 1


def test_a_port_has_its_url_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run(SystemSupervisor([], auto_shutdown="when_empty"), observe=0)
    printed = capsys.readouterr().err
    assert printed.startswith("the observer is at http://127.0.0.1:")
    assert "/#token=" in printed


def test_an_observer_as_a_value() -> None:
    seen: list[Path] = []

    async def child() -> None:
        await looks_around(seen)

    only = Child("a", child, restart="temporary")
    run([only], auto_shutdown="when_empty", observe=Observer(socket=False, port=0))
    assert seen == []


def test_what_the_root_raises_comes_out_bare() -> None:
    async def breaks() -> None:
        await trio.lowlevel.checkpoint()
        raise Boom

    def refuses() -> Any:
        class Refuses:
            def may_restart(self, key: str, now: float) -> bool:
                return False

        return Refuses()

    with pytest.raises(Exception, match="too many restarts") as caught:
        run([Child("a", breaks)], breaker=refuses, observe=True, name="top")
    assert not isinstance(caught.value, BaseExceptionGroup)
    assert isinstance(caught.value.__cause__, Boom)


def test_an_exit_exception_comes_out_as_itself() -> None:
    async def leaves() -> None:
        await trio.lowlevel.checkpoint()
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        run([Child("a", leaves)], observe=True)
    assert caught.value.code == 3


def test_no_place_is_an_error_before_the_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    boots: list[int] = []

    async def system(scope: Scope) -> None:
        boots.append(1)

    with pytest.raises(FileNotFoundError, match="/nowhere/spry_py"):
        run(system, observe=True)
    assert boots == []


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(RuntimeError, match=r"pip install 'spry-py\[observer\]'"):
        run([], auto_shutdown="when_empty", observe=True)


@pytest.mark.parametrize(
    ("observe", "kind", "text"),
    [
        (-1, ValueError, "port must be an int, 0 or more"),
        (70_000, ValueError, "port must be at most 65535"),
        ("8099", TypeError, "observe must be a bool, a port or an Observer, not '8099'"),
        (None, TypeError, "observe must be a bool, a port or an Observer, not None"),
        (Observer, TypeError, "observe must be a bool, a port or an Observer"),
    ],
)
def test_what_is_no_observer_is_refused(observe: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        run([], observe=observe)


def test_an_observer_ends_with_its_program_however_that_ends() -> None:
    places: list[Address] = []

    class Watched(Observer):
        async def __call__(
            self, root: Any = None, *, task_status: Any = trio.TASK_STATUS_IGNORED
        ) -> None:
            async with trio.open_nursery() as nursery:
                places.append(await nursery.start(super().__call__, root))
                task_status.started(places[0])

    run(SystemSupervisor([], auto_shutdown="when_empty"), observe=Watched())
    (found,) = places
    assert found.socket is not None
    assert not Path(found.socket).exists()
