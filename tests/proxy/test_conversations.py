"""A pool of five reads as much from its prompt caches as one account does, and refuses no conversation.

`make conversations` holds a thousand of them, and prints what round robin makes of the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conversations import Step, Talk, held, plan
from tests.service import serve

CONVERSATIONS = int(os.environ.get("CONVERSATIONS", "60"))
SEED = int(os.environ.get("CONVERSATIONS_SEED", "1"))
FIVE = ("a", "b", "c", "d", "e")


async def through(folder: Path, steps: list[Step], accounts: tuple[str, ...], **options: str) -> Talk:
    """What comes of the plan in a pool of these accounts."""
    async with serve(folder, accounts=accounts, **options) as service:
        keys = [await service.add_key(f"key {number}") for number in range(4)]
        return await held(service, steps, keys)


@pytest.mark.timeout(60 + CONVERSATIONS)
async def test_conversations_through_five_accounts_cost_what_they_cost_on_one(tmp_path: Path) -> None:
    steps = plan(CONVERSATIONS, SEED)
    one = await through(tmp_path / "one", steps, FIVE[:1])
    five = await through(tmp_path / "five", steps, FIVE)
    robin = await through(tmp_path / "robin", steps, FIVE, balancer__affinity="false")
    asked = f"{one.statuses.total()} requests, {one.tokens.total()} tokens"
    print(f"\n{CONVERSATIONS} conversations, seed {SEED}: {asked}")
    for name, talk in {"one account": one, "five": five, "five, round robin": robin}.items():
        print(
            f"{name:18} cache read {talk.share:7.2%}  moves {talk.moves:5}  "
            f"tries {talk.tries:5}  refused {talk.statuses[400]:5}"
        )
    assert set(five.statuses) == set(one.statuses) == {200}
    assert abs(five.share - one.share) < 0.01
    assert five.moves == 0
    assert (
        five.tries <= 1.01 * five.statuses.total()
    )  # a fork of what was said more than an hour ago has to be found
    assert {account for accounts in five.accounts.values() for account in accounts} == set(FIVE)
    # So it was worth something. What robin has of the caches, it has of those that also have the thinking's signatures:
    # it asks accounts until one accepts them.
    assert robin.share < five.share - 0.02 and robin.tries > 2 * five.tries
