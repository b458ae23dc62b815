"""The example of programs under supervision: what it prints, and that it leaves nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from examples.programs import programs
from living import Holdings, is_alive
from programs import finished
from spry_py import open_system
from spry_py.processes import ProcessFailed
from stories import story_with_threads

ROOT = Path(__file__).resolve().parents[2]

REDIS = """#!{python} -IS
import socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with socket.create_server((options["--bind"], int(options["--port"]))) as server:
    print("1:M * Ready to accept connections tcp", flush=True)
    while True:
        with server.accept()[0] as client:
            client.sendall(b"+PONG\\r\\n" if client.recv(99) == b"PING\\r\\n" else b"-ERR\\r\\n")
"""


@pytest.fixture(params=["redis-server", "http.server"])
def answer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the server that is found answers: a stand-in for the real one, or Python's own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if request.param == "http.server":
        return "HTTP/1.0"
    stand_in = tmp_path / "redis-server"
    stand_in.write_text(REDIS.format(python=sys.executable))
    stand_in.chmod(0o755)
    return "+PONG"


@story_with_threads
async def tell(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Holdings()
    async with open_system(programs("0.05")) as top:
        server = top.child("server")
        first = server.value.pid
        while server.incarnation < 2 or top.child("checker").incarnation < 2:
            await trio.sleep(0.01)
        second = (await server.wait_started()).pid
        report = server.last_report
        assert report is not None
        assert isinstance(report.exception, ProcessFailed)
        assert (report.exception.pid, report.exception.signal) == (first, "SIGKILL")
        await trio.sleep(0.1)
    printed = capsys.readouterr().out.splitlines()
    assert f"killing process {first}" in printed
    own = [f"process {pid} answers: {answer}" for pid in (first, second)]
    assert list(dict.fromkeys(line for line in printed if "answers" in line)) == own
    assert not any(map(is_alive, (first, second)))
    assert Holdings() == before


def test_the_server_is_killed_and_those_that_use_it_get_the_new_one(
    answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(answer, capsys)


def test_it_runs_from_the_command_line(tmp_path: Path) -> None:
    done = finished(
        ["-m", "spry_py", "run", "examples.programs:programs", "--for", "4", "--", "0.1"],
        tmp_path,
        PYTHONPATH=os.pathsep.join([*filter(None, sys.path), str(ROOT)]),
    )
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert any("programs/server failed: ProcessFailed" in text for text in lines)
    assert any("programs/server started (incarnation 2)" in text for text in lines)
    assert "stopped in this order: programs/checker, programs/server" in lines
