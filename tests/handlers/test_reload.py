"""The configuration changes while the proxy serves: each key takes effect at once, or is named as needing a restart.

Long: a table with each key that is live, and how it is seen from the outside that it is.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.quota import Window
from proxy.config.schema import schema
from proxy.config.settings import keys
from proxy.logs import Lines, TextLine
from proxy.simulator import Error, Reset, Silence, Slow
from tests.canaries import leaked
from tests.echo import Echo, echo
from tests.handlers.test_cors import preflight
from tests.service import ADMIN_KEY, CLIENT_KEY, MESSAGE_HEADERS, Service, message, serve, until
from tests.wire import fetch

DECLARED = "cp-a-declared-key-of-tests-8Hs"
OTHER_ADMIN = "another-Admin-key-of-tests-3Kx"
SECRET = "a-webhook-secret-of-tests-8Kd3"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
DECLARES = f"[{{name: declared, key: {DECLARED}}}]"


@dataclass
class Running:
    """A proxy in a test, and what its receiver of notifications got."""

    service: Service
    receiver: Echo
    has_changed: bool = False


See = Callable[[Running], Awaitable[object]]


@dataclass
class Live:
    """A key with two values and what is seen with each; `options` are other settings, as variables."""

    first: str
    second: str
    see: See
    before: object
    after: object
    options: dict[str, str | None] = field(default_factory=dict)


# ---- what is seen


async def status(running: Running, key: str = CLIENT_KEY, **fields: Any) -> int:
    answer = await running.service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(**fields), key=key)
    return answer.status


async def tries(running: Running) -> object:
    """How often a request is tried that the upstream never answers well."""
    running.service.simulator.always(None, Error(529))
    return (await running.service.message()).header("x-proxy-attempts")


async def tries_at_last(running: Running) -> object:
    """As `tries`, once several requests have spent what may come at once."""
    return [await tries(running) for _ in range(4)][-1]


async def slept(running: Running) -> object:
    """The longest pause between the tries of a request, without what it is at random."""
    running.service.clock.slept.clear()
    running.service.simulator.always(None, Error(529))
    await running.service.message()
    return int(max(running.service.clock.slept))


async def jittered(running: Running) -> object:
    running.service.clock.slept.clear()
    running.service.simulator.script(None, Error(529))
    await running.service.message()
    return running.service.clock.slept[0] > 2


async def resent(running: Running) -> object:
    running.service.simulator.calm()
    running.service.simulator.script(None, Reset())
    return await status(running)


async def at_once(running: Running) -> object:
    """The answers to two requests of one client, of which the upstream has the first and never answers it."""
    running.service.simulator.script(None, Silence(), path="/v1/messages")
    first = asyncio.ensure_future(status(running))
    try:
        await until(lambda: running.service.simulator.open_requests)
        return await status(running)
    finally:
        first.cancel()
        await asyncio.wait([first])
        await until(lambda: not running.service.running)


async def queued(running: Running) -> object:
    """How many requests wait for the only place of a client, and are not refused at once."""
    running.service.simulator.script(None, Silence(), path="/v1/messages")
    tasks = [asyncio.ensure_future(status(running)) for _ in range(2)]
    try:
        await until(lambda: running.service.simulator.open_requests)
        await until(lambda: running.service.running == 2 or any(task.done() for task in tasks))
        return sum(not task.done() for task in tasks) - 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: not running.service.running)


async def sessions_after(running: Running, seconds: float = 120) -> object:
    await status(running)
    running.service.clock.advance(seconds)
    running.service.tick()
    return (await running.service.admin("GET", "/api/admin/sessions")).json()["total"]


async def idle(running: Running) -> object:
    running.service.clock.advance(3 * 86400)
    [account] = (await running.service.admin("GET", "/api/accounts")).json()["accounts"]
    return account["idle_since"] is not None


async def deactivated(running: Running) -> object:
    running.service.clock.advance(10 * 86400)
    if running.has_changed:
        await until(lambda: running.service.status("a") == "inactive")
    return running.service.status("a")


async def rested(running: Running) -> object:
    service = running.service
    account = next(iter(service.parts.pool))
    service.simulator.script(None, Error(402))
    await service.message()
    until_at = service.parts.pool[account.id].rate_limited_until
    await service.admin("PUT", f"/api/accounts/{account.id}", {"status": "active"})
    return None if until_at is None else round(until_at - service.clock.now())


async def alerts(running: Running) -> object:
    service = running.service
    account = next(iter(service.parts.pool))
    service.parts.pool.quotas.set(account.id, {"5h": Window(0.7, resets_at=service.clock.now() + 3600)})
    service.parts.quota.look()
    events = await service.admin("GET", "/api/admin/events?kind=account.quota_high")
    return len(events.json()["events"])


async def chosen(running: Running) -> object:
    """The accounts that two new conversations go to; b has more left than a."""
    service = running.service
    by_name = {account.name: account.id for account in service.parts.pool}
    for name, used in (("a", 0.9), ("b", 0.1)):
        window = Window(used, resets_at=service.clock.now() + 3600)
        service.parts.pool.quotas.set(by_name[name], {"5h": window})
    found = []
    for number in range(2):
        body = message(messages=[{"role": "user", "content": f"{number} {service.clock.monotonic()}"}])
        answer = await service.send("POST", "/v1/messages", MESSAGE_HEADERS, body)
        found.append(str(answer.header("x-proxy-account")))
        service.clock.advance(1)
    return len(set(found))


async def turns(running: Running, pause_s: float = 0.0) -> object:
    """How many accounts three turns of a conversation go to."""
    session = [("X-Claude-Code-Session-Id", f"session-{running.service.clock.monotonic()}")]
    found = set()
    for _ in range(3):
        found.add((await running.service.message(headers=session)).header("x-proxy-account"))
        running.service.clock.advance(pause_s)
    running.service.clock.advance(1)
    return len(found)


async def file_of_another(running: Running) -> object:
    """What a client key gets that asks for a file of another one."""
    made = await running.service.send(
        "POST",
        "/v1/files",
        [("anthropic-beta", "files-api-2025-04-14"), ("content-type", "multipart/form-data; boundary=x")],
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n--x--\r\n",
    )
    other = await running.service.add_key("other")
    head = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "files-api-2025-04-14")]
    return (await running.service.send("GET", f"/v1/files/{made.json()['id']}", head, key=other)).status


async def posted(running: Running) -> object:
    """How many notifications come of an account that turns invalid."""
    service, before = running.service, len(running.receiver.requests)
    account = next(iter(service.parts.pool))
    service.parts.pool.invalidate(account.id, "401")
    await service.parts.pool.change(account.id, lambda each: each.activated(service.clock.now()))
    await service.admin("POST", "/api/admin/notifications/test")
    new = running.receiver.requests[before:]
    return sum(b"account.invalid" in each.body for each in new)


async def signed(running: Running) -> object:
    await running.service.admin("POST", "/api/admin/notifications/test")
    return len(running.receiver.requests[-1].values("x-claude-proxy-signature"))


async def told_again(running: Running) -> object:
    """Whether the same is told again a minute later."""
    service = running.service
    account = next(iter(service.parts.pool))
    before = [len(running.receiver.requests)]
    for _ in range(2):
        service.clock.advance(3600 if len(before) == 1 else 60)
        service.parts.pool.invalidate(account.id, "401")
        await service.parts.pool.change(account.id, lambda each: each.activated(service.clock.now()))
        await service.admin("POST", "/api/admin/notifications/test")
        before.append(len(running.receiver.requests))
    count = sum(b'"account.invalid"' in each.body for each in running.receiver.requests[before[0] :])
    return count == 2


async def events_kept(running: Running) -> object:
    """Whether the events of four days ago are still there."""
    running.service.clock.advance(4 * 86400)
    await running.service.add_key("another")
    await running.service.parts.archive.remove_old()
    found = await running.service.admin("GET", "/api/admin/events?kind=audit.removed")
    return bool(found.json()["events"])


async def level(running: Running) -> object:
    return logging.getLogger().level


async def form(running: Running) -> object:
    """The first character of a line of the log."""
    lines = [each for each in logging.getLogger().handlers if isinstance(each, Lines)]
    record = logging.LogRecord("proxy", logging.INFO, __file__, 0, "said", (), None)
    assert lines[0].formatter is not None
    return lines[0].formatter.format(record)[0]


async def admin(running: Running, key: str = OTHER_ADMIN) -> object:
    return (await running.service.admin("GET", "/api/accounts", key=key)).status


async def silent(running: Running) -> object:
    """The answer where the upstream says nothing for a while, or, later on, nothing at all."""
    running.service.simulator.script(None, Silence() if running.has_changed else Slow(1), path="/v1/messages")
    return await status(running)


async def drained(running: Running) -> object:
    """How long a shutdown would wait; the test's end shows that it does."""
    return running.service.parts.server.drain_timeout_s


