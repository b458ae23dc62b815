"""The page in a real browser: what a person sees of a crash, and does with the keys."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from observing import TOKEN
from programs import Program, running

pytestmark = pytest.mark.browser

MODULE = """
import sys
import trio
from spry_py import Backoff, Child, DynamicSupervisor, RateLimited, SystemSupervisor, run
from spry_py.observer import Observer

port, count = int(sys.argv[1]), int(sys.argv[2])

async def steady():
    await trio.sleep_forever()

def order():
    return open("order.txt").read()

async def fails(word):
    # a while each time, or the tree would give up before a person has seen anything
    await trio.sleep(0.02)
    while order() != word:
        await trio.sleep(0.02)
    raise ValueError("no \\x1b[31m <b>disk</b>")

leaf = Child("leaf", fails, "escalate")
inner = SystemSupervisor([leaf], breaker=RateLimited(1, 60.0))
late = Child("late", fails, "wait", backoff=Backoff(lambda state: 30.0))
children = [Child("db", steady), Child("flap", fails, "crash"), late, Child("inner", inner)]

async def shop(scope):
    for child in children:
        await scope.start(child)
    pool = await scope.start(Child("pool", DynamicSupervisor(max_children=20_000)))
    for number in range(count):
        await pool.start_child(Child(f"worker-{number}", steady))

