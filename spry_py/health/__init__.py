"""How a tree is, for those outside that start, stop and call the program.

`Health` gives a verdict on a running tree; `serve_health` serves verdicts over HTTP, as the probes
of Kubernetes ask for them, and `notify_systemd` reports to systemd. For a whole program `run` does
both: ``run(..., health=8081)``, and by itself where systemd asks for it.
"""

from .health import Health, Verdict
from .serving import serve_health
from .systemd import notify_systemd

__all__ = ["Health", "Verdict", "notify_systemd", "serve_health"]

for _public in (Health, Verdict, notify_systemd, serve_health):
    # tracebacks name where users import it from
    _public.__module__ = __name__
