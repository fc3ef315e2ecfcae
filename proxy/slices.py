"""Long work on the event loop, done in slices: between two of them requests have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE_S = 0.0001
"""After so long others have a turn. A request has some five, each of which a slice may delay."""

IDLE_S = 0.00006
"""A turn of the loop that is over sooner had nothing else to do: an empty one takes 10 µs, a request's 100."""

MOST_TURNS = 5
"""So many turns others have in a row if they are busy, as many as a request needs; under full load work goes on."""


async def in_slices(steps: Iterable[None]) -> None:
    """Do all steps, and let others go first whenever they have taken SLICE_S."""
    now = asyncio.get_running_loop().time
    until = now() + SLICE_S
    for _ in steps:
        if now() >= until:
            await _others(now)
            until = now() + SLICE_S


async def _others(now: Callable[[], float]) -> None:
    for _ in range(MOST_TURNS):
        before = now()
        await asyncio.sleep(0)
        if now() - before < IDLE_S:
            return


def at_once(steps: Generator[None, None, T]) -> T:
    """Do all steps now. Returns what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: T = done.value
            return found
