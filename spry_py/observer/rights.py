"""Who may ask for what. Pure: a table of refusals, asked in order.

Over the socket, its owner may act: the process could be killed all the same. Over TCP all users of
this machine can connect, and every web page that is open in a browser on it: so the token, and so
all the rest.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from spry_py._http import Request

Action: TypeAlias = Literal["restart", "terminate", "replay", "stop"]

ACTIONS: Final[tuple[Action, ...]] = ("restart", "terminate", "replay", "stop")
# which method each route is asked by; the page has no secrets in it, and cannot have the token yet
PAGE: Final = "/"
ROUTES: Final = {
    PAGE: "GET",
    "/tree": "GET",
    "/child": "GET",
    "/events": "GET",
    "/stack": "GET",
    "/incidents": "GET",
    **{f"/do/{action}": "POST" for action in ACTIONS},
}

_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{16,200}")
_SITES: Final = ("same-origin", "none")


def new_token() -> str:
    """A token that is not guessed."""
    return secrets.token_urlsafe(32)


def check_token(token: object) -> None:
    """Refuse what could be guessed, or does not fit into a URL and a header."""
    if not isinstance(token, str):
        raise TypeError(f"Observer: token must be a str or None, not {type(token).__name__}")
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            "Observer: token must be 16 to 200 letters, digits or any of '._~-' (it is not shown "
            "here)"
        )


@dataclass(frozen=True, slots=True)
class Rights:
    """What is allowed over one listener; ``token`` is ``None`` where there is no need of one."""

    allow: Collection[str]
    token: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served; ``headers`` go along with the status."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


def refusal(request: Request, rights: Rights) -> Refusal | None:
    """Why this request is not served, or ``None`` if it is."""
    return (
        _of_site(request)
        or _of_token(request, rights)
        or _of_route(request)
        or _of_action(request, rights)
    )


def _of_site(request: Request) -> Refusal | None:
    """A name that leads here but is not ours is that of DNS rebinding; the rest is CSRF."""
    headers = request.headers
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        allowed = "127.0.0.1, localhost or [::1]"
        return Refusal(HTTPStatus.MISDIRECTED_REQUEST, f"the Host must be {allowed}")
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return Refusal(HTTPStatus.FORBIDDEN, "the Origin is another one than the Host")
    if headers.get("sec-fetch-site", "none") not in _SITES:
        return Refusal(HTTPStatus.FORBIDDEN, "the request comes from another site")
    return None


def _of_token(request: Request, rights: Rights) -> Refusal | None:
    if rights.token is None or request.path == PAGE:
        return None
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = rights.token.encode()
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), wanted):
        return None
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        "the token is missing or wrong: it stands behind # in the URL that was printed",
        (("WWW-Authenticate", "Bearer"),),
    )


def _of_route(request: Request) -> Refusal | None:
    method = ROUTES.get(request.path)
    if method is None:
        return Refusal(HTTPStatus.NOT_FOUND, f"there are {', '.join(ROUTES)}")
    if request.method != method:
        reason = f"{request.path} is asked by {method}"
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", method),))
    return None


def _of_action(request: Request, rights: Rights) -> Refusal | None:
    _, is_action, action = request.path.partition("/do/")
    if not is_action or action in rights.allow:
        return None
    return Refusal(
        HTTPStatus.FORBIDDEN, f"{action} is not allowed here: see allow=... of the observer"
    )
