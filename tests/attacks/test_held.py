"""The short form of `tests.attacks.held`."""

from __future__ import annotations

from tests.attacks.held import attack


async def test_good_keys_are_served_while_strangers_hold_connections() -> None:
    result = await attack(bodies=150, idle=150, clients=2, requests=20, before_s=0)
    assert (len(result.took), result.failed) == (40, [])
    assert result.held > 0
