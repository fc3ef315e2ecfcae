"""What a webhook is told, how it can tell that it is us, and that no receiver holds up anything."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.account import Account, AccountChanged, ApiKey, Status
from proxy.accounts.pool import Pool
from proxy.accounts.quota import Window
from proxy.clients.keys import ClientKeys
from proxy.config.settings import load_settings
from proxy.dashboard.health import Health
from proxy.dashboard.notify.alarms import Alarms
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.notify.outbox import MAX_WAITING, TRIES
from proxy.dashboard.notify.target import Target
from proxy.errors import SettingsError
from proxy.feed import Changed
from proxy.jobs import Jobs
from proxy.simulator import Error, quota_429
from proxy.usage.series import Series
from tests.canaries import leaked
from tests.disk import Disk, make_findings
from tests.echo import Echo, Message, Script, echo
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, TestClock, serve, until, upstream_key
from tests.serving import serving

SECRET = "a-webhook-secret-of-tests-8Kd3"
PATH = "/services/T024BE7LD/canary-B9x2Qm5Rt7Vw1Zk4"  # whoever knows such a path may post
SILENCE = Script(b"")


def answer(status: int, *lines: bytes) -> Script:
    head = b"\r\n".join([b"HTTP/1.1 %d Said" % status, *lines, b"Content-Length: 0"])
    return Script(head + b"\r\n\r\n")


@contextlib.asynccontextmanager
async def posting(
    folder: Path, *accounts: str, secret: str | None = None, receiver: Echo | None = None
) -> AsyncIterator[tuple[Service, Echo]]:
    """A healthy proxy and its webhook's receiver, once that has been told that the first account came."""
    options = {} if secret is None else {"notifications__secret": secret}
    async with echo() as made:
        there = receiver or made
        options["notifications__webhook_url"] = there.url + PATH
        async with serve(folder, accounts=accounts, **options) as service:
            assert [body["health"] for body in await posts(there, 1)] == ["healthy"]
            there.requests.clear()
            yield service, there


async def posts(receiver: Echo, count: int) -> list[dict[str, Any]]:
    """The bodies of the first posts, once there are so many."""
    await until(lambda: len(receiver.requests) >= count)
    return [json.loads(request.body) for request in receiver.requests[:count]]


def id_of(service: Service, name: str) -> str:
    return next(account.id for account in service.parts.pool if account.name == name)


def invalidate(service: Service, name: str, reason: str = "401") -> None:
    service.parts.pool.invalidate(id_of(service, name), reason)


# ---- what is told


async def test_an_account_that_turns_invalid_is_told_with_the_reason(tmp_path: Path) -> None:
    async with posting(tmp_path, "a", "b") as (service, receiver):
        service.simulator.revoke(upstream_key("a"))
        assert (await service.message()).status == 200
        invalid, health = await posts(receiver, 2)
        assert (invalid["event"], invalid["at"]) == ("account.invalid", "2027-01-15T08:00:00.000Z")
        assert (invalid["account"]["id"], invalid["account"]["name"]) == (id_of(service, "a"), "a")
        assert invalid["account"]["reason"].startswith("401 authentication_error")
        assert invalid["text"] == f"Claude Proxy: account a is invalid: {invalid['account']['reason']}"
        assert (health["event"], health["was"], health["health"]) == (
            "health.changed",
            "healthy",
            "degraded",
        )
        assert health["reasons"] == ["1 of 2 accounts invalid"]


async def test_an_exhausted_pool_and_its_recovery_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.assembly.periods.LOOK_S", 0.01)
    async with posting(tmp_path, "a", "b") as (service, receiver):
        for name in ("a", "b"):
            service.simulator.script(upstream_key(name), quota_429(reset_in=60))
        assert (await service.message()).status == 429
        _, exhausted = await posts(receiver, 2)
        assert exhausted["event"] == "pool.exhausted"
        assert exhausted["text"] == ("Claude Proxy is unhealthy: 2 of 2 accounts rate limited")
        # The limits pass by time alone, without a request.
        service.clock.advance(61)
        *_, recovered = await posts(receiver, 3)
        assert recovered["event"] == "health.changed"
        assert (recovered["was"], recovered["health"], recovered["reasons"]) == ("unhealthy", "healthy", [])


