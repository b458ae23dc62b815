"""User code that is asked about a child that has ended, in each place, and fails there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from spry_py import AlwaysRestart

PLACES: Final = ("on_termination", "recoverable", "own", "backoff", "breaker")
everywhere = pytest.mark.parametrize("where", PLACES)


def asking(where: str, ask: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    """The options of a child about which ``ask`` is called, and the breaker of its supervisor."""

    async def hook(report: object) -> None:
        ask()

    class Asks:
        def may_restart(self, key: str, now: float) -> Any:
            return ask()

    options: dict[str, dict[str, Any]] = {
        "on_termination": {"on_termination": hook},
        "recoverable": {"recoverable": ask},
        "own": {"breaker": Asks},
        "backoff": {"backoff": ask},
        "breaker": {},
    }
    return options[where], Asks if where == "breaker" else AlwaysRestart


def raising(error: BaseException) -> Callable[..., Any]:
    """A function that raises, whatever it is asked."""

    def ask(*_: object) -> Any:
        raise error

    return ask
