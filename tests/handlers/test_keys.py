"""The admin's client keys: a key is shown once, stored as a hash, and stops working at once."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import holders
from tests.service import ADMIN_KEY, Service, kept, serve

FIELDS = {"id", "name", "key", "role", "status", "requests", "last_used_at", "created_at", "updated_at"} | {
    "expires_at",
    "limits",
    "models",
    "group",
    "tags",
    "declared",
    "used",
}
LIMITS = (
    "requests_per_minute",
    "concurrent_requests",
    *(f"{what}_per_{span}" for what in ("tokens", "cost_usd") for span in ("day", "month")),
)
KEY = "cp-a-key-of-a-client-8Jw2"


async def made(service: Service, **fields: Any) -> dict[str, Any]:
    """A new client key, as it is answered."""
    answer = await service.admin("POST", "/api/tokens", {"name": "client"} | fields)
    assert answer.status == 201
    return dict(answer.json()["token"])


async def status_of(service: Service, key: str) -> int:
    """What a client gets who shows this key."""
    return (await service.send("GET", "/v1/models", key=key)).status


async def names(service: Service, query: str) -> list[str]:
    answer = await service.admin("GET", f"/api/tokens?{query}")
    assert answer.status == 200
    return [token["name"] for token in answer.json()["tokens"]]


def stored(folder: Path, id: str) -> dict[str, Any]:
    """The key's record."""
    return kept(folder, "tokens", id)


# ---- making


async def test_a_key_that_is_made_works_and_has_every_field(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        assert token.keys() >= FIELDS
        assert token["limits"] == dict.fromkeys(LIMITS)
        assert (token["name"], token["role"], token["status"]) == ("client", "user", "active")
        assert re.fullmatch(r"cp-[A-Za-z0-9_-]{43}", token["key"])
        assert await status_of(service, token["key"]) == 200


async def test_a_key_that_is_given_works(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await made(service, key=KEY))["key"] == KEY
        assert await status_of(service, KEY) == 200


async def test_a_key_is_shown_once(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, key=KEY)
        path = f"/api/tokens/{token['id']}"
        answers = [
            await service.admin("GET", "/api/tokens"),
            await service.admin("GET", path),
            await service.admin("PUT", path, {"name": "other"}),
            await service.admin("DELETE", path),
        ]
        assert all(answer.status == 200 and KEY.encode() not in answer.body for answer in answers)
        assert answers[1].json()["token"]["key"] == "cp-…8Jw2"


async def test_no_file_holds_a_key_but_its_hash_is_there_before_the_answer(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, key=KEY)
        assert stored(tmp_path, token["id"])["key_sha256"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert holders(tmp_path, [KEY]) == []


async def test_a_key_that_exists_is_a_conflict(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service, key=KEY)
        answer = await service.admin("POST", "/api/tokens", {"name": "other", "key": KEY})
        assert (answer.status, answer.json()["error"]["type"]) == (409, "conflict_error")
        assert KEY.encode() not in answer.body


async def test_the_admin_key_is_a_conflict_too(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "client", "key": ADMIN_KEY})
        assert (answer.status, answer.json()["error"]["type"]) == (409, "conflict_error")
        assert ADMIN_KEY.encode() not in answer.body


@pytest.mark.parametrize("key", ["", "fifteen-letters", "x" * 257, "sixteen letters!", "sixteen-lettérs!!"])
async def test_a_key_that_will_not_do_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "client", "key": key})
        message = answer.json()["error"]["message"]
        assert (answer.status, message.startswith("key: 16 to 256")) == (422, True)
        assert not key or key not in message


async def test_a_key_may_be_made_for_later(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, status="inactive")
        assert await status_of(service, token["key"]) == 401


async def test_an_admins_key_is_a_client_key_too(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, role="admin")
        assert await status_of(service, token["key"]) == 200
        assert (await service.admin("GET", "/api/tokens", key=token["key"])).status == 200


