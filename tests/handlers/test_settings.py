"""What runs here, its notifications, and accounts that move: for admins, and without a secret."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.base import ADMIN_BODY_BYTES
from proxy.accounts.account import ApiKey, OAuthTokens
from proxy.accounts.moving import MOST_ACCOUNTS
from proxy.errors import StorageError
from proxy.storage import passphrase as sealed
from proxy.storage.protocols import Kind
from proxy.storage.timed import Timed
from tests.canaries import leaked
from tests.echo import Script, echo
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve, until, upstream_key
from tests.wire import Answer

PASSPHRASE = "five words of the tests"
PATH = "/services/T024BE7LD/canary-B9x2Qm5Rt7Vw1Zk4"
SECRET = "a-webhook-secret-of-tests-8Kd3"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not 64 MiB for each test; that it is so for others is a test of its own."""
    monkeypatch.setattr(sealed, "HEAD", sealed.HEAD | {"n": 1024})


# ---- what runs here


@pytest.mark.files
async def test_the_configuration_in_effect_is_told_with_its_places_and_without_secrets(
    tmp_path: Path,
) -> None:
    url = f"https://hooks.example{PATH}"
    config = tmp_path / "config.yaml"
    config.write_text("session:\n  max_concurrent: 7\n")
    options = {
        "notifications__webhook_url": url,
        "notifications__secret": SECRET,
        "session__max_concurrent": None,
    }
    async with serve(tmp_path / "data", config=config, **options) as service:
        answer = await service.admin("GET", "/api/admin/config")
        found = answer.json()
        keys = {each["key"]: (each["value"], each["place"]) for each in found["config"]}
        assert keys["session.max_concurrent"] == (7, f"{config}, line 2")
        assert keys["auth.api_key"] == ("***", "AUTH__API_KEY")
        assert keys["retry.max_attempts"] == (5, None)
        assert found["storage"]["data_folder"] == str(tmp_path / "data")
        assert found["storage"]["bytes"] > 500 and found["storage"]["encryption_key"] is None
        assert found["oauth"] == {"ready": True, "missing": []}
        [target] = found["notifications"]["targets"]
        assert (target["name"], target["kind"]) == ("webhook_url", "webhook")
        assert leaked(answer.body, [ADMIN_KEY, CLIENT_KEY, PATH, SECRET, upstream_key("a")]) == []


async def test_what_is_missing_for_oauth_is_named(tmp_path: Path) -> None:
    async with serve(tmp_path, oauth__client_id=None, oauth__token_url=None) as service:
        found = (await service.admin("GET", "/api/admin/config")).json()
        assert found["oauth"] == {"ready": False, "missing": ["oauth.client_id", "oauth.token_url"]}


async def test_the_configuration_is_read_again_and_what_needs_a_restart_is_told(tmp_path: Path) -> None:
    config, level = tmp_path / "config.yaml", logging.getLogger().level
    config.write_text("session:\n  session_ttl: 5m\n")
    try:
        async with serve(tmp_path / "data", config=config) as service:
            same = await service.admin("POST", "/api/admin/reload")
            assert (same.status, same.json()) == (200, {"changed": []})
            config.write_text(
                f"session:\n  session_ttl: 300s\n  cleanup_interval: 2m\nlogger: {{level: error}}\n"
                f"notifications: {{secret: {SECRET}}}\nserver: {{port: 5}}\n"
            )
            changed = await service.admin("POST", "/api/admin/reload")
            found = {each["key"]: (each["value"], each["applied"]) for each in changed.json()["changed"]}
            assert found == {
                "server.port": (5, False),
                "session.cleanup_interval": ("2m", False),
                "logger.level": ("error", True),
                "notifications.secret": ("***", True),
            }
            assert logging.getLogger().level == logging.ERROR
            shown = (await service.admin("GET", "/api/admin/config")).json()["config"]
            keys = {each["key"]: (each["value"], each["place"]) for each in shown}
            assert keys["logger.level"] == ("error", f"{config}, line 4")
            assert keys["server.port"] == (4000, None)
            again = await service.admin("POST", "/api/admin/reload")
            assert "logger.level" not in [each["key"] for each in again.json()["changed"]]
            [event] = (await service.admin("GET", "/api/admin/events?kind=server.reloaded")).json()["events"]
            assert event["before"] == {"logger.level": "info", "notifications.secret": None}
            assert event["after"] == {"logger.level": "error", "notifications.secret": "***"}
            config.write_text(f"auth: {{api_kee: {SECRET}}}")
            wrong = await service.admin("POST", "/api/admin/reload")
            assert wrong.status == 422
            assert f"{config}, line 1: auth.api_kee is not a known key" in wrong.json()["error"]["message"]
            assert "the nearest one is auth.api_key" in wrong.json()["error"]["message"]
            assert leaked(changed.body + wrong.body, [SECRET, ADMIN_KEY]) == []
    finally:
        logging.getLogger().setLevel(level)


