"""The life of one incarnation: the task that enters the child's cancel scope and runs its code."""

from __future__ import annotations

import math
import os
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import trio
from trio.lowlevel import current_task, disable_ki_protection, enable_ki_protection

from spry_py._spec.check import check_awaitable
from spry_py._spec.child import Child, Supervisor
from spry_py._spec.errors import (
    RunTimeout,
    StartTimeout,
    Unresponsive,
    add_context,
    is_exit,
    leads_to,
    leaves_of,
    place_of,
    set_place,
    sole_leaf_of,
)
from spry_py._spec.termination import (
    ABORTED,
    Aborted,
    Failed,
    Normal,
    Reason,
    TerminationReport,
)

from .context import deciding, enter_context

if TYPE_CHECKING:
    from .incarnation import Incarnation, Limits
    from .member import Member

HOOK_SECONDS: Final = 5.0
_PACKAGE: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Hook:
    """An ``on_termination`` under way, in the task of the child that has ended."""

    __slots__ = ("path", "scope", "task")

    def __init__(self, path: str) -> None:
        self.path = path
        self.scope = trio.CancelScope(deadline=trio.current_time() + HOOK_SECONDS)
        self.task = current_task()


class _Living(Protocol):
    """A supervisor of the kernel, as far as it is run here."""

    def live_as_child(self, incarnation: Incarnation, /) -> Awaitable[object]: ...


class LateStart(RuntimeError):
    """``started()`` after the start was cancelled; no failure if the supervisor did that."""


@enable_ki_protection
def in_own_task(first_step: Awaitable[Incarnation | None]) -> Coroutine[Any, Any, None]:
    """`live`, for a task of its own: it stands in the first step already.

    There Ctrl-C would end it before its end could be reported; later it counts as the child's.
    """
    life = live(None, first_step)
    life.send(None)
    return life


@enable_ki_protection
@types.coroutine
def begun(incarnation: Incarnation) -> Generator[None, None, Incarnation]:
    """The first step of a task made for an incarnation; that of a successor is `Loop.succeed`."""
    yield
    return incarnation


async def live(
    incarnation: Incarnation | None, first_step: Awaitable[Incarnation | None] | None = None
) -> None:
    """Run one incarnation to its end and report that; never raises.

    What user code does is looked at when the child's own cancel scope has been left, by `_leave`:
    before, `Cancelled` would look like a failure. Ctrl-C may interrupt this frame as it may
    interrupt the user's code that it awaits, and counts as raised there; all that decides happens
    in `_finish`.
    """
    if first_step is not None:
        incarnation = await first_step
        first_step = None
    if incarnation is None:
        return
    ended: list[Normal | BaseException]
    try:
        ended = [Normal(await _begin(incarnation))]
    except BaseException as exception:
        ended = [exception]
    hooked = _finish(incarnation, ended)
    if hooked is not None:
        await _run_hook(hooked)


def _begin(incarnation: Incarnation) -> Awaitable[object]:
    """Call the start function in the child's scope, or let a supervisor be run by its loop."""
    child = _enter(incarnation)
    start = child.start
    if not child.takes_status:
        incarnation.steps = _call(incarnation, child)
        return _until_first_checkpoint(incarnation.steps, incarnation)
    if isinstance(start, Supervisor):
        return cast("_Living", start).live_as_child(incarnation)
    awaitable: Awaitable[object] = start(*child.args, task_status=incarnation)
    if awaitable.__class__ is not types.CoroutineType:
        _check_awaitable(incarnation, start, awaitable)
    return awaitable


@enable_ki_protection
def _enter(incarnation: Incarnation) -> Child[Any]:
    """From here on this is the child's task; it is left by `_leave`.

    By hand: `with` would keep a method of the scope for each child that runs.
    """
    member = incarnation.member
    assert member is not None
    incarnation.scope.__enter__()
    incarnation.task = current_task()
    enter_context(incarnation)
    return member.child


