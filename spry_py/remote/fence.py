"""The fencing number of the incarnation whose code this is."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

# set around each tree on the other side
FENCE: Final[ContextVar[int]] = ContextVar("spry_py_remote_fence")


def fencing_number() -> int:
    """The number of this incarnation, larger than those of all earlier ones of this child.

    To be passed along with what a remote child writes: a store that refuses a number smaller than
    the largest it has seen takes nothing from a machine that was paused and goes on after its lease
    is over. After Martin Kleppmann's "How to do distributed locking". It is taken from the clock of
    the machine of the tree, which must not be set back between two runs of the program.

    Raises `RuntimeError` outside a remote child.
    """
    try:
        return FENCE.get()
    except LookupError:
        raise RuntimeError(
            "fencing_number() was called outside a remote child: only what remote(engine, ...) "
            "runs elsewhere has such a number"
        ) from None
