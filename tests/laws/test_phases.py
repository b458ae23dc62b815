"""The tables of a child's life say something about every phase, and nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

import pytest

from spry_py import Status
from spry_py._kernel.phases import AFTER, MOVES, PHASES, Phase
from spry_py._policy.restart import WISHES, Verdict

GLOSSARY: Final = Path(__file__).parents[2] / "docs" / "glossary.md"


def test_every_phase_has_its_moves_and_is_reached_by_them() -> None:
    assert set(MOVES) == set(PHASES)
    reached = {Phase.NEW}
    while more := {phase for before in reached for phase in MOVES[before]} - reached:
        reached |= more
    assert reached == set(PHASES)


def test_a_move_that_is_refused_names_both_phases() -> None:
    assert [f"{phase}" for phase in PHASES] == [phase.name for phase in PHASES]


def test_no_phase_moves_to_itself_or_back_to_the_first() -> None:
    assert [phase for phase in PHASES if phase in MOVES[phase]] == []
    assert [phase for phase in PHASES if Phase.NEW in MOVES[phase]] == []


def test_two_incarnations_never_overlap() -> None:
    """The next one begins only from phases in which none is alive, and whose end was seen."""
    begins = {phase for phase in PHASES if Phase.STARTING in MOVES[phase]}
    assert begins == {phase for phase in PHASES if not phase.is_up}


def test_callers_see_every_status_and_no_other() -> None:
    assert {phase.word for phase in PHASES} == set(get_args(Status))


def test_the_glossary_shows_the_table() -> None:
    rows = [
        f"| `{phase.name}` | {phase.text} | `{phase.word}` | "
        f"{', '.join(after.name for after in PHASES if after in MOVES[phase])} |"
        for phase in PHASES
    ]
    assert "\n".join(rows) in GLOSSARY.read_text(encoding="utf-8")


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_final_is_over_and_what_is_over_is_not_alive(phase: Phase) -> None:
    assert phase.is_over or not phase.is_final
    assert not (phase.is_over and phase.is_alive)
    assert not (phase.is_replayed and phase.is_up)
    assert phase.refuses == "running" or not phase.is_alive


def test_every_verdict_takes_a_child_that_has_ended_somewhere() -> None:
    assert set(AFTER) == set(Verdict)
    assert set(AFTER.values()) <= MOVES[Phase.ENDED]


def test_the_wishes_are_total() -> None:
    ends = {"Normal", "Aborted", "Failed", "exit"}
    assert set(WISHES) == {(kind, end) for kind, _ in WISHES for end in ends}
    assert {kind for kind, _ in WISHES} == {"permanent", "transient", "temporary"}
