"""`spry-py incidents`: where the spans may come from, what is said when they do not come."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from incident_files import changed, lasts, life_of, sheet, told
from programs import SECONDS, environment, finished
from spry_py import AlwaysRestart, Child
from spry_py._incidents import command
from spry_py._program.cli import main
from traced import idle, shop

LINES = life_of(shop(Child("db", idle), Child("api", lasts(5.0, takes=0.3))))
TEXT = "".join(f"{line}\n" for line in LINES)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spans.jsonl"
    path.write_text(TEXT, encoding="utf-8")
    return path


def incidents(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["incidents", *arguments])
    out, err = capsys.readouterr()
    out = re.sub(r'(File ")[^"]*(", line )\d+', r"\1shop.py\g<2>1", out)
    return status, out, err


def test_a_file_is_told(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert incidents(capsys, str(file)) == (0, f"{told(LINES)}\n", "")


def test_what_comes_in_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert incidents(capsys, "-") == (0, f"{told(LINES)}\n", "")


def test_no_incident_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "calm.jsonl"
    path.write_text("\n".join(life_of(shop(Child("db", idle)))))
    assert incidents(capsys, str(path)) == (0, "no incidents in 4 spans\n", "")
    path.write_text("")
    assert incidents(capsys, str(path)) == (0, "no incidents in 0 spans\n", "")


@pytest.mark.parametrize(
    ("broken", "said"), [(["{"], "1 line"), (["{", "no", "[]"], "3 lines")], ids=["one", "more"]
)
def test_lines_that_are_no_spans_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], file: Path, broken: list[str], said: str
) -> None:
    other = changed(LINES[0], name="GET /")
    file.write_text("\n".join([broken[0], other, *LINES, *broken[1:]]), encoding="utf-8")
    page = told([*LINES, other])
    assert page.endswith("1 incident in 10 spans: 1 healthy again")
    expected = f"spry-py: {said} could not be read as spans\n"
    assert incidents(capsys, str(file)) == (0, f"{page}\n", expected)


@pytest.mark.parametrize(
    ("columns", "width"), [("20", 60), ("60", 60), ("93", 93), ("100", 100), ("250", 100)]
)
def test_the_page_is_as_wide_as_the_terminal_but_not_wider_than_reads_well(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: Path,
    columns: str,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert incidents(capsys, str(file)) == (0, f"{told(LINES, width)}\n", "")
    assert len(told(LINES, width).split("\n")[0]) == width


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    status, out, err = incidents(capsys, str(file), "--json")
    assert (status, err) == (0, "")
    ((story,),) = json.loads(out).values()
    sentences, picture = story.pop("sentences"), story.pop("picture")
    assert " ".join(sentences) in re.sub(r"\s+", " ", told(LINES))
    assert [line for line in picture if "api failed" in line]
    assert story.pop("ended") > story.pop("began")
    assert story == {"path": "shop/api", "incidents": 1, "outcome": "cured"}


def test_verbose_leaves_nothing_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = life_of(shop(Child("api", lasts(*[0.5] * 9)), breaker=AlwaysRestart()))
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(lines))
    status, out, err = incidents(capsys, str(path), "--verbose")
    assert (status, out, err) == (0, f"{told(lines, whole=True)}\n", "")
    assert [out.count("failed after 500 ms"), told(lines).count("failed after 500 ms")] == [8, 5]
    assert "\n  Traceback (most recent call last):\n" in out
    assert "Traceback" not in told(lines)


# What cannot be read


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "none.jsonl")
    said = f"spry-py: cannot read {path}: No such file or directory\n"
    assert incidents(capsys, path) == (2, "", said)


def test_a_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = f"spry-py: cannot read {tmp_path}: Is a directory\n"
    assert incidents(capsys, str(tmp_path)) == (2, "", said)


def test_without_a_source_a_running_program_is_asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    said = "spry-py: no observer is running: start one by spry-py run --observe ...\n"
    assert incidents(capsys) == (2, "", said)


# From a server


class Server(ThreadingHTTPServer):
    """Serves the spans, fails, or says nothing until it is told that the test is over."""

    daemon_threads = True
    over: threading.Event


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        if self.path == "/silent":
            self.server.over.wait(SECONDS)
        elif self.path == "/spans":
            self.answer(TEXT.encode(), len(TEXT.encode()))
        elif self.path == "/cut":
            self.answer(TEXT.encode()[:5000], len(TEXT.encode()))
        else:
            self.send_error(404, "Not Found")

    def answer(self, body: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base names it so
        pass


@contextmanager
def serving() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Handler)
    server.over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.over.set()
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()


def test_spans_from_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as url:
        assert incidents(capsys, f"{url}/spans") == (0, f"{told(LINES)}\n", "")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/none", "HTTP Error 404: Not Found"), ("/silent", "timed out")],
)
def test_a_server_that_does_not_give_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    monkeypatch.setattr(command, "PATIENCE", 0.1 if path == "/silent" else SECONDS)
    with serving() as url:
        said = f"spry-py: cannot read {url}{path}: {reason}\n"
        assert incidents(capsys, f"{url}{path}") == (2, "", said)


def test_a_server_that_breaks_off_has_its_lines_told(capsys: pytest.CaptureFixture[str]) -> None:
    whole = TEXT.encode()[:5000].count(b"\n")
    with serving() as url:
        status, out, err = incidents(capsys, f"{url}/cut")
    assert (status, out) == (0, f"{told(LINES[:whole])}\n")
    assert err == "spry-py: 1 line could not be read as spans\n"


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as url:
        pass
    said = f"spry-py: cannot read {url}/spans: Connection refused\n"
    assert incidents(capsys, f"{url}/spans") == (2, "", said)


def test_an_address_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = incidents(capsys, "http://[/spans")
    assert (status, out, err.startswith("spry-py: cannot read http://[/spans: ")) == (2, "", True)


# As a program


def test_the_file_of_a_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "corner.py").write_text(
        "import trio\n"
        "from spry_py import Child, SystemSupervisor\n"
        "async def dies():\n"
        "    await trio.sleep(0.01)\n"
        "    raise OSError('no disk')\n"
        "web = SystemSupervisor([Child('api', dies)], strategy='one_for_one')\n"
        "shop = SystemSupervisor([Child('web', web)], strategy='one_for_one', name='shop')\n"
    )
    arguments = ["-m", "spry_py", "run", "corner:shop", "--traces", "spans.jsonl"]
    assert finished(arguments, tmp_path).returncode == 1
    done = finished(["-m", "spry_py", "incidents", "spans.jsonl"], tmp_path, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert lines[0].startswith("━━ 1 ━━ shop/web/api ━━")
    told_so = " ".join(line.strip() for line in lines[2 : lines.index("", 2)])
    assert re.sub(r"\d[\d.]* m?s", "TIME", told_so) == (
        "shop/web/api, a permanent worker, failed 16 times in TIME (16 incidents, down for TIME in "
        "all), each time with OSError: no disk. shop/web restarted it alone (one_for_one), 12 "
        "times. The breaker of shop/web refused to restart it: shop/web gave up, 4 times. shop "
        "restarted shop/web alone (one_for_one), 3 times. The breaker of shop refused to restart "
        "shop/web: shop gave up. That was the end of the whole tree TIME after the first failure."
    )
    spans = len((tmp_path / "spans.jsonl").read_text(encoding="utf-8").splitlines())
    counts = "15 healthy again, 1 ended the tree"
    assert lines[-2] == f"16 incidents, shown as 1, in {spans} spans: {counts}"


def test_plainer_signs_where_the_others_cannot_be_written(file: Path) -> None:
    arguments = ["-m", "spry_py", "incidents", str(file)]
    done = finished(arguments, file.parent, COLUMNS="80", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:10] == sheet("""
-- 1 -- shop/api ------------------------------------ 2026-03-01 12:00:05 UTC --

  shop/api, a permanent worker, failed after 5 s with ValueError: boom. shop
  restarted it alone (one_for_one). Healthy again 300 ms after the first
  failure.

  seconds    shop                                           0 s           300 ms
    0.000    x api failed: ValueError: boom                 x
    0.000    > api#2 started in 300 ms                      ###################
    0.300  + healthy again                                                     +
""").split("\n")


def test_a_reader_that_has_seen_enough_is_no_failure(file: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "spry_py", "incidents", str(file)],
            env=environment(),
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
