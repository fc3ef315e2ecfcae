"""The simulator in a process of its own, so that it outlives each proxy that is killed.

    PYTHONPATH=. python tests/faults/login_process.py <strict or grace> <life of an access token in s> <seed>

Prints where it is, as JSON. Then each line of stdin is a JSON list, a verb and what it takes, answered by a line:

    ["authorize", url, organization]   the URL that a browser is sent back to which logs in at `url`
    ["refreshes"]                      the refresh calls since this was asked last: organization, presented, status
    ["settled"]                        answered once nothing is left of what came from processes that have ended

It ends when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from proxy.clock import SystemClock
from proxy.simulator import Simulator


def refreshes(simulator: Simulator) -> list[dict[str, Any]]:
    """The calls in their order. An answer of 200 means rotated, whether or not it arrived."""
    calls = [
        {"organization": entry.organization, "presented": entry.credential, "status": entry.status}
        for entry in simulator.ledger.token_calls()
        if entry.body and entry.json()["grant_type"] == "refresh_token"
    ]
    simulator.ledger.clear()
    return calls


async def settled(simulator: Simulator) -> None:
    """What a process sent before it was killed still waits in a socket: read first, then no connection is left."""
    turns = 0
    while turns < 10:
        await asyncio.sleep(0)
        turns = 0 if simulator.open_connections else turns + 1


async def perform(simulator: Simulator, verb: str, *args: str) -> Any:
    match verb:
        case "authorize":
            return simulator.authorize(args[0], organization=args[1])
        case "refreshes":
            return refreshes(simulator)
        case "settled":
            return await settled(simulator)
    raise ValueError(verb)


async def main(rotation: str, expires_in: int, seed: int) -> None:
    simulator = Simulator(
        clock=SystemClock(), rng=random.Random(seed), refresh_rotation=rotation, expires_in=expires_in
    )
    await simulator.start(port=0)
    try:
        settings = {
            "CLAUDE__BASE_URL": simulator.base_url,
            "OAUTH__CLIENT_ID": simulator.client_id,
            "OAUTH__AUTHORIZE_URL": simulator.authorize_url,
            "OAUTH__TOKEN_URL": simulator.token_url,
        }
        print(json.dumps(settings), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await perform(simulator, *json.loads(line))), flush=True)
    finally:
        await simulator.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
