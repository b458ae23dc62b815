"""How a tree is, for those outside that start, stop and call the program.

`Health` gives a verdict on a running tree.
"""

from .health import Health, Verdict

__all__ = ["Health", "Verdict"]
