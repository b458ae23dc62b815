"""For extensions: what a library on top of spry_py needs beside the public face, and no program.

The extensions of spry_py itself (`spry_py.pipes`, `spry_py.processes`, `spry_py.threads` and so on)
use nothing else. The name is trio's.

An attribute ``child_kind`` of a start function names what its child stands for if that is no
worker: one of `Kind`, as in ``my_start.child_kind = "process"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from spry_py._handles.child import Handle
from spry_py._handles.context import (
    add_stack,
    carrier,
    context_of,
    incident_elsewhere,
    kept_for,
    supervisor_of,
)
from spry_py._handles.history import begin_history, sentence_of
from spry_py._incidents.model import STORY_ENDS, Attempt, Failure, Incident, Step, Story
from spry_py._incidents.prose import Tale, story_as_json
from spry_py._incidents.reading import Raised
from spry_py._incidents.timeline import picture
from spry_py._kernel.facts import Event, Guard, Subscriber
from spry_py._kernel.guard import guarded
from spry_py._kernel.here import refuse_elsewhere
from spry_py._kernel.kept import Kept
from spry_py._kernel.life import is_own
from spry_py._kernel.root import on_root
from spry_py._policy.breaker import allows
from spry_py._policy.restart import may_recover
from spry_py._program.run import open_subscribed, run_to_end
from spry_py._spec.check import (
    Block,
    check_answer,
    check_async_function,
    check_callable,
    check_choice,
    check_count,
    check_key,
    check_seconds,
    check_type,
)
from spry_py._spec.child import Supervisor
from spry_py._spec.errors import out_of_group, repr_of_fields, sole_leaf_of, summary_of
from spry_py._spec.frozen import are_same
from spry_py._spec.options import Kind, StageOptions, Start0, Start1, Start2, Start3, Start4
from spry_py._telemetry.attributes import SCOPE, error_type, library_version
from spry_py._telemetry.logs import write
from spry_py._telemetry.providers import meter_provider, traced_through, tracer_provider
from spry_py._telemetry.spans import record

__all__ = [
    "SCOPE",
    "STORY_ENDS",
    "Attempt",
    "Block",
    "Failure",
    "Incident",
    "Kept",
    "Kind",
    "Raised",
    "StageOptions",
    "Start0",
    "Start1",
    "Start2",
    "Start3",
    "Start4",
    "Step",
    "Story",
    "Subscriber",
    "Supervisor",
    "Tale",
    "add_stack",
    "allows",
    "are_same",
    "carrier",
    "check_answer",
    "check_async_function",
    "check_callable",
    "check_choice",
    "check_count",
    "check_key",
    "check_seconds",
    "check_type",
    "clock_of",
    "context_of",
    "error_type",
    "guarded",
    "hear",
    "incident_elsewhere",
    "is_own",
    "kept_for",
    "library_version",
    "log",
    "may_recover",
    "meter_provider",
    "on_root",
    "open_subscribed",
    "out_of_group",
    "picture",
    "record",
    "repr_of_fields",
    "run_to_end",
    "sentence_of",
    "sole_leaf_of",
    "story_as_json",
    "summary_of",
    "supervisor_of",
    "token_of",
    "traced_through",
    "tracer_provider",
]


class _Guarded:
    """A subscriber, of which nothing comes out that it raises."""

    def __init__(self, subscriber: Subscriber, guard: Guard) -> None:
        self._subscriber = subscriber
        self._guard = guard

    def offer(self, event: Event) -> None:
        self._guard(self._subscriber.offer, event)

    def wake(self) -> None:
        self._guard(self._subscriber.wake)


def hear(handle: Handle, subscriber: Subscriber, history: bool = False) -> Callable[[], None]:
    """Offer each event of the tree that a handle belongs to, from now on, to a subscriber.

    It is called in the midst of the tree's own work, which costs a fraction of what
    `SystemHandle.events` does: it must not wait. What it raises is dropped. ``history`` is that of
    `SystemHandle.follow`. Returns a function that takes it back. Raises `RuntimeError` outside the
    run of trio that the tree lives in.
    """
    tree = handle._tree  # pyright: ignore[reportPrivateUsage] - a friend
    refuse_elsewhere(tree.token, "hear", is_async=False)
    if history:
        begin_history(tree)
    stream, heard = tree.stream, _Guarded(subscriber, tree.guard)
    stream.join(heard)

    def undo() -> None:
        if heard in stream.subscribers:
            stream.leave(heard)

    return undo


def clock_of(handle: Handle) -> trio.abc.Clock:
    """The clock of the run that a handle's tree lives in, for every thread, and after the run."""
    return handle._tree.clock  # pyright: ignore[reportPrivateUsage] - a friend


def token_of(handle: Handle) -> trio.lowlevel.TrioToken:
    """The run of trio that a handle's tree lives in, to be called into from other threads."""
    return handle._tree.token  # pyright: ignore[reportPrivateUsage] - a friend


def log(path: str, level: int, message: str, fields: Mapping[str, object] | None = None) -> None:
    """Log something about a path of a tree that is no fact of the tree.

    From the logger that the tree's own records about ``path`` come from, with ``fields`` as extra
    attributes. Raises nothing that a handler or a filter raises, but for a `KeyboardInterrupt`.
    """
    write(path, level, message, fields or {})