# ---- changing


async def test_a_change_is_answered_and_stored(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        service.clock.advance(60)
        change = {"name": "other", "role": "admin", "status": "inactive"}
        answer = await service.admin("PUT", f"/api/tokens/{token['id']}", change)
        changed = answer.json()["token"]
        assert {name: changed[name] for name in change} == change
        assert changed["created_at"] == token["created_at"] < changed["updated_at"]
        assert {name: stored(tmp_path, token["id"])[name] for name in change} == change


async def test_a_key_works_as_its_state_says_from_the_answer_on(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        seen = []
        for status in ("inactive", "active", "revoked"):
            await service.admin("PUT", f"/api/tokens/{token['id']}", {"status": status})
            seen.append(await status_of(service, token["key"]))
        assert seen == [401, 200, 401]


@pytest.mark.parametrize("status", ["active", "inactive"])
async def test_a_revoked_key_stays_revoked(tmp_path: Path, status: str) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        path = f"/api/tokens/{token['id']}"
        await service.admin("PUT", path, {"status": "revoked"})
        answer = await service.admin("PUT", path, {"status": status})
        assert (answer.status, answer.json()["error"]["type"]) == (409, "conflict_error")
        assert (await service.admin("GET", path)).json()["token"]["status"] == "revoked"


@pytest.mark.parametrize("change", [{"key": KEY}, {"id": "tok_1"}, {"status": "REVOKED"}, {"role": "root"}])
async def test_what_cannot_be_changed_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        answer = await service.admin("PUT", f"/api/tokens/{token['id']}", change)
        assert (answer.status, next(iter(change)) in answer.json()["error"]["message"]) == (422, True)


# ---- group and tags


async def test_a_key_has_a_group_and_tags_that_are_shown_stored_and_covered_by_the_etag(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path) as service:
        plain = await made(service)
        assert (plain["group"], plain["tags"]) == (None, [])
        token = await made(service, group=" team a ", tags=["eu", " us ", "eu"])
        assert (token["group"], token["tags"]) == ("team a", ["eu", "us"])
        path, etags = f"/api/tokens/{token['id']}", {token["etag"]}
        for change in ({"group": "team b"}, {"group": None}, {"tags": ["us"]}, {"tags": []}):
            answer = await service.admin("PUT", path, change)
            assert answer.status == 200
            etags.add(answer.json()["token"]["etag"])
            assert {name: answer.json()["token"][name] for name in change} == change
            assert {name: stored(tmp_path, token["id"])[name] for name in change} == change
        assert len(etags) == 5
        await service.admin("PUT", path, {"group": "team c", "tags": ["eu"]})
    async with serve(tmp_path, accounts=[]) as service:
        await service.admin("PUT", path, {"name": "other", "tags": None})  # not named, and null: they stay
        token = (await service.admin("GET", path)).json()["token"]
        assert (token["group"], token["tags"]) == ("team c", ["eu"])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *[("group", wrong) for wrong in ("", " ", "x" * 65, "a\nb", "a\u202eb", 1, ["a"])],
        *[("tags", wrong) for wrong in ("eu", [""], ["a,b"], ["x" * 65], [1], [str(n) for n in range(33)])],
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_wrong_group_or_tag_is_refused_by_name(tmp_path: Path, name: str, wrong: Any) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        for method, path in (("POST", "/api/tokens"), ("PUT", f"/api/tokens/{token['id']}")):
            answer = await service.admin(method, path, {"name": "n", name: wrong})
            assert (answer.status, answer.json()["error"]["message"].startswith(name)) == (422, True)
        assert await names(service, "") == ["tests", "client"]


# ---- deleting


async def test_a_deleted_key_stops_working_at_once_and_stays_away(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        path = f"/api/tokens/{token['id']}"
        answer = await service.admin("DELETE", path)
        assert (answer.status, answer.json()["token"]["id"]) == (200, token["id"])
        assert await status_of(service, token["key"]) == 401
        assert (await service.admin("GET", path)).status == 404
    async with serve(tmp_path, accounts=[]) as service:
        assert await status_of(service, token["key"]) == 401


async def test_an_admins_deleted_key_opens_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service, role="admin")
        assert (await service.admin("DELETE", f"/api/tokens/{token['id']}", key=token["key"])).status == 200
        assert (await service.admin("GET", "/api/tokens", key=token["key"])).status == 401


async def test_two_admins_at_once_meet_no_internal_error(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for number in range(10):
            path = f"/api/tokens/{(await made(service))['id']}"
            answers = await asyncio.gather(
                service.admin("PUT", path, {"name": f"b{number}"}),
                service.admin("DELETE", path),
                service.admin("PUT", path, {"status": "inactive"}),
                service.admin("GET", path),
            )
            assert {answer.status for answer in answers} <= {200, 404}


# ---- finding


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["tests", "Team A", "team b", "ops"]),
        ("search=TEAM", ["Team A", "team b"]),
        ("search=team%20a", ["Team A"]),
        ("search=8Jw2", []),
        ("role=admin", ["ops"]),
        ("role=user&status=active", ["tests", "Team A"]),
        ("status=inactive&search=team", ["team b"]),
        ("status=revoked", []),
        ("role=&status=&search=&page=&limit=", ["tests", "Team A", "team b", "ops"]),
    ],
)
async def test_keys_are_found_by_role_state_and_name(tmp_path: Path, query: str, found: list[str]) -> None:
    async with serve(tmp_path) as service:
        for fields in (
            {"name": "Team A", "key": KEY},
            {"name": "team b", "status": "inactive"},
            {"name": "ops", "role": "admin"},
        ):
            service.clock.advance(1)
            await made(service, **fields)
        assert await names(service, query) == found


