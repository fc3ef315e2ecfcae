"""Long work on the event loop, done in slices: between two of them requests have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE_S = 0.0002
"""After so long the others have a turn: about what a request takes."""


async def in_slices(steps: Iterable[None]) -> None:
    """Do all steps, and let the event loop turn whenever they have taken SLICE_S."""
    now = asyncio.get_running_loop().time
    until = now() + SLICE_S
    for _ in steps:
        if now() >= until:
            await asyncio.sleep(0)
            until = now() + SLICE_S


def at_once(steps: Generator[None, None, T]) -> T:
    """Do all steps now. Returns what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: T = done.value
            return found
