"""Every attack in turn, and a table of what fell short (`make attacks`)."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Protocol

from tests.attacks import abrupt, edges, fuzz, held, live, stalls, upstreams
from tests.attacks.row import Row, table
from tests.bench.versions import end_on_signals

SHOWN = 20
"""Faults of one attack that are printed."""


class Part(Protocol):
    """An attack: a module with these. Its short form takes seconds, its long form minutes."""

    NAME: str

    async def run(self, long: bool) -> Row: ...


PARTS: dict[str, Part] = {
    "fuzz": fuzz,
    "live": live,
    "abrupt": abrupt,
    "edges": edges,
    "upstreams": upstreams,
    "held": held,
    "stalls": stalls,  # the last, since it gives way to others from then on
}


def carried_out(part: Part, *, long: bool) -> Row:
    """What the attack came to; one that fails itself has fallen short too."""
    began = time.monotonic()
    print(f"attack: {part.NAME}", flush=True)
    try:
        row = asyncio.run(part.run(long))
    except Exception as error:
        row = Row(part.NAME, faults=[f"the attack itself failed: {error!r}"])
    row.seconds = time.monotonic() - began
    print(*row.faults[:SHOWN], f"{row.tried:,} tried, {len(row.faults)} fell short", sep="\n", flush=True)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long forms: a quarter of an hour")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this one; may be repeated")
    options = parser.parse_args()
    end_on_signals()
    rows = [carried_out(PARTS[name], long=options.long) for name in options.only or PARTS]
    print("", table(rows), sep="\n")
    return 1 if any(row.faults for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
