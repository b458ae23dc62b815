"""The pipes of one pipeline in one tree, which outlive every incarnation of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from spry_py import Child, Context, Scope, TerminationReport, current_context
from spry_py.lowlevel import Kept, kept_for, supervisor_of

from .hand import Rules
from .letters import Letters, post, tell_of_loss
from .pipe import Pipe
from .stage import Stage

End = TypeVar("End", trio.MemoryReceiveChannel[Any], trio.MemorySendChannel[Any])


@dataclass(frozen=True)
class PipelineSystem:
    """The system function of a pipeline: declares the workers that are not finished."""

    stages: tuple[Stage, ...]
    dead_letters: Letters | None
    upstream: trio.MemoryReceiveChannel[Any] | None
    downstream: trio.MemorySendChannel[Any] | None

    async def __call__(self, scope: Scope) -> None:
        """Start the last stage first, so that each stage stops before the one that it feeds."""
        plumbing = _plumbing_at(kept_for(scope.context), self, scope.context.path)
        for child in plumbing.begin(scope.context):
            await scope.start(child)

    @property
    def shape(self) -> tuple[object, ...]:
        """What must be the same for items to find their way; all else may change around them."""
        return tuple(
            (stage.key, type(stage), stage.workers, stage.capacity) for stage in self.stages
        )


class Plumbing:
    """The pipes of all workers of a pipeline, and what they are a part of."""

    def __init__(self, system: PipelineSystem, path: str) -> None:
        self.path = path
        self.shape: tuple[object, ...] = system.shape
        # whose functions and rules it goes by; `adopt` writes it
        self.system: PipelineSystem | None = None
        # of the present or last incarnation
        self.supervisor: Context | None = None
        # the keys of those that have come to their end, and ended normally by themselves
        self.done: set[str] = set()
        # of all workers, the first stage first; empty once all of them are done
        self.pipes: dict[str, Pipe[Any, Any]] = {}
        self.children: list[Child[Any]] = []
        self._lay(system.stages)

    def _lay(self, stages: tuple[Stage, ...]) -> None:
        """Connect the stages; both ends are left open."""
        # only the clones that the pipes have stay open
        links = [trio.open_memory_channel[Any](stage.capacity) for stage in stages[1:]]
        upstreams = [None, *(receive for _, receive in links)]
        downstreams = [*(send for send, _ in links), None]
        for stage, upstream, downstream in zip(stages, upstreams, downstreams, strict=True):
            for key in stage.keys:
                self.pipes[key] = Pipe(
                    stage.key,
                    upstream.clone() if upstream is not None else None,
                    downstream.clone() if downstream is not None else None,
                )
        for send, receive in links:
            send.close()
            receive.close()

    # Whose it is

    def serves(self, system: PipelineSystem) -> bool:
        """Whether it is of the same shape, and has not come to its end, normally by itself.

        One that failed, or was stopped, in its very last moments is not to begin anew when it is
        started again: there is nothing left to do, so it ends at once.
        """
        was_stopped = self.supervisor is not None and self.supervisor.is_settling
        return self.shape == system.shape and (bool(self.pipes) or was_stopped)

    def adopt(self, system: PipelineSystem) -> None:
        """Go by ``system`` from now on, also with what is on its way."""
        if self.system is system:
            return
        self.children = []
        for stage in system.stages:
            rules = Rules(stage.key, stage.on_crash, stage.max_deliveries, stage.transforms)
            for key, pipe in self._pipes_of(stage):
                pipe.follow(rules, system.dead_letters)
                self.children.append(self._child(key, stage))
        self._open_ends(system)
        self.system = system

    def _open_ends(self, system: PipelineSystem) -> None:
        """Connect both ends to clones of the user's channels, unless they are so already."""
        former = self.system
        if former is None or former.upstream is not system.upstream:
            for _, pipe in self._pipes_of(system.stages[0]):
                pipe.take_from(_clone(self.path, "upstream", system.upstream))
        if former is None or former.downstream is not system.downstream:
            for _, pipe in self._pipes_of(system.stages[-1]):
                pipe.hand_to(_clone(self.path, "downstream", system.downstream))

    def _pipes_of(self, stage: Stage) -> list[tuple[str, Pipe[Any, Any]]]:
        """Those that have something left to do."""
        found = [(key, self.pipes[key]) for key in stage.keys if key in self.pipes]
        return [(key, pipe) for key, pipe in found if not pipe.is_finished]

    # The workers

    def begin(self, supervisor: Context) -> list[Child[Any]]:
        """An incarnation begins: those that have something left to do, the last stage first."""
        self.supervisor = supervisor
        self.done = {key for key, pipe in self.pipes.items() if pipe.is_finished}
        self._end_if_done()
        return [child for child in reversed(self.children) if child.key not in self.done]

    def _child(self, key: str, stage: Stage) -> Child[Any]:
        options = dict(stage.options)
        hook = partial(self._note, options.pop("on_termination", None))
        return Child(
            key, self._attend, key, stage, restart="transient", on_termination=hook, **options
        )

    async def _attend(self, key: str, stage: Stage, *, task_status: trio.TaskStatus[None]) -> None:
        # started before its first step: whatever that raises is an end, and no failed start
        task_status.started()
        pipe = self.pipes.get(key)
        if pipe is not None and not pipe.is_finished:
            pipe.attend(self._stopped_after(stage))
            try:
                await stage.work(pipe)
                await pipe.finish()
            finally:
                pipe.attend(None)

    def _stopped_after(self, stage: Stage) -> Context | None:
        """The supervisor, if it stops the stage upstream first; an open end has no such stage."""
        is_first = self.system is not None and stage is self.system.stages[0]
        return None if is_first else supervisor_of(current_context())

    async def _note(self, hook: Any, report: TerminationReport) -> None:
        pipe = self.pipes.get(report.key)
        if report.failed and pipe is not None:
            pipe.note(report.exception)
        if hook is not None:
            await hook(report)
        if pipe is not None and pipe.is_finished and not report.failed:
            self.done.add(report.key)
            self._end_if_done()

    def _end_if_done(self) -> None:
        if len(self.done) == len(self.pipes):
            self.pipes.clear()
            self.children.clear()

    # Its end

    def forgotten(self, *, with_tree: bool) -> None:
        """No incarnation comes any more; what is on its way when the whole tree ends is gone."""
        if with_tree:
            self.close()
        else:
            self.give_up("has ended for good", "")

    def close(self) -> None:
        """Close the channels at the open ends, so that their other sides notice."""
        for pipe in self.pipes.values():
            pipe.close()

    def give_up(self, why: str, whose: str) -> None:
        """Send to the dead letters what is in hand and between the stages."""
        system, pipes = self.system, self.pipes
        assert system is not None
        self.pipes, self.children = {}, []
        inner = {key for stage in system.stages[1:] for key in stage.keys}
        letters = [
            letter
            for key, pipe in reversed(pipes.items())
            for letter in pipe.abandon(waiting=key in inner)
        ]
        lost = post(letters, system.dead_letters)
        tell_of_loss(self.path, why, whose, len(letters) - lost, lost)


def _plumbing_at(place: Kept, system: PipelineSystem, path: str) -> Plumbing:
    """What an earlier incarnation at this path of this tree has left, unless it came to its end."""
    former = place.thing
    if isinstance(former, Plumbing) and former.serves(system):
        former.adopt(system)
        return former
    plumbing = Plumbing(system, path)
    try:
        plumbing.adopt(system)
    except trio.ClosedResourceError:
        plumbing.close()
        raise
    place.thing = plumbing
    if isinstance(former, Plumbing):
        former.give_up("is another pipeline now", " of the former one")
    return plumbing


def _clone(path: str, field: str, channel: End | None) -> End | None:
    try:
        return channel.clone() if channel is not None else None
    except trio.ClosedResourceError as closed:
        raise trio.ClosedResourceError(
            f"the {field} of {path!r} is closed: keep it open until the pipeline has started, "
            "which works on clones of it"
        ) from closed
