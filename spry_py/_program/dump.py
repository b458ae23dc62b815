"""Where everything stands, as text, out of a signal handler: with a blocked loop, too.

The handler may have interrupted anything in this thread: it takes no lock, begins no thread and
waits for no one, but for a moment in which the stream may take what there is.
"""

from __future__ import annotations

import os
import select
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from spry_py._handles.snapshot import info_of, members_below
from spry_py._kernel.member import Member
from spry_py._kernel.root import living_roots
from spry_py._kernel.shutdown import stack_of
from spry_py._kernel.tree import Tree

WITHIN: Final = 2.0
# so much a pipe takes at once when it is ready to take anything
_AT_ONCE: Final = 512


def print_trees(frame: FrameType | None) -> None:
    """Write all living trees to stderr, each child with its stack; and where this thread is."""
    lines = [f"the trees of process {os.getpid()}:\n"]
    for root in living_roots():
        lines.extend(_lines_of(root))
    lines.append("the event loop is at\n")
    lines.extend(traceback.format_stack(frame))
    _write(sys.stderr, "".join(lines))


def _lines_of(root: Member) -> Iterator[str]:
    pending: list[tuple[int, Member]] = [(0, root)]
    while pending:
        depth, member = pending.pop()
        yield from _lines_about(root.loop.tree, depth, member)
        pending.extend((depth + 1, below) for below in reversed(members_below(member)))


def _lines_about(tree: Tree, depth: int, member: Member) -> Iterator[str]:
    info, indent = info_of(member), "  " * depth
    is_supervisor = info.kind == "supervisor"
    restarts = f", restarts: {info.restarts}" if info.restarts else ""
    yield f"{indent}{info.key}{'/' if is_supervisor else ''}  [{info.status}{restarts}]\n"
    incarnation = member.incarnation
    # that a supervisor waits for its children is no news
    if is_supervisor and info.status != "starting":
        return
    if incarnation is not None and incarnation.task is not None and not incarnation.ended:
        stack = tree.guard(stack_of, incarnation, False) or ""
        yield from (f"{indent}  {line}\n" for line in stack.splitlines())


def _write(stream: Any, text: str) -> None:
    try:
        file = stream.fileno()
    except (AttributeError, OSError, ValueError):
        stream.write(text)
        return
    data, until = text.encode(errors="backslashreplace"), time.monotonic() + WITHIN
    while data and _is_ready(file, until - time.monotonic()):
        data = data[os.write(file, data[:_AT_ONCE]) :]


def _is_ready(file: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return bool(poll.poll(max(0.0, seconds) * 1000))