def _leave(incarnation: Incarnation, raised: BaseException | None) -> BaseException | None:
    """Leave the child's scope; returns what is no cancellation by that."""
    if incarnation.task is None:
        return raised  # Ctrl-C came before the scope was entered
    is_group = issubclass(type(raised), BaseExceptionGroup)
    try:
        if raised is None or (is_group and not _holds_cancelled(raised)):
            # trio would hand on a copy of the group
            incarnation.scope.__exit__(None, None, None)
        elif incarnation.scope.__exit__(type(raised), raised, None):
            raised = None
    except BaseException as exception:
        raised = exception
    return raised


@disable_ki_protection
async def _call(incarnation: Incarnation, child: Child[Any]) -> object:
    """Below what drives it the user's code is open to Ctrl-C again."""
    start: Any = child.start
    awaitable: Awaitable[object] = start(*child.args)
    if awaitable.__class__ is not types.CoroutineType:
        _check_awaitable(incarnation, start, awaitable)
    return await awaitable


def _check_awaitable(incarnation: Incarnation, start: object, awaitable: object) -> None:
    check_awaitable(f"the start function of child {incarnation.path!r}", start, awaitable)


@enable_ki_protection
def _finish(incarnation: Incarnation, ended: list[Normal | BaseException]) -> Member | None:
    """Report how it ended. Returns the member if its ``on_termination`` is to run now.

    It takes what is the last in ``ended`` out of there: no frame may hold an exception while what
    follows its end is done. Perhaps the next child is cancelled there, and its `trio.Cancelled`
    holds the frames below: those of an ordered stop would be kept to its end, 4 kB a child.
    """
    member = incarnation.member
    assert member is not None
    last = ended.pop()
    result, raised = (last, None) if isinstance(last, Normal) else (ABORTED, last)
    raised = _leave(incarnation, raised)
    failure = failure_of(raised) if raised is not None else None
    if raised is not None and failure is None and incarnation.burden != "aborted":
        incarnation.unasked()
    reason = _classify(incarnation, member, result, failure)
    del last, result, raised, failure
    wants_hook = member.close(incarnation, reason)
    return member if wants_hook else None


# Ctrl-C between two steps of the child would leave it behind half-way
@enable_ki_protection
@types.coroutine
def _until_first_checkpoint(
    steps: Coroutine[Any, Any, object], incarnation: Incarnation
) -> Generator[Any, Any, object]:
    """Await, and note the first time the child gives control back to trio: it is started then."""
    try:
        try:
            trap = steps.send(None)
        except StopIteration as stop:
            _note_started(incarnation)
            return stop.value
        _note_started(incarnation)
        while True:
            try:
                try:
                    sent = yield trap
                except BaseException as exception:
                    trap = steps.throw(exception)
                else:
                    trap = steps.send(sent)
            except StopIteration as stop:
                return stop.value
    finally:
        # it may bear the exception that goes out, whose traceback holds this frame
        sent = None
        # left half-way it would end whenever it is collected, outside of trio
        steps.close()


def _note_started(incarnation: Incarnation) -> None:
    if not incarnation.is_cut:
        incarnation.started()


def without_cancelled(exception: BaseException) -> BaseException | None:
    """The exception without trio's cancellations; groups are copied only if they hold one."""
    if type(exception) is trio.Cancelled:  # final; isinstance would go through its metaclass
        return None
    if isinstance(exception, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exception)
        return _rest_of(group) if _holds_cancelled(group) else group
    return exception


