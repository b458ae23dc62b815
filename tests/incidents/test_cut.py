"""Incidents from spans whose attributes are missing or cut: less is told, and nothing wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from incident_files import lasts, life_of, told
from spry_py import Child, NeverRestart
from traced import idle, shop

CURED = life_of(shop(Child("db", idle), Child("api", lasts(5.0, takes=0.3))))
DROPPED = life_of(shop(Child("db", idle), Child("job", lasts(5.0), restart="temporary")))
ENDED = life_of(shop(Child("db", idle), Child("api", lasts(5.0)), breaker=NeverRestart()))
NAMES = sorted({name for line in [*CURED, *DROPPED] for name in json.loads(line)["attributes"]})

FULL = {
    "cured": (
        "shop/api, a permanent worker, failed after 5 s with ValueError: boom. shop restarted it "
        "alone (one_for_one). Healthy again 300 ms after the first failure."
    ),
    "dropped": (
        "shop/job, a temporary worker, failed after 5 s with ValueError: boom. Not restarted, "
        "since it is temporary: shop goes on without it."
    ),
    "ended": (
        "shop/api, a permanent worker, failed after 5 s with ValueError: boom. The breaker of "
        "shop refused to restart it: shop stopped db and gave up. That was the end of the whole "
        "tree."
    ),
}
FILES = {"cured": CURED, "dropped": DROPPED, "ended": ENDED}


def changed(line: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    span = json.loads(line)
    span["attributes"] = change(span["attributes"])
    return json.dumps(span)


def sentences(lines: list[str]) -> str:
    return " ".join(line.strip() for line in told(lines).split("\n\n")[1].splitlines())


@pytest.mark.parametrize("which", FILES)
def test_the_whole_story(which: str) -> None:
    assert sentences(FILES[which]) == FULL[which]


LEFT_OUT = {
    "spry.child.kind": (" worker", " child"),
    "spry.child.lifetime": (" after 5 s", ""),
    "spry.restart.strategy": (" alone (one_for_one)", ""),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", FILES)
def test_what_is_missing_is_not_told_and_all_else_stays(which: str, name: str) -> None:
    lines = [
        changed(line, lambda attributes: {k: v for k, v in attributes.items() if k != name})
        for line in FILES[which]
    ]
    expected = FULL[which]
    if name == "spry.restart.type":
        expected = expected.replace("since it is temporary", "since a restart was not wanted")
        expected = expected.replace("a permanent ", "a ").replace("a temporary ", "a ")
    elif name in LEFT_OUT:
        old, new = LEFT_OUT[name]
        expected = expected.replace(old, new)
    assert sentences(lines) == expected


def test_whether_a_restart_was_wanted_is_not_guessed() -> None:
    lines = [
        changed(line, lambda attributes: {})
        for line in DROPPED
        if json.loads(line)["name"] == "spry.term"
    ]
    assert sentences(lines).endswith("What was done about it is not in these spans.")


@pytest.mark.parametrize("most", range(4, 20))
@pytest.mark.parametrize("which", FILES)
def test_what_has_been_cut_is_not_taken_for_a_word(which: str, most: int) -> None:
    def cut(attributes: dict[str, Any]) -> dict[str, Any]:
        return {k: v[:most] if isinstance(v, str) else v for k, v in attributes.items()}

    text = sentences([changed(line, cut) for line in FILES[which]])
    words = set(text.replace(".", "").replace(",", "").replace(":", "").split())
    whole = set(FULL[which].replace(".", "").replace(",", "").replace(":", "").split())
    key = "job" if which == "dropped" else "api"
    known = {"child", "shop…", f"shop…/{key}", "a", "not", "wanted", "restart", "was"}
    assert words <= whole | known
    assert ("one_for_one" in text) == (most >= 11 and which == "cured")
