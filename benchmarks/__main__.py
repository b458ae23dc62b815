"""``python -m benchmarks [FIGURE ...]``: what spry_py costs, against bare trio in the same run.

A new figure is a module with a function ``rows(options)``, and one line in ``FIGURES``.
"""

from __future__ import annotations

import argparse
import gc
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Sequence

import trio

from . import (
    boot,
    calls,
    chain,
    crowds,
    events,
    flat,
    flood,
    guest,
    instructions,
    interrupts,
    memory,
    observer,
    peers,
    restart,
    start,
    stop,
    telemetry,
    tree,
)
from .harness import Dropping, Options, Row, count_cpu_time, table

FIGURES: dict[str, Callable[[Options], Iterator[Row]]] = {
    "start": start.rows,
    "boot": boot.rows,
    "stop": stop.rows,
    "restart": restart.rows,
    "tree": tree.rows,
    "flat": flat.rows,
    "memory": memory.rows,
    "chain": chain.rows,
    "events": events.rows,
    "calls": calls.rows,
    "telemetry": telemetry.rows,
    "interrupts": interrupts.rows,
    "flood": flood.rows,
    "guest": guest.rows,
    "observer": observer.rows,
    "crowds": crowds.rows,
}


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What spry_py costs, against bare trio in the same run.",
    )
    parser.add_argument(
        "figures",
        nargs="*",
        metavar="FIGURE",
        help=f"{', '.join(FIGURES)}; or, alone, peers: other libraries, and Erlang/OTP",
    )
    parser.add_argument("--rounds", type=positive, help="rounds of each side (default 21)")
    parser.add_argument("--children", type=positive, help="children in a round (default 1000)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, 500 children, small trees")
    parser.add_argument(
        "--cpu", action="store_true", help="count CPU time: steadier where other programs run, too"
    )
    parser.add_argument("--no-gc", action="store_true", help="with the cyclic collector off")
    parser.add_argument(
        "--logs", action="store_true", help="with log records made (and dropped), WARNING and up"
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions with valgrind instead; a FIGURE is then a part of a name",
    )
    parser.add_argument(
        "--write", action="store_true", help="write the ratios of --instructions into ratios.toml"
    )
    parsed = parser.parse_args(argv)
    if parsed.instructions or parsed.figures == ["peers"]:
        return parsed
    unknown = [name for name in parsed.figures if name not in FIGURES]
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)} (there are {', '.join(FIGURES)})")
    return parsed


def set_logging(*, on: bool) -> None:
    """Bare trio logs no crash, and a console would cost more than all that is measured here."""
    logger = logging.getLogger("spry_py")
    logger.addHandler(Dropping())
    logger.propagate = False
    if not on:
        logger.setLevel(logging.CRITICAL + 1)


def main(argv: Sequence[str] | None = None) -> None:
    parsed = arguments(argv)
    if parsed.instructions:
        instructions.main(parsed.figures, writes=parsed.write)
        return
    if parsed.figures == ["peers"]:
        peers.main()
        return
    options = Options(
        rounds=parsed.rounds or (3 if parsed.quick else 21),
        children=parsed.children or (500 if parsed.quick else 1_000),
        quick=parsed.quick,
    )
    set_logging(on=parsed.logs)
    if parsed.cpu:
        count_cpu_time()
    if parsed.no_gc:
        gc.disable()
    rows: list[Row] = []
    for name in parsed.figures or FIGURES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += FIGURES[name](options)
    print(
        f"Python {platform.python_version()}, trio {trio.__version__}, {options.rounds} rounds of "
        f"{options.children:,} children, {'CPU' if parsed.cpu else 'wall'} time, "
        f"gc {'off' if parsed.no_gc else 'on'}, "
        f"logs {'on' if parsed.logs else 'off'}\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