def _rest_of(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    try:
        return group.split(trio.Cancelled)[1]
    except Exception:  # a class of groups that makes no copies of itself
        rest = [leaf for leaf in leaves_of(group) if type(leaf) is not trio.Cancelled]
        return BaseExceptionGroup("what was raised beside a cancellation", rest) if rest else None


def _holds_cancelled(group: BaseException) -> bool:
    return any(type(leaf) is trio.Cancelled for leaf in leaves_of(group))


def failure_of(raised: BaseException) -> BaseException | None:
    """What went wrong in code that is over, from what it raised: ``None`` if it was cancelled.

    To be asked in the same task, outside the scopes that were made for that code, which keep their
    own cancellations. One that no scope there has asked for is a failure: `trio.Cancelled` may be
    kept, and raised again where it means nothing.
    """
    if type(raised) is not trio.Cancelled and not isinstance(raised, BaseExceptionGroup):
        return raised
    failure = without_cancelled(cast("BaseException", raised))
    if failure is None and trio.current_effective_deadline() > -math.inf:
        failure = RuntimeError(
            "a trio.Cancelled was raised that no code has asked for: it belongs to another cancel "
            "scope (it was kept, perhaps, and raised again here)"
        )
        failure.__cause__ = raised
    return failure


def _classify(
    incarnation: Incarnation,
    member: Member,
    result: Normal | Aborted,
    failure: BaseException | None,
) -> Reason:
    """Why it ended: cancellation first, then time limits, then what it raised or returned."""
    if failure is not None:
        drop_own_frames(failure)
        if is_exit(failure):
            member.loop.tree.exit(failure, member.loop)
            return Failed(failure)
    cause = incarnation.note_limit() if incarnation.limits is not None else None
    if cause is not None:
        return Failed(_told_of_both(cause, failure))
    if failure is not None:
        is_late = incarnation.burden == "aborted" and isinstance(failure, LateStart)
        return ABORTED if is_late else Failed(failure)
    if result is ABORTED or (incarnation.inner is not None and incarnation.scope.cancel_called):
        return ABORTED  # what the loop of a cancelled supervisor still managed to do is no matter
    if incarnation.started_at is None and incarnation.burden == "none":
        return Failed(
            RuntimeError(
                f"the start function of child {member.path!r} returned before it called "
                "task_status.started()"
            )
        )
    return result


def _told_of_both(cause: Exception, failure: BaseException | None) -> BaseException:
    """One exception that leads to the other: ``cause`` first, unless ``failure`` comes of it."""
    if failure is None or sole_leaf_of(failure) is cause:
        return cause
    if leads_to(failure, cause):
        return failure
    add_context(cause, failure)
    return cause


def limit_passed(incarnation: Incarnation, limits: Limits) -> Exception | None:
    """The time limit whose deadline has cancelled the child, if one has."""
    scope, member = incarnation.scope, incarnation.member
    if member is None or not scope.cancel_called or scope.deadline > trio.current_time():
        return None
    path, child = member.path, member.child
    if incarnation.started_at is None:
        return StartTimeout(f"child {path!r} was not started within {child.start_timeout:g} s")
    if limits.beat_by <= limits.run_until:
        return Unresponsive(f"child {path!r} sent no heartbeat for {child.heartbeat:g} s")
    return RunTimeout(f"child {path!r} ran longer than {child.run_timeout:g} s")


def is_own(code: types.CodeType) -> bool:
    """Whether this is code of ours, which is of no use in a user's traceback."""
    return code.co_filename.startswith(_PACKAGE)


def drop_own_frames(exception: BaseException) -> None:
    """Let the traceback begin with the user's code.

    Our frames are of no use to a reader, and they hold the tree: kept by a report, they would keep
    every ended child alive.
    """
    traceback = place_of(exception)
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        traceback = traceback.tb_next
    set_place(exception, traceback)


@enable_ki_protection
async def _run_hook(member: Member) -> None:
    """Await ``on_termination`` in the task of the ended child: no other child waits for it."""
    hook = member.child.on_termination
    report = member.last_report
    assert report is not None
    assert hook is not None
    error: Exception | None = None
    deciding.set(member.loop)
    running = Hook(report.path)
    member.loop.on_hook(member, running)
    try:
        with running.scope:
            await _call_hook(hook, report)
    except BaseException as exception:
        failure = failure_of(exception)
        if failure is not None:
            drop_own_frames(failure)
            if is_exit(failure):
                member.loop.tree.exit(failure, member.loop)
            else:
                assert isinstance(failure, Exception)
                error = failure
    member.loop.on_hook_done(member, error)


@disable_ki_protection
async def _call_hook(
    hook: Callable[[TerminationReport], Awaitable[object]], report: TerminationReport
) -> None:
    awaitable = hook(report)
    if awaitable.__class__ is not types.CoroutineType:
        check_awaitable(f"on_termination of child {report.path!r}", hook, awaitable)
    await awaitable