# ---- a test notification


async def test_a_test_notification_says_what_the_receiver_answered(tmp_path: Path) -> None:
    async with echo() as receiver:
        url = receiver.url + PATH
        async with serve(tmp_path, notifications__webhook_url=url, notifications__secret=SECRET) as service:
            answer = await service.admin("POST", "/api/admin/notifications/test")
            said = {"ok": True, "status": 200, "latency_ms": 0, "message": "it answered 200"}
            target = {"name": "webhook_url", "kind": "webhook"}
            assert answer.json() == {"ok": True, "targets": [target | said]}
            [sent] = [each for each in receiver.requests if json.loads(each.body)["event"] == "test"]
            assert sent.start.startswith(f"POST {PATH} ".encode())
            assert sent.values("x-claude-proxy-signature")
            assert "Claude Proxy: this is a test" in json.loads(sent.body)["text"]
            receiver.script = Script(b"HTTP/1.1 403 No\r\nContent-Length: 13\r\n\r\ninvalid_token")
            refused = await service.admin("POST", "/api/admin/notifications/test")
            [said] = refused.json()["targets"]
            assert (refused.json()["ok"], said["message"]) == (False, "it answered 403")
            assert leaked(answer.body + refused.body, [PATH, SECRET]) == []


async def test_a_receiver_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path, notifications__webhook_url="http://127.0.0.1:1/x") as service:
        answer = await service.admin("POST", "/api/admin/notifications/test")
        [said] = answer.json()["targets"]
        assert (answer.status, said["ok"], said["status"]) == (200, False, None) and said["message"]