observer = Observer(socket=False, port=port, token="TOKEN", allow=("restart", "terminate"))
tree = SystemSupervisor(shop, strategy="one_for_one", breaker=RateLimited(1000, 10), name="shop")
run(tree, observe=observer)
""".replace("TOKEN", TOKEN)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Shop:
    """A program that is looked at, and how it is told what to do."""

    def __init__(self, place: Path, port: int, count: int) -> None:
        self.place, self.port, self.count = place, port, count
        self.url = f"http://127.0.0.1:{port}/#token={TOKEN}"
        (place / "app.py").write_text(MODULE)
        self.order("")

    @contextmanager
    def running(self) -> Iterator[Program]:
        with running(["app.py", str(self.port), str(self.count)], self.place) as program:
            program.until("the observer is at")
            yield program

    def order(self, word: str) -> None:
        (self.place / "order.txt").write_text(word)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield found
        found.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    errors: list[str] = []
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.set_default_timeout(20_000)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if _is_policy(message) else None)
    yield tab
    tab.close()
    assert errors == []


def _is_policy(message: Any) -> bool:
    return "Content Security Policy" in message.text


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, free_port(), 3)
    with shop.running():
        yield shop


def row(tab: Any, path: str) -> Any:
    return tab.locator(f'.row[data-path="{path}"]')


def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_crash_is_seen_as_text_with_its_restart_and_its_incident(tab: Any, shop: Shop) -> None:
    tab.goto(shop.url)
    row(tab, "shop/flap").wait_for()
    assert tab.url == f"http://127.0.0.1:{shop.port}/", "the token is not left in the address"
    assert tab.text_content("#link") == "connected"
    shop.order("crash")
    tab.locator('.row[data-path="shop/flap"] .note.bad').wait_for()
    shop.order("")
    note = row(tab, "shop/flap").locator(".note").text_content()
    assert note.startswith("ValueError: no \\x1b[31m <b>disk</b>, ")
    assert re.search("[▂▄▆█]", row(tab, "shop/flap").locator(".bars").text_content())
    tab.locator("#incidents summary").first.click()
    until(lambda: "healthy again" in tab.text_content("#incidents details"))
    assert "shop/flap, a permanent worker, failed" in tab.text_content("#incidents details")
    assert tab.locator("b").count() == 0


def test_a_backoff_counts_down(tab: Any, shop: Shop) -> None:
    tab.goto(shop.url)
    shop.order("wait")
    tab.locator('.row[data-path="shop/late"] .restarting').wait_for()
    shop.order("")
    note = row(tab, "shop/late").locator(".note")
    until(lambda: "restarts in 29 s" in note.text_content())
    until(lambda: "restarts in 27 s" in note.text_content())


def test_an_escalation_is_one_incident(tab: Any, shop: Shop) -> None:
    tab.goto(shop.url)
    row(tab, "shop/inner/leaf").wait_for()
    shop.order("escalate")
    until(lambda: "gave up" in (tab.text_content("#incidents") or ""))
    shop.order("")
    assert tab.locator("#incidents details").count() == 1


def test_an_action_is_done_after_a_question(tab: Any, shop: Shop) -> None:
    asked: list[str] = []

    def accept(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept()

    tab.on("dialog", accept)
    tab.goto(shop.url)
    row(tab, "shop/db").click()
    tab.locator("#facts").wait_for()
    buttons = tab.locator("#one button").all_text_contents()
    assert buttons == ["stack", "restart", "terminate"], "replay and stop are not allowed here"
    tab.click("button:text('terminate')")
    tab.locator('.row[data-path="shop/db"] .stopped').wait_for()
    until(lambda: tab.text_content("#said") == "terminate of shop/db is done")
    tab.click("button:text('restart')")
    tab.locator('.row[data-path="shop/db"] .running').wait_for()
    tab.click("button:text('stack')")
    until(lambda: "await trio.sleep_forever()" in tab.text_content("#stack"))
    assert asked == ["terminate shop/db?", "restart shop/db?"]


def test_it_says_when_it_has_lost_its_connection_and_finds_back(tab: Any, tmp_path: Path) -> None:
    shop = Shop(tmp_path, free_port(), 1)
    with shop.running():
        tab.goto(shop.url)
        row(tab, "shop/db").wait_for()
    tab.locator("#link.lost").wait_for()
    assert tab.locator("body.stale").count() == 1
    shop.count = 2
    with shop.running():
        row(tab, "shop/pool/worker-1").wait_for()
        assert tab.text_content("#link") == "connected"
        tab.reload()
        row(tab, "shop/pool/worker-1").wait_for()


def test_without_the_token_it_says_where_that_is(tab: Any, shop: Shop) -> None:
    tab.goto(shop.url.partition("#")[0])
    until(lambda: "behind # in the URL" in tab.text_content("#link"))
    assert tab.locator(".row").count() == 0


def test_ten_thousand_children_are_some_rows_in_the_document(tab: Any, tmp_path: Path) -> None:
    shop = Shop(tmp_path, free_port(), 10_000)
    with shop.running():
        tab.goto(shop.url)
        row(tab, "shop/db").wait_for()
        until(lambda: "worker-9999" in _last_path(tab), 60)
        assert tab.locator(".row").count() <= 100
        tab.focus("#tree")
        tab.keyboard.press("End")
        row(tab, "shop/pool/worker-9999").wait_for()
        assert tab.locator(".row, li, details").count() <= 200
        tab.fill("#filter", "worker-777")
        until(lambda: tab.locator(".row").count() == 13)
        assert row(tab, "shop/pool/worker-7770").count() == 1


def _last_path(tab: Any) -> str:
    found: str = tab.evaluate("rows.length ? rows[rows.length - 1].path : ''")
    return found


def test_all_of_it_can_be_done_with_the_keys(tab: Any, shop: Shop) -> None:
    tab.goto(shop.url)
    row(tab, "shop/db").wait_for()
    tab.focus("#tree")

    def chosen() -> str:
        current = tab.get_attribute("#tree", "aria-activedescendant")
        path: str = tab.get_attribute(f"#{current}", "data-path")
        return path

    assert chosen() == "shop"
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        tab.keyboard.press(key)
    assert chosen() == "shop/db"
    tab.keyboard.press("ArrowLeft")
    assert chosen() == "shop"
    tab.keyboard.press("ArrowLeft")
    assert tab.get_attribute(".row", "aria-expanded") == "false"
    assert tab.locator(".row").count() == 1
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("End")
    assert chosen() == "shop/pool/worker-2"
    tab.keyboard.press("/")
    tab.keyboard.type("leaf")
    until(lambda: tab.locator(".row").count() == 3)
    tab.keyboard.press("Escape")
    until(lambda: tab.locator(".row").count() > 3)
    roles = {tab.locator(".row").nth(at).get_attribute("role") for at in range(3)}
    assert roles == {"treeitem"}
    label = row(tab, "shop/db").get_attribute("aria-label")
    assert re.match(r"db, worker, running, up [\d.]+ s", label)


@pytest.mark.parametrize(("width", "columns"), [(1200, 6), (390, 3)])
def test_it_fits_a_phone(tab: Any, shop: Shop, width: int, columns: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(shop.url)
    row(tab, "shop/db").wait_for()
    seen = [cell for cell in row(tab, "shop/db").locator("> *").all() if cell.is_visible()]
    # an empty cell has no size: those that may have something in them are counted by their style
    shown = tab.evaluate(
        "[...document.querySelector('.row').children]"
        ".filter((cell) => getComputedStyle(cell).display !== 'none').length"
    )
    assert (shown, len(seen) > 0) == (columns, True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


CONTRAST = """() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((x) => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(color)) return light(color);
    }
  };
  const texts = [...document.querySelectorAll("h1, h2, h3, dt, dd, button, #link, .row span")]
    .filter((node) => node.textContent.trim() && !node.children.length);
  const ratios = texts.map((node) => {
    const [low, high] = [light(getComputedStyle(node).color), behind(node)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
  return [texts.length, Math.min(...ratios), behind(document.body)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_by_day_and_by_night(tab: Any, shop: Shop, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)
    tab.goto(shop.url)
    shop.order("wait")
    tab.locator('.row[data-path="shop/late"] .note.bad').wait_for()
    row(tab, "shop/late").click()
    tab.locator("#facts").wait_for()
    count, contrast, back = tab.evaluate(CONTRAST)
    assert count > 20
    assert contrast >= 4.5, "what WCAG wants of text of this size"
    assert (back > 0.5) == (scheme == "light")


def test_the_picture_in_the_docs(tab: Any, tmp_path: Path) -> None:
    """Of the example that README shows; with ``SPRY_PY_PICTURES`` set, into docs/."""
    root = Path(__file__).resolve().parents[2]
    arguments = ["-m", "spry_py", "run", "examples.uptime:uptime", "--observe=0", "--for", "60"]
    with running(arguments, root) as program:
        url = program.until("observer: http").partition("observer: ")[2]
        tab.set_viewport_size({"width": 1100, "height": 640})
        tab.goto(url)
        until(lambda: "gave up" in tab.text_content("#incidents"), 60)
        until(lambda: "cured" in tab.text_content("#incidents"), 60)
        tab.locator("#incidents summary:has-text('cured')").first.click()
        row(tab, "uptime/servers/flapping").click()
        tab.locator("#facts").wait_for()
        where = root / "docs" if os.environ.get("SPRY_PY_PICTURES") else tmp_path
        tab.screenshot(path=where / "observer.png")
        assert (where / "observer.png").stat().st_size > 10_000
