"""The commands of ``spry-py`` that look into a running tree, carried out by `spry_py.observer`."""

from __future__ import annotations

import argparse
import importlib
from typing import Any, Final

# command: help, and whether it takes a path: no, perhaps, or always
_COMMANDS: Final[dict[str, tuple[str, str | None]]] = {
    "ps": ("list the processes that can be looked into", None),
    "tree": ("print a running tree", "?"),
    "top": ("show running trees in the terminal, until q", None),
    "stack": ("print where a child stands", "1"),
    "events": ("print what happens in running trees, until Ctrl-C", None),
    "restart": ("restart a child, or start one that is down", "1"),
    "terminate": ("stop a child; it stays down", "1"),
    "replay": ("run a system function again: make the children what it declares now", "?"),
    "stop": ("stop a tree in order", "?"),
}


def add_looking(commands: Any) -> None:
    """Add the commands to a parser."""
    for name, (text, path) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        if path is not None:
            command.add_argument(
                "path",
                metavar="PATH",
                nargs=None if path == "1" else path,
                help="keys joined by / from the root's name on, as in shop/api/worker-7",
            )
        if name != "ps":
            add_target(command)
        if name != "top":
            command.add_argument("--json", action="store_true", help="print JSON")


def add_target(command: argparse.ArgumentParser) -> None:
    """Add the options that name the process that is meant."""
    command.add_argument("--pid", type=int, metavar="PID", help="the process that is meant")
    command.add_argument("--socket", metavar="PATH", help="the socket that is meant")


def is_looking(options: argparse.Namespace) -> bool:
    """Whether these options are one of those commands."""
    return options.command in _COMMANDS or options.command == "incidents"


def look(options: argparse.Namespace) -> int:
    """Carry it out; returns the exit status."""
    # an extension: it stands on the public face, which stands on this
    status: int = importlib.import_module("spry_py.observer.commands").look(options)
    return status