async def test_an_account_that_nears_a_limit_is_told_once(tmp_path: Path) -> None:
    async with posting(tmp_path, "a", "b") as (service, receiver):
        account_id = id_of(service, "a")
        window = Window(0.93, resets_at=service.clock.now() + 3600)
        service.parts.pool.quotas.set(account_id, {"5h": window})
        service.parts.quota.look()
        service.parts.quota.look()
        invalidate(service, "b")
        high, *others = await posts(receiver, 3)
        assert (high["event"], high["account"]) == ("account.quota_high", {"id": account_id})
        assert high["text"] == "Claude Proxy: a has used 93 % of its quota (5 hours)"
        assert "account.quota_high" not in [body["event"] for body in others]


async def test_without_any_account_the_pool_is_exhausted(tmp_path: Path) -> None:
    async with posting(tmp_path, "a") as (service, receiver):
        await service.admin("DELETE", f"/api/accounts/{id_of(service, 'a')}")
        (exhausted,) = await posts(receiver, 1)
        assert (exhausted["event"], exhausted["reasons"]) == ("pool.exhausted", ["no accounts"])


async def test_what_changes_nothing_that_matters_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.assembly.periods.LOOK_S", 0.001)
    async with posting(tmp_path, "a", "b", "c") as (service, receiver):
        path = f"/api/accounts/{id_of(service, 'a')}"
        for body in ({"name": "renamed"}, {"status": "inactive"}, {"status": "active"}):
            assert (await service.admin("PUT", path, body)).status == 200
        service.simulator.script(None, Error(529), Error(500), Error(400))
        for _ in range(5):
            await service.message()
        invalidate(service, "b")
        invalidate(service, "b", "again")
        await service.admin("PUT", f"/api/accounts/{id_of(service, 'b')}", {"name": "still invalid"})
        invalidate(service, "c")
        told = await posts(receiver, 3)
        assert [body["event"] for body in told] == ["account.invalid", "health.changed", "account.invalid"]
        assert [body["account"]["name"] for body in told[::2]] == ["b", "c"]


async def test_a_start_as_it_was_before_tells_nothing(tmp_path: Path) -> None:
    async with posting(tmp_path, "a") as (service, receiver):
        invalidate(service, "a")
        await posts(receiver, 2)
    async with (
        echo() as receiver,
        serve(tmp_path, accounts=[], notifications__webhook_url=receiver.url) as service,
    ):
        await service.add_account("b")
        (first,) = await posts(receiver, 1)
        assert (first["was"], first["health"]) == ("unhealthy", "degraded")


async def test_a_post_is_json_from_this_program_to_the_path_of_the_url(tmp_path: Path) -> None:
    async with posting(tmp_path, "a") as (service, receiver):
        invalidate(service, "a")
        await posts(receiver, 1)
        post = receiver.requests[0]
        assert post.start == b"POST " + PATH.encode() + b" HTTP/1.1"
        assert post.values("content-type") == [b"application/json"]
        assert post.values("user-agent")[0].startswith(b"claude-proxy/")


async def test_a_name_or_a_reason_mentions_nobody_in_slack(tmp_path: Path) -> None:
    async with posting(tmp_path, "<!channel> & co") as (service, receiver):
        invalidate(service, "<!channel> & co", "401 <https://evil.example|click>")
        invalid = (await posts(receiver, 1))[0]
        assert invalid["text"] == (
            "Claude Proxy: account &lt;!channel&gt; &amp; co is invalid: "
            "401 &lt;https://evil.example|click&gt;"
        )
        assert invalid["account"]["name"] == "<!channel> & co"


# ---- signatures


def signature(post: Message) -> tuple[bytes, bytes]:
    """The time and the HMAC that a post's header names."""
    (value,) = post.values("x-claude-proxy-signature")
    found = re.fullmatch(rb"t=(\d+),v1=([0-9a-f]{64})", value)
    assert found is not None
    return found[1], found[2]


def signed(post: Message, at: bytes) -> bytes:
    """As the documentation says that a receiver checks it."""
    return hmac.new(SECRET.encode(), at + b"." + post.body, hashlib.sha256).hexdigest().encode()


async def test_a_post_is_signed_with_the_secret(tmp_path: Path) -> None:
    async with posting(tmp_path, "a", secret=SECRET) as (service, receiver):
        invalidate(service, "a")
        await posts(receiver, 2)
        for post in receiver.requests:
            at, mac = signature(post)
            assert (at, mac) == (b"1800000000", signed(post, at))


