"""Programs that export their telemetry: started with what an operator sets, and seen out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from otlp_sink import Protocol
from programs import Program, running

# An export may hold a program for two seconds at its end; one that is still there now is stuck.
MOST_SECONDS = 15.0


def variables(protocol: Protocol, endpoint: str) -> dict[str, str]:
    """What an operator sets: where the collector is, and how to speak to it."""
    spoken = "grpc" if protocol == "grpc" else "http/protobuf"
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": spoken}


@contextmanager
def exporting(
    text: str, cwd: Path, protocol: Protocol, endpoint: str, **more: str
) -> Iterator[Program]:
    """The program `text` runs in the block, told where the collector is; it never outlives it."""
    (cwd / "program.py").write_text(text, encoding="utf-8")
    with spawned(["program.py"], cwd, protocol, endpoint, **more) as program:
        yield program


def spawned(
    arguments: list[str], cwd: Path, protocol: Protocol, endpoint: str, **more: str
) -> AbstractContextManager[Program]:
    return running(arguments, cwd, 4 * MOST_SECONDS, **variables(protocol, endpoint) | more)


def leaves(program: Program) -> int:
    """Its exit status, and -9 for one that had to be killed because it did not leave."""
    watchdog = threading.Timer(MOST_SECONDS, program.process.kill)
    watchdog.start()
    try:
        return program.end()
    finally:
        watchdog.cancel()


def said(program: Program) -> list[str]:
    return [line for line in program.lines if line.startswith("> ")]
