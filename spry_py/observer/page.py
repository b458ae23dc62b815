"""The page: one file, with a policy under which a browser runs nothing that is not in it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

_PARTS: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Page(NamedTuple):
    """What is sent, and the ``Content-Security-Policy`` that goes with it."""

    body: bytes
    policy: str


@cache
def page() -> Page:
    """The page as it is in the package; read once."""
    text = files("spry_py.observer").joinpath("page.html").read_text(encoding="utf-8")
    hashes = {kind: _hash_of(part) for kind, part in _PARTS.findall(text)}
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{hashes['script']}'",
            f"style-src '{hashes['style']}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    )
    return Page(text.encode(), policy)


def _hash_of(part: str) -> str:
    digest = hashlib.sha256(part.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
