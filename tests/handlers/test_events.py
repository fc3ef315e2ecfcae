"""What happened and who did it: told to admins, on disk before they are answered, and found again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StorageError
from proxy.simulator import Error, quota_429
from proxy.storage.address import StoreAddress
from proxy.storage.audit import verified, verified_in
from proxy.storage.redis import RedisLink
from proxy.storage.redis_store import RedisStore
from proxy.storage.timed import Timed
from tests.canaries import holders, leaked
from tests.logins import arguments
from tests.routes import ROUTES
from tests.service import (
    ADMIN_KEY,
    CLIENT_KEY,
    MESSAGE_HEADERS,
    ON_REDIS,
    Service,
    TestClock,
    kept_lines,
    message,
    serve,
    shared_store,
    upstream_key,
)
from tests.wire import Answer, connect, fetch

ADMIN_TOKEN = "cp-an-admin-token-of-tests-9Rk3"

Ask = Callable[..., Awaitable[Answer]]
"""Sends a request to the admin API: method, path, body."""


async def events(service: Service, query: str = "") -> list[dict[str, Any]]:
    answer = await service.admin("GET", f"/api/admin/events{query}")
    assert answer.status == 200, answer.body
    return list(answer.json()["events"])


def on_disk(folder: Path) -> list[dict[str, Any]]:
    return kept_lines(folder, "events")


async def chain(folder: Path) -> str:
    """What is said of the audit log by who verifies it."""
    if not ON_REDIS:
        return verified(folder)
    clock = TestClock()
    given = shared_store(folder, clock)
    link = RedisLink(
        StoreAddress.read(str(given["STORAGE__URL"])), name=str(given["STORAGE__NAME"]), clock=clock
    )
    store = await RedisStore.open(link, instance="ins_reader", clock=clock)
    try:
        return await verified_in(store, "the store")
    finally:
        await store.close()


# ---- every change names its actor


async def new_key(ask: Ask) -> str:
    return str((await ask("POST", "/api/tokens", {"name": "new"})).json()["token"]["id"])


async def pasted(service: Service, ask: Ask, query: str = "", organization: str = "Acme") -> str:
    url = (await ask("GET", f"/oauth/authorize{query}")).json()["authorization_url"]
    back = arguments(service.simulator.authorize(url, organization=organization))
    return f"{back['code']}#{back['state']}"


async def log_in(service: Service, ask: Ask) -> Answer:
    return await service.page("POST", "/api/auth/login", {"api_key": ADMIN_KEY})


async def log_out(service: Service, ask: Ask) -> Answer:
    cookie = await service.login()
    return await service.page("POST", "/api/auth/logout", cookie=cookie)


async def exchange(service: Service, ask: Ask) -> Answer:
    return await ask("POST", "/oauth/exchange", {"code": await pasted(service, ask)})


async def callback(service: Service, ask: Ask) -> Answer:
    code, _, state = (await pasted(service, ask)).partition("#")
    return await fetch(service.port, "GET", f"/oauth/callback?code={code}&state={state}")


async def reauthorize(service: Service, ask: Ask) -> Answer:
    account, _ = await service.add_login("login")
    code = await pasted(service, ask, f"?account_id={account.id}", "login")
    return await ask("POST", f"/api/accounts/{account.id}/reauthorize", {"code": code})


async def refresh(service: Service, ask: Ask) -> Answer:
    account, _ = await service.add_login("login")
    return await ask("POST", f"/api/accounts/{account.id}/refresh")


async def add_account(service: Service, ask: Ask) -> Answer:
    service.simulator.add_api_key(upstream_key("b"), organization="b")
    return await ask("POST", "/api/accounts", {"name": "b", "type": "api_key", "api_key": upstream_key("b")})


async def put_account(service: Service, ask: Ask) -> Answer:
    [account] = service.parts.pool
    return await ask("PUT", f"/api/accounts/{account.id}", {"name": "renamed"})


async def delete_account(service: Service, ask: Ask) -> Answer:
    [account] = service.parts.pool
    return await ask("DELETE", f"/api/accounts/{account.id}")


async def probe_account(service: Service, ask: Ask) -> Answer:
    [account] = service.parts.pool
    service.simulator.script(upstream_key("a"), Error(401))
    return await ask("POST", f"/api/accounts/{account.id}/test")


async def acknowledge(service: Service, ask: Ask) -> Answer:
    return await ask("DELETE", "/api/admin/findings")


async def end_session(service: Service, ask: Ask) -> Answer:
    await service.message()
    [session] = service.parts.sessions
    return await ask("DELETE", f"/api/sessions/{session.id}")


async def add_key(service: Service, ask: Ask) -> Answer:
    return await ask("POST", "/api/tokens", {"name": "new"})


async def put_key(service: Service, ask: Ask) -> Answer:
    return await ask("PUT", f"/api/tokens/{await new_key(ask)}", {"models": ["claude-haiku-*"]})


async def delete_key(service: Service, ask: Ask) -> Answer:
    return await ask("DELETE", f"/api/tokens/{await new_key(ask)}")


async def rotate(service: Service, ask: Ask) -> Answer:
    return await ask("POST", f"/api/tokens/{await new_key(ask)}/rotate")


async def end_former(service: Service, ask: Ask) -> Answer:
    path = f"/api/tokens/{await new_key(ask)}"
    await ask("POST", f"{path}/rotate")
    return await ask("DELETE", f"{path}/former_keys")


CHANGES: dict[tuple[str, str], tuple[Callable[[Service, Ask], Awaitable[Answer]], str]] = {
    ("GET", "/oauth/callback"): (callback, "account.added"),
    ("POST", "/api/auth/login"): (log_in, "admin.login"),
    ("POST", "/api/auth/logout"): (log_out, "admin.logout"),
    ("POST", "/oauth/exchange"): (exchange, "account.added"),
    ("POST", "/api/accounts"): (add_account, "account.added"),
    ("PUT", "/api/accounts/nobody"): (put_account, "account.renamed"),
    ("DELETE", "/api/accounts/nobody"): (delete_account, "account.deleted"),
    ("POST", "/api/accounts/nobody/test"): (probe_account, "account.invalid"),
    ("POST", "/api/accounts/nobody/refresh"): (refresh, "account.refreshed"),
    ("POST", "/api/accounts/nobody/reauthorize"): (reauthorize, "account.refreshed"),
    ("DELETE", "/api/admin/findings"): (acknowledge, "storage.acknowledged"),
    ("DELETE", "/api/sessions/nobody"): (end_session, "session.ended"),
    ("POST", "/api/tokens"): (add_key, "token.added"),
    ("PUT", "/api/tokens/nobody"): (put_key, "token.changed"),
    ("DELETE", "/api/tokens/nobody"): (delete_key, "token.deleted"),
    ("POST", "/api/tokens/nobody/rotate"): (rotate, "token.rotated"),
    ("DELETE", "/api/tokens/nobody/former_keys"): (end_former, "token.former_ended"),
}
"""What changes something by each route, and the kind of its event."""

ELSEWHERE = {
    ("POST", "/api/admin/explain"),  # changes nothing
    ("POST", "/api/admin/notifications/test"),  # neither
    *(
        ("POST", f"/api/admin/{name}") for name in ("export", "import", "reload")
    ),  # test_settings, test_transfer
}


async def as_key(service: Service) -> tuple[Ask, dict[str, str | None]]:
    return service.admin, {"id": None, "name": "admin key"}


async def as_token(service: Service) -> tuple[Ask, dict[str, str | None]]:
    answer = await service.admin("POST", "/api/tokens", {"name": "boss", "role": "admin", "key": ADMIN_TOKEN})

    async def ask(method: str, path: str, body: Any = None) -> Answer:
        return await service.admin(method, path, body, key=ADMIN_TOKEN)

    return ask, {"id": answer.json()["token"]["id"], "name": "boss"}


async def as_sign_in(service: Service) -> tuple[Ask, dict[str, str | None]]:
    cookie = await service.login()
    [signed_in] = await events(service, "?kind=admin.login")

    async def ask(method: str, path: str, body: Any = None) -> Answer:
        return await service.page(method, path, body, cookie=cookie)

    return ask, {"id": signed_in["actor"]["id"], "name": "admin key"}


def test_every_route_that_may_change_something_is_walked() -> None:
    changing = {(method, path) for method, path in ROUTES if method not in ("GET", "HEAD")}
    assert changing - ELSEWHERE | {("GET", "/oauth/callback")} == CHANGES.keys()


@pytest.mark.parametrize("enter", [as_key, as_token, as_sign_in])
@pytest.mark.parametrize("route", CHANGES, ids=" ".join)
async def test_a_change_names_its_actor_and_is_on_disk_before_the_answer(
    tmp_path: Path,
    route: tuple[str, str],
    enter: Callable[[Service], Awaitable[tuple[Ask, dict[str, str | None]]]],
) -> None:
    change, kind = CHANGES[route]
    async with serve(tmp_path) as service:
        ask, who = await enter(service)
        answer = await change(service, ask)
        stored = on_disk(tmp_path)
        assert answer.status in (200, 201), answer.body
        [*_, event] = [each for each in stored if each["kind"] == kind]
        assert (event["actor"]["kind"], event["actor"]["address"]) == ("admin", "127.0.0.1")
        if not route[1].startswith("/api/auth/"):  # they have a sign-in of their own
            assert {"id": event["actor"]["id"], "name": event["actor"]["name"]} == who
        assert await events(service, f"?kind={kind}&limit=1") == [
            {name: value for name, value in event.items() if name != "prev_sha256"}
        ]
        assert (await chain(tmp_path)).startswith("ok")


async def test_what_no_admin_does_is_the_proxy_s_or_a_key_s(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        [session] = await events(service, "?kind=session.started")
        [token] = [token for token in service.parts.keys if token.name == "tests"]
        assert session["actor"] == {"kind": "key", "id": token.id, "name": "tests", "address": "127.0.0.1"}
        [started] = await events(service, "?kind=server")
        assert started["actor"]["kind"] == "system"


async def test_what_follows_on_an_admin_s_connection_is_not_theirs(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, connect(service.port) as wire:
        service.simulator.script(upstream_key("a"), quota_429())
        admin = await wire.request("GET", "/api/accounts", [("X-API-Key", ADMIN_KEY)])
        await admin.read()
        headers = [*MESSAGE_HEADERS, ("x-api-key", CLIENT_KEY)]
        assert (await wire.request("POST", "/v1/messages", headers, message())).status == 429
        [limited] = await events(service, "?kind=account.rate_limited")
        assert limited["actor"]["kind"] == "system"


async def test_a_poll_of_a_dashboard_does_not_change_the_health(tmp_path: Path) -> None:
    """It may be the first to look after time has changed something."""
    async with serve(tmp_path, accounts=[]) as service:
        await service.add_account("a")
        await service.admin("GET", "/api/live?topics=stats:0")
        [changed] = await events(service, "?kind=health")
        assert (changed["actor"]["kind"], changed["text"], changed["level"]) == (
            "system",
            "Claude Proxy is healthy again",
            "info",
        )


async def test_no_secret_is_in_the_audit_log(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for change, _ in CHANGES.values():
            if change not in (probe_account, delete_account, put_account, refresh):
                await change(service, service.admin)
        [first, *_] = service.parts.pool
        key = upstream_key("another")
        service.simulator.add_api_key(key, organization="a")
        assert (await service.admin("PUT", f"/api/accounts/{first.id}", {"api_key": key})).status == 200
        [replaced] = await events(service, "?kind=account.rekeyed")
        assert replaced["after"] == {"api_key": "replaced"}
        text = json.dumps(await events(service, "?limit=1000"))
        assert not leaked(text, [ADMIN_KEY, CLIENT_KEY, key, upstream_key("a")])
    assert not holders(tmp_path / "events", [ADMIN_KEY, CLIENT_KEY, key, upstream_key("a")])


async def test_a_change_of_a_key_says_what_was_before(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        id = (await service.admin("POST", "/api/tokens", {"name": "ci"})).json()["token"]["id"]
        await service.admin("PUT", f"/api/tokens/{id}", {"limits": {"cost_usd_per_day": 5}, "name": "ci-2"})
        [event] = await events(service, "?kind=token.changed")
        assert event["subject"] == {"kind": "token", "id": id, "name": "ci-2"}
        assert (event["before"]["name"], event["after"]["name"]) == ("ci", "ci-2")
        assert event["before"]["limits"]["cost_usd_per_day"] is None
        assert event["after"]["limits"]["cost_usd_per_day"] == 5
        assert event["before"].keys() == {"name", "limits"}


# ---- on disk


async def test_events_outlive_the_process_and_their_numbers_go_on(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.admin("POST", "/api/tokens", {"name": "ci"})
        before = await events(service)
    async with serve(tmp_path, accounts=[]) as service:
        after = await events(service)
        assert after[1:] == before
        assert (after[0]["kind"], after[0]["id"]) == ("server.started", before[0]["id"] + 1)
    assert await chain(tmp_path) == f"ok, {len(after)} events"


async def test_pages_lead_through_memory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.dashboard.event_log.MOST", 10)
    monkeypatch.setattr("proxy.dashboard.event_archive.MOST", 10)
    monkeypatch.setattr("proxy.dashboard.event_history.MOST_LINES", 5)
    async with serve(tmp_path, accounts=[]) as service:
        for day in range(4):
            for n in range(7):
                await service.admin("POST", "/api/tokens", {"name": f"key-{day}-{n}"})
            service.clock.advance(86_400)
        names, cursor = [], "?kind=token.added&actor=admin&limit=3"
        while True:
            page = (await service.admin("GET", f"/api/admin/events{cursor}")).json()
            names += [event["subject"]["name"] for event in page["events"]]
            if page["next_before"] is None:
                break
            cursor = f"?kind=token.added&actor=admin&limit=3&before={page['next_before']}"
        assert names == [f"key-{day}-{n}" for day in reversed(range(4)) for n in reversed(range(7))]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?kind=token", 2),  # "tests" is one
        ("?kind=token.added", 2),
        ("?kind=tok", 0),
        ("?actor=admin", 1),
        ("?actor=admin%20key", 1),
        ("?actor=nobody", 0),
        ("?kind=token&actor=system", 1),
        ("?limit=1", 1),
        ("?before=1", 0),
    ],
)
async def test_filters(tmp_path: Path, query: str, count: int) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        await service.admin("POST", "/api/tokens", {"name": "ci"})
        assert len(await events(service, query)) == count


async def test_those_about_one_subject_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.dashboard.event_log.MOST", 3)
    monkeypatch.setattr("proxy.dashboard.event_archive.MOST", 3)
    async with serve(tmp_path, accounts=[]) as service:
        id = await new_key(service.admin)
        for _ in range(5):
            await new_key(service.admin)
        await service.admin("PUT", f"/api/tokens/{id}", {"limits": {"tokens_per_day": 5}})
        changed, made = await events(service, f"?subject={id}")
        assert (changed["kind"], made["kind"]) == ("token.changed", "token.added")
        assert changed["after"]["limits"]["tokens_per_day"] == 5 and changed["actor"]["name"] == "admin key"
        assert await events(service, f"?subject={id[:-1]}") == []
        assert await events(service, f"?subject={id}&kind=token.changed") == [changed]


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?before=x", "?before=-1"])
async def test_a_query_that_makes_no_sense_is_refused(tmp_path: Path, query: str) -> None:
    async with serve(tmp_path) as service:
        assert (await service.admin("GET", f"/api/admin/events{query}")).status == 422


@pytest.mark.files
async def test_days_that_are_kept_no_longer_are_removed_with_a_line_that_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path, storage__keep_events="2d") as service:
        for _ in range(4):
            await service.admin("POST", "/api/tokens", {"name": "ci"})
            service.clock.advance(86_400)
        await service.parts.archive.remove_old()
        assert [path.stem for path in sorted((tmp_path / "events").iterdir())] == [
            "2027-01-17",
            "2027-01-18",
            "2027-01-19",
        ]
        [removed] = await events(service, "?kind=audit")
        assert removed["after"]["before"] == "2027-01-17"
        await service.parts.archive.remove_old()
        assert len(await events(service, "?kind=audit")) == 1
        assert (await chain(tmp_path)).startswith("ok")


@pytest.mark.files
async def test_a_start_after_damage_says_so_and_the_chain_goes_on(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.admin("POST", "/api/tokens", {"name": "ci"})
    [path] = (tmp_path / "events").iterdir()
    path.write_bytes(path.read_bytes().replace(b"token.added", b"token.bdded"))
    async with serve(tmp_path, accounts=[]) as service:
        [damaged] = await events(service, "?kind=audit")
        assert (damaged["kind"], damaged["level"]) == ("audit.damaged", "error")
    with pytest.raises(StorageError, match=r"events/2027-01-15\.jsonl, line \d: it does not follow"):
        verified(tmp_path)


# ---- a disk that fails


@pytest.mark.files  # the chain of a shared store is written by another way
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_change_whose_event_cannot_be_written_is_done_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A key must be revocable on a full disk, which takes the change in the journal."""

    async def full(*args: object, **kwargs: object) -> None:
        raise StorageError("events is not read or saved (no space left on device)")

    async with serve(tmp_path) as service:
        id = (await service.admin("POST", "/api/tokens", {"name": "ci"})).json()["token"]["id"]
        lines = len(on_disk(tmp_path))
        with monkeypatch.context() as patch:
            patch.setattr(Timed, "append", full)
            body = {"status": "revoked"} if method == "PUT" else None
            answer = await service.admin(method, f"/api/tokens/{id}", body)
            assert answer.status == 200
            assert answer.json()["warning"] == (
                "it is done, but not in the audit log yet: "
                "events is not read or saved (no space left on device)"
            )
            reasons = (await service.admin("GET", "/api/admin/statistics")).json()["reasons"]
            assert "events are not in the audit log yet: the data folder cannot be written" in reasons
            assert len(on_disk(tmp_path)) == lines
        await service.parts.archive.save()
        assert len(on_disk(tmp_path)) > lines
        assert (await service.admin("GET", "/health")).json()["status"] == "healthy"
    assert (await chain(tmp_path)).startswith("ok")


async def test_clients_cannot_fill_the_disk_and_admins_are_heard_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.dashboard.event_archive.MOST_A_DAY", 10)
    async with serve(tmp_path) as service:
        for n in range(20):
            await service.message(headers=[("User-Agent", f"agent {n}")])
        await service.admin("POST", "/api/tokens", {"name": "ci"})
        stored = on_disk(tmp_path)
        assert len(stored) == 11
        assert stored[-1]["kind"] == "token.added"
        service.clock.advance(86_400)
        await service.parts.archive.save()
        left_out = on_disk(tmp_path)[-1]
        assert (left_out["kind"], left_out["level"]) == ("audit.left_out", "warning")
    assert (await chain(tmp_path)).startswith("ok")
