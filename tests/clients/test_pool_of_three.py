"""The SDKs through a pool of three organisations: each call gives what it gives on one account directly.

The simulator is strict: what one organisation has made or signed, another does not know. Each program runs with one
client key, and with two keys of one group in turn, so that one uses what the other has made, page by page of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.facts import a_call_is_alike
from tests.clients.resources import CLIENTS, found
from tests.clients.sides import both_sides
from tests.clients.test_sdks import RETURNED
from tests.service import CLIENT_KEY, serve

POOL = ("a", "b", "c")
GROUPS = pytest.mark.parametrize("group", [(), ("one", "two")], ids=["one key", "two keys of a group"])


def in_a_pool(expected: dict[str, Any]) -> dict[str, Any]:
    """Without what a key of another group is told of a conversation: it may be on the account that had it."""
    shown = {call: dict(outcome) for call, outcome in expected.items()}
    for call in {"thinking", "diagnostics"} & shown.keys():
        shown[call].pop("foreign")
    return shown


@GROUPS
@pytest.mark.parametrize("client", CLIENTS)
async def test_what_is_made_is_found_and_nobody_of_another_group_finds_it(
    client: str, group: Sequence[str], tmp_path: Path
) -> None:
    async with serve(tmp_path, accounts=POOL) as service:
        keys = " ".join([await service.add_key(name, group="ours") for name in group])
        other = await service.add_key("other")
        url = f"http://127.0.0.1:{service.port}"
        printed = await found(client, url, CLIENT_KEY, other, {"KEYS_IN_TURN": keys})
        asked = {entry.organization for entry in service.simulator.ledger}
    assert in_a_pool(printed) == in_a_pool(CLIENTS[client])
    assert len(asked) > 1


@GROUPS
@pytest.mark.parametrize("client", CLIENTS)
async def test_each_call_returns_what_it_returns_on_one_account(
    client: str, group: Sequence[str], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    both = await both_sides(client, tmp_path, accounts=POOL, group=group)
    for call in (*RETURNED, "headers"):
        with subtests.test(a_call_is_alike.__name__, call=call):
            a_call_is_alike(both, call)
