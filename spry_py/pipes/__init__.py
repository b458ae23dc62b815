"""Lossless hand-over between supervised workers: `Pipe`, and `pipeline` for a whole chain.

A `Pipe` outlives the incarnations of its worker, so that the item which a worker had in hand when
it failed is not lost::

    async def lines(pipe: Pipe[Never, str]) -> None:      # the source: puts
        async with await trio.open_file("access.log") as file:
            async for line in file:
                await pipe.put(line)

    def parse(line: str) -> Hit | Drop:                   # a function of one item
        return Hit(*line.split()) if line.strip() else DROP

    async def store(pipe: Pipe[Hit, Never]) -> None:      # a worker: takes the pipe itself
        async with connect() as db:
            async for hit in pipe:
                await db.add(hit)

    ingest = pipeline(
        Worker("lines", lines),
        Stage("parse", parse, workers=4),
        Worker("store", store),
        name="ingest",
    )

After the pipes of the Rust crate sisyphus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from spry_py import Breaker, RateLimited, ReusedKey, SystemSupervisor

from .hand import OnCrash
from .letters import DeadLetter, DownstreamClosed
from .pipe import Pipe
from .plumbing import PipelineSystem
from .stage import DROP, Drop, Stage, Worker

__all__ = [
    "DROP",
    "DeadLetter",
    "DownstreamClosed",
    "Drop",
    "OnCrash",
    "Pipe",
    "Stage",
    "Worker",
    "pipeline",
]


def pipeline(
    *stages: Stage,
    name: str | None = None,
    breaker: Callable[[], Breaker] = RateLimited(),  # noqa: B008 - frozen
    dead_letters: trio.MemorySendChannel[DeadLetter] | None = None,
    upstream: trio.MemoryReceiveChannel[Any] | None = None,
    downstream: trio.MemorySendChannel[Any] | None = None,
) -> SystemSupervisor:
    """A supervisor of the workers of these stages, each handing what it passes on to the next.

    The first stage is the source and must be a `Worker`, unless there is an ``upstream``. The
    workers are restarted alone. When the source has returned, or upstream has ended, each stage
    ends after what it still had in hand, and the whole pipeline ends `Normal` with the last; so as
    a child it is best declared ``restart="transient"``. The last stage starts first. Stopped in
    order, the source stops first and each stage then works off what waits in front of it, as far as
    its ``shutdown`` seconds allow.

    ``upstream`` and ``downstream`` connect it with anything: what the first stage takes items from,
    and what the last one passes its results on to. Items are held from the moment they are taken;
    a stop takes no more of them. The pipeline works on clones of both, made when it starts, and
    closes its own at its end.

    Items in hand and between stages outlive every restart in the tree: of a worker, of the whole
    pipeline, and of whatever it is a part of, as long as its key is known. They belong to this path
    of this tree: the same value at two places, or opened twice, shares nothing, and they are gone
    when the tree has ended. A pipeline that has come to its end begins anew when it is restarted,
    and a temporary one whenever it is started.

    It may be made anew each time its system runs, with started values in its stages: it is the same
    pipeline if stage by stage key, class, ``workers`` and ``capacity`` are the same, and goes on
    with what it held, by the functions and rules of the new one.

    What is on its way when there is another pipeline in its place, or its key is forgotten, goes
    to ``dead_letters`` without waiting; what does not fit is lost, and logged by number.

    An item that is given up becomes a `DeadLetter`: it is logged, and put into ``dead_letters`` if
    there is such a channel. When that is full, the stage waits as it does for a full downstream;
    when it is closed, the letter is only logged. Each failed delivery is a restart, so with the
    defaults of ``breaker`` and of ``max_deliveries`` the pipeline survives one such item in any ten
    seconds.

    Raises `TypeError`, `ValueError`, and `ReusedKey` for a key used twice.
    """
    _check(stages, upstream)
    _check_channel("dead_letters", dead_letters, trio.MemorySendChannel)
    _check_channel("upstream", upstream, trio.MemoryReceiveChannel)
    _check_channel("downstream", downstream, trio.MemorySendChannel)
    system = PipelineSystem(stages, dead_letters, upstream, downstream)
    return SystemSupervisor(
        system,
        name="pipeline" if name is None else name,
        strategy="one_for_one",
        breaker=breaker,
        auto_shutdown="when_empty",
    )


def _check(stages: tuple[object, ...], upstream: object) -> None:
    if not stages:
        raise ValueError("pipeline: stages must not be empty")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise TypeError(f"pipeline: stages must be Stage or Worker objects, not {stage!r}")
    if upstream is None and not isinstance(stages[0], Worker):
        raise TypeError(
            f"pipeline: the first stage must be a Worker, which puts items into its pipe, not "
            f"{stages[0]!r}, which would have none to take; or give it an upstream"
        )
    _check_keys(stages)


def _check_channel(field: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"pipeline: {field} must be a trio.{kind.__name__} or None, not {value!r}")


def _check_keys(stages: tuple[Any, ...]) -> None:
    seen: set[str] = set()
    for stage in stages:
        for key in stage.keys:
            if key in seen:
                raise ReusedKey(key, key)
            seen.add(key)


for _public in (DeadLetter, DownstreamClosed, Drop, Pipe, Stage, Worker):
    # tracebacks and spans name where users import it from
    _public.__module__ = __name__
del _public