async def test_without_a_target_a_test_names_the_key_to_set(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("POST", "/api/admin/notifications/test")
        assert answer.status == 422 and "notifications.targets" in answer.json()["error"]["message"]


# ---- export and import


async def export(service: Service, **fields: Any) -> dict[str, Any]:
    answer = await service.admin("POST", "/api/admin/export", {"passphrase": PASSPHRASE} | fields)
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def take_in(service: Service, file: Any, **fields: Any) -> Answer:
    asked = {"passphrase": PASSPHRASE, "file": file} | fields
    return await service.admin("POST", "/api/admin/import", asked)


def outcomes(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.body
    return {each["name"]: each["outcome"] for each in answer.json()["accounts"]}


async def test_accounts_move_to_another_proxy_with_all_that_is_theirs(tmp_path: Path) -> None:
    async with serve(tmp_path / "a", accounts=["key"]) as service:
        login, _ = await service.add_login("login")
        change = {"proxy": "http://me:pass@proxy.lan:1", "priority": 3, "tags": ["eu"], "status": "inactive"}
        [key] = [each for each in service.parts.pool if each.name == "key"]
        assert (await service.admin("PUT", f"/api/accounts/{key.id}", change)).status == 200
        file = await export(service)
        before = {each.id: each for each in service.parts.pool}
    async with serve(tmp_path / "b", accounts=["other"]) as service:
        dry = await take_in(service, file, dry_run=True)
        assert outcomes(dry) == {"key": "taken", "login": "taken"} and len(service.parts.pool) == 1
        done = await take_in(service, file)
        assert outcomes(done) == {"key": "taken", "login": "taken"}
        assert "works once" in done.json()["warnings"][0]
        after = {each.id: each for each in service.parts.pool}
        for id, old in before.items():
            new = after[id]
            assert (new.name, new.credential, new.proxy) == (old.name, old.credential, old.proxy)
            assert (new.status, new.preferences) == (old.status, old.preferences)
            assert (new.organization_uuid, new.created_at) == (old.organization_uuid, old.created_at)
    async with serve(tmp_path / "b", accounts=[]) as service:  # they are on disk
        assert service.parts.pool[login.id].credential == login.credential


async def test_what_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    async with serve(tmp_path / "a", accounts=["key", "same-name"]) as service:
        login, _ = await service.add_login("login")
        file = await export(service)
        newer = OAuthTokens("newer-access", "newer-refresh", login.expires_at)
        renamed = service.parts.pool.change(
            login.id, lambda a: a.refresh_received(newer, 1.0).refresh_saved()
        )
        await renamed
        again = await take_in(service, file)
        assert outcomes(again) == {"key": "there", "same-name": "there", "login": "there"}
        assert service.parts.pool[login.id].credential == newer
        assert again.json()["warnings"] == []
    async with serve(tmp_path / "b", accounts=[]) as service:
        # The same key under another id; the same organisation with other tokens; another account of a taken name.
        await service.parts.pool.add("mine", ApiKey(upstream_key("key")))
        organization = login.organization_uuid
        await service.parts.pool.add("ours", newer, organization_uuid=organization)
        await service.parts.pool.add("Same-Name", ApiKey(upstream_key("another")))
        found = outcomes(await take_in(service, file))
        assert found == {"mine": "there", "ours": "there", "same-name 2": "taken"}
        assert outcomes(await take_in(service, file)) == {
            "mine": "there",
            "ours": "there",
            "same-name 2": "there",
        }


async def test_an_export_is_told_and_holds_no_secret_in_the_clear(tmp_path: Path) -> None:
    async with echo() as receiver, serve(tmp_path, notifications__webhook_url=receiver.url) as service:
        _, grant = await service.add_login("login")
        asked = {"passphrase": PASSPHRASE, "client_keys": True}
        answer = await service.admin("POST", "/api/admin/export", asked)
        secrets = [upstream_key("a"), grant.access_token, grant.refresh_token, CLIENT_KEY, PASSPHRASE]
        assert leaked(answer.body, secrets) == []
        assert str(answer.header("content-disposition")).startswith('attachment; filename="claude-proxy-2027')
        events = (await service.admin("GET", "/api/admin/events?kind=account.exported")).json()["events"]
        assert [(each["level"], each["actor"]["kind"]) for each in events] == [("warning", "admin")]
        assert events[0]["after"] == {"accounts": 2, "client_keys": 1}
        await until(lambda: any(b"account.exported" in each.body for each in receiver.requests))
        records = sealed.unseal(answer.json(), PASSPHRASE)
        assert {kind: len(each) for kind, each in records.items()} == {"accounts": 2, "tokens": 1}


def damaged(file: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The file with each of its members changed."""
    yield {}
    for name, value in {
        "format": "x", "version": 2, "n": 2**30, "r": 64, "p": 100, "salt": "AAAA", "nonce": "é",
        "content": file["content"][:-8], "cipher": "none", "kdf": 5,
    }.items():  # fmt: skip
        yield file | {name: value}
        yield {key: each for key, each in file.items() if key != name}
    turned = bytearray(base64.b64decode(file["content"]))
    turned[5] ^= 1
    yield file | {"content": base64.b64encode(turned).decode()}


async def test_a_file_that_is_none_or_was_changed_takes_nothing_in(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        file = await export(service)
        for each in damaged(file):
            answer = await take_in(service, each)
            assert answer.status == 422, (each, answer.body)
            assert leaked(answer.body, [PASSPHRASE, file["content"][:40]]) == []
        wrong = await take_in(service, file, passphrase=PASSPHRASE + "x")
        assert wrong.status == 422 and "the passphrase is not the file's" in wrong.json()["error"]["message"]
        assert len(service.parts.pool) == 1


@pytest.mark.parametrize("passphrase", ["", "eleven char", "x" * 1025, 123456789012, None])
async def test_a_passphrase_has_twelve_characters(tmp_path: Path, passphrase: object) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        for path, more in (("export", {}), ("import", {"file": {}})):
            answer = await service.admin("POST", f"/api/admin/{path}", {"passphrase": passphrase} | more)
            assert answer.status == 422 and "passphrase" in answer.json()["error"]["message"]


def record(service: Service, **changes: Any) -> dict[str, Any]:
    [account] = service.parts.pool
    return account.record() | {"id": "acc_new", "credential": {"api_key": "sk-ant-api03-new"}} | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "../../etc/passwd"}, "will not do as an id"),
        ({"id": 5}, "will not do as an id"),
        ({"credential": {"api_key": "a\nb"}}, "credential"),
        ({"status": "tired"}, "status"),
        ({"proxy": "file:///etc/passwd"}, "proxy"),
        ({"weight": -1.0}, "weight"),
        ({"created_at": "soon"}, "created_at"),
        ({"name": 7}, "name"),
    ],
)
async def test_a_hostile_account_takes_nothing_in(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        records = [record(service), record(service, **changes)]
        answer = await take_in(service, sealed.seal({"accounts": records}, PASSPHRASE))
        assert answer.status == 422, answer.body
        assert (
            "account number 2" in answer.json()["error"]["message"]
            and said in answer.json()["error"]["message"]
        )
        assert len(service.parts.pool) == 1


async def test_a_name_that_cannot_be_one_here_is_made_one(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        names = ["A", "\x00\u202e", "n" * 500]
        records = [
            record(service, id=f"acc_{n}", name=name, credential={"api_key": f"sk-ant-api03-{n}"})
            for n, name in enumerate(names)
        ]
        taken = outcomes(await take_in(service, sealed.seal({"accounts": records}, PASSPHRASE)))
        assert taken == {"A 2": "taken", "account": "taken", "n" * 60: "taken"}


async def test_more_accounts_than_a_pool_could_have_are_refused(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        records = [record(service)] * (MOST_ACCOUNTS + 1)
        answer = await take_in(service, sealed.seal({"accounts": records}, PASSPHRASE))
        assert answer.status == 422 and str(MOST_ACCOUNTS) in answer.json()["error"]["message"]


async def test_an_import_may_be_larger_than_other_requests(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        note = "n" * 1000
        records = [
            record(
                service, id=f"acc_{n}", name=f"n{n}", note=note, credential={"api_key": f"sk-ant-api03-{n}"}
            )
            for n in range(200)
        ]
        file = sealed.seal({"accounts": records}, PASSPHRASE)
        assert len(file["content"]) > ADMIN_BODY_BYTES
        assert set(outcomes(await take_in(service, file, dry_run=True)).values()) == {"taken"}
        assert len(service.parts.pool) == 1


async def test_an_account_that_comes_twice_in_a_file_is_taken_once(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        records = [record(service, name=name) for name in ("b", "c")]
        file = sealed.seal({"accounts": records}, PASSPHRASE)
        for dry_run in (True, False):
            answer = await take_in(service, file, dry_run=dry_run)
            assert [each["outcome"] for each in answer.json()["accounts"]] == ["taken", "there"]
        assert [account.name for account in service.parts.pool] == ["a", "b"]


async def test_content_of_another_kind_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        for content in ({"accounts": {}}, {"accounts": [5]}, [1]):
            file = sealed.encrypt(json.dumps(content).encode(), PASSPHRASE)
            answer = await take_in(service, file)
            assert answer.status == 422, (content, answer.body)


@pytest.mark.files  # the chain of a shared store is written by another way
async def test_without_its_line_in_the_audit_log_nothing_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*args: object, **kwargs: object) -> None:
        raise StorageError("events could not be saved (no space left on device)")

    async with serve(tmp_path, accounts=["a"]) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Timed, "append", full)
            answer = await service.admin("POST", "/api/admin/export", {"passphrase": PASSPHRASE})
        assert answer.status == 503 and "content" not in answer.json()
        assert "no space left" in answer.json()["error"]["message"]


async def test_a_disk_that_fails_takes_nothing_in_and_a_second_try_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path / "a", accounts=["a", "b"]) as service:
        file = await export(service)
    put = Timed.put

    def full(storage: Timed, kind: Kind, id: str, record: dict[str, Any], **given: int | None) -> Any:
        if record.get("name") == "b":
            raise StorageError("no space left on device")
        return put(storage, kind, id, record, **given)

    async with serve(tmp_path / "b", accounts=[]) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Timed, "put", full)
            assert (await take_in(service, file)).status == 503
        assert [account.name for account in service.parts.pool] == ["a"]
        assert outcomes(await take_in(service, file)) == {"a": "there", "b": "taken"}


async def test_other_requests_are_answered_while_a_passphrase_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, threads = threading.Event(), []

    def slow(*args: Any, **kwargs: Any) -> bytes:
        threads.append(threading.current_thread())
        assert release.wait(20)
        return bytes(32)

    async with serve(tmp_path, accounts=["a"]) as service:
        monkeypatch.setattr("hashlib.scrypt", slow)
        exports = [asyncio.create_task(export(service)) for _ in range(3)]
        await until(lambda: threads)
        assert (await service.message()).status == 200
        assert len(threads) == 1 and threads[0] is not threading.main_thread()  # one at a time
        release.set()
        assert len(await asyncio.gather(*exports)) == 3