async def test_without_a_secret_nothing_is_signed(tmp_path: Path) -> None:
    async with posting(tmp_path, "a") as (service, receiver):
        invalidate(service, "a")
        await posts(receiver, 1)
        assert receiver.requests[0].values("x-claude-proxy-signature") == []


async def test_each_try_is_signed_with_its_own_time(tmp_path: Path) -> None:
    async with posting(tmp_path, "a", secret=SECRET) as (service, receiver):
        receiver.first = [answer(500)] * 3
        invalidate(service, "a")
        await posts(receiver, 4)
        times = [int(signature(post)[0]) for post in receiver.requests[:4]]
        assert times == sorted(times) and times[3] >= times[0] + 5
        assert [signed(post, signature(post)[0]) for post in receiver.requests[:4]] == [
            signature(post)[1] for post in receiver.requests[:4]
        ]
        assert len({post.body for post in receiver.requests[:4]}) == 1


# ---- receivers that are not well


async def test_what_fails_is_sent_again_in_order_with_growing_pauses(tmp_path: Path) -> None:
    async with posting(tmp_path, "a", "b") as (service, receiver):
        elsewhere = f"Location: http://127.0.0.1:{receiver.port}/elsewhere".encode()
        cut = Script(b"HTTP/1.1 200 OK\r\nx: y", closes=True)
        receiver.first = [answer(500), answer(302, elsewhere), answer(404), cut]
        for name in ("a", "b"):
            invalidate(service, name)
        told = await posts(receiver, 8)
        events = [(body["event"], body.get("account", {}).get("name")) for body in told]
        assert events[:4] == [("account.invalid", "a")] * 4
        assert events[4:] == [
            ("account.invalid", "a"),
            ("health.changed", None),
            ("account.invalid", "b"),
            ("pool.exhausted", None),
        ]
        assert {post.start.split()[1] for post in receiver.requests} == {PATH.encode()}
        pauses = service.clock.slept
        assert all(0.8 * 2**n <= pause <= 1.2 * 2**n for n, pause in enumerate(pauses)), pauses
        assert len(pauses) == 4


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with echo() as other, posting(tmp_path, "a") as (service, receiver):
        for status in (301, 302, 303, 307, 308):
            receiver.first.append(answer(status, f"Location: {other.url}/".encode()))
        invalidate(service, "a")
        await posts(receiver, 6)
        assert other.requests == []


async def test_a_receiver_that_refuses_to_the_end_costs_one_post_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with posting(tmp_path, "a") as (service, receiver):
        receiver.first = [answer(503)] * TRIES
        invalidate(service, "a")
        told = await posts(receiver, TRIES + 1)
        assert [body["event"] for body in told] == ["account.invalid"] * TRIES + ["pool.exhausted"]
        assert len(service.clock.slept) == TRIES - 1
        (given_up,) = [line for line in caplog.messages if "given up" in line]
        assert "event=account.invalid" in given_up


async def test_a_receiver_that_is_not_there_delays_no_request_and_no_shutdown(tmp_path: Path) -> None:
    async with echo() as gone:
        url = gone.url
    async with (
        asyncio.timeout(5),
        serve(tmp_path, accounts=["a", "b"], notifications__webhook_url=url) as service,
    ):
        service.simulator.script(upstream_key("a"), quota_429())
        assert (await service.message()).status == 200


async def test_a_receiver_that_hangs_delays_no_request_and_no_shutdown(tmp_path: Path) -> None:
    async with asyncio.timeout(5):  # half of what one try may take
        async with posting(tmp_path, "a", "b") as (service, receiver):
            receiver.script = SILENCE
            service.simulator.script(upstream_key("a"), quota_429())
            assert (await service.message()).status == 200
            await posts(receiver, 1)
            assert (await service.message()).status == 200


async def test_a_receiver_that_hangs_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.dashboard.notify.notice.TIMEOUT_S", 0.1)
    async with posting(tmp_path, "a") as (service, receiver):
        receiver.first = [SILENCE, SILENCE]
        invalidate(service, "a")
        told = await posts(receiver, 4)
        assert [body["event"] for body in told] == ["account.invalid"] * 3 + ["pool.exhausted"]


