"""Long work in slices: others have their turns between them, more of them if they are busy."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from itertools import pairwise

import pytest

from proxy import slices
from proxy.slices import MOST_TURNS, at_once, in_slices


class Turns:
    """Counts the turns of the loop until it is stopped."""

    def __init__(self) -> None:
        self.count = 0
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


async def turns_between(steps: int) -> list[int]:
    """How many turns another task had before each step."""
    turns = Turns()
    seen = []

    def work() -> Generator[None, None, None]:
        for _ in range(steps):
            seen.append(turns.count)
            yield

    await in_slices(work())
    turns.task.cancel()
    return [after - before for before, after in pairwise(seen)]


async def test_steps_that_fit_into_a_slice_are_done_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", math.inf)
    assert await turns_between(100) == [0] * 99


async def test_after_each_slice_others_have_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    monkeypatch.setattr(slices, "IDLE_S", math.inf)
    assert await turns_between(10) == [1] * 9


async def test_if_they_are_busy_they_have_as_many_as_a_request_needs_and_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    monkeypatch.setattr(slices, "IDLE_S", 0.0)
    assert await turns_between(10) == [MOST_TURNS] * 9


def test_all_steps_at_once_return_what_they_return() -> None:
    def work() -> Generator[None, None, str]:
        yield
        yield
        return "done"

    assert at_once(work()) == "done"
