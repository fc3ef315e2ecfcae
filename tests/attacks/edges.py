"""Smuggled requests, behind nginx and haproxy and without either: the pairs of tests/edges."""

from __future__ import annotations

import logging

from tests.attacks.row import Row
from tests.edges.__main__ import run as edge
from tests.edges.odd import PAIRS
from tests.edges.route import DIRECT, ROUTES

NAME = "smuggled requests"
EVERY = 10
"""Of the pairs: all of them take `make edges` ten minutes."""


async def run(long: bool) -> Row:
    """The short form needs neither of them."""
    row = Row(NAME)
    pairs = PAIRS[:: EVERY if long else 200]
    logging.disable(logging.CRITICAL)  # the proxy tells of each refusal
    try:
        for name in ROUTES if long else [DIRECT]:
            failed = await edge(name, pairs)
            row.tried += len(pairs)
            row.faults += [f"edge {name}: one of its pairs, see above"] * failed
    finally:
        logging.disable(logging.NOTSET)
    row.note = ", ".join(ROUTES if long else [DIRECT])
    return row
