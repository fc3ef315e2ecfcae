"""Sends notices by SMTP, each try in a thread of its own, since smtplib waits for the server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import smtplib
import socket
import ssl
import threading
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from proxy.clock import Clock, rfc3339
from proxy.dashboard.notify import notice as notices
from proxy.dashboard.notify.notice import Notice, Reply
from proxy.dashboard.notify.target import Mailbox
from proxy.dashboard.notify.templates import TITLE


class Mailer:
    """The way to a mail server, directly: an outbound proxy for HTTP carries no mail."""

    def __init__(self, mailbox: Mailbox, *, ca_file: Path | None, clock: Clock) -> None:
        self._mailbox = mailbox
        self._ca_file = ca_file
        self._clock = clock

    async def send(self, notice: Notice) -> Reply:
        """Deliver one message to the server. What a thread still does when its time is up comes to nothing."""
        began = self._clock.monotonic()
        delivery = _Delivery(self._mailbox, self._ca_file, _message(notice, self._mailbox))
        try:
            async with asyncio.timeout(notices.TIMEOUT_S):
                reply = await delivery.done()
        except TimeoutError:
            return Reply(f"no answer within {notices.TIMEOUT_S:g} s")
        finally:
            delivery.abandon()
        return Reply(reply.problem, reply.status, round((self._clock.monotonic() - began) * 1000))

    def close(self) -> None:
        """Nothing is held between two messages."""


def _message(notice: Notice, mailbox: Mailbox) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = f"{TITLE}: {notice.event} ({notice.level})"
    message["From"] = mailbox.sender
    message["To"] = ", ".join(mailbox.to)
    message["Date"] = format_datetime(datetime.fromtimestamp(notice.at, UTC))
    message["Message-ID"] = f"<{secrets.token_hex(16)}@{mailbox.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody's absence note answers it
    message.set_content(f"{notice.told}\n\n{notice.event}, {notice.level}, {rfc3339(notice.at)}\n")
    return message


class _Delivery:
    """One message on its way, in a thread that holds up no end of the process."""

    def __init__(self, mailbox: Mailbox, ca_file: Path | None, message: EmailMessage) -> None:
        self._mailbox = mailbox
        self._ca_file = ca_file
        self._message = message
        self.begun: list[smtplib.SMTP] = []
        self.is_abandoned = False
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Reply] = self._loop.create_future()

    async def done(self) -> Reply:
        """Deliver it, and say what the server said."""
        threading.Thread(target=self._run, name="mail", daemon=True).start()
        return await self._done

    def abandon(self) -> None:
        """End the connection under the thread, if it still has one, and let it begin no other."""
        self.is_abandoned = True
        for smtp in self.begun:
            if smtp.sock is not None:
                with contextlib.suppress(OSError):
                    # Not SSLSocket's own, which lets go of the TLS object that the thread may be using.
                    socket.socket.shutdown(smtp.sock, socket.SHUT_RDWR)

    def _run(self) -> None:
        reply = self._try()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._answer, reply)

    def _answer(self, reply: Reply) -> None:
        if not self._done.done():
            self._done.set_result(reply)

    def _try(self) -> Reply:
        # Never with the server's own words: some repeat what they were sent.
        try:
            self._deliver()
        except smtplib.SMTPAuthenticationError as error:
            return Reply(f"it refuses user and password ({error.smtp_code})", error.smtp_code)
        except smtplib.SMTPResponseException as error:
            return Reply(f"it answered {error.smtp_code}", error.smtp_code)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            return Reply(f"it refuses every recipient ({code})", code)
        except smtplib.SMTPNotSupportedError:
            return Reply("it offers no STARTTLS, or no way to sign in")
        except ssl.SSLError as error:
            return Reply(f"TLS failed: {error.reason or type(error).__name__}")
        except OSError as error:
            return Reply(f"it cannot be reached: {error.strerror or type(error).__name__}")
        except (smtplib.SMTPException, ValueError) as error:
            return Reply(f"the mail was not taken: {type(error).__name__}")
        return Reply(None, 250)

    def _deliver(self) -> None:
        box = self._mailbox
        context = None if box.tls == "none" else self._trust()
        with self._connection(context) as smtp:
            if context is not None and box.tls == "starttls":
                smtp.starttls(context=context)
            if box.user is not None and box.password is not None:
                smtp.login(box.user, box.password)
            smtp.send_message(self._message, box.sender, list(box.to))

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(cafile=self._ca_file)
        return context

    def _connection(self, context: ssl.SSLContext | None) -> smtplib.SMTP:
        where = self._mailbox.host, self._mailbox.port
        if self._mailbox.tls == "tls":
            return _ConnectionByTls(self, *where, timeout=notices.TIMEOUT_S, context=context)
        return _Connection(self, *where, timeout=notices.TIMEOUT_S)


class _Connection(smtplib.SMTP):
    """A connection that its delivery knows before it exists, since a server may hang before its first word."""

    def __init__(self, delivery: _Delivery, *where: Any, **options: Any) -> None:
        self._delivery = delivery
        delivery.begun.append(self)
        super().__init__(*where, **options)

    def getreply(self) -> tuple[int, bytes]:
        # By now there is a socket: whoever abandons the delivery after this shuts that down.
        if self._delivery.is_abandoned:
            self.close()
            raise smtplib.SMTPServerDisconnected("nobody waits for it")
        return super().getreply()


class _ConnectionByTls(_Connection, smtplib.SMTP_SSL):
    """One with TLS from its first byte."""
