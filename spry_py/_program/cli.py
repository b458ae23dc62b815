"""The command line: ``spry-py run MODULE:SYSTEM`` runs a tree and prints what happens in it.

``spry-py incidents FILE`` prints what went wrong, from the spans that it left.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from spry_py._incidents.command import retell
from spry_py._spec.check import check_seconds
from spry_py._spec.child import Supervisor
from spry_py._spec.errors import root_cause_of
from spry_py._spec.termination import Aborted, TerminationReport
from spry_py._telemetry.attributes import library_version
from spry_py._telemetry.tracebacks import traceback_of

from .beside import Beside, Place, observer_of
from .finding import UsageError, load
from .looking import add_looking, add_target, is_looking, look
from .printer import Printer
from .run import exporting_to, run_tree
from .service import Service
from .signals import Signals
from .story import Story

if TYPE_CHECKING:
    from spry_py._handles.system import SystemHandle
    from spry_py.telemetry import Exporting

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 after an orderly end, 1 if the tree failed, 2 for a usage error, 128 + n after a second signal
    n.
    """
    given, rest = _split(list(sys.argv[1:] if arguments is None else arguments))
    options = _parser().parse_args(given)
    if options.command == "incidents" and options.source is not None:
        return retell(options.source, options.verbose, options.json)
    if is_looking(options):
        return look(options)
    try:
        supervisor, name = load(options.system, rest)
        service = _service(supervisor, options)
        exporting = _exporting(options.traces, name)
    except (UsageError, OSError) as error:
        _complain(f"spry-py: {error}", error.__cause__)
        return USAGE_ERROR
    return _run(supervisor, name, options.seconds, exporting, observer_of(options.observe), service)


def _service(supervisor: Supervisor[Any], options: argparse.Namespace) -> Service:
    try:
        return Service(supervisor, options.health, options.drain, options.reload)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error).removeprefix("run: ")) from None


def _exporting(traces: str, name: str) -> Exporting | None:
    if traces == "none":
        return None
    try:
        return exporting_to(traces, name)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"--traces {traces}: {error}") from None
    except OSError as error:
        raise UsageError(f"--traces {traces}: {error.strerror or error}") from None


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and those behind ``--`` for the system."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    # the port is joined to it by =, or what follows would be taken for one
    ours = ["--observe=" if word == "--observe" else word for word in arguments[:at]]
    return ours, arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spry-py", description="Supervision trees for trio.")
    parser.add_argument("--version", action="version", version=f"spry-py {library_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_incidents(commands)
    add_looking(commands)
    _add_run(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a tree and print what happens in it",
        description=(
            "Run a tree until it ends, fails, or is stopped by Ctrl-C, SIGTERM or SIGHUP (a second "
            "Ctrl-C or SIGTERM aborts it, a third leaves at once)."
        ),
        epilog="What follows -- is handed to SYSTEM as strings.",
    )
    run.add_argument(
        "system",
        metavar="MODULE:SYSTEM",
        help=(
            "a system function, a list of Child, a supervisor, or a function that makes one; "
            "MODULE is a name, or the path of a file: app.py"
        ),
    )
    _add_traces(run)
    _add_seconds(run)
    _add_observe(run)
    _add_service(run)


def _add_traces(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--traces",
        default="none",
        metavar="console|otlp|PATH|none",
        help=(
            "where the telemetry goes: spans to the console, or to a file as JSON lines; all of it "
            "to a collector (OTEL_* variables say where)"
        ),
    )


def _add_seconds(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=math.inf,
        metavar="SECONDS",
        help="stop the tree in order after so many seconds",
    )


def _add_observe(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--observe",
        type=_port,
        default=False,
        metavar="[=PORT]",
        help=(
            "let `spry-py ps`, `tree` and so on look into the tree; with a port (0: any that is "
            "free), a browser as well"
        ),
    )


def _add_service(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--health",
        metavar="[HOST:]PORT",
        help="serve /livez, /readyz and /startupz there; a port alone is for this machine alone",
    )
    run.add_argument(
        "--drain",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="at SIGTERM go on for so many seconds, not ready any more, before the tree stops",
    )
    run.add_argument(
        "--reload",
        action="store_true",
        help="at SIGHUP run the system function again, and stop nothing else",
    )


def _add_incidents(commands: Any) -> None:
    incidents = commands.add_parser(
        "incidents",
        help="print what went wrong, from the spans of a tree, or in a running one",
        description=(
            "Print each incident in a file of spans, or of a process that runs with --observe: "
            "what failed, and what was done then."
        ),
    )
    incidents.add_argument(
        "source",
        nargs="?",
        metavar="FILE|URL",
        help="the JSON lines that `spry-py run --traces PATH` wrote; - for standard input",
    )
    incidents.add_argument(
        "-v", "--verbose", action="store_true", help="whole tracebacks, and nothing left out"
    )
    add_target(incidents)
    incidents.add_argument("--json", action="store_true", help="print JSON")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        check_seconds("spry-py run", "seconds", seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    return seconds


def _port(text: str) -> bool | int:
    """A port, or whether there is an observer at all."""
    if not text:
        return True
    try:
        observer_of(port := int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port") from None
    # 0 and 1 are ports as well
    return port


# Running it


def _run(
    supervisor: Supervisor[Any],
    name: str,
    seconds: float,
    exporting: Exporting | None,
    observer: Beside | None,
    service: Service,
) -> int:
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    place = _Place(observer)
    printer = Printer(sys.stdout)
    story = Story(printer)
    logger = logging.getLogger("spry_py")
    _take_over(logger, story)
    signals = Signals(before_exit=printer.close)

    def on_started(handle: SystemHandle) -> None:
        printer.print(f"\n{handle.render()}\n")

    def on_place(found: Place) -> None:
        place.is_found = True
        printer.print(f"observer: {found.url or found.socket}")

    around = on_started, seconds, signals, story, name
    try:
        report = run_tree(supervisor, exporting, *around, observer, on_place, service)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _status_of(error, place, service)
    finally:
        story.last_words()
        logger.removeHandler(story)
        printer.close()
    return _status(report, signals)


class _Place:
    """Whether the observer had a place, or the boot was not begun."""

    def __init__(self, observer: Beside | None) -> None:
        self.is_found = observer is None


def _status_of(error: Exception, place: _Place, service: Service) -> int:
    """Print why there was no tree, or what it failed with."""
    if place.is_found and service.is_open:
        _complain(f"spry-py: the tree failed: {error}", root_cause_of(error))
        return 1
    _complain(f"spry-py: {error}" if place.is_found else f"spry-py: --observe: {error}")
    return USAGE_ERROR


def _take_over(logger: logging.Logger, story: Story) -> None:
    """Let the story print what is logged beside the facts: the lines of a process, warnings."""
    logger.addHandler(story)
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _complain(text: str, cause: BaseException | None = None) -> None:
    """Print what went wrong, and the traceback of its cause, if there is anywhere to print it."""
    with suppress(OSError, ValueError, AttributeError):
        if cause is not None:
            print(traceback_of(cause), end="", file=sys.stderr)
        print(text, file=sys.stderr, flush=True)


def _status(report: TerminationReport, signals: Signals) -> int:
    aborted = isinstance(report.reason, Aborted) and signals.count > 1
    return 128 + signals.last if aborted else 0
