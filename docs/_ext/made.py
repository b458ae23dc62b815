"""Tables of the reference, read off the code or off a run of it. Nothing here knows Sphinx.

Each table is its head and its rows, in Markdown.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import trio
from opentelemetry.sdk.trace import ReadableSpan

from recorded import all_runs, quiet
from spry_py import (
    Backoff,
    Child,
    DynamicSupervisor,
    PartitionSupervisor,
    RateLimited,
    Streak,
    SystemHandle,
    SystemSupervisor,
    events,
    open_system,
    run,
)
from spry_py._program.cli import _parser
from spry_py._telemetry.logs import LEVELS
from spry_py.components import component
from spry_py.health import Health
from spry_py.observer import Observer
from spry_py.periodic import periodic
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from spry_py.processes import command, process
from spry_py.remote import remote
from spry_py.testing import FakeEngine
from spry_py.watchdog import watch_loop

Head = tuple[str, ...]
Rows = list[tuple[str, ...]]
Table = tuple[Head, Rows]

API: Final = Path(__file__).resolve().parents[1] / "observer-api.json"


def code(text: object) -> str:
    """As code, in a cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text != "" else ""


def codes(texts: Any) -> str:
    return ", ".join(code(text) for text in texts)


def cell(text: str) -> str:
    """Text of a docstring, in a cell of a table."""
    return re.sub(r"``", "`", " ".join(text.split())).replace("|", "\\|")


def first_paragraph(thing: object) -> str:
    return cell((inspect.getdoc(thing) or "").split("\n\n")[0])


# Options

# What is tried as the value of each option, to see what is refused: no option takes all of it.
TRIED: Final[tuple[Any, ...]] = (
    object(),
    "",
    "no",
    -1,
    0,
    1.5,
    math.nan,
    math.inf,
    True,
    None,
    b"",
    (1,),
    [1],
)


async def forever() -> None:
    await trio.sleep_forever()


def handled(item: object) -> object:
    return item


async def take(pipe: Pipe[Any, Any]) -> None:
    await forever()


def child_of(number: int) -> Child[None]:
    return Child(f"part-{number}", forever)


@cache
def some_handle() -> SystemHandle:
    async def main() -> SystemHandle:
        async with open_system([], name="root") as handle:
            return handle

    with quiet():
        return trio.run(main)


def health(**options: Any) -> Health:
    return Health(some_handle(), **options)


def whole_pipeline(**options: Any) -> object:
    return pipeline(Worker("key", take), **options)


class Runs:
    async def run(self) -> None:
        await forever()


def watching(**options: Any) -> None:
    """Up to what it checks first."""

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await watch_loop(**options)

    trio.run(main)


ENDS: Final = SystemSupervisor([], name="empty", auto_shutdown="when_empty")


def whole_program(**options: Any) -> object:
    """With what can only be refused: what is taken would be done."""
    ((name, value),) = options.items()
    if type(value) in (object, bytes, tuple) or value == -1 or value != value:
        given: dict[str, Any] = {name: value}
        return run(ENDS, **given)
    return None


# What takes options; and the call that is tried with each of them, and what else it wants.
TAKERS: Final[Mapping[str, tuple[Callable[..., object], Callable[..., object]]]] = {
    "Child": (Child, partial(Child, key="key", start=forever)),
    "SystemSupervisor": (SystemSupervisor, partial(SystemSupervisor, system=[], name="name")),
    "DynamicSupervisor": (DynamicSupervisor, DynamicSupervisor),
    "PartitionSupervisor": (
        PartitionSupervisor,
        partial(PartitionSupervisor, make_child=child_of),
    ),
    "RateLimited": (RateLimited, RateLimited),
    "Streak": (Streak, partial(Streak, max_restarts=3)),
    "Backoff": (Backoff, partial(Backoff, wait=lambda state: 1.0)),
    "run": (run, whole_program),
    "Observer": (Observer, Observer),
    "Health": (Health, health),
    "command": (command, partial(command, "true")),
    "process": (process, partial(process, fn=print)),
    "Stage": (Stage, partial(Stage, key="key", function=handled)),
    "Pipe": (Pipe, partial(Pipe, stage="stage")),
    "pipeline": (pipeline, whole_pipeline),
    "periodic": (periodic, partial(periodic, function=forever, every=1.0)),
    "component": (component, partial(component, make=Runs)),
    "watch_loop": (watch_loop, watching),
    "remote": (remote, partial(remote, FakeEngine(), forever)),
}
NAMED: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
INTERNAL: Final = {"task_status", "transforms"}


def parameters_of(name: str) -> Iterator[inspect.Parameter]:
    """The options, and whatever else can be given by name."""
    taker, _ = TAKERS[name]
    for parameter in inspect.signature(taker).parameters.values():
        if parameter.kind in NAMED and parameter.name not in INTERNAL:
            yield parameter


def refusals(name: str, option: str) -> Iterator[str]:
    """What the errors for bad values of an option say is allowed."""
    _, call = TAKERS[name]
    for value in TRIED:
        try:
            made = call(**{option: value})
        except (TypeError, ValueError) as error:
            found = re.search(rf"\b{option} must (?:be|have) (.*)", str(error), re.DOTALL)
            if found is not None:
                yield re.split(r",? not |; | \(it is", found[1])[0]
        else:
            if inspect.iscoroutine(made):
                made.close()


def allowed(name: str, option: str) -> str:
    own = OWN_RULES.get((name, option))
    return own if own is not None else "; ".join(dict.fromkeys(refusals(name, option)))