async def believed(running: Running) -> object:
    await running.service.send("GET", "/v1/models", [("X-Forwarded-For", "203.0.113.9"), ("User-Agent", "x")])
    found = (await running.service.admin("GET", "/api/admin/sessions")).json()["sessions"]
    return "203.0.113.9" in [each["ip"] for each in found]


async def page(running: Running) -> object:
    return (await fetch(running.service.port, "GET", "/", [("Host", "proxy.example.com")])).status


async def from_an_app(running: Running) -> object:
    return (await preflight(running.service.port, "https://app.example")).status


async def large(running: Running) -> object:
    return await status(running, system="x" * 2000)


async def of_admins(running: Running) -> object:
    """How many requests went upstream."""
    await running.service.send("GET", "/v1/organizations/workspaces")
    return len(running.service.simulator.ledger)


TWO = {"session__max_concurrent": None, "session__queue_timeout": "0s"}
HOOK = "[{kind: webhook, url: 'URL/hook', events: [account.invalid]}]"

LIVE: dict[str, Live] = {
    "server.request_timeout": Live("60s", "50ms", silent, 200, 504, {"retry__max_attempts": "1"}),
    "server.answer_timeout": Live("60s", "50ms", silent, 200, 504, {"retry__max_attempts": "1"}),
    "server.drain_timeout": Live("30s", "0s", drained, 30.0, 0.0),
    "server.trusted_proxies": Live("[]", "[127.0.0.1]", believed, False, True),
    "server.public_origins": Live("[]", "[https://proxy.example.com]", page, 403, 200),
    "server.cors_origins": Live("[]", "[https://app.example]", from_an_app, 403, 204),
    "server.max_body_size": Live("1MB", "1KB", large, 200, 413),
    "logger.level": Live("info", "error", level, logging.INFO, logging.ERROR),
    "logger.format": Live("text", "json", form, "2", "{"),
    "auth.api_key": Live(ADMIN_KEY, OTHER_ADMIN, admin, 401, 200),
    "auth.api_key_file": Live("FOLDER/first", "FOLDER/second", admin, 401, 200),
    "auth.client_keys": Live("[]", DECLARES, lambda running: status(running, DECLARED), 401, 200),
    "claude.allow_admin_paths": Live("false", "true", of_admins, 0, 1),
    "storage.keep_events": Live("90d", "2d", events_kept, False, True),
    "retry.max_attempts": Live("3", "2", tries, "3", "2"),
    "retry.base_delay": Live(
        "1s", "5s", slept, 1, 5, {"retry__max_attempts": "2", "retry__jitter_max": "0s"}
    ),
    "retry.max_delay": Live("60s", "2s", slept, 8, 2, {"retry__jitter_max": "0s"}),
    "retry.jitter_max": Live("0s", "1000s", jittered, False, True),
    "retry.resend_posts": Live("true", "false", resent, 200, 502),
    "retry.budget": Live("10", "0", tries_at_last, "5", "1"),
    "session.enabled": Live("true", "false", at_once, 429, 200, TWO | {"session__max_concurrent": "1"}),
    "session.max_concurrent": Live("1", "2", at_once, 429, 200, TWO),
    "session.queue_timeout": Live("0s", "60s", queued, 0, 1, TWO | {"session__max_concurrent": "1"}),
    "session.session_ttl": Live("5m", "1m", sessions_after, 1, 0),
    "session.cleanup_enabled": Live("true", "false", lambda r: sessions_after(r, 400), 0, 1),
    "accounts.idle_threshold": Live("7d", "1d", idle, False, True),
    "accounts.auto_deactivate": Live(
        "false", "true", deactivated, "active", "inactive", {"scheduler__interval": "2ms"}
    ),
    "accounts.rate_limit_default": Live("1h", "5m", rested, 3600, 300),
    "accounts.quota_alert": Live("0.9", "0.5", alerts, 0, 1),
    "balancer.strategy": Live("round_robin", "most_remaining", chosen, 2, 1),
    "balancer.affinity": Live("true", "false", turns, 1, 2),
    "balancer.affinity_ttl": Live("1h", "1m", lambda running: turns(running, 120), 1, 2),
    "balancer.isolation": Live("per_key", "none", file_of_another, 404, 200),
    "notifications.webhook_url": Live("", "URL/hook", posted, 0, 1),
    "notifications.secret": Live("", SECRET, signed, 0, 1, {"notifications__webhook_url": "URL"}),
    "notifications.targets": Live("[]", HOOK, posted, 0, 1),
    "notifications.repeat_after": Live(
        "10m", "10s", told_again, False, True, {"notifications__webhook_url": "URL"}
    ),
}


