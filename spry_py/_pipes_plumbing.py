"""The pipes of one pipeline in one tree, which outlive every incarnation of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import trio

from . import Child, Context, Scope, TerminationReport, context_of, current_context
from ._context import supervisor_of
from ._logs import write
from ._pipes_letters import DeadLetter
from ._pipes_pipe import Pipe
from ._pipes_stage import Stage

Letters = trio.MemorySendChannel[DeadLetter]


@dataclass(frozen=True)
class PipelineSystem:
    """The system function of a pipeline: declares the workers that are not finished."""

    stages: tuple[Stage, ...]
    dead_letters: Letters | None

    async def __call__(self, scope: Scope) -> None:
        """The last stage starts first, so that whoever is upstream stops before it."""
        plumbing = _plumbing_here(self, scope.context.path)
        for child in plumbing.begin(scope.context):
            await scope.start(child)


class Plumbing:
    """The pipes of all workers of a pipeline, and what they are a part of."""

    def __init__(self, system: PipelineSystem) -> None:
        self.system = system
        # of the present or last incarnation
        self.supervisor: Context | None = None
        # the keys of those that have come to their end, and ended normally by themselves
        self.done: set[str] = set()
        self.workers: list[tuple[Pipe[Any, Any], Child[Any]]] = []
        # between stages; only the clones that the pipes have stay open
        self.links = [trio.open_memory_channel[Any](stage.capacity) for stage in system.stages[1:]]
        upstreams = [None, *(receive for _, receive in self.links)]
        downstreams = [*(send for send, _ in self.links), None]
        for stage, upstream, downstream in zip(system.stages, upstreams, downstreams, strict=True):
            for key in stage.keys:
                pipe = self._pipe(stage, upstream, downstream)
                self.workers.append((pipe, self._child(key, stage, pipe)))
        for send, receive in self.links:
            send.close()
            receive.close()

    def _pipe(
        self,
        stage: Stage,
        upstream: trio.MemoryReceiveChannel[Any] | None,
        downstream: trio.MemorySendChannel[Any] | None,
    ) -> Pipe[Any, Any]:
        return Pipe(
            stage.key,
            upstream.clone() if upstream is not None else None,
            downstream.clone() if downstream is not None else None,
            on_crash=stage.on_crash,
            max_deliveries=stage.max_deliveries,
            dead_letters=self.system.dead_letters,
            transforms=stage.transforms,
        )

    def _child(self, key: str, stage: Stage, pipe: Pipe[Any, Any]) -> Child[Any]:
        options = dict(stage.options)
        hook = partial(self._note, pipe, options.pop("on_termination", None))
        return Child(
            key, self._attend, stage, pipe, restart="transient", on_termination=hook, **options
        )

    async def _attend(
        self, stage: Stage, pipe: Pipe[Any, Any], *, task_status: trio.TaskStatus[None]
    ) -> None:
        # started before its first step: whatever that raises is an end, and no failed start
        task_status.started()
        if not pipe.is_finished:
            with pipe.attended(supervisor_of(current_context())):
                await stage.work(pipe)
                await pipe.finish()

    async def _note(self, pipe: Pipe[Any, Any], hook: Any, report: TerminationReport) -> None:
        if report.failed:
            pipe.note(report.exception)
        if hook is not None:
            await hook(report)
        if pipe.is_finished and not report.failed:
            self.done.add(report.key)

    def begin(self, supervisor: Context) -> list[Child[Any]]:
        """An incarnation begins: those that have something left to do, the last stage first."""
        # a root has one incarnation, and must not be kept alive by what is kept for it
        self.supervisor = supervisor if "/" in supervisor.path else None
        self.done = {child.key for pipe, child in self.workers if pipe.is_finished}
        return [child for pipe, child in reversed(self.workers) if not pipe.is_finished]

    @property
    def is_spent(self) -> bool:
        """Whether the whole pipeline has come to its end, and ended normally by itself.

        One that failed, or was stopped, in its very last moments is not to begin anew when it is
        started again: there is nothing left to do, so it ends at once.
        """
        if self.supervisor is not None and self.supervisor.is_settling:
            return False
        return len(self.done) == len(self.workers)

    @property
    def waiting(self) -> int:
        """How many items are on their way."""
        held = sum(pipe.has_item for pipe, _ in self.workers)
        return held + sum(send.statistics().current_buffer_used for send, _ in self.links)


# Which tree, which path

_by_tree: trio.lowlevel.RunVar[WeakKeyDictionary[trio.lowlevel.Task, dict[str, Plumbing]]] = (
    trio.lowlevel.RunVar("spry_py_pipes")
)


def _plumbing_here(system: PipelineSystem, path: str) -> Plumbing:
    """What an earlier incarnation at this path of this tree has left, unless it came to its end."""
    here = _of_this_tree()
    plumbing = here.get(path)
    if plumbing is None or plumbing.system != system or plumbing.is_spent:
        if plumbing is not None and plumbing.waiting:
            _tell_lost(path, plumbing.waiting)
        here[path] = plumbing = Plumbing(system)
    return plumbing


def _of_this_tree() -> dict[str, Plumbing]:
    """By path; forgotten when the tree has ended."""
    try:
        trees = _by_tree.get()
    except LookupError:
        trees = WeakKeyDictionary()
        _by_tree.set(trees)
    return trees.setdefault(_root_task(), {})


def _root_task() -> trio.lowlevel.Task:
    """The task in which the root of this tree lives, from its beginning to its end."""
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    root: trio.lowlevel.Task | None = None
    while task is not None:
        context = context_of(task)
        if root is not None and (context is None or "/" in context.path):
            break  # another tree may stand around this one
        if context is not None and "/" not in context.path:
            root = task
        nursery = task.parent_nursery
        task = nursery.parent_task if nursery is not None else None
    assert root is not None
    return root


def _tell_lost(path: str, items: int) -> None:
    lost = f"{path} is another pipeline now: {items} items of the former one are lost"
    write(path, logging.ERROR, lost, {})
