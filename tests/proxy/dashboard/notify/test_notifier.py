"""All targets together: the way out, which events reach them, their test, and a change of them while it runs."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from proxy.dashboard.notify.notice import Notice
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.notify.target import Target
from proxy.jobs import Jobs
from tests.canaries import leaked
from tests.echo import Script, echo
from tests.outbound import outbound
from tests.service import TestClock, serve, until
from tests.serving import serving

ca = trustme.CA()
SIGNATURE = "canary-sig-Yw3Kd8RqPz6Lt"
SILENCE = Script(b"")


@pytest.fixture
def notifier(jobs: Jobs, clock: TestClock) -> Iterator[Notifier]:
    notifier = Notifier(proxy=None, ca_file=None, jobs=jobs, clock=clock, rng=random.Random(1))
    yield notifier
    notifier.close()


def notice(text: str, about: str = "") -> Notice:
    return Notice("account.invalid", text, "error", 1_800_000_000.0, about)


async def test_a_post_goes_by_the_outbound_proxy_and_under_the_certificates_of_other_calls(
    tmp_path: Path, jobs: Jobs, clock: TestClock
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("hooks.example").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read()

    async with serving(answer, context) as port, outbound() as way, echo() as here:
        notifier = Notifier(
            proxy=f"http://127.0.0.1:{way.port}",
            ca_file=tmp_path / "ca.pem",
            jobs=jobs,
            clock=clock,
            rng=random.Random(1),
        )
        there = Target("there", "slack", f"https://hooks.example:{port}/x?sig={SIGNATURE}")
        notifier.aim([there, Target("here", "webhook", f"{here.url}/hook")], 0.0)
        try:
            far, near = await notifier.test()
        finally:
            notifier.close()
        assert (far.reply.problem, far.reply.status, near.reply.problem) == (None, 204, None)
        assert way.asked == [f"hooks.example:{port}"]  # no other machine could reach what is here
        assert heads[0].startswith(f"POST /x?sig={SIGNATURE} HTTP/1.1\r\n".encode())
        assert leaked(b"".join(way.heads), [SIGNATURE]) == []


async def test_a_test_tells_of_each_target_and_waits_for_none_twice(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.dashboard.notify.notice.TIMEOUT_S", 0.1)
    async with echo() as well, echo() as dead, echo() as refusing:
        dead.script = SILENCE
        refusing.script = Script(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        kinds = {"discord": dead.url, "webhook": well.url, "slack": refusing.url}
        notifier.aim([Target(kind, kind, url, events=()) for kind, url in kinds.items()], 0.0)
        found = {each.target.name: each.reply for each in await notifier.test()}
        assert (found["webhook"].status, found["webhook"].problem) == (200, None)
        assert (found["slack"].status, found["slack"].problem) == (403, "it answered 403")
        assert (found["discord"].status, found["discord"].problem) == (None, "no answer within 0.1 s")


async def test_a_target_that_stays_keeps_what_waits_for_it(
    notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo() as kept, echo() as gone, echo() as new:
        kept.first = [SILENCE]
        gone.script = SILENCE
        stays, goes = Target("stays", "webhook", kept.url), Target("goes", "webhook", gone.url)
        notifier.aim([stays, goes], 0.0)
        for number in range(3):
            notifier.put(notice(str(number), str(number)))
        await until(lambda: kept.requests and gone.requests)
        notifier.aim([Target("comes", "webhook", new.url), stays], 0.0)
        kept.hang_up()  # hangs up, so that it is tried again
        await until(lambda: len(kept.requests) == 4)
        assert [json.loads(each.body)["text"] for each in kept.requests] == ["0", "0", "1", "2"]
        notifier.put(notice("later"))
        await until(lambda: new.requests)
        assert len(gone.requests) == 1
        assert (
            "notifications not sent, since the configuration has no such target any more more=2 target=goes"
            in (caplog.text)
        )


async def test_a_target_gets_every_kind_of_event_that_it_names(tmp_path: Path) -> None:
    async with echo() as some, echo() as alarms:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"notifications:\n  targets:\n"
            f"  - {{kind: webhook, url: '{some.url}', events: [token.*, account.renamed, account.invalid]}}\n"
            f"  - {{kind: webhook, url: '{alarms.url}'}}\n"
        )
        async with serve(tmp_path / "data", config=config) as service:
            await until(lambda: alarms.requests)  # that it is healthy
            await service.add_key("laptop")
            [account] = service.parts.pool
            await service.admin("PUT", f"/api/accounts/{account.id}", {"name": "b"})
            service.parts.pool.invalidate(account.id, "401")
            await until(lambda: len(some.requests) == 4 and len(alarms.requests) == 3)
            told = [json.loads(each.body) for each in some.requests]
            assert [each["event"] for each in told] == [
                "token.added",  # that of the tests
                "token.added",
                "account.renamed",
                "account.invalid",
            ]
            assert (told[1]["text"], told[1]["token"]["name"]) == (
                "Claude Proxy: client key laptop was made",
                "laptop",
            )
            events = [json.loads(each.body)["event"] for each in alarms.requests]
            assert events == ["health.changed", "account.invalid", "pool.exhausted"]


async def test_an_account_that_turns_invalid_again_and_again_is_told_with_a_count(tmp_path: Path) -> None:
    async with echo() as receiver:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"notifications:\n  repeat_after: 5m\n  targets:\n"
            f"  - {{kind: ntfy, url: '{receiver.url}/topic', events: [account.invalid]}}\n"
        )
        async with serve(tmp_path / "data", config=config) as service:
            [account] = service.parts.pool
            for _ in range(3):
                service.parts.pool.invalidate(account.id, "401")
                await service.parts.pool.change(account.id, lambda each: each.activated(service.clock.now()))
            await until(lambda: receiver.requests)
            service.clock.advance(301)
            service.parts.pool.invalidate(account.id, "401")
            await until(lambda: len(receiver.requests) == 2)
            first, second = (each.body.decode() for each in receiver.requests)
            assert first == "Claude Proxy: account a is invalid: 401"
            assert second == "Claude Proxy: account a is invalid: 401 (2 more like this)"
