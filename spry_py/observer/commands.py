"""The commands that ask an observer: ``spry-py ps``, ``tree``, ``stack`` and so on."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

from . import address
from .client import Client, Refused, Trouble, choose
from .rows import columns, tree_lines
from .serving import PACKAGES, PIP
from .tree import shown

Lines = Iterable[str]
REFUSED: Final = 1
TROUBLE: Final = 2


def look(options: Namespace) -> int:
    """Run one command; returns the exit status.

    1 if the tree has refused what was asked of it, 2 if it could not be asked.
    """
    try:
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise Trouble(f"{options.command} needs {' and '.join(missing)}: {PIP}")
        _print(_COMMANDS[options.command](options))
    except Trouble as trouble:
        with suppress(OSError, ValueError, AttributeError):
            print(f"spry-py: {trouble}", file=sys.stderr, flush=True)
        return REFUSED if isinstance(trouble, Refused) else TROUBLE
    except KeyboardInterrupt:
        return 0
    return 0


def _print(lines: Lines) -> None:
    """Print lines as they come; a reader that has seen enough is no error."""
    out: Any = sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        for line in lines:
            print(line.encode(encoding, "backslashreplace").decode(encoding), file=out, flush=True)
    except (BrokenPipeError, AttributeError):
        # the interpreter would complain of it in the end
        with suppress(OSError, AttributeError):
            out.close()


def _as_json(thing: object) -> str:
    return json.dumps(thing, indent=2)


# Which observers there are


def _ps(options: Namespace) -> Lines:
    try:
        alive, _cleared = address.found()
    except OSError as error:
        raise Trouble(f"{error.filename}: {error.strerror}") from None
    found = [_about(Client(path)) for path in alive]
    if options.json:
        return [_as_json(found)]
    if not found:
        return ["no observer is running"]
    head = ("PID", "PROGRAM", "TREES", "PAGE")
    return columns([head, *(_ps_row(about) for about in found)])


def _about(client: Client) -> dict[str, Any]:
    """Who is there; of one that does not reply, why."""
    own: dict[str, Any] = {"pid": int(client.pid), "socket": str(client.path)}
    try:
        reply = client.get("/tree", depth="0")
    except Trouble as trouble:
        return own | {"trouble": str(trouble)}
    trees = {node["path"]: node["status"] for node in reply["nodes"]}
    about: dict[str, Any] = reply["about"]
    return own | about | {"trees": trees}


def _ps_row(about: dict[str, Any]) -> tuple[str, ...]:
    if "trouble" in about:
        return str(about["pid"]), "?", about["trouble"], ""
    trees = ", ".join(f"{shown(path)} [{status}]" for path, status in about["trees"].items())
    return str(about["pid"]), shown(about["program"]), trees or "none", about["url"] or ""


# Looking


def _client(options: Namespace) -> Client:
    return choose(options.pid, options.socket)


def _tree(options: Namespace) -> Lines:
    query = {"under": options.path} if options.path else {}
    reply = _client(options).get("/tree", **query)
    if options.json:
        return [_as_json(reply)]
    return tree_lines(reply["nodes"], reply["now"])


def _stack(options: Namespace) -> Lines:
    reply = _client(options).get("/stack", path=options.path)
    if options.json:
        return [_as_json(reply)]
    stack = reply["stack"].rstrip("\n")
    if stack:
        return [stack]
    found = _client(options).get("/tree", under=options.path)
    now = tree_lines(found["nodes"], found["now"])
    return [f"{shown(options.path)} has no living incarnation:", *now]


def _events(options: Namespace) -> Iterator[str]:
    for kind, data in _client(options).events():
        for fact in data.get("facts", ()) if kind == "changes" else ():
            yield json.dumps(fact) if options.json else _fact_line(fact)
        if kind == "changes" and data["facts_lost"]:
            yield f"({data['facts_lost']} events are missing here)"


def _fact_line(fact: dict[str, Any]) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(fact["time"]))
    return f"{moment}.{int(fact['time'] * 1000) % 1000:03d}  {shown(fact['path'])} {fact['text']}"


def _incidents(options: Namespace) -> Lines:
    reply = _client(options).get("/incidents")
    if options.json:
        return [_as_json(reply)]
    # the latest is the last to be read
    lines = [line for story in reversed(reply["incidents"]) for line in _story_lines(story)]
    return lines or ["no incidents"]


def _story_lines(story: dict[str, Any]) -> Iterator[str]:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(story["began"]))
    yield f"━━ {moment} ━━ {shown(story['path'])}"
    yield from textwrap.wrap(
        " ".join(story["sentences"]), 94, initial_indent="  ", subsequent_indent="  "
    )
    yield ""
    yield from story["picture"]
    yield ""


def _top(options: Namespace) -> Lines:
    # rich is there: it has been looked for
    from .top import top  # noqa: PLC0415

    top(_client(options))
    return ()


# Doing


def _do(options: Namespace) -> Lines:
    reply = _client(options).do(options.command, options.path or "")
    return [_as_json(reply) if options.json else shown(reply["message"])]


_COMMANDS: Final[dict[str, Callable[[Namespace], Lines]]] = {
    "ps": _ps,
    "tree": _tree,
    "top": _top,
    "stack": _stack,
    "events": _events,
    "incidents": _incidents,
    "restart": _do,
    "terminate": _do,
    "replay": _do,
    "stop": _do,
}
