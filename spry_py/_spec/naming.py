"""What a root is called that has no name of its own."""

from __future__ import annotations

import sys
from pathlib import PurePath


def name_of(system: object) -> str:
    """The name of a system function; of a list, which has none, that of the program."""
    name = getattr(system, "__name__", None)
    return name if isinstance(name, str) and name and "/" not in name else program_name()


def program_name() -> str:
    """What the running program was started as, without a suffix: ``shop`` for ``python shop.py``.

    So a collector distinguishes two programs whose roots have no name of their own.
    """
    path = PurePath(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.stem == "__main__" else path.stem
    return "python" if name in ("", "-", "-c", "-m") else name
