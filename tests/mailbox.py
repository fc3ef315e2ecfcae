"""A mail server in the test's own loop: EHLO, STARTTLS, AUTH and DATA, and what it was told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from tests.serving import serving


@dataclass
class MailServer:
    """`secure` and `signed_in` are of each message; `answers` are what it says to a verb in place of consent."""

    context: ssl.SSLContext | None = None
    answers: dict[str, bytes] = field(default_factory=dict)
    offers_tls: bool = True
    hangs: bool = False
    port: int = 0
    verbs: list[str] = field(default_factory=list)
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    secure: list[bool] = field(default_factory=list)
    signed_in: list[str | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        user: str | None = None
        if self.hangs:
            await reader.read()
            return
        writer.write(b"220 mail.test ESMTP\r\n")
        while line := await reader.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            self.verbs.append(verb.upper())
            if answer := self.answers.get(verb.upper()):
                writer.write(answer)
                continue
            match verb.upper():
                case "EHLO":
                    can_tls = self.offers_tls and self.context and not is_secure(writer)
                    tls = b"250-STARTTLS\r\n" if can_tls else b""
                    writer.write(b"250-mail.test\r\n" + tls + b"250-AUTH PLAIN\r\n250 8BITMIME\r\n")
                case "STARTTLS":
                    writer.write(b"220 go on\r\n")
                    await writer.drain()
                    await writer.start_tls(self.context)
                case "AUTH":
                    user = base64.b64decode(rest.removeprefix("PLAIN ")).decode().replace("\0", ":")
                    writer.write(b"235 welcome\r\n")
                case "RCPT":
                    self.recipients.append(rest)
                    writer.write(b"250 ok\r\n")
                case "DATA":
                    writer.write(b"354 go on\r\n")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    self.messages.append(message_from_bytes(data[:-3], policy=policy.default))  # type: ignore[arg-type]
                    self.secure.append(is_secure(writer))
                    self.signed_in.append(user)
                    writer.write(b"250 taken\r\n")
                case "QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 ok\r\n")


def is_secure(writer: asyncio.StreamWriter) -> bool:
    return writer.get_extra_info("ssl_object") is not None


@contextlib.asynccontextmanager
async def mail_server(server: MailServer, *, tls: bool = False) -> AsyncIterator[MailServer]:
    """It listens; with `tls` from the first byte on."""
    async with serving(server.serve, server.context if tls else None) as server.port:
        yield server
