"""A fuzzer asks a running observer whatever docs/observer-api.json allows, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from observing import TOKEN
from programs import environment, running

pytestmark = pytest.mark.fuzz

API = Path(__file__).parents[2] / "docs" / "observer-api.json"
# seconds, of all that it tries
BOUND = 30
MODULE = """
from functools import partial
import trio
from spry_py import AlwaysRestart, Child, SystemSupervisor, open_system
from spry_py.observer import serve

async def steady():
    await trio.sleep_forever()

async def flaky():
    await trio.sleep(0.5)
    raise ValueError("no \\x1b[31m disk")

inner = SystemSupervisor([Child("b", steady)])
children = [Child("a", steady), Child("flaky", flaky), Child("inner", inner)]
top = SystemSupervisor(children, name="top", strategy="one_for_one", breaker=AlwaysRestart())
actions = ("restart", "terminate", "replay", "stop")

async def main():
    async with trio.open_nursery() as nursery:
        observer = partial(serve, None, socket=False, port=0, token="TOKEN", allow=actions)
        address = await nursery.start(observer)
        print("at", address.url, flush=True)
        while True:
            # it is stopped now and then
            async with open_system(top) as tree:
                await tree.wait()

trio.run(main)
""".replace("TOKEN", TOKEN)


def test_what_is_written_holds_for_whatever_is_sent(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(MODULE)
    with running(["app.py"], tmp_path) as program:
        url = program.until("at http").split()[1].partition("/#")[0]
        options = {
            "--url": url,
            "--header": f"Authorization: Bearer {TOKEN}",
            # it does not end, and the fuzzer waits for that: see test_load
            "--exclude-path": "/events",
            "--max-examples": "20",
            "--max-time": str(BOUND),
            "--request-timeout": "5",
            "--seed": "1",
        }
        words = [word for pair in options.items() for word in pair]
        st = Path(sys.executable).with_name("st")
        fuzzer = subprocess.run(
            [st, "run", API, *words, "--no-color", "--continue-on-failure"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert fuzzer.returncode == 0, fuzzer.stdout + fuzzer.stderr
        assert "Tested: 9" in fuzzer.stdout
        assert program.process.poll() is None
