"""An event of a tree as it is sent: when, whom it is about, and one sentence."""

from __future__ import annotations

from spry_py.events import Event, EventsLost
from spry_py.lowlevel import sentence_of

from .tree import Json, number, shown


def fact_of(event: Event, path: str) -> Json:
    """An event under the path that its child is known by here."""
    text = f"{event.count} events are missing here" if isinstance(event, EventsLost) else None
    return {
        "seq": event.seq,
        "at": number(event.at),
        "time": number(event.time),
        "path": path,
        "incident": event.incident,
        "type": type(event).__name__,
        "text": shown(text or sentence_of(event)),
    }
