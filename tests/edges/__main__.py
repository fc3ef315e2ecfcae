"""Request smuggling: pairs of odd requests, through each edge to the proxy and without one (`make edges`)."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.versions import BenchError, end_on_signals
from tests.edges.cases import Neighbours, behind_edge, direct
from tests.edges.odd import PAIRS
from tests.edges.route import DIRECT, ROUTES, route

SHOWN = 20
"""Failures of one route that are printed."""


async def run(name: str, pairs: list[tuple[str, str]]) -> int:
    """Send every pair that way, and print what came of it; how many of them failed."""
    began, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="edges-") as home:
        async with route(name, Path(home)) as way:
            neighbours = Neighbours(way.port)
            for number, (first, second) in enumerate(pairs):
                if name == DIRECT:
                    faults = await direct(way, str(number), first, second)
                else:
                    faults = await behind_edge(way, neighbours, str(number), first, second)
                failed += bool(faults)
                if faults and failed <= SHOWN:
                    print(f"{name}: {first} / {second}", *faults, sep="\n    ", flush=True)
            await neighbours.close()
            print(
                f"edge {name}: {len(pairs)} cases, {failed} failed, {way.tap.shared} neighbours on a connection "
                f"that an attacker had used, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.edges", description=__doc__)
    parser.add_argument("--edge", action="append", choices=ROUTES, help="only this one; may be repeated")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth pair")
    parser.add_argument("--only", default="", help="only pairs of requests with this in the name of one")
    options = parser.parse_args()
    end_on_signals()
    logging.disable(logging.CRITICAL)  # the proxy tells of each refusal
    pairs = [pair for pair in PAIRS if any(options.only in name for name in pair)]
    try:
        failed = [asyncio.run(run(name, pairs[:: options.every])) for name in options.edge or ROUTES]
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