class Trickle(Echo):
    """Sends one header after the other, without an end."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.script is not SILENCE:
            return await super().serve(reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        self.requests.append(Message(b"", ()))
        while not writer.is_closing():
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)


async def test_a_receiver_that_is_never_silent_and_never_done_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.dashboard.notify.notice.TIMEOUT_S", 0.1)
    receiver = Trickle()
    async with (
        serving(receiver.serve) as receiver.port,
        posting(tmp_path, "a", receiver=receiver) as (service, _),
    ):
        receiver.script = SILENCE
        invalidate(service, "a")
        await until(lambda: "notification given up" in caplog.text)
    assert caplog.text.count("problem=no answer within 0.1 s") >= TRIES


# ---- bounds


@contextlib.asynccontextmanager
async def notifying(url: str, health: Health, jobs: Jobs, clock: TestClock) -> AsyncIterator[Alarms]:
    notifier = Notifier(proxy=None, ca_file=None, jobs=jobs, clock=clock, rng=random.Random(1))
    notifier.aim([Target("hook", "webhook", url)], 600.0)
    try:
        yield Alarms(notifier, health, clock=clock)
    finally:
        notifier.close()
        await jobs.close()


@pytest.fixture
def health(pool: Pool, tokens: ClientKeys, clock: TestClock) -> Health:
    return Health(pool, tokens, Series(clock=clock), make_findings(Disk()), clock)


def turned_invalid(number: int) -> AccountChanged:
    old = Account(f"acc_{number}", str(number), ApiKey(f"key {number}"), created_at=0, updated_at=0)
    return Changed(old, replace(old, status=Status.INVALID, status_reason="401"))


async def test_what_waits_is_bounded_and_the_newest_stays(
    health: Health, jobs: Jobs, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo() as receiver, notifying(receiver.url, health, jobs, clock) as notifier:
        receiver.first = [SILENCE]
        notifier.account_changed(turned_invalid(0))
        await posts(receiver, 1)
        for number in range(1, 5 * MAX_WAITING):
            notifier.account_changed(turned_invalid(number))
        receiver.hang_up()
        told = await posts(receiver, MAX_WAITING + 2)
        names = [int(body["account"]["name"]) for body in told]
        assert names == [0, 0, *range(4 * MAX_WAITING, 5 * MAX_WAITING)]
        assert caplog.text.count("notification dropped") == 4 * MAX_WAITING - 1


async def test_what_changes_during_a_shutdown_is_not_sent_and_holds_nothing_up(
    health: Health, jobs: Jobs, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo() as receiver:
        receiver.script = SILENCE
        async with notifying(receiver.url, health, jobs, clock) as notifier, asyncio.timeout(5):
            notifier.account_changed(turned_invalid(1))
            await posts(receiver, 1)

            async def ending() -> None:
                for _ in range(5):
                    await asyncio.sleep(0)
                notifier.account_changed(turned_invalid(2))

            jobs.start("ends late", ending())
        assert len(receiver.requests) == 1
    assert [line.partition(" more=")[0] for line in caplog.messages] == [
        "notifications not sent, since the proxy stops"
    ]


async def test_no_secret_is_in_a_body_or_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    key = upstream_key("a")
    async with posting(tmp_path, "a", secret=SECRET) as (service, receiver):
        receiver.first = [
            answer(500),
            answer(302, b"Location: http://127.0.0.1:1/"),
            Script(b"", closes=True),
        ]
        service.simulator.always(key, Error(401, message=f"bad key {SECRET}"))
        assert (await service.message()).status == 503
        told = await posts(receiver, 5)
        assert told[0]["event"] == "account.invalid"
    secrets = [key, SECRET, ADMIN_KEY, CLIENT_KEY]
    assert leaked(b"".join(post.body for post in receiver.requests), secrets) == []
    assert "notification failed" in caplog.text
    assert leaked(caplog.text, [*secrets, PATH]) == []


# ---- the URL


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/x",
        "http://127.0.0.1:9000/hook",
        "http://[::1]:9000",
        "http://localhost/x",
    ],
)
def test_https_and_loopback_urls_are_taken(url: str) -> None:
    settings = load_settings(None, {"AUTH__API_KEY": ADMIN_KEY, "NOTIFICATIONS__WEBHOOK_URL": url})
    assert settings.notifications.webhook_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost.example.com/",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "https://user:password@hooks.example.com/",
        "https://",
        "hooks.example.com/x",
    ],
)
def test_no_other_url_is_taken(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^NOTIFICATIONS__WEBHOOK_URL: .*https://") as refused:
        load_settings(None, {"AUTH__API_KEY": ADMIN_KEY, "NOTIFICATIONS__WEBHOOK_URL": url})
    assert "password" not in str(refused.value)
