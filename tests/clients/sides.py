"""The same program through a proxy and directly to a simulator: what comes of each of its calls.

Both simulators have the same seed, clock and organisation, so what comes through a proxy with one account is compared
as it is, ids included.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.simulator import Entry, Simulator
from tests.clients.programs import HERE, NOTHING, folder_of, run
from tests.service import CLIENT_KEY, TestClock, serve

Calls = dict[str, Any]

UPSTREAM_KEY = "sk-ant-api03-of-a-direct-client-" + "x" * 24


@dataclass(frozen=True)
class Side:
    """What came of the calls made to `url`, and what the API was asked; `calls` are by style (sync, async)."""

    url: str
    calls: dict[str, Calls]
    asked: list[Entry]

    def of(self, name: str) -> Calls:
        """The outcomes of one call by style; `url` is left out, as it is what differs between the sides."""
        outcomes = {style: calls[name] for style, calls in self.calls.items()}
        return json.loads(json.dumps(outcomes).replace(self.url, ""))


@dataclass(frozen=True)
class Both:
    client: str
    proxied: Side
    direct: Side


async def both_sides(
    client: str, data: Path, *, accounts: Sequence[str] = ("a",), group: Sequence[str] = ()
) -> Both:
    """What comes of the client's program on both sides; the proxy's data folder is `data`.

    `group`: names of client keys of one group, which the program uses in turn.
    """
    return Both(client, *await asyncio.gather(proxied(client, data, accounts, group), direct(client)))


async def proxied(client: str, data: Path, accounts: Sequence[str], group: Sequence[str]) -> Side:
    async with serve(data, accounts=accounts) as service:
        url = f"http://127.0.0.1:{service.port}"
        keys = " ".join([await service.add_key(name, group="one") for name in group])
        calls = await outcomes(client, url, CLIENT_KEY, {"KEYS_IN_TURN": keys})
        return Side(url, calls, list(service.simulator.ledger))


@contextlib.asynccontextmanager
async def alone() -> AsyncIterator[Simulator]:
    """A simulator that is asked directly, as the organisation `a` and with `UPSTREAM_KEY`."""
    simulator = Simulator(clock=TestClock(), rng=random.Random(1))
    simulator.add_api_key(UPSTREAM_KEY, organization="a")
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


_direct: dict[str, Side] = {}
"""By client. It is the same each time, as all simulators are made alike, so the program runs once for all tests."""


async def direct(client: str) -> Side:
    if client not in _direct:
        async with alone() as simulator:
            calls = await outcomes(client, simulator.base_url, UPSTREAM_KEY)
            _direct[client] = Side(simulator.base_url, calls, list(simulator.ledger))
    return _direct[client]


async def outcomes(client: str, url: str, key: str, more: Mapping[str, str] = NOTHING) -> dict[str, Calls]:
    """What the client's program prints; `more` are variables of its environment."""
    folder = folder_of(client)
    command, stdin = program(client, folder)
    environ = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}
    environ |= {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key, **more}
    status, out, err = await run(*command, folder=folder, environ=environ, stdin=stdin)
    assert status == 0, err
    return json.loads(out)


def program(client: str, folder: Path) -> tuple[list[str], bytes]:
    """The command that makes the calls, and its standard input."""
    if client == "typescript":
        # From standard input, as imports are then resolved in the folder it runs in.
        return ["node", "--input-type=module"], (HERE / "typescript" / "sdk.mjs").read_bytes()
    if client == "go":
        return [str(folder / "client")], b""
    script = "python_openai.py" if client.startswith("openai") else "python_sdk.py"
    return [str(folder / "bin" / "python"), str(HERE / script)], b""


OF_THE_SIDE = re.compile(
    "anthropic-organization-id|anthropic-ratelimit-|x-proxy-|signature$|usage$|created_at$"
)
"""Members and headers that tell one organisation or one moment from another; the usage is that of its cache."""


def alike(calls: Calls) -> Calls:
    """With the nth id of a kind in place of each id, and without what an organisation makes of its own."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        nth = sum(1 for known in numbers if known.startswith(f"{found[1]}_"))
        return numbers.setdefault(found[0], f"{found[1]}_{nth}")

    text = re.sub(r"\b([a-z]+)_01\w{22}\b", number, json.dumps(calls))
    return json.loads(text, object_hook=_without_its_own)


def _without_its_own(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if not OF_THE_SIDE.match(name)}


def without_ids(calls: Calls) -> Calls:
    """Without request and message ids: the simulator deals them out in turn, and a proxy asks it more often."""
    return json.loads(re.sub(r"\b(req|msg)_\w+", r"\1_", json.dumps(calls)))