# ---- each key


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """What a reload changes of logging is global."""
    root = logging.getLogger()
    before, lines = root.level, Lines(os.open(os.devnull, os.O_WRONLY), TextLine())
    root.addHandler(lines)
    yield
    root.removeHandler(lines)
    lines.close()
    root.setLevel(before)


def two_accounts(key: str) -> list[str]:
    return ["a", "b"] if key.startswith("balancer.") else ["a"]


def written(key: str, value: str, more: str = "") -> str:
    section, _, name = key.partition(".")
    return f"{section}:\n  {name}: {value}\n{more}"


@pytest.mark.parametrize("key", LIVE)
@pytest.mark.usefixtures("logging_as_it_was")
async def test_a_key_that_is_live_takes_effect_at_once(tmp_path: Path, key: str) -> None:
    live, config = LIVE[key], tmp_path / "config.yaml"
    (tmp_path / "first").write_text(ADMIN_KEY)
    (tmp_path / "second").write_text(OTHER_ADMIN)
    if key == "logger.level":
        logging.getLogger().setLevel("INFO")
    async with echo() as receiver:

        def placed(text: str) -> str:
            return text.replace("URL", receiver.url).replace("FOLDER", str(tmp_path))

        config.write_text(written(key, placed(live.first)))
        options = {name: value and placed(value) for name, value in live.options.items()}
        options[key.replace(".", "__")] = None
        if key.startswith("auth.api_key"):
            options["auth__api_key"] = None
        async with serve(tmp_path / "data", config=config, accounts=two_accounts(key), **options) as service:
            running = Running(service, receiver)
            assert await live.see(running) == live.before
            config.write_text(written(key, placed(live.second)))
            service.simulator.calm()
            answer = await service.admin("POST", "/api/admin/reload")
            changed = {each["key"]: each["applied"] for each in answer.json()["changed"]}
            assert changed == {key: True}, answer.body
            running.has_changed = True
            assert await live.see(running) == live.after