async def test_pages_hold_each_key_once_and_tell_the_total(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for number in range(6):
            await made(service, name=f"key {number}")
        pages = [await service.admin("GET", f"/api/tokens?page={page}&limit=3") for page in (1, 2, 3, 4)]
        assert [len(page.json()["tokens"]) for page in pages] == [3, 3, 1, 0]
        assert len({token["id"] for page in pages for token in page.json()["tokens"]}) == 7
        assert pages[1].json()["paging"] == {"page": 2, "limit": 3, "total": 7}


async def test_a_page_counts_what_was_searched_for(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await made(service, name="one")
        answer = await service.admin("GET", "/api/tokens?search=one")
        assert answer.json()["paging"] == {"page": 1, "limit": 50, "total": 1}


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=1.5",
        "page=%C2%B2",
        "limit=0",
        "limit=1001",
        "limit=000000001001",
        "page=" + "9" * 5000,
        "page=000000001" + "0" * 5000,
        "role=root",
        "status=ACTIVE",
    ],
    ids=lambda query: query[:20],
)
async def test_a_query_that_will_not_do_is_refused_and_named(tmp_path: Path, query: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", f"/api/tokens?{query}")
        assert (answer.status, answer.json()["error"]["type"]) == (422, "invalid_request_error")
        assert answer.json()["error"]["message"].startswith(query.partition("=")[0])


async def test_requests_are_counted_by_key(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        token = await made(service)
        for _ in range(3):
            await status_of(service, token["key"])
        answer = await service.admin("GET", f"/api/tokens/{token['id']}", key=ADMIN_KEY)
        assert answer.json()["token"]["requests"] == 3
        assert answer.json()["token"]["last_used_at"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00:00+14:00", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59-12:00"]
)
async def test_an_expiry_that_could_not_be_stored_is_refused(tmp_path: Path, when: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/tokens", {"name": "n", "expires_at": when})
        assert (answer.status, "expires_at" in answer.json()["error"]["message"]) == (422, True)
