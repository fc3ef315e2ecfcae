"""Notices by e-mail: what a message says, TLS in both ways, and servers that refuse, hang or cannot be trusted."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from proxy.dashboard.notify.mail import Mailer
from proxy.dashboard.notify.notice import Notice, Reply
from proxy.dashboard.notify.target import Mailbox
from tests.canaries import leaked
from tests.mailbox import MailServer, mail_server
from tests.service import TestClock, serve, until

PASSWORD = "canary-Mail-password-5"
NOTICE = Notice("account.invalid", "Claude Proxy: account ö is invalid", "error", 1_800_000_000.0, more=2)
ca = trustme.CA()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def tls(name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def mailbox(server: MailServer, kind: str, **fields: str) -> Mailbox:
    return Mailbox(
        "localhost", server.port, kind, "proxy@b.example", ("ops@b.example", "me@c.example"), **fields
    )


async def send(server: MailServer, kind: str, ca_file: Path | None = None, **fields: str) -> Reply:
    return await Mailer(mailbox(server, kind, **fields), ca_file=ca_file, clock=TestClock()).send(NOTICE)


async def test_a_message_says_what_happened_to_everybody_in_the_list() -> None:
    async with mail_server(MailServer()) as server:
        assert await send(server, "none") == Reply(None, 250)
        [message] = server.messages
        assert (message["From"], message["To"]) == ("proxy@b.example", "ops@b.example, me@c.example")
        assert message["Subject"] == "Claude Proxy: account.invalid (error)"
        assert message["Date"].datetime.isoformat() == "2027-01-15T08:00:00+00:00"
        assert message["Auto-Submitted"] == "auto-generated"
        assert str(message["Message-ID"]).endswith("@b.example>")
        text = message.get_content()
        assert text.startswith("Claude Proxy: account ö is invalid (2 more like this)")
        assert [re.split("[<>]", line)[1] for line in server.recipients] == ["ops@b.example", "me@c.example"]


@pytest.mark.parametrize("kind", ["starttls", "tls"])
async def test_a_password_goes_only_through_tls(kind: str, ca_file: Path) -> None:
    async with mail_server(MailServer(tls()), tls=kind == "tls") as server:
        assert await send(server, kind, ca_file, user="me", password=PASSWORD) == Reply(None, 250)
        assert (server.secure, server.signed_in) == ([True], [f":me:{PASSWORD}"])


@pytest.mark.parametrize("kind", ["starttls", "tls"])
async def test_a_certificate_that_nobody_trusts_gets_neither_password_nor_mail(kind: str) -> None:
    async with mail_server(MailServer(tls()), tls=kind == "tls") as server:
        reply = await send(server, kind, None, user="me", password=PASSWORD)
        assert reply.problem == "TLS failed: CERTIFICATE_VERIFY_FAILED"
        assert (server.messages, "AUTH" in server.verbs) == ([], False)


async def test_a_certificate_of_another_name_is_not_trusted(ca_file: Path) -> None:
    async with mail_server(MailServer(tls("other.example"))) as server:
        reply = await send(server, "starttls", ca_file)
        assert reply.problem == "TLS failed: CERTIFICATE_VERIFY_FAILED" and server.messages == []


async def test_a_server_without_starttls_gets_nothing(ca_file: Path) -> None:
    async with mail_server(MailServer(tls(), offers_tls=False)) as server:
        reply = await send(server, "starttls", ca_file, user="me", password=PASSWORD)
        assert reply.problem == "it offers no STARTTLS, or no way to sign in"
        assert (server.messages, "AUTH" in server.verbs) == ([], False)


@pytest.mark.parametrize(
    ("verb", "answer", "problem"),
    [
        ("MAIL", b"451 later\r\n", "it answered 451"),
        ("RCPT", b"550 nobody\r\n", "it refuses every recipient (550)"),
        ("DATA", b"554 no\r\n", "it answered 554"),
        ("AUTH", f"535 not {PASSWORD}\r\n".encode(), "it refuses user and password (535)"),
    ],
)
async def test_a_refusal_is_told_without_the_servers_own_words(
    verb: str, answer: bytes, problem: str, ca_file: Path
) -> None:
    async with mail_server(MailServer(tls(), {verb: answer})) as server:
        reply = await send(server, "starttls", ca_file, user="me", password=PASSWORD)
        assert (reply.problem, reply.status) == (problem, int(answer[:3]))


async def test_a_server_that_is_not_there_is_told() -> None:
    async with mail_server(MailServer()) as server:
        gone = mailbox(server, "none")
    reply = await Mailer(gone, ca_file=None, clock=TestClock()).send(NOTICE)
    assert reply.problem == "it cannot be reached: Connection refused"


@pytest.mark.parametrize("kind", ["none", "starttls", "tls"])
async def test_a_server_that_hangs_is_given_up_and_keeps_no_thread(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.dashboard.notify.notice.TIMEOUT_S", 0.1)
    async with mail_server(MailServer(hangs=True)) as server:
        assert (await send(server, kind)).problem is not None
        await until(lambda: not [each for each in threading.enumerate() if each.name == "mail"])


async def test_a_send_that_is_cancelled_ends_its_thread() -> None:
    async with mail_server(MailServer(hangs=True)) as server:
        sending = asyncio.ensure_future(send(server, "none"))
        await until(lambda: [each for each in threading.enumerate() if each.name == "mail"])
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        await until(lambda: not [each for each in threading.enumerate() if each.name == "mail"])


async def test_an_account_that_turns_invalid_is_mailed(tmp_path: Path, ca_file: Path) -> None:
    async with mail_server(MailServer(tls())) as server:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"notifications:\n  targets:\n  - {{kind: email, host: localhost, port: {server.port}, user: me, "
            f"password: {PASSWORD}, from: a@b.example, to: c@d.example, events: [account.invalid]}}\n"
            f"claude: {{ca_file: {ca_file}}}\n"
        )
        async with serve(tmp_path / "data", config=config) as service:
            [account] = service.parts.pool
            service.parts.pool.invalidate(account.id, "401")
            await until(lambda: server.messages)
            assert server.messages[0]["Subject"] == "Claude Proxy: account.invalid (error)"
            answer = await service.admin("POST", "/api/admin/notifications/test")
            [target] = answer.json()["targets"]
            assert (target["name"], target["ok"], target["message"]) == ("email 1", True, "it answered 250")
            assert leaked(answer.body, [PASSWORD]) == []