SAMPLES = {
    "server.host": "localhost",
    "claude.base_url": "https://other.example",
    "claude.proxy": "http://10.0.0.1:3128",
    "claude.ca_file": CA_BUNDLE,
    "oauth.client_id": "another",
    "oauth.scope": "another",
    "oauth.authorize_url": "https://other.example/x",
    "oauth.token_url": "https://other.example/x",
    "oauth.redirect_uri": "https://other.example/x",
    "storage.data_folder": "FOLDER/elsewhere",
    "storage.url": "redis://127.0.0.1:6380/0",
    "storage.name": "another",
    "tracing.endpoint": "https://other.example/x",
    "storage.ca_file": CA_BUNDLE,
    "storage.encryption_key": base64.b64encode(bytes(range(32))).decode(),
    "storage.encryption_key_file": "FOLDER/key",
    "storage.encryption_key_old": f"[{base64.b64encode(bytes(range(32, 64))).decode()}]",
    "storage.encryption_key_old_file": "FOLDER/key",
}


def sample(key: str) -> str:
    """A value of the key's kind other than its default."""
    section, _, name = key.partition(".")
    kind = schema()["properties"][section]["properties"][name]
    default = kind.get("default")
    if key in SAMPLES:
        return SAMPLES[key]
    if "enum" in kind:
        return str(next(word for word in kind["enum"] if word not in (default, None)))
    if "boolean" in kind["type"]:
        return str(not default).lower()
    if "integer" in kind["type"]:
        return str((default or 0) + 1)
    if "number" in kind["type"] and "string" in kind["type"]:
        return "17m" if "ms" in kind["pattern"] else "17MB"
    assert "number" in kind["type"], f"SAMPLES needs a value of {key}"
    return "0.33"


