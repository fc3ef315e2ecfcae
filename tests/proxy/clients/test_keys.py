"""Client keys: what opens, what is stored, what is shown."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from proxy.clients.budgets import Budgets
from proxy.clients.counters import KeyCounters
from proxy.clients.keys import ClientKeys, KeyStatus, Role, key_record, load_keys
from proxy.errors import Conflict, NotFound, StorageError, Unprocessable
from tests.disk import Disk, FullDisk, make_tokens
from tests.service import TestClock

KEY = "cp-a-key-of-a-client-8Jw2"


# ---- making a key


async def test_a_key_that_is_made_is_long_new_and_opens(tokens: ClientKeys) -> None:
    made = [await tokens.add(f"client {n}") for n in range(20)]
    assert len({key for _, key in made}) == 20
    assert all(key.startswith("cp-") and len(key) >= 43 for _, key in made)
    assert all(tokens.accept([key]) == token for token, key in made)


async def test_a_key_that_is_given_is_used(tokens: ClientKeys) -> None:
    token, key = await tokens.add("client", KEY)
    assert (key, tokens.accept([KEY])) == (KEY, token)


async def test_the_disk_holds_a_keys_hash_only(tokens: ClientKeys, disk: Disk) -> None:
    token, _ = await tokens.add("client", KEY)
    stored = disk["tokens"][token.id]
    assert stored["key_sha256"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert KEY not in json.dumps(stored) and KEY[:-4] not in json.dumps(stored)


async def test_neither_key_nor_hash_is_shown(tokens: ClientKeys) -> None:
    token, _ = await tokens.add("client", KEY)
    shown = json.dumps(tokens.view(token)) + repr(token) + str(token)
    assert KEY not in shown and token.key_sha256 not in shown


@pytest.mark.parametrize(("key", "masked"), [(KEY, "cp-…8Jw2"), ("of-another-kind-Zz9", "…-Zz9")])
async def test_a_key_is_shown_by_its_last_four_characters(tokens: ClientKeys, key: str, masked: str) -> None:
    token, _ = await tokens.add("client", key)
    assert tokens.view(token)["key"] == masked


@pytest.mark.parametrize(
    "key", ["", "x" * 15, "x" * 257, "with a space in it", "a-key-with-é-in-it", "a-key-with\n-in-it-"]
)
async def test_a_key_that_will_not_do_is_refused(tokens: ClientKeys, key: str) -> None:
    with pytest.raises(Unprocessable, match="key: 16 to 256 ASCII characters") as caught:
        await tokens.add("client", key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("length", [16, 256])
async def test_a_key_of_16_to_256_characters_will_do(tokens: ClientKeys, length: int) -> None:
    await tokens.add("client", "x" * length)


@pytest.mark.parametrize("status", KeyStatus)
async def test_a_key_exists_once_whatever_its_state(tokens: ClientKeys, status: KeyStatus) -> None:
    token, _ = await tokens.add("client", KEY)
    await tokens.update(token.id, status=status)
    with pytest.raises(Conflict) as caught:
        await tokens.add("other", KEY)
    assert KEY not in str(caught.value)


async def test_names_need_not_differ(tokens: ClientKeys) -> None:
    assert (await tokens.add(" client "))[0].name == (await tokens.add("client"))[0].name == "client"


async def test_a_name_that_will_not_do_leaves_the_key_free(tokens: ClientKeys) -> None:
    with pytest.raises(Unprocessable):
        await tokens.add("a\x1bb", KEY)
    await tokens.add("ab", KEY)


# ---- what opens


async def test_the_first_key_that_opens_counts(tokens: ClientKeys) -> None:
    one, first = await tokens.add("one")
    _, second = await tokens.add("two")
    assert tokens.accept(["wrong", first, second]) == one


@pytest.mark.parametrize("status", [KeyStatus.INACTIVE, KeyStatus.REVOKED])
async def test_a_key_that_is_not_active_does_not_open(tokens: ClientKeys, status: KeyStatus) -> None:
    token, key = await tokens.add("client")
    await tokens.update(token.id, status=status)
    assert tokens.accept([key]) is None


async def test_an_inactive_key_opens_again_when_set_active(tokens: ClientKeys) -> None:
    token, key = await tokens.add("client", status=KeyStatus.INACTIVE)
    assert tokens.accept([key]) is None
    await tokens.update(token.id, status=KeyStatus.ACTIVE)
    assert tokens.accept([key]) is not None


@pytest.mark.parametrize("status", [KeyStatus.ACTIVE, KeyStatus.INACTIVE])
async def test_a_revoked_key_stays_revoked(tokens: ClientKeys, status: KeyStatus) -> None:
    token, _ = await tokens.add("client")
    await tokens.update(token.id, status=KeyStatus.REVOKED)
    with pytest.raises(Conflict, match="a revoked key stays revoked"):
        await tokens.update(token.id, status=status, name="other")
    assert (tokens[token.id].status, tokens[token.id].name) == (KeyStatus.REVOKED, "client")


async def test_a_revoked_key_may_be_renamed(tokens: ClientKeys) -> None:
    token, _ = await tokens.add("client")
    await tokens.update(token.id, status=KeyStatus.REVOKED)
    assert (await tokens.update(token.id, name="old", status=KeyStatus.REVOKED)).name == "old"


async def test_a_deleted_key_does_not_open_even_before_the_disk_knows(tokens: ClientKeys, disk: Disk) -> None:
    token, key = await tokens.add("client")
    disk.full = True
    with pytest.raises(StorageError):
        await tokens.remove(token.id)
    assert tokens.accept([key]) is None
    with pytest.raises(NotFound):
        tokens[token.id]


async def test_a_deleted_key_may_be_given_again(tokens: ClientKeys) -> None:
    token, _ = await tokens.add("client", KEY)
    await tokens.remove(token.id)
    await tokens.add("client", KEY)
    assert tokens.accept([KEY]) is not None


@given(
    st.lists(st.text() | st.sampled_from(["Cp-a-key-of-a-client-8Jw2", KEY + " ", KEY[:-1], "\ud800", "é"]))
)
def test_nothing_else_opens(keys: list[str]) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    disk = Disk()
    disk["tokens"]["tok_1"] = RECORD | {"key_sha256": digest}
    assert make_tokens(disk, TestClock()).accept(key for key in keys if key != KEY) is None


# ---- the table


async def test_keys_open_after_a_restart_as_before(tokens: ClientKeys, disk: Disk, clock: TestClock) -> None:
    user, key = await tokens.add("user")
    admin, admin_key = await tokens.add("admin", role=Role.ADMIN)
    gone, gone_key = await tokens.add("gone")
    await tokens.update(gone.id, status=KeyStatus.REVOKED)
    after = make_tokens(disk, clock)
    assert [after.accept([each]) for each in (key, admin_key, gone_key)] == [user, admin, None]
    assert list(after) == [user, admin, tokens[gone.id]]


async def test_a_change_is_on_disk_when_update_returns(
    tokens: ClientKeys, disk: Disk, clock: TestClock
) -> None:
    token, _ = await tokens.add("client")
    clock.advance(5)
    await tokens.update(token.id, name="other", role=Role.ADMIN)
    stored = disk["tokens"][token.id]
    assert (stored["name"], stored["role"]) == ("other", "admin")
    assert stored["updated_at"] == stored["created_at"] + 5


async def test_no_change_is_no_write(tokens: ClientKeys, disk: Disk) -> None:
    token, _ = await tokens.add("client")
    await tokens.update(token.id, name="client", status=KeyStatus.ACTIVE, role=Role.USER)
    assert len(disk.writes) == 1


async def test_a_key_that_cannot_be_saved_does_not_open_and_never_will(
    tokens: ClientKeys, disk: Disk
) -> None:
    disk.full = True
    with pytest.raises(StorageError):
        await tokens.add("client", KEY)
    assert (tokens.accept([KEY]), list(tokens)) == (None, [])
    disk.full = False
    await tokens.save_again()
    assert (disk["tokens"], tokens.unsaved) == ({}, {})
    await tokens.add("client", KEY)


async def test_a_revocation_that_cannot_be_saved_holds_and_is_saved_later(
    tokens: ClientKeys, disk: Disk
) -> None:
    token, key = await tokens.add("client")
    disk.full = True
    with pytest.raises(StorageError):
        await tokens.update(token.id, status=KeyStatus.REVOKED)
    assert (tokens.accept([key]), list(tokens.unsaved)) == (None, [token.id])
    disk.full = False
    await tokens.save_again()
    assert (disk["tokens"][token.id]["status"], tokens.unsaved) == ("revoked", {})


async def test_uses_are_counted_and_survive_a_restart(
    tokens: ClientKeys, disk: Disk, clock: TestClock
) -> None:
    token, _ = await tokens.add("client")
    tokens.used(token)
    tokens.used(token)
    use = tokens.use(token.id)
    assert use is not None
    await disk.update("counters", {token.id: asdict(use)})
    after = make_tokens(disk, clock)
    view = after.view(after[token.id])
    assert (view["requests"], view["last_used_at"]) == (2, "2027-01-15T08:00:00.000Z")


async def test_the_counters_of_a_key_go_with_it_also_if_the_disk_was_full(
    disk: Disk, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = await make_tokens(disk, clock).add("client")
    await disk.update("counters", {token.id: {"requests": 7}})
    tokens = make_tokens(disk, clock)
    budgets = Budgets(disk["counters"], clock=clock)
    counters = KeyCounters(tokens, budgets, stored=disk["counters"])
    await tokens.remove(token.id)
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(disk, "update", FullDisk().put)
        await counters.save(disk)
    await counters.save(disk)
    assert disk["counters"] == {}


async def test_the_use_of_a_deleted_key_is_dropped(tokens: ClientKeys) -> None:
    token, _ = await tokens.add("client")
    await tokens.remove(token.id)
    tokens.used(token)
    assert tokens.use(token.id) is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["Team A", "team b", "ops"]),
        ({"search": "TEAM"}, ["Team A", "team b"]),
        ({"search": "tok_3"}, ["ops"]),
        ({"search": "nobody"}, []),
        ({"role": Role.ADMIN}, ["ops"]),
        ({"status": KeyStatus.INACTIVE}, ["team b"]),
        ({"status": KeyStatus.ACTIVE, "search": "team"}, ["Team A"]),
        ({"role": Role.ADMIN, "status": KeyStatus.REVOKED}, []),
    ],
)
async def test_keys_are_found_by_role_state_and_part_of_name_or_id(
    tokens: ClientKeys, wanted: dict[str, Any], found: list[str]
) -> None:
    await tokens.add("Team A")
    await tokens.add("team b", status=KeyStatus.INACTIVE)
    await tokens.add("ops", role=Role.ADMIN)
    assert [token.name for token in tokens.find(**wanted)] == found


async def test_a_search_never_looks_into_keys(tokens: ClientKeys) -> None:
    token, _ = await tokens.add("client", KEY)
    assert tokens.find(search="8Jw2") == tokens.find(search=token.key_sha256[:8]) == []


async def test_the_log_tells_each_change_without_the_key(
    tokens: ClientKeys, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "proxy.clients.keys"):
        token, _ = await tokens.add("client", KEY)
        await tokens.update(token.id, status=KeyStatus.INACTIVE)
        await tokens.remove(token.id)
    assert caplog.messages == [
        "token added token=tok_1 name=client role=user",
        "token changed token=tok_1 name=client status=inactive role=user",
        "token deleted token=tok_1 name=client",
    ]


# ---- what is stored

RECORD = {
    "id": "tok_1",
    "name": "client",
    "key_sha256": "0" * 64,
    "masked": "cp-…8Jw2",
    "role": "user",
    "status": "active",
    "created_at": 1.0,
    "updated_at": 1.0,
}


def test_keys_keep_their_order() -> None:
    records = [RECORD | {"id": id, "created_at": at} for id, at in [("tok_3", 2), ("tok_1", 1), ("tok_2", 1)]]
    assert [id for id, _ in load_keys(records)] == ["tok_1", "tok_2", "tok_3"]


@pytest.mark.parametrize("missing", RECORD)
def test_a_stored_key_without_one_of_its_fields_stops_the_start(missing: str) -> None:
    with pytest.raises(StorageError, match=r"token .* in the data folder is not complete"):
        load_keys([{name: value for name, value in RECORD.items() if name != missing}])


@pytest.mark.parametrize("wrong", [None, [1], {"a": 1}, True], ids=repr)
@pytest.mark.parametrize("field", RECORD)
def test_a_stored_key_with_a_field_of_another_type_stops_the_start(field: str, wrong: Any) -> None:
    with pytest.raises(StorageError, match=r"token .* in the data folder is not complete"):
        load_keys([RECORD | {field: wrong}, RECORD])


def test_a_stored_key_with_a_field_of_a_later_version_stops_the_start() -> None:
    with pytest.raises(StorageError, match="token 'tok_1' in the data folder is not complete"):
        load_keys([RECORD | {"quota": 3}])


def test_a_stored_key_of_before_has_its_own_group_every_account_and_no_former_key() -> None:
    [(_, key)] = load_keys([RECORD])
    assert (key.group, key.group_id, key.tags, key.former) == (None, "tok_1", (), ())
    assert key_record(key).items() >= RECORD.items()
    assert load_keys([json.loads(json.dumps(key_record(key)))]) == [("tok_1", key)]


def test_keys_of_a_group_are_told_by_its_name() -> None:
    [(_, key)] = load_keys([RECORD | {"group": "team", "tags": ["eu"]}])
    assert (key.group_id, key.tags) == ("team", ("eu",))
