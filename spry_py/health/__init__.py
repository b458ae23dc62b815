"""How a tree is, for those outside that start, stop and call the program.

`Health` gives a verdict on a running tree; `serve_health` serves verdicts over HTTP, as the probes
of Kubernetes ask for them. ``run(..., health=8081)`` does that for a whole program.
"""

from .health import Health, Verdict
from .serving import serve_health

__all__ = ["Health", "Verdict", "serve_health"]

for _public in (Health, Verdict, serve_health):
    # tracebacks name where users import it from
    _public.__module__ = __name__
