"""The example `service`: run as systemd and Kubernetes would run it, by its own files."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from examples import service
from notified import receiving
from programs import Program, running
from servers import free_port

HERE = Path(service.__file__).parent
ROOT = HERE.parents[1]
UNIT = (HERE / "greeter.service").read_text(encoding="utf-8")
MANIFEST = (HERE / "kubernetes.yaml").read_text(encoding="utf-8")


def unit() -> dict[str, str]:
    """The section [Service] of the unit file; of a name that stands there twice the last one."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT)
    return dict(parser["Service"])


def words(name: str) -> list[str]:
    """A list of strings in the manifest."""
    (found,) = re.findall(rf"^ +{name}: \[(.*)\]$", MANIFEST, re.MULTILINE)
    return [word.strip().strip('"') for word in found.split(",")]


def write(config: Path, visitors: int) -> None:
    config.write_text(f"backup_every = 3600\nvisitors = {visitors}", encoding="utf-8")


@contextmanager
def started(
    command: list[str], config: Path, port: int, monkeypatch: pytest.MonkeyPatch, **variables: str
) -> Iterator[Program]:
    """The program of a command line that begins with ``spry-py``, under our own Python."""
    assert Path(command[0]).name == "spry-py"
    given = {"GREETER_CONFIG": str(config), "GREETER_DATA": str(config.parent)}
    given |= {"PORT": str(port), "TALK_PORT": "0"}
    for name, value in (given | variables).items():
        monkeypatch.setenv(name, value)
    with running(["-m", "spry_py", *command[1:]], ROOT) as program:
        yield program


def greeted(port: int, name: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello/{name}", timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def curl(url: str, *options: str) -> str:
    """What curl makes of a probe: the status, then the body."""
    command = [
        "curl",
        "--silent",
        "--max-time",
        "30",
        "--write-out",
        "%{http_code} ",
        *options,
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    body, _, status = done.stdout.rstrip().rpartition("\n")
    return f"{status} {body}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the probes are tried with curl")
def test_the_probes_of_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, port, health = tmp_path / "greeter.toml", free_port(), free_port()
    write(config, visitors=100)
    command = [word.replace("0.0.0.0:8081", f"127.0.0.1:{health}") for word in words("command")]
    command += [word.replace("0.0.0.0:8081", f"127.0.0.1:{health}") for word in words("args")]
    assert f"127.0.0.1:{health}" in command
    paths = re.findall(r"httpGet: \{path: (\S+), port: health\}", MANIFEST)
    assert sorted(paths) == ["/livez", "/readyz", "/startupz"]
    with started(command, config, port, monkeypatch) as program:
        program.until("greeter/api started")
        program.until("api  [running]")
        urls = {path: f"http://127.0.0.1:{health}{path}" for path in paths}
        assert {path: curl(url) for path, url in urls.items()} == dict.fromkeys(paths, "200 ok")
        assert curl(urls["/readyz"], "--request", "POST")[:3] == "405"
        assert curl(urls["/readyz"], "--head").startswith("200 HTTP/1.1 200")
        assert greeted(port, "Ada") == "hello Ada, this is visit 1\n"
        program.send(signal.SIGTERM)
        program.until("stops in 5 s")
        assert curl(f"{urls['/readyz']}?verbose") == "503 not ready\ngreeter is stopping"
        assert curl(urls["/livez"]) == "200 ok"
        assert greeted(port, "Grace") == "hello Grace, this is visit 1\n"
        program.send(signal.SIGTERM)
        assert program.end() == 0


def test_the_unit_as_its_manager_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, port = tmp_path / "greeter.toml", free_port()
    write(config, visitors=100)
    settings = unit()
    assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"
    micros = str(int(settings["WatchdogSec"]) * 1_000_000)
    command = shlex.split(settings["ExecStart"])
    with (
        receiving() as manager,
        started(
            command, config, port, monkeypatch, NOTIFY_SOCKET=manager.where, WATCHDOG_USEC=micros
        ) as program,
    ):
        heard = [manager.next()]
        while not heard[-1].startswith("READY=1"):
            heard.append(manager.next())
        assert heard[-1] == "READY=1\nSTATUS=9 children are running"
        assert "WATCHDOG=1" in heard
        assert greeted(port, "Ada") == "hello Ada, this is visit 1\n"

        write(config, visitors=50)
        program.send(signal.SIGHUP)
        program.until("greeter/talk stopped")
        assert "greeter was reloaded" in program.until("reloaded")
        # only what takes so many visitors was started anew
        assert not any("greeter/api" in line for line in program.lines[-5:])
        assert greeted(port, "Ada") == "hello Ada, this is visit 2\n"

        config.write_text("visitors =", encoding="utf-8")
        program.send(signal.SIGHUP)
        assert "TOMLDecodeError" in program.until("greeter was not reloaded")
        assert greeted(port, "Ada") == "hello Ada, this is visit 3\n"

        program.send(signal.SIGTERM)
        assert program.end() == 0
        lines = [line for message in manager.take() for line in message.split("\n")]
    states = [line for line in lines if line.startswith(("READY", "RELOADING", "STOPPING"))]
    assert states == ["RELOADING=1", "READY=1"] * 2 + ["STOPPING=1"]


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # a program that is there: only that is missing here
    text = re.sub("^ExecStart=.*$", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE)
    (tmp_path / "greeter.service").write_text(text, encoding="utf-8")
    command = [str(ANALYZE), "verify", "--man=no", str(tmp_path / "greeter.service")]
    environment = os.environ | {"SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