def default_of(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "(required)"
    default = parameter.default
    return repr(getattr(default, "name", default))


OWN_DEFAULTS: Final = {
    ("Child", "shutdown"): "`5.0`; of a supervisor `inf`",
    ("PartitionSupervisor", "partitions"): "the number of CPUs",
    ("Observer", "token"): "a new random one",
}
# What is not refused by its value alone.
OWN_RULES: Final = {
    ("run", "system"): "a system function, a sequence of Child, a supervisor",
    ("run", "traces"): "'console', 'otlp', 'none', or the path of a file",
    ("Health", "root"): "the handle of a supervisor",
    ("remote", "engine"): "an Engine",
    ("remote", "start"): "what a Child may start, if it can be pickled",
}


def unit_of(allowance: str) -> str:
    return "s" if "seconds" in allowance else ""


def options(name: str) -> Table:
    rows: Rows = []
    for parameter in parameters_of(name):
        may_be = allowed(name, parameter.name)
        default = OWN_DEFAULTS.get((name, parameter.name), code(default_of(parameter)))
        rows.append((code(parameter.name), default, unit_of(may_be), cell(may_be)))
    return ("option", "default", "unit", "allowed; all else is refused"), rows


# What a tree emits


def names_of_fields(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def all_events() -> Table:
    common = set(names_of_fields(events.Event))
    rows: Rows = []
    for name in sorted(events.__all__):
        kind = getattr(events, name)
        own = [field for field in names_of_fields(kind) if field not in common or name == "Event"]
        level = LEVELS.get(kind)
        logged = logging.getLevelName(level) if level is not None else ""
        rows.append((code(name), codes(own), logged, first_paragraph(kind)))
    return ("event", "fields of its own", "logged as", "when it comes"), rows


def all_spans() -> list[ReadableSpan]:
    return [span for recorded in all_runs() for span in recorded.telemetry.spans]


def parents(span: ReadableSpan, among: list[ReadableSpan]) -> set[str]:
    if span.parent is None:
        return {"a root"}
    wanted = span.parent.span_id
    return {code(one.name) for one in among if one.context and one.context.span_id == wanted}


def links_of(span: ReadableSpan) -> set[str]:
    return {str((link.attributes or {}).get("spry.link")) for link in span.links}


def spans() -> Table:
    """As the recorded runs have them."""
    found = all_spans()
    rows: Rows = []
    for name in sorted({span.name for span in found}):
        ours = [span for span in found if span.name == name]
        carried = [set(span.attributes or {}) for span in ours]
        always = set.intersection(*carried)
        sometimes = set.union(*carried) - always
        above = sorted(set().union(*(parents(span, found) for span in ours)))
        linked = sorted(set().union(*(links_of(span) for span in ours)))
        rows.append(
            (
                code(name),
                ", ".join(above),
                codes(sorted(always)),
                codes(sorted(sometimes)),
                codes(linked),
            )
        )
    return ("span", "parent", "always carries", "may carry", "links"), rows


def metrics() -> Table:
    """As the recorded runs have them."""
    found: dict[str, tuple[str, str, str, set[str]]] = {}
    for recorded in all_runs():
        for metric in recorded.telemetry.metrics:
            kind = "histogram" if type(metric.data).__name__ == "Histogram" else "sum"
            entry = (kind, metric.unit or "", metric.description or "", set[str]())
            labels = found.setdefault(metric.name, entry)[3]
            for point in metric.data.data_points:
                labels |= set(point.attributes or {})
    rows: Rows = [
        (code(name), kind, code(unit), text, codes(sorted(labels)))
        for name, (kind, unit, text, labels) in sorted(found.items())
    ]
    return ("metric", "kind", "unit", "what it counts or measures", "attributes"), rows


def logs() -> Table:
    """One record of each kind, as the recorded runs have them."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for recorded in all_runs():
        for entry in recorded.telemetry.logs:
            text = entry.getMessage().partition("\n")[0]
            path = text.split(" ", 1)[0]
            shape = re.sub(r"\d+|\(.*?\)", "", text.removeprefix(path))
            found.setdefault((entry.levelname, shape[:16]), (entry.name, text))
    order = {"ERROR": 0, "WARNING": 1, "INFO": 2}
    rows: Rows = [
        (level, code(logger), cell(text))
        for (level, _), (logger, text) in sorted(found.items(), key=lambda one: order[one[0][0]])
    ]
    return ("level", "logger", "for example"), rows


# The program


def commands() -> Table:
    rows: Rows = []
    for name, parser, text in subcommands():
        rows.append((f"`spry-py {name}`", "", cell(text)))
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                rows.append(
                    ("", code(argument_of(action)), cell((action.help or "") % vars(action)))
                )
    return ("command", "argument", "what it does"), rows


def subcommands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, parser in action.choices.items():
                yield name, parser, texts.get(name, "")


def argument_of(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if not action.option_strings:
        return str(value)
    return " ".join([", ".join(action.option_strings), *([str(value)] if value else [])])


def endpoints() -> Table:
    description = json.loads(API.read_text(encoding="utf-8"))
    rows: Rows = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            statuses = codes(sorted(operation["responses"]))
            rows.append((code(f"{method.upper()} {path}"), cell(operation["summary"]), statuses))
    return ("request", "what it is", "statuses"), rows


def statuses() -> Table:
    """What the statuses of the endpoints are called."""
    description = json.loads(API.read_text(encoding="utf-8"))
    used = {
        int(status)
        for methods in description["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    return ("status", "name"), [(str(one), HTTPStatus(one).phrase) for one in sorted(used)]


TABLES: Final[Mapping[str, Callable[..., Table]]] = {
    "options": options,
    "events": all_events,
    "spans": spans,
    "metrics": metrics,
    "logs": logs,
    "commands": commands,
    "endpoints": endpoints,
    "statuses": statuses,
}


def markdown(table: Table) -> str:
    head, rows = table
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