@pytest.mark.parametrize("key", [key for key in keys() if key not in {*LIVE, "server.workers"}])
async def test_a_key_that_is_not_live_is_named_as_needing_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level("INFO")
    config, folder = tmp_path / "config.yaml", tmp_path / "data"
    (tmp_path / "key").write_text(base64.b64encode(bytes(range(64, 96))).decode())
    first = written(key, str(folder)) if key == "storage.data_folder" else ""
    config.write_text(first)
    unset = {"storage__url": None, key.replace(".", "__"): None}
    async with serve(folder, config=config, accounts=[], **unset) as service:
        config.write_text(written(key, sample(key).replace("FOLDER", str(tmp_path))))
        answer = await service.admin("POST", "/api/admin/reload")
        assert {each["key"]: each["applied"] for each in answer.json()["changed"]} == {key: False}
        assert f"configuration read again, these need a restart: {key}" in caplog.messages
        shown = (await service.admin("GET", "/api/admin/config")).json()["config"]
        assert [each["live"] for each in shown if each["key"] == key] == [False]


async def test_more_workers_need_a_restart(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("")
    unset = {"storage__url": None, "server__workers": None}
    async with serve(tmp_path / "data", config=config, accounts=[], **unset) as service:
        config.write_text("server:\n  workers: 2\nstorage:\n  url: redis://127.0.0.1:6380/0\n")
        answer = await service.admin("POST", "/api/admin/reload")
        changed = {each["key"]: each["applied"] for each in answer.json()["changed"]}
        assert changed == {"server.workers": False, "storage.url": False}


async def test_what_is_live_is_what_the_page_says_is_live(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        shown = (await service.admin("GET", "/api/admin/config")).json()["config"]
        assert {each["key"] for each in shown if each["live"]} == LIVE.keys()


# ---- all or nothing


async def test_a_broken_file_changes_nothing_and_says_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("")
    async with serve(tmp_path / "data", config=config) as service:
        for text, said in {
            "retry:\n  max_attempts: 2\nserver:\n  port: 70000\n": "line 4: server.port: '70000' will not do",
            "retry:\n  max_attempts: 2\n  base_delay: 2m": "line 3: retry.base_delay: max_delay is below base_delay",
            "retry:\n  max_attempts: 2\n x": "line 3, column 2: not valid YAML",
            f"retry: {{max_attempts: 2}}\nauth:\n  api_kee: {SECRET}": "line 3: auth.api_kee is not a known key",
        }.items():
            config.write_text(text)
            answer = await service.admin("POST", "/api/admin/reload")
            assert answer.status == 422
            assert answer.json()["error"]["message"].startswith(f"{config}, {said}")
            assert leaked(answer.body, [SECRET, ADMIN_KEY]) == []
            assert f"configuration not taken, the one before stays: {config}, {said}" in caplog.text
        assert await tries(Running(service, Echo())) == "5"


async def test_what_one_part_cannot_take_nobody_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"auth: {{api_key: {ADMIN_KEY}}}")
    async with serve(tmp_path / "data", config=config, auth__api_key=None) as service:
        cookie = await service.login()
        config.write_text(
            f"auth: {{api_key: {OTHER_ADMIN}}}\nretry: {{max_attempts: 2}}\nsession: {{session_ttl: 1m}}\n"
            "notifications: {webhook_url: https://hooks.example/x}\n"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        answer = await service.admin("POST", "/api/admin/reload")
        assert (answer.status, "SSL_CERT_FILE names" in answer.body.decode()) == (422, True)
        shown = (await service.admin("GET", "/api/admin/config")).json()
        assert shown["notifications"]["targets"] == []
        assert (await service.page("GET", "/api/auth/me", cookie=cookie)).status == 200
        assert [each["value"] for each in shown["config"] if each["key"] == "retry.max_attempts"] == [5]
        assert await tries(Running(service, Echo())) == "5"
        assert await sessions_after(Running(service, Echo())) == 1
        monkeypatch.delenv("SSL_CERT_FILE")
        answer = await service.admin("POST", "/api/admin/reload")
        assert {each["key"] for each in answer.json()["changed"] if each["applied"]} == {
            "auth.api_key",
            "retry.max_attempts",
            "session.session_ttl",
            "notifications.webhook_url",
        }


async def test_two_that_read_it_at_once_agree_on_what_is_in_effect(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("")
    async with serve(tmp_path / "data", config=config) as service:
        config.write_text("retry: {max_attempts: 2}\n")
        answers = await asyncio.gather(*(service.admin("POST", "/api/admin/reload") for _ in range(3)))
        assert sorted(len(answer.json()["changed"]) for answer in answers) == [0, 0, 1]


# ---- client keys of the configuration


async def test_what_runs_with_a_declared_key_that_is_gone_is_ended(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(written("auth.client_keys", DECLARES))
    async with serve(tmp_path / "data", config=config) as service:
        service.simulator.script(None, Silence(), path="/v1/messages")
        running = asyncio.ensure_future(status(Running(service, Echo()), DECLARED))
        await until(lambda: service.simulator.open_requests)
        config.write_text("")
        assert (await service.admin("POST", "/api/admin/reload")).status == 200
        await until(lambda: not service.running)
        running.cancel()
        await asyncio.wait([running])
        assert await status(Running(service, Echo()), DECLARED) == 401
        assert await status(Running(service, Echo())) == 200
        kinds = (await service.admin("GET", "/api/admin/events?kind=token.deleted")).json()["events"]
        assert [each["text"] for each in kinds] == ["client key declared was deleted in the configuration"]


async def test_a_declared_key_keeps_its_use_while_its_limits_change(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(written("auth.client_keys", DECLARES))
    async with serve(tmp_path / "data", config=config) as service:
        running = Running(service, Echo())
        assert [await status(running, DECLARED) for _ in range(2)] == [200, 200]
        limits = "limits: {requests_per_minute: 2}"
        config.write_text(written("auth.client_keys", DECLARES.replace("}", f", {limits}}}")))
        assert (await service.admin("POST", "/api/admin/reload")).status == 200
        [token] = [
            each
            for each in (await service.admin("GET", "/api/tokens")).json()["tokens"]
            if each["name"] == "declared"
        ]
        assert (token["requests"], token["limits"]["requests_per_minute"]) == (2, 2)
        assert 429 in [await status(running, DECLARED) for _ in range(3)]
