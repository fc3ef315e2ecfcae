"""Which account a conversation is with, at the next start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.accounts.conversations import LOG, MINUTE_S, MOST_IN_LINE, Conversations
from proxy.storage.json_files import JsonFiles
from tests.service import TestClock

TTL_S = 3600.0


async def loaded(folder: Path, clock: TestClock) -> tuple[JsonFiles, Conversations]:
    storage = JsonFiles.open(folder, clock=clock)
    conversations = Conversations(storage, clock=clock, ttl_s=TTL_S)
    await conversations.load()
    return storage, conversations


def found(conversations: Conversations, group: str, session: str | None, chain: Sequence[int]) -> str | None:
    name = conversations.first(group, session, chain)
    return None if name is None else conversations.account_of([name])


async def test_conversations_are_with_their_last_account_at_the_next_start(tmp_path: Path) -> None:
    clock = TestClock()
    storage, conversations = await loaded(tmp_path, clock)
    conversations.keep([("red", "s"), ("red", 2**64 - 1)], "acc_a")
    conversations.keep([("blue", "s")], "acc_b")
    await conversations.save()
    conversations.keep([("red", "s")], "acc_c")
    await conversations.save()
    await storage.close()
    storage, conversations = await loaded(tmp_path, clock)
    assert found(conversations, "red", "s", ()) == "acc_c"
    assert found(conversations, "red", "fork", (7, 2**64 - 1, 8)) == "acc_a"
    assert found(conversations, "blue", "s", ()) == "acc_b"
    assert found(conversations, "blue", None, (1, 2**64 - 1)) is None
    clock.advance(TTL_S + MINUTE_S)
    assert found(conversations, "red", "s", ()) is None
    await storage.close()


async def test_many_conversations_are_few_lines(tmp_path: Path) -> None:
    clock = TestClock()
    storage, conversations = await loaded(tmp_path, clock)
    conversations.keep([("red", number) for number in range(3 * MOST_IN_LINE)], "acc_a")
    await conversations.save()
    conversations.keep([("red", number) for number in range(MOST_IN_LINE)], "acc_b")
    await conversations.save()
    await storage.close()
    assert len((tmp_path / f"{LOG}.jsonl").read_bytes().splitlines()) == 1 + 3 + 1
    storage, conversations = await loaded(tmp_path, clock)
    assert len(conversations) == 3 * MOST_IN_LINE
    assert found(conversations, "red", None, (0, 9999)) == "acc_b"
    assert found(conversations, "red", None, (MOST_IN_LINE, 9999)) == "acc_a"
    await storage.close()


async def test_conversations_of_many_groups_are_few_lines_too(tmp_path: Path) -> None:
    clock = TestClock()
    storage, conversations = await loaded(tmp_path, clock)
    for number in range(3 * MOST_IN_LINE):
        conversations.keep([(f"group {number % 2000}", f"s{number}")], f"acc_{number % 2}")
    await conversations.save()
    await storage.close()
    assert len((tmp_path / f"{LOG}.jsonl").read_bytes().splitlines()) == 1 + 4
    storage, conversations = await loaded(tmp_path, clock)
    for number in range(3 * MOST_IN_LINE):
        assert found(conversations, f"group {number % 2000}", f"s{number}", ()) == f"acc_{number % 2}"
    await storage.close()


async def test_a_log_of_before_which_has_one_group_a_line_is_read(tmp_path: Path) -> None:
    clock = TestClock()
    storage = JsonFiles.open(tmp_path, clock=clock)
    until = (clock.now() + TTL_S) // MINUTE_S * MINUTE_S + MINUTE_S
    line = {"group": "red", "account": "acc_a", "until": until, "of": ["s", 2**64 - 1]}
    await storage.append(LOG, [{"version": 1}, line])
    await storage.close()
    storage, conversations = await loaded(tmp_path, clock)
    assert found(conversations, "red", "s", ()) == "acc_a"
    conversations.keep([("red", "s")], "acc_b")
    await conversations.save()
    await storage.close()
    storage, conversations = await loaded(tmp_path, clock)
    assert found(conversations, "red", "s", ()) == "acc_b"
    assert found(conversations, "red", "fork", (7, 2**64 - 1, 8)) == "acc_a"
    await storage.close()


@pytest.mark.parametrize("second", [0, 1, 30, 59])
async def test_a_conversation_lives_for_its_time_and_for_no_more_than_a_minute_longer(
    tmp_path: Path, second: int
) -> None:
    clock = TestClock()
    clock.advance(second)
    storage, conversations = await loaded(tmp_path, clock)
    conversations.keep([("red", "s")], "acc_a")
    clock.advance(30)
    conversations.keep([("red", "s")], "acc_a")
    await conversations.save()
    await storage.close()
    storage, again = await loaded(tmp_path, clock)
    clock.advance(TTL_S - 1)
    assert [found(each, "red", "s", ()) for each in (conversations, again)] == ["acc_a", "acc_a"]
    clock.advance(1 + MINUTE_S)
    assert [found(each, "red", "s", ()) for each in (conversations, again)] == [None, None]
    await storage.close()


async def test_another_turn_in_one_minute_writes_nothing(tmp_path: Path) -> None:
    clock = TestClock()
    storage, conversations = await loaded(tmp_path, clock)
    file = tmp_path / f"{LOG}.jsonl"

    async def turn(account_id: str) -> int:
        conversations.turn([("red", "s")], account_id, after=("red", "s"))
        await conversations.save()
        return len(file.read_bytes().splitlines())

    first = await turn("acc_a")
    assert await turn("acc_a") == first
    assert await turn("acc_b") == first + 1
    assert await turn("acc_a") == first + 2
    clock.advance(MINUTE_S)
    assert await turn("acc_a") == first + 3
    assert (conversations.lately.count(), conversations.lately.count("acc_a")) == (1, 1)
    await storage.close()


async def test_a_conversation_that_has_left_an_account_does_not_come_back_to_it(tmp_path: Path) -> None:
    """Also if it was to stay there for longer: `affinity_ttl` was changed, or the clock was set back."""
    clock = TestClock()
    storage, conversations = await loaded(tmp_path, clock)
    conversations.ttl_s = 10 * TTL_S
    conversations.keep([("red", "s")], "acc_a")
    await conversations.save()
    conversations.ttl_s = TTL_S
    conversations.keep([("red", "s")], "acc_b")
    await conversations.save()
    await storage.close()
    clock.advance(2 * TTL_S)
    storage, conversations = await loaded(tmp_path, clock)
    assert found(conversations, "red", "s", ()) is None
    await storage.close()
