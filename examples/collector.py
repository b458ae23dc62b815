"""A collector for this machine, as a tree of its own: spry-py run examples.collector:collector

It is rotel (pip install rotel), which prints all that arrives on localhost:4318 (HTTP) and :4317
(gRPC) and passes it on as its variables name, for example with ROTEL_EXPORTER=otlp and
ROTEL_OTLP_EXPORTER_ENDPOINT=https://... ; without them, nowhere. See examples/collector.md.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import trio

from spry_py import Child, Scope

SIGNALS = ("traces", "metrics", "logs")


def command() -> list[str]:
    """How to run rotel in the foreground."""
    package = find_spec("rotel")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the collector is a package more: pip install rotel")
    agent = Path(package.origin).with_name("rotel-agent")
    shown = [f"--debug-log={signal}" for signal in SIGNALS]
    exporter = [] if "ROTEL_EXPORTER" in os.environ else ["--exporter=blackhole"]
    detail = ["--debug-log-verbosity=detailed"]
    return [str(agent), "start", *shown, *detail, *exporter]


async def collector(scope: Scope) -> None:
    await scope.start(Child("rotel", trio.run_process, command()))
