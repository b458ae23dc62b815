"""Reads whole trees of spans, and builds those that docs/design.md and examples/collector.md name.

A span is read as a nested tuple, so that a test compares the whole incident with one `==`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

import trio
import trio.testing
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, SpanKind, StatusCode

T = TypeVar("T")

SYSTEM = {"spry.system.path", "spry.system.incarnation"}
CHILD = SYSTEM | {
    "spry.child.key",
    "spry.child.path",
    "spry.child.incarnation",
    "spry.child.kind",
    "spry.restart.type",
}
ENDED = CHILD | {
    "spry.termination.reason",
    "spry.termination.burden",
    "spry.child.lifetime",
}
TRIED = SYSTEM | {
    "spry.restart.strategy",
    "spry.restart.allowed",
    "spry.restart.attempt",
    "spry.restart.delay",
}
DELIVERED = SYSTEM | {
    "spry.child.path",
    "spry.child.incarnation",
    "spry.pipe.stage",
    "spry.pipe.delivery",
    "spry.pipe.outcome",
}
# What each span carries always; `error.type` comes on top of those that end as an error.
VOCABULARY = {
    "spry.startup": SYSTEM,
    "spry.child.start": CHILD,
    "spry.term": ENDED | {"spry.restart.wanted"},
    "spry.try_restart": TRIED,
    "spry.teardown": SYSTEM,
    "spry.wait_for_termination": ENDED,
    "spry.pipe.delivery": DELIVERED,
}
LINKS = {
    "restart_of": {"spry.startup", "spry.child.start"},
    "terminates": {"spry.child.start"},
    "redelivery_of": {"spry.pipe.delivery"},
}


class Seen(NamedTuple):
    name: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    status: str
    events: tuple[tuple[str, ...], ...]
    children: tuple[Seen, ...]


class Recorder(SpanProcessor):
    """Every span of one test, in the order in which they began."""

    def __init__(self) -> None:
        self.begun: list[ReadableSpan] = []
        self.ended: list[int] = []
        self.late: list[tuple[str, str]] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        above = span.parent
        # one in another program ends in its own time
        parent = self.find(above.span_id) if above is not None and not above.is_remote else None
        if parent is not None and is_ours(parent) and id_of(parent) in self.ended:
            self.late.append((label(parent), label(span)))
        self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(id_of(span))

    def find(self, span_id: int) -> ReadableSpan | None:
        return next((span for span in self.begun if id_of(span) == span_id), None)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.begun if span.name == name]

    def trees(self, *names: str) -> list[Seen]:
        """The traces in the order in which they began; with names, those whose root has one."""
        roots = [span for span in self.begun if span.parent is None]
        return [self._read(root) for root in roots if not names or root.name in names]

    def _read(self, span: ReadableSpan) -> Seen:
        below = [s for s in self.begun if s.parent and s.parent.span_id == id_of(span)]
        return Seen(
            span.name,
            dict(span.attributes or {}),
            tuple(self._link(link) for link in span.links),
            span.status.status_code.name.lower(),
            tuple(read_event(event.name, event.attributes or {}) for event in span.events),
            tuple(self._read(child) for child in below),
        )

    def _link(self, link: Link) -> str:
        target = self.find(link.context.span_id)
        what = (link.attributes or {}).get("spry.link")
        return f"{what} {label(target) if target else '?'}"

    def check(self) -> None:
        """The laws that hold for every span, whatever the story was."""
        orphans = [pair for pair in self.late if not both_are_terms(*pair)]
        assert not orphans, orphans
        open_still = [label(span) for span in self.begun if id_of(span) not in self.ended]
        assert not open_still, open_still
        assert len(self.ended) == len(self.begun)
        for span in filter(is_ours, self.begun):
            self._check_one(span)

    def _check_one(self, span: ReadableSpan) -> None:
        assert span.kind is SpanKind.INTERNAL
        is_error = span.status.status_code is StatusCode.ERROR
        expected = VOCABULARY[span.name] | ({"error.type"} if is_error else set())
        assert set(span.attributes or {}) == expected, label(span)
        assert bool(span.status.description) == is_error, label(span)
        for link in span.links:
            target = self.find(link.context.span_id)
            assert target is not None, label(span)
            assert target.name in LINKS[str((link.attributes or {})["spry.link"])]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def is_ours(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == "spry_py"


def label(span: ReadableSpan) -> str:
    attributes = span.attributes or {}
    side = "child" if "spry.child.path" in attributes else "system"
    path, number = attributes.get(f"spry.{side}.path"), attributes.get(f"spry.{side}.incarnation")
    return f"{span.name} {path}#{number}"


def both_are_terms(*labels: str) -> bool:
    return all(text.startswith("spry.term ") for text in labels)


def read_event(name: str, attributes: Mapping[str, Any]) -> tuple[str, ...]:
    if name != "exception":
        return (name, *(f"{key}={attributes[key]}" for key in sorted(attributes)))
    assert attributes["exception.stacktrace"]
    return (name, attributes["exception.type"], attributes["exception.message"])


class _Relay(SpanProcessor):
    """OpenTelemetry lets a process set its provider once; each test still gets its own recorder."""

    target: Recorder | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.target is not None:
            self.target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.target is not None:
            self.target.on_end(span)


_relay: list[_Relay] = []


@contextmanager
def recording() -> Iterator[Recorder]:
    """Collects the spans of the block, and holds them to the laws when it is over."""
    if not _relay:
        _relay.append(_Relay())
        provider = TracerProvider()
        provider.add_span_processor(_relay[0])
        trace.set_tracer_provider(provider)
    recorder = _relay[0].target = Recorder()
    try:
        yield recorder
    finally:
        _relay[0].target = None
    recorder.check()


def play(story: Callable[[], Any], seconds: float = 1e6) -> Any:
    """Runs a story on virtual time; one that hangs fails when `seconds` of it are over."""

    async def bounded() -> Any:
        with trio.fail_after(seconds):
            return await story()

    return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


# The spans and attributes of examples/collector.md. Paths name a child, or for startup, try_restart
# and teardown the system; `#2` after a path is its incarnation, and without one it is the first.


def split(path: str) -> tuple[str, int]:
    name, _, number = path.partition("#")
    return name, int(number or 1)


def of_system(path: str) -> dict[str, Any]:
    name, number = split(path)
    return {"spry.system.path": name, "spry.system.incarnation": number}


def of_child(path: str, system: int, kind: str, restart: str) -> dict[str, Any]:
    name, number = split(path)
    above, _, key = name.rpartition("/")
    return of_system(f"{above}#{system}") | {
        "spry.child.key": key,
        "spry.child.path": name,
        "spry.child.incarnation": number,
        "spry.child.kind": kind,
        "spry.restart.type": restart,
    }


def of_end(reason: str, burden: str, lifetime: float, raised: str | None) -> dict[str, Any]:
    return of_error(raised) | {
        "spry.termination.reason": reason,
        "spry.termination.burden": burden,
        "spry.child.lifetime": lifetime,
    }


def of_error(raised: str | None) -> dict[str, Any]:
    return {} if raised is None else {"error.type": raised.partition(":")[0]}


def exception(raised: str | None) -> tuple[tuple[str, ...], ...]:
    if raised is None:
        return ()
    name, _, text = raised.partition(": ")
    return (("exception", name, text),)


def status(failed: bool) -> str:
    return "error" if failed else "unset"


def startup(
    path: str, *below: Seen, replaces: str | None = None, failed: str | None = None
) -> Seen:
    """A run of a system; ``failed`` is the type of the error that it ended with."""
    links = () if replaces is None else (f"restart_of spry.startup {replaces}",)
    attributes = of_system(path) | of_error(failed)
    return Seen("spry.startup", attributes, links, status(failed is not None), (), below)


def start(
    path: str,
    *below: Seen,
    system: int = 1,
    kind: str = "worker",
    restart: str = "permanent",
    raised: str | None = None,
    replaces: str | None = None,
) -> Seen:
    """A start; from the second incarnation on it links to the one before."""
    name, number = split(path)
    if replaces is None and number > 1:
        replaces = f"{name}#{number - 1}"
    links = () if replaces is None else (f"restart_of spry.child.start {replaces}",)
    attributes = of_child(path, system, kind, restart) | of_error(raised)
    return Seen(
        "spry.child.start", attributes, links, status(raised is not None), exception(raised), below
    )


class End(TypedDict, total=False):
    """What a span says of an end, and of the child whose end it is."""

    reason: str
    burden: str
    lifetime: float
    system: int
    kind: str
    restart: str
    raised: str | None


def ended(
    name: str, path: str, below: tuple[Seen, ...], extra: dict[str, Any], usual: str, end: End
) -> Seen:
    """An end, with the ``usual`` burden unless it says otherwise; without one it has failed."""
    bare, number = split(path)
    reason = end.get("reason", "failed" if usual == "none" else usual)
    raised = end.get("raised")
    attributes = of_end(reason, end.get("burden", usual), end.get("lifetime", 1.0), raised) | extra
    attributes |= of_child(
        path, end.get("system", 1), end.get("kind", "worker"), end.get("restart", "permanent")
    )
    links = (f"terminates spry.child.start {bare}#{number}",)
    return Seen(name, attributes, links, status(reason == "failed"), exception(raised), below)


def term(path: str, *below: Seen, wanted: bool = True, **end: Unpack[End]) -> Seen:
    """An end by itself, a failure unless it says otherwise."""
    return ended("spry.term", path, below, {"spry.restart.wanted": wanted}, "none", end)


def wait(path: str, *below: Seen, **end: Unpack[End]) -> Seen:
    """The end of a child that was asked for it, by an abort unless it says otherwise."""
    return ended("spry.wait_for_termination", path, below, {}, "aborted", end)


def try_restart(
    path: str,
    *below: Seen,
    strategy: str = "one_for_one",
    allowed: bool = True,
    attempt: int = 1,
    delay: float = 0.0,
    failed: str | None = None,
) -> Seen:
    """An attempt; ``failed`` is the type of the error that it ended with."""
    failed = failed if allowed else "spry_py.TooManyRestarts"
    attributes = (
        of_error(failed)
        | of_system(path)
        | {
            "spry.restart.strategy": strategy,
            "spry.restart.allowed": allowed,
            "spry.restart.attempt": attempt,
            "spry.restart.delay": delay,
        }
    )
    return Seen("spry.try_restart", attributes, (), status(failed is not None), (), below)


def teardown(path: str, *below: Seen, late: bool = False) -> Seen:
    attributes = of_system(path) | of_error("timeout" if late else None)
    return Seen("spry.teardown", attributes, (), status(late), (), below)
