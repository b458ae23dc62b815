"""How values and exceptions cross from one machine to another."""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import Any

from spry_py.processes import RemoteFailure
from spry_py.processes.call import packed

from .messages import Done, Started


def pickled(what: str, value: object) -> bytes:
    """A value as bytes; raises `TypeError` if it cannot be sent."""
    try:
        return pickle.dumps(value)
    except Exception as exception:
        raise TypeError(
            f"{what} {value!r:.200} cannot be pickled, and so cannot be sent to the program whose "
            "tree this is"
        ) from exception


def raised(exception: BaseException, node: str) -> Done:
    """The end by an exception."""
    # one that is no Exception has the same parts
    return Done("raised", packed(exception), node)  # type: ignore[arg-type]


def value_of(message: Started | Done) -> Any:
    """What was sent; raises what its own code raises when it is read."""
    return pickle.loads(message.value)


def failure_of(message: Done) -> Exception:
    """The exception that was raised there, of its own type, with its traceback as a note.

    What cannot be read here, and what would end this program, comes as `RemoteFailure`.
    """
    whole, kind, text, trace = pickle.loads(message.value)
    exception = _read(whole)
    if exception is None:
        exception = RemoteFailure(f"{kind}: {text}")
    with suppress(Exception):  # it may refuse attributes
        exception.add_note(f"on {message.node}:\n{trace.rstrip()}")
    return exception


def _read(whole: bytes) -> Exception | None:
    try:
        exception = pickle.loads(whole)
    except Exception:
        return None
    return exception if isinstance(exception, Exception) else None
