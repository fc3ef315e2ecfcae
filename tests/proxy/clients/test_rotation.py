"""A client key gets a new secret; the one before works on for a while, and no longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection

import pytest

from proxy.clients.keys import ClientKeys, KeyStatus
from proxy.clients.rotation import MOST_FORMER, Rotation
from proxy.clients.secret import sha256
from proxy.errors import Conflict, NotFound, StorageError
from tests.disk import Disk, make_tokens
from tests.service import TestClock

KEY = "cp-a-key-of-a-client-8Jw2"
DAY_S = 86_400.0


@pytest.fixture
def expired() -> list[tuple[str, Collection[str]]]:
    """The former keys whose time has run out: the id of their key, and their hashes."""
    return []


@pytest.fixture
def rotation(tokens: ClientKeys, clock: TestClock, expired: list[tuple[str, Collection[str]]]) -> Rotation:
    return Rotation(tokens, clock=clock, on_expired=lambda id, hashes: expired.append((id, hashes)))


def opens(tokens: ClientKeys, *keys: str) -> list[bool]:
    return [tokens.accept([key]) is not None for key in keys]


async def test_both_open_the_same_key_until_the_overlap_ends(
    tokens: ClientKeys, rotation: Rotation, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    new = await rotation.rotate(client.id, DAY_S)
    both = tokens.accept([KEY]), tokens.accept([new])
    assert both == (tokens[client.id],) * 2 and new.startswith("cp-") and len(new) >= 43
    clock.advance(DAY_S - 1)
    assert opens(tokens, KEY, new) == [True, True]
    clock.advance(1)
    assert opens(tokens, KEY, new) == [False, True]


async def test_without_overlap_every_former_key_ends_at_once(tokens: ClientKeys, rotation: Rotation) -> None:
    client, _ = await tokens.add("client", KEY)
    second = await rotation.rotate(client.id, DAY_S)
    third = await rotation.rotate(client.id, 0)
    assert opens(tokens, KEY, second, third) == [False, False, True]
    assert tokens.view(tokens[client.id])["former_keys"] == []


async def test_a_second_rotation_leaves_the_first_overlap_as_it_was_promised(
    tokens: ClientKeys, rotation: Rotation, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    second = await rotation.rotate(client.id, 3600)
    third = await rotation.rotate(client.id, DAY_S)
    clock.advance(3600)
    assert opens(tokens, KEY, second, third) == [False, True, True]


async def test_a_rotation_in_the_second_in_which_a_former_key_ends_tells_that_it_has_ended(
    tokens: ClientKeys, rotation: Rotation, clock: TestClock, expired: list[tuple[str, Collection[str]]]
) -> None:
    client, _ = await tokens.add("client", KEY)
    await rotation.rotate(client.id, 60)
    clock.advance(60)
    await rotation.rotate(client.id, DAY_S)
    assert expired == [(client.id, [sha256(KEY)])]
    rotation.tick()
    assert len(expired) == 1 == len(tokens[client.id].former)


async def test_former_keys_are_few(tokens: ClientKeys, rotation: Rotation, clock: TestClock) -> None:
    client, _ = await tokens.add("client", KEY)
    for _ in range(MOST_FORMER):
        await rotation.rotate(client.id, DAY_S)
    with pytest.raises(Conflict, match="end them first"):
        await rotation.rotate(client.id, DAY_S)
    clock.advance(DAY_S)
    await rotation.rotate(client.id, DAY_S)


async def test_former_keys_can_be_ended_before_their_time(tokens: ClientKeys, rotation: Rotation) -> None:
    client, _ = await tokens.add("client", KEY)
    new = await rotation.rotate(client.id, DAY_S)
    await rotation.end_former(client.id)
    assert opens(tokens, KEY, new) == [False, True]


@pytest.mark.parametrize("status", [KeyStatus.INACTIVE, KeyStatus.REVOKED])
async def test_a_key_that_is_not_active_opens_with_neither(
    tokens: ClientKeys, rotation: Rotation, status: KeyStatus
) -> None:
    client, _ = await tokens.add("client", KEY)
    new = await rotation.rotate(client.id, DAY_S)
    await tokens.update(client.id, status=status)
    assert opens(tokens, KEY, new) == [False, False]


async def test_a_deleted_key_leaves_nothing_that_opens(tokens: ClientKeys, rotation: Rotation) -> None:
    client, _ = await tokens.add("client", KEY)
    new = await rotation.rotate(client.id, DAY_S)
    await tokens.remove(client.id)
    assert opens(tokens, KEY, new) == [False, False]
    await tokens.add("again", KEY)  # nobody has it any more


async def test_a_former_key_cannot_be_given_to_another_until_it_ends(
    tokens: ClientKeys, rotation: Rotation, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    await rotation.rotate(client.id, DAY_S)
    with pytest.raises(Conflict):
        await tokens.add("other", KEY)
    clock.advance(DAY_S)
    rotation.tick()
    await tokens.add("other", KEY)


async def test_what_cannot_be_rotated(tokens: ClientKeys, rotation: Rotation) -> None:
    client, _ = await tokens.add("client", KEY)
    await tokens.update(client.id, status=KeyStatus.REVOKED)
    with pytest.raises(Conflict, match="revoked"):
        await rotation.rotate(client.id, DAY_S)
    with pytest.raises(NotFound):
        await rotation.rotate("tok_of_nobody", DAY_S)


async def test_it_is_on_disk_when_rotate_returns_and_holds_after_a_restart(
    tokens: ClientKeys, rotation: Rotation, disk: Disk, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    new = await rotation.rotate(client.id, DAY_S)
    assert KEY not in json.dumps(disk["tokens"]) and new not in json.dumps(disk["tokens"])
    again = make_tokens(disk, clock)
    assert opens(again, KEY, new) == [True, True]
    clock.advance(DAY_S)
    assert opens(make_tokens(disk, clock), KEY, new) == [False, True]


async def test_a_former_key_that_has_ended_is_forgotten_once_told_and_off_the_disk(
    tokens: ClientKeys, rotation: Rotation, disk: Disk, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    await rotation.rotate(client.id, DAY_S)
    rotation.tick()
    assert len(tokens[client.id].former) == len(disk["tokens"][client.id]["former"]) == 1
    again = make_tokens(disk, clock)
    late = Rotation(again, clock=clock, on_expired=lambda id, hashes: None)
    clock.advance(DAY_S)
    late.tick()
    await asyncio.sleep(0)
    assert again[client.id].former == () == disk["tokens"][client.id]["former"]
    writes = len(disk.writes)
    late.tick()
    await asyncio.sleep(0)
    assert len(disk.writes) == writes


async def test_a_rotation_that_cannot_be_saved_changes_nothing(
    tokens: ClientKeys, rotation: Rotation, disk: Disk, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    disk.full = True
    for overlap_s in (0, DAY_S):
        with pytest.raises(StorageError):
            await rotation.rotate(client.id, overlap_s)
        assert opens(tokens, KEY) == [True]
    assert tokens[client.id] == client
    disk.full = False
    await tokens.save_again()
    assert opens(make_tokens(disk, clock), KEY) == [True]


async def test_neither_key_nor_hash_is_shown_but_which_one_clients_still_use(
    tokens: ClientKeys, rotation: Rotation, clock: TestClock
) -> None:
    client, _ = await tokens.add("client", KEY)
    new = await rotation.rotate(client.id, DAY_S)
    unused = {"key": "cp-…8Jw2", "ends_at": "2027-01-16T08:00:00.000Z", "last_used_at": None}
    assert tokens.view(tokens[client.id])["former_keys"] == [unused]
    clock.advance(60)
    tokens.accept([KEY])
    view = tokens.view(tokens[client.id])
    assert view["former_keys"] == [unused | {"last_used_at": "2027-01-15T08:01:00.000Z"}]
    assert view["key"] == f"cp-…{new[-4:]}"
    shown = json.dumps(view) + repr(tokens[client.id])
    for secret in (KEY, new, client.key_sha256, tokens[client.id].key_sha256):
        assert secret not in shown


async def test_two_admins_cannot_take_each_others_new_key_away_unseen(
    tokens: ClientKeys, rotation: Rotation
) -> None:
    client, _ = await tokens.add("client", KEY)
    await rotation.rotate(client.id, DAY_S)
    assert tokens[client.id].etag != client.etag
