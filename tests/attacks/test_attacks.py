"""The short forms of what `make attacks` tries for a quarter of an hour."""

from __future__ import annotations

import pytest

from tests.attacks import abrupt, fuzz, live
from tests.attacks.__main__ import Part
from tests.attacks.row import Row, table

PARTS: list[Part] = [fuzz, live, abrupt]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.NAME)
async def test_what_is_hostile_hurts_nobody(part: Part) -> None:
    row = await part.run(False)
    assert row.faults == []
    assert row.tried >= 100


def test_the_table_says_what_fell_short() -> None:
    rows = [
        Row("a", tried=1234),
        Row("b", tried=5, faults=["seed 1: x", "seed 2: y"], note="n", seconds=61.2),
    ]
    assert table(rows).splitlines()[2:] == ["| a | 1,234 | none | 0 |  |", "| b | 5 | 2 | 61 | n |"]
