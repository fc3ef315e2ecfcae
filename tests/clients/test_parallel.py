"""Eight requests at once of one program, at the default settings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from proxy.simulator import Slow
from tests.clients.programs import HERE, folder_of, run
from tests.clients.sides import UPSTREAM_KEY, alone
from tests.service import CLIENT_KEY, SteppedClock, serve


async def eight(url: str, key: str) -> Any:
    """What the program prints."""
    folder = folder_of("anthropic-2.14.0")
    command = (str(folder / "bin" / "python"), str(HERE / "python_parallel.py"))
    environ = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}
    status, out, err = await run(*command, folder=folder, environ=environ)
    assert status == 0, err
    return json.loads(out)


async def test_eight_at_once_are_asked_at_once_and_answered_as_without_the_proxy(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with (
        alone() as simulator,
        serve(tmp_path, accounts=["a", "b"], clock=clock, session__max_concurrent=None) as service,
    ):
        service.simulator.always(None, Slow(5))
        direct = asyncio.create_task(eight(simulator.base_url, UPSTREAM_KEY))
        proxied = asyncio.create_task(eight(f"http://127.0.0.1:{service.port}", CLIENT_KEY))
        try:
            # None is answered before all have arrived.
            await service.simulator.ledger.wait(lambda ledger: len(ledger.inference()) == 8, timeout_s=30)
        finally:
            clock.free()
            both = await asyncio.gather(proxied, direct)
    assert both[0] == both[1]
    assert both[0]["statuses"] == [200] * 8
