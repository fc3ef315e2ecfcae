"""The short form of `python -m tests.attacks.upstreams`."""

from __future__ import annotations

from tests.attacks import upstreams


async def test_no_odd_upstream_hurts_a_client_or_the_next_request() -> None:
    row = await upstreams.run(False)
    assert row.faults == []
    assert row.tried > 250
