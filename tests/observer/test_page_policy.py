"""The page as it is sent: whole, from the package, and under a policy that lets in nothing else."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from observing import TOKEN, observed, written
from spry_py.observer.page import page
from spry_py.observer.rights import Rights
from stories import story

OVER_TCP = Rights((), TOKEN)


@story
async def test_the_page_needs_no_token_and_has_none() -> None:
    async with observed() as outside:
        got = await outside.send(written("GET", "/"), OVER_TCP)
        assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert got.headers["content-security-policy"].startswith("default-src 'none'; script-src")
        assert got.headers["referrer-policy"] == "no-referrer"
        assert TOKEN not in got.body.decode()
        assert (await outside.send(written("GET", "/tree"), OVER_TCP)).status == 401


@pytest.mark.parametrize("kind", ["script", "style"])
def test_the_policy_names_what_is_in_the_page(kind: str) -> None:
    body, policy = page()
    (part,) = re.findall(rf"<{kind}>(.*?)</{kind}>", body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_made_of_text() -> None:
    text = page().body.decode()
    assert re.findall(r"https?://", text) == []
    assert (
        re.findall(r"<(?:link|img|iframe|object|base|form)\b| src=| on[a-z]+=| style=", text) == []
    )
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|document\.write", text) == []
    assert "document.cookie" not in text
    assert "localStorage" not in text
