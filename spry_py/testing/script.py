"""`Script`: an actor, whose every move in every incarnation is written down beforehand."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, cast

import trio

from spry_py import Context, cancel_on_settle, current_context
from spry_py.lowlevel import check_seconds, sole_leaf_of

Step: TypeAlias = str | float | BaseException | type[BaseException] | Callable[[], object]
"""What an actor does: a word of `Script`, seconds, an exception, or a function to call."""

STUCK_SECONDS: Final = 10.0
_OWNER: Final = "Script"


class Deed(NamedTuple):
    """Something that an actor did, and when, in seconds on trio's clock."""

    at: float
    what: str


class Script:
    """A start function for a `Child` that does what is written, a list for each incarnation::

        db = Script(["start", 1.5, OSError("gone")], ["start", "wait"])
        Child("db", db)

    The first run plays the first list, the second run the second one, and so on; when there are no
    more, the last one is played again. A run is over when its list is, and returns what its last
    step has returned. The steps:

    - ``"start"``: it is started, with the value ``"key#run"``; without it, the start fails.
    - a number: it sleeps for so many seconds.
    - an exception, or the class of one: it raises that.
    - ``"wait"``: it waits until it is asked to finish, and goes on: what follows is its clean-up.
    - ``"stay"``: it goes on until it is cancelled: it has never said that it listens.
    - ``"deaf"``: it has said that it listens, and does not finish when it is asked to.
    - ``"stuck"``: it goes on for 10 seconds after it was cancelled, and is reported for that.
    - a function, sync or async, which is called without arguments.

    One that waits, stays or is deaf goes on when the test lets it (`go_on`): so it crashes, or is
    done, by itself and at the moment that the test chooses.

    ``cleanup`` are the seconds that each run takes to end, in whatever way: they pass after its
    last step, or its exception, and no cancellation cuts them short.

    ``ran`` is what it did and when, of all runs: the steps, each as it was begun (``"start #2"`` in
    the second run, ``"start(a, b)"`` if it was given values), and how it ended: ``"returned"``,
    ``"aborted"`` or ``"raised OSError"``.

    One script is one actor: a run that begins while another one is under way fails with
    `RuntimeError`, and ``ran`` has it as ``"overlap of db"``. Raises `TypeError` or `ValueError`
    for bad steps.
    """

    def __init__(self, *runs: Sequence[Step], cleanup: float = 0.0) -> None:
        if not runs:
            raise TypeError(f"{_OWNER}: the list of steps of the first incarnation is missing")
        self._runs = tuple(tuple(_checked(steps)) for steps in runs)
        check_seconds(_OWNER, "cleanup", cleanup)
        self._cleanup = cleanup
        self.ran: list[Deed] = []
        # how many runs have begun; and who plays it now
        self._count = 0
        self._player = ""
        # what the run waits for that is at "wait", "stay" or "deaf"
        self._pause: _Pause | None = None

    @property
    def runs(self) -> int:
        """How many runs have begun."""
        return self._count

    @property
    def is_running(self) -> bool:
        """Whether a run is under way; its clean-up counts."""
        return bool(self._player)

    async def __call__(
        self, *given: object, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> Any:
        context = current_context()
        if self._player:
            self.note(f"overlap of {context.key}")
            raise RuntimeError(
                f"{context.path!r} cannot play the script that {self._player!r} is playing: "
                "write one Script for each child"
            )
        self._player = context.path
        self._count += 1
        steps = self._runs[min(self._count, len(self._runs)) - 1]
        try:
            return await self._play(_Run(self, self._count, context, given, task_status), steps)
        finally:
            self._player = ""

    async def _play(self, run: _Run, steps: Sequence[Step]) -> Any:
        value = None
        try:
            try:
                for step in steps:
                    value = await run.do(step)
            finally:
                await self._clean_up()
        except BaseException as error:
            is_abort = isinstance(sole_leaf_of(error), trio.Cancelled)
            self.note("aborted" if is_abort else f"raised {type(error).__name__}")
            raise
        self.note("returned")
        return value

    async def _clean_up(self) -> None:
        if self._cleanup:
            self.note(f"clean up {self._cleanup:g}")
            with trio.CancelScope(shield=True):
                await trio.sleep(self._cleanup)

    def go_on(self, step: Step | None = None) -> None:
        """Let the run that waits, stays or is deaf go on, and do ``step`` first if given::

            db.go_on(OSError("gone"))    # it crashes, and no one has cancelled it, unlike `crash`
            importer.go_on()             # it is done, and returns

        Returns at once. Raises `RuntimeError` if it is at none of them, and what `Script` raises
        for a bad step.
        """
        if step is not None:
            _check_step(step)
        if self._pause is None or self._pause.over.is_set():
            raise RuntimeError(
                f'{self!r} is not at "wait", "stay" or "deaf": '
                "there is nothing that it could go on from"
            )
        self._pause.step = step
        self._pause.over.set()

    async def pause(self, *, listens: bool) -> Step | None:
        """Wait until the test lets it go on, or it is asked to finish; return what to do then."""
        self._pause = pause = _Pause()
        try:
            with cancel_on_settle() if listens else nullcontext():
                await pause.over.wait()
        finally:
            self._pause = None
        return pause.step

    def note(self, what: str) -> None:
        """Write down what has been done now."""
        self.ran.append(Deed(trio.current_time(), what))

    def __repr__(self) -> str:
        cleanup = [f"cleanup={self._cleanup:g}"] if self._cleanup else []
        return f"{_OWNER}({', '.join([*(repr(list(steps)) for steps in self._runs), *cleanup])})"


# One run


class _Pause:
    """A step that waits; both are written by `Script.go_on`."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.step: Step | None = None


class _Run(NamedTuple):
    script: Script
    number: int
    context: Context
    given: tuple[object, ...]
    status: trio.TaskStatus[str]

    async def do(self, step: Step) -> object:
        if isinstance(step, str):
            return await _WORDS[step](self)
        if isinstance(step, int | float):
            self.script.note(f"sleep {step:g}")
            await trio.sleep(step)
        elif isinstance(step, BaseException):
            # it may be raised more than once: without the frames of the last time
            raise BaseException.with_traceback(step, None)
        elif isinstance(step, type) and issubclass(step, BaseException):
            raise step
        else:
            return await self.call(step)  # pyright: ignore[reportUnknownArgumentType]
        return None

    async def call(self, function: Callable[[], object]) -> object:
        self.script.note(_name_of(function))
        result = function()
        return await cast("Awaitable[object]", result) if isinstance(result, Awaitable) else result

    async def start(self) -> None:
        values = f"({', '.join(map(str, self.given))})" if self.given else ""
        number = f" #{self.number}" if self.number > 1 else ""
        self.script.note(f"start{values}{number}")
        self.status.started(f"{self.context.key}#{self.number}")

    async def wait(self) -> object:
        self.script.note("wait")
        return await self.paused(listens=True)

    async def stay(self) -> object:
        self.script.note("stay")
        return await self.paused(listens=False)

    async def deaf(self) -> object:
        self.script.note("deaf")
        with cancel_on_settle():
            # the promise to listen, and nothing that keeps it
            pass
        return await self.paused(listens=False)

    async def paused(self, *, listens: bool) -> object:
        step = await self.script.pause(listens=listens)
        return None if step is None else await self.do(step)

    async def stuck(self) -> None:
        self.script.note("stuck")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(STUCK_SECONDS)


_WORDS: Final = {
    "start": _Run.start,
    "wait": _Run.wait,
    "stay": _Run.stay,
    "deaf": _Run.deaf,
    "stuck": _Run.stuck,
}
_LAST_WORDS: Final = ("stay", "deaf", "stuck")


# Refusals


def _checked(steps: object) -> Sequence[Step]:
    if not isinstance(steps, list | tuple):
        raise TypeError(
            f"{_OWNER}: each argument is the list of steps of one incarnation, not {steps!r}; "
            'write Script(["start", "wait"])'
        )
    given = cast("Sequence[Step]", steps)
    for step in given:
        _check_step(step)
    if given.count("start") > 1:
        raise ValueError(f'{_OWNER}: "start" stands twice in {steps!r}; a child starts once')
    for step in given[:-1]:
        if _is_last(step):
            raise ValueError(f"{_OWNER}: in {steps!r} nothing behind {step!r} is ever reached")
    return given


def _check_step(step: object) -> None:
    if isinstance(step, str):
        if step not in _WORDS:
            allowed = ", ".join(f'"{word}"' for word in _WORDS)
            raise ValueError(f"{_OWNER}: a word must be one of {allowed}, not {step!r}")
    elif isinstance(step, int | float):
        check_seconds(_OWNER, "a step", step)
    elif _is_class(step):
        _check_class(cast("type[BaseException]", step))
    elif not isinstance(step, BaseException) and not callable(step):
        _refuse(step)


def _check_class(error: type[BaseException]) -> None:
    try:
        error()
    except Exception as why:
        raise TypeError(
            f"{_OWNER}: {error.__name__} cannot be made without arguments; write an instance of it"
        ) from why


def _refuse(step: object) -> NoReturn:
    if inspect.iscoroutine(step):
        step.close()
        raise TypeError(
            f"{_OWNER}: a step must not be the coroutine object {step!r}, which runs once; "
            "write the async function, without calling it"
        )
    raise TypeError(
        f"{_OWNER}: a step must be a word, a number of seconds, an exception or a function "
        f"without arguments, not {step!r}"
    )


def _is_last(step: object) -> bool:
    if isinstance(step, str):
        return step in _LAST_WORDS
    return isinstance(step, BaseException) or _is_class(step)


def _is_class(step: object) -> bool:
    return isinstance(step, type) and issubclass(step, BaseException)


def _name_of(function: object) -> str:
    return getattr(function, "__name__", None) or type(function).__name__
