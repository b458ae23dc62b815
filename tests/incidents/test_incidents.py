"""What makes an incident, and a story, of spans: in any order and state, and by the thousand."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import tenacity
import trio
from hypothesis import given
from hypothesis import strategies as st

from incident_files import changed, lasts, life_of, sheet, starts, steady, stories, told
from spry_py import AlwaysRestart, Child, NeverRestart, RateLimited
from spry_py._incidents.reading import read_spans
from spry_py._incidents.timeline import columns_of, fit
from traced import idle, shop, supervisor

# Many lines


def every_tree() -> Iterator[list[str]]:
    low = supervisor(
        Child("leaf", lasts(1.0, 1.0, 1.0, takes=0.05)),
        Child("x", steady(takes=0.02, stops=0.1)),
        breaker=RateLimited(2, 60.0),
    )
    yield life_of(shop(Child("low", low), Child("z", idle)))
    yield life_of(
        shop(
            Child("db", starts(None, "busy", takes=1.2)),
            Child("cache", steady(takes=0.4, stops=0.2)),
            Child("api", lasts(6.0, takes=0.7)),
            strategy="one_for_all",
        )
    )
    web = supervisor(Child("api", lasts(1.0)), breaker=NeverRestart())
    yield life_of(shop(Child("web", web), Child("db", steady(stops=0.2)), breaker=NeverRestart()))
    waits = Child("api", lasts(1.0), backoff=lambda _: 100.0)
    job = Child("job", lasts(2.0), restart="temporary")
    yield life_of(shop(waits, job))


FILES = list(every_tree())
ALL = [line for lines in FILES for line in lines]
PAGE = told(ALL)


def check_layout(text: str, width: int) -> None:
    """Nothing is wider than the page; tracebacks are left as they are, to be copied."""
    lines = text.split("\n")
    laid_out = [line for line in lines if re.match(r"━━ |  seconds|[ \d]{5}\.\d{3}  ", line)]
    assert len(laid_out) > 2 or text.startswith("no incidents in ")
    assert [line for line in laid_out if columns_of(line) > width] == []
    assert [line for line in lines if line != line.rstrip()] == []


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_lines_does_not_matter(rng: random.Random) -> None:
    shuffled = rng.sample(ALL, len(ALL))
    assert told(shuffled) == PAGE


def test_a_line_that_stands_there_twice_is_one_span() -> None:
    assert stories([*ALL, *ALL]) == stories(ALL)


@pytest.mark.parametrize("lines", FILES, ids=range(len(FILES)))
def test_a_file_cut_off_anywhere_is_told(lines: list[str]) -> None:
    for end in range(len(lines)):
        half = lines[end][: len(lines[end]) // 2]
        check_layout(told([*lines[:end], half]), 80)
        check_layout(told(lines[end:]), 100)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
TIMES = st.datetimes().map(lambda moment: moment.isoformat())
NAMES = sorted({name for line in ALL for name in json.loads(line)["attributes"]})
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(sorted({json.loads(line)["name"] for line in ALL})) | JSON,
        "parent_id": st.sampled_from([json.loads(line)["context"]["span_id"] for line in ALL])
        | JSON,
        "context": st.sampled_from([json.loads(line)["context"] for line in ALL]) | JSON,
        "start_time": TIMES | JSON,
        "end_time": TIMES | JSON,
        "status": JSON | st.fixed_dictionaries({"status_code": st.just("ERROR")}),
        "attributes": JSON | st.dictionaries(st.sampled_from(NAMES), JSON),
        "events": JSON | st.lists(JSON),
        "links": JSON,
    },
)
CHANGED = st.builds(lambda line, fields: changed(line, **fields), st.sampled_from(ALL), FIELDS)
LINES = st.lists(CHANGED | st.sampled_from(ALL) | JSON.map(json.dumps) | st.text(), max_size=60)


@pytest.mark.slow
@given(LINES)
def test_whatever_the_lines_hold_a_page_is_told(lines: list[str]) -> None:
    reading = read_spans(lines)
    assert reading.count + reading.unreadable == len([line for line in lines if line.strip()])
    check_layout(told(lines), 80)
    check_layout(told(lines, 100, whole=True), 10_000)


@given(st.lists(st.binary()))
def test_whatever_the_bytes_are_they_are_counted(lines: list[bytes]) -> None:
    assert read_spans(lines).unreadable == len([line for line in lines if line.strip()])


# Which failures are one story


def paths(lines: list[str]) -> list[list[str]]:
    return [[incident.leaf.path for incident in story.incidents] for story in stories(lines)]


@pytest.mark.parametrize(
    ("age", "expected"),
    [(60.0, [["shop/a", "shop/a"]]), (60.1, [["shop/a"], ["shop/a"]])],
)
def test_a_child_that_fails_again_within_a_minute_has_not_been_cured(
    age: float, expected: list[list[str]]
) -> None:
    assert paths(life_of(shop(Child("a", lasts(100.0, age - 0.0001))), until=300.0)) == expected


def test_failures_of_two_types_in_a_row_are_two_stories() -> None:
    errors = [OSError("disk"), KeyError("bug"), KeyError("other"), None]

    async def worker() -> None:
        await trio.sleep(1)
        error = errors.pop(0)
        if error is not None:
            raise error

    found = stories(life_of(shop(Child("a", worker, restart="transient"))))
    raised = [[one.leaf.raised for one in story.incidents] for story in found]
    assert [[one and (one.type, one.message) for one in story] for story in raised] == [
        [("OSError", "disk")],
        [("KeyError", "'bug'"), ("KeyError", "'other'")],
    ]


def test_failures_of_two_children_are_two_stories() -> None:
    tree = shop(Child("a", lasts(1.0, 2.0)), Child("b", lasts(2.5)))
    assert paths(life_of(tree)) == [["shop/a", "shop/a"], ["shop/b"]]


def test_a_sibling_that_fails_after_it_was_swept_along_has_a_story_of_its_own() -> None:
    tree = shop(Child("a", lasts(1.0)), Child("b", lasts(9.0, 2.0)), strategy="one_for_all")
    assert paths(life_of(tree)) == [["shop/a"], ["shop/b"]]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_children_that_fail_at_once_are_one_story(strategy: Any) -> None:
    tree = shop(Child("a", lasts(1.0)), Child("b", lasts(1.0)), strategy=strategy)
    (story,) = stories(life_of(tree))
    assert sorted(one.leaf.path for one in story.incidents) == ["shop/a", "shop/b"]
    assert sorted(one.outcome for one in story.incidents) == ["cured", "joined"]
    assert story.last.outcome == "cured"


def test_ends_that_need_no_restart_have_no_story() -> None:
    tree = shop(Child("a", lasts(1.0)), Child("b", steady(), restart="transient"))
    assert paths(life_of(tree)) == [["shop/a"]]


def test_waits_that_are_many_are_told_by_the_shortest_and_the_longest() -> None:
    wait = tenacity.wait_exponential(multiplier=0.5, max=60.0)
    tree = shop(Child("a", lasts(*[1.0] * 6), backoff=wait), breaker=AlwaysRestart())
    said = " ".join(told(life_of(tree, until=100.0)).split())
    assert "alone (one_for_one), 6 times, after waits of 500 ms to 16 s. Healthy" in said


def test_a_failure_without_its_exception_is_a_failure_all_the_same() -> None:
    lines = life_of(shop(Child("a", lasts(1.0))))
    said = told(changed(line, events=[], status={}) for line in lines)
    assert "✗ a failed: an exception that is not known" in said
    assert "shop/a, a permanent worker, failed after 1 s. shop restarted it alone" in said


# Large and strange


def many(number: int) -> list[str]:
    """Incidents of fifty children, one a second, so that each child fails again and again."""
    incident = [json.loads(line) for line in life_of(shop(Child("a", lasts(5.0))))[2:5]]
    last: dict[str, object] = {}
    return [
        line
        for index in range(number)
        for line in one_more(incident, f"shop/w{index % 50}", index, last)
    ]


def one_more(
    incident: list[dict[str, Any]], path: str, index: int, last: dict[str, object]
) -> Iterator[str]:
    moment = f"2026-03-01T{12 + index // 3600:02}:{index // 60 % 60:02}:{index % 60:02}Z"
    start, attempt, term = incident
    link = {"context": last.get(path), "attributes": {"spry.link": "terminates"}}
    for span, links in ((start, []), (attempt, []), (term, [link])):
        fields = {"context": span["context"] | {"trace_id": f"0x{index:032x}"}, "links": links}
        fields |= {"attributes": span["attributes"] | {"spry.child.path": path}}
        fields |= {"start_time": moment, "end_time": moment}
        yield json.dumps(span | fields)
    last[path] = start["context"] | {"trace_id": f"0x{index:032x}"}


def calls(lines: list[str]) -> int:
    """How many functions are called to tell these lines: the same on every machine."""
    number = 0

    def counts(frame: FrameType, event: str, _: object) -> None:
        nonlocal number
        number += event == "call"

    before = sys.getprofile()
    sys.setprofile(counts)
    try:
        told(lines)
    finally:
        sys.setprofile(before)
    return number


@pytest.mark.slow
def test_two_thousand_incidents_cost_four_times_as_much_as_five_hundred() -> None:
    lines = many(2000)
    assert sum(len(story.incidents) for story in stories(lines)) == 2000
    assert len(stories(lines)) == 50
    assert calls(lines) < 4.5 * calls(lines[:1500])


def test_texts_that_would_steer_a_terminal_are_shown_as_they_are_written() -> None:
    error = "\x1b[2J\x07 bad\r\nsecond line"
    tree = shop(Child("a\x1b[31m\n", lasts(1.0, error=error)), Child("データ", idle))
    text = told(life_of(tree))
    assert {sign for sign in text if not sign.isprintable()} == {"\n"}
    assert text.split("\n")[2:8] == sheet(r"""
  shop/a\x1b[31m , a permanent worker, failed after 1 s with ValueError:
  \x1b[2J\x07 bad. shop restarted it alone (one_for_one). Healthy again at
  once.

  seconds    shop                                           0 s     under 0.1 ms
    0.000    ✗ a\x1b[31m  failed: ValueError: \x1b[2J\x07…  ✗
""").split("\n")


def test_wide_signs_keep_the_columns_straight() -> None:
    tree = shop(
        Child("データベース", lasts(1.0, takes=1.0)),
        Child("e\u0301" * 3, steady(takes=1.0)),
        strategy="one_for_all",
    )
    rows = told(life_of(tree)).split("\n")
    assert [row for row in rows if "0.000" in row or "1.000" in row] == sheet("""
    0.000    ✗ データベース failed: ValueError: boom        ✗
    0.000  ↻ one_for_all: shop restarts all                 ───────────────────
    0.000    ■ ééé stopped                                  ▒
    0.000    ▸ データベース#2 started in 1 s                ██████████
    1.000    ▸ ééé#2 started in 1 s                                  ██████████
""").split("\n")


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ("abc", "abc   "),
        ("abcdef", "abcdef"),
        ("abcdefg", "abcde…"),
        ("データ", "データ"),
        ("データベ", "デー… "),
        ("e\u0301fg", "e\u0301fg   "),
    ],
)
def test_a_text_is_fitted_to_the_columns_of_a_terminal(text: str, fitted: str) -> None:
    assert fit(text, 6) == fitted
    assert columns_of(fitted) == 6


@pytest.mark.parametrize(
    ("end", "when"),
    [
        ("2026-03-02T12:00:06.5Z", "86401.500"),
        ("2026-03-04T12:00:05Z", "   259200"),
        ("9026-03-01T12:00:05Z", " 2.21e+11"),
    ],
)
def test_an_incident_of_days_or_ages_stays_in_its_columns(end: str, when: str) -> None:
    lines = life_of(shop(Child("a", lasts(5.0, takes=0.3))))
    lines[4] = changed(lines[4], start_time="2026-03-01T12:00:05Z", end_time=end)
    (row,) = [row for row in told(lines).split("\n") if "healthy again  " in row]
    assert row == f"{when}  ✓ healthy again{'✓':>54}"


def test_a_very_deep_tree_stays_on_the_page() -> None:
    tree = supervisor(Child("leaf", lasts(1.0)), breaker=NeverRestart())
    for _ in range(60):
        tree = supervisor(Child("sub", tree), breaker=NeverRestart())
    text = told(life_of(supervisor(Child("sub", tree), name="top")), 100)
    check_layout(text, 100)
    assert "top restarted top/sub alone (one_for_one)" not in text
    assert text.count("gives up: too many restarts of sub") == 60
