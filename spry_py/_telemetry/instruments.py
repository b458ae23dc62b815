"""The instruments of a meter provider, which all trees that emit to it share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from .attributes import SCOPE, library_version
from .sums import Sum, Sums

if TYPE_CHECKING:
    from opentelemetry import metrics

# Upper bounds in seconds: from a checkpoint to patience, and from a crash loop to a quarter.
DURATIONS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LIFETIMES: Final = (0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0, 7_776_000.0)


class Instruments:
    """All of them; what counts is summed up on the way."""

    __slots__ = (
        "children",
        "delay",
        "escalations",
        "lifetime",
        "restarts",
        "shutdown",
        "start",
        "startup",
        "teardown",
        "terminations",
    )

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = provider.get_meter(SCOPE, library_version())
        sums = Sums(meter)

        def seconds(name: str, text: str, bounds: tuple[float, ...] = DURATIONS) -> Any:
            return meter.create_histogram(
                name, "s", text, explicit_bucket_boundaries_advisory=bounds
            )

        def counter(name: str, unit: str, text: str) -> Sum:
            return sums.of(meter.create_counter(name, unit, text))

        self.children = sums.of(
            meter.create_up_down_counter(
                "spry.child.count", "{child}", "Children that are started and have not ended"
            )
        )
        self.terminations = counter(
            "spry.child.terminations", "{termination}", "Ends of started children"
        )
        self.restarts = counter(
            "spry.child.restarts", "{restart}", "Children started again by their supervisor"
        )
        self.escalations = counter(
            "spry.system.escalations", "{escalation}", "Supervisors that gave up"
        )
        self.lifetime = seconds("spry.child.lifetime", "From started to ended", LIFETIMES)
        self.start = seconds("spry.child.start.duration", "From begun to started")
        self.shutdown = seconds("spry.child.shutdown.duration", "From asked to end to ended")
        self.startup = seconds("spry.system.startup.duration", "A run of the system function")
        self.teardown = seconds("spry.system.teardown.duration", "Stopping children in reverse")
        self.delay = seconds("spry.restart.delay", "Backoff before a restart")


_known: WeakKeyDictionary[metrics.MeterProvider, Instruments] = WeakKeyDictionary()


def instruments_of(provider: metrics.MeterProvider) -> Instruments:
    """Those of the provider, made for the first tree that emits to it."""
    known = _known.get(provider)
    if known is None:
        known = _known[provider] = Instruments(provider)
    return known
