"""What a reload leaves behind if it goes wrong before it has changed anything: all as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .messages import Ended
from .phases import Phase

if TYPE_CHECKING:
    from spry_py._spec.child import Child
    from spry_py._spec.options import Breaker

    from .loop import Loop
    from .member import Member
    from .timers import Timer


class Before:
    """A supervisor's books as they were when a caller asked for a replay.

    A change is a living child stopped, or a child started. A start that failed and was cleaned up
    is none: the child that was tried is what it was before.
    """

    __slots__ = (
        "_added",
        "_declared",
        "_gone",
        "_kept",
        "_loop",
        "_owed",
        "_waits",
        "has_changed",
    )

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        members = loop.members
        self._declared = members.declared.copy()
        self._added = members.added.copy()
        self._gone = members.gone.copy()
        # what those were that have been tried
        self._kept: dict[Member, tuple[Child[Any], Phase, Breaker | None, int]] = {}
        # when they would have been restarted
        self._waits: dict[Member, Timer] = {}
        # the starts that a restart had begun and the replay has waited for in vain
        self._owed: list[Member] = []
        self.has_changed = False

    def keep(self, member: Member) -> None:
        """Remember a child that is down, before it is tried."""
        if member not in self._kept:
            past = member.past
            self._kept[member] = member.child, member.phase, past.breaker, past.in_a_row
            if member in self._loop.waits:
                self._waits[member] = self._loop.waits.pop(member)

    def keeps(self, member: Member) -> bool:
        """Whether it is known what to do with this one if nothing comes of the replay."""
        return member in self._kept

    def owe(self, member: Member) -> None:
        """It was under way before, and has failed: the loop is to decide about that after all."""
        self._owed.append(member)

    def let_go(self) -> None:
        """What was tried has been started, or is going to be tried again: it waits no longer."""
        for timer in self._waits.values():
            timer.cancel()

    def put_back(self) -> None:
        """Nothing was changed, and nothing comes of the replay."""
        assert not self.has_changed, "what has been done cannot be undone"
        members = self._loop.members
        known = set(members)  # some may have been taken away by calls meanwhile
        members.declared = {key: one for key, one in self._declared.items() if one in known}
        members.added = {key: one for key, one in self._added.items() if one in known}
        before = self._gone | self._declared.keys() | self._added.keys()
        members.gone &= before
        for member, kept in self._kept.items():
            past = member.remember()
            member.child, phase, past.breaker, past.in_a_row = kept
            member.put_back(phase)
        # what has become due meanwhile lies in the mailbox
        self._loop.waits.update(self._waits)
        for member in self._owed:
            member.put_back(Phase.ENDED)
            self._loop.post(Ended(member))
