"""The command line: ``spry-py run MODULE:SYSTEM`` runs a tree and tells its story.

``spry-py incidents FILE`` tells it again, from the spans that it left.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._check import check_seconds
from ._child import Supervisor
from ._errors import SpryError, root_cause_of
from ._retell import retell
from ._run import Signals, as_supervisor, exporting_to, run_tree
from ._termination import Aborted, TerminationReport

if TYPE_CHECKING:
    from ._handle import SystemHandle
    from ._scope import Scope
    from .telemetry import Exporting

USAGE_ERROR = 2


class _UsageError(Exception):
    """What was asked for cannot be run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 after an orderly end, 1 if the tree failed, 2 for a usage error, 128 + n after a second signal
    n.
    """
    given, rest = _split(list(sys.argv[1:] if arguments is None else arguments))
    options = _parser().parse_args(given)
    if options.command == "incidents":
        return retell(options.source, options.verbose)
    try:
        supervisor = load(options.system, rest)
        exporting = _exporting(options.traces, supervisor)
    except (_UsageError, OSError) as error:
        print(f"spry-py: {error}", file=sys.stderr)
        return USAGE_ERROR
    return _run(supervisor, options.seconds, exporting)


def _exporting(traces: str, supervisor: Any) -> Exporting | None:
    if traces == "none":
        return None
    try:
        return exporting_to(traces, supervisor)
    except (RuntimeError, ValueError) as error:
        raise _UsageError(f"--traces {traces}: {error}") from error


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and those behind ``--`` for the system."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spry-py", description="Supervision trees for trio.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_incidents(commands)
    run = commands.add_parser(
        "run",
        help="run a tree and tell what happens in it",
        description=(
            "Run a tree until it ends, fails, or is stopped by Ctrl-C or SIGTERM (a second one "
            "aborts it, a third leaves at once)."
        ),
        epilog="What follows -- is handed to SYSTEM as strings.",
    )
    run.add_argument(
        "system",
        metavar="MODULE:SYSTEM",
        help="a system function, a list of Child, a supervisor, or a function that makes one",
    )
    run.add_argument(
        "--traces",
        default="none",
        metavar="console|otlp|PATH|none",
        help=(
            "where the telemetry goes: spans to the console, or to a file as JSON lines; all of it "
            "to a collector (OTEL_* variables say where)"
        ),
    )
    run.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=math.inf,
        metavar="SECONDS",
        help="stop the tree in order after so many seconds",
    )
    return parser


def _add_incidents(commands: Any) -> None:
    incidents = commands.add_parser(
        "incidents",
        help="tell what went wrong, from the spans of a tree",
        description="Tell each incident in a file of spans: what failed, and what was done then.",
    )
    incidents.add_argument(
        "source",
        metavar="FILE|URL",
        help="the JSON lines that `spry-py run --traces PATH` wrote; - for standard input",
    )
    incidents.add_argument(
        "-v", "--verbose", action="store_true", help="whole tracebacks, and nothing left out"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        check_seconds("spry-py run", "--for", seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    return seconds


# Finding the system


def load(name: str, arguments: Sequence[str]) -> Any:
    """The supervisor that ``MODULE:SYSTEM`` names, with ``arguments`` handed to it."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise _UsageError(f"{name!r} is not of the form MODULE:SYSTEM")
    found: Any = _import(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise _UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    try:
        return as_supervisor(_with_arguments(found, arguments, name), {})
    except (TypeError, ValueError, SpryError) as error:
        raise _UsageError(f"{name} is not a system: {error}") from error


def _import(module_name: str) -> Any:
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.append(directory)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise _UsageError(f"there is no module {error.name!r}") from error


def _with_arguments(found: Any, arguments: Sequence[str], name: str) -> Any:
    if isinstance(found, Supervisor | list | tuple):
        if arguments:
            raise _UsageError(f"{name} takes no arguments, but was given {list(arguments)}")
        return found
    if inspect.iscoroutinefunction(found):
        return _bound(found, arguments, name)
    if callable(found):
        _check_signature(found, arguments, name)
        return found(*arguments)
    raise _UsageError(f"{name} is not a system but {found!r}")


def _bound(function: Any, arguments: Sequence[str], name: str) -> Any:
    _check_signature(function, ["scope", *arguments], name)
    if not arguments:
        return function

    async def system(scope: Scope) -> None:
        await function(scope, *arguments)

    system.__name__ = function.__name__
    return system


def _check_signature(function: Any, arguments: Sequence[str], name: str) -> None:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise _UsageError(f"{name} does not take these arguments: {error}") from None


# Telling the story


class _Story(logging.Handler):
    """Prints each fact as one line, and remembers in which order children were stopped."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._began = time.monotonic()
        self.stopped: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        seconds = time.monotonic() - self._began
        print(f"{seconds:7.2f} s  {record.levelname:7}  {record.getMessage()}", flush=True)
        path = record.__dict__.get("spry.child.path")
        if record.__dict__.get("spry.termination.burden") in ("settling", "aborted") and path:
            self.stopped.append(str(path))

    def forget_stops(self) -> None:
        self.stopped.clear()


def _run(supervisor: Supervisor[Any], seconds: float, exporting: Exporting | None) -> int:
    story = _Story()
    logger = logging.getLogger("spry_py")
    logger.addHandler(story)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    signals = Signals(on_stop=story.forget_stops)

    def on_started(handle: SystemHandle) -> None:
        print(f"\n{handle.render()}\n", flush=True)

    try:
        report = run_tree(supervisor, exporting, on_started, seconds, signals)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _tell_failure(error)
        return 1
    finally:
        if story.stopped:
            print(f"\nstopped in this order: {', '.join(story.stopped)}", flush=True)
        logger.removeHandler(story)
    return _status(report, signals)


def _tell_failure(error: Exception) -> None:
    traceback.print_exception(root_cause_of(error))
    print(f"spry-py: the tree failed: {error}", file=sys.stderr)


def _status(report: TerminationReport, signals: Signals) -> int:
    aborted = isinstance(report.reason, Aborted) and signals.count > 1
    return 128 + signals.last if aborted else 0
