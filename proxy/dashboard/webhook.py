"""Notifies a webhook if an account turns invalid or nears a limit, none is usable, or the health changes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import json
import logging
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import urlsplit

from proxy import __version__
from proxy.accounts import quota_alerts
from proxy.accounts.account import AccountChanged, Status
from proxy.clock import Clock, rfc3339
from proxy.dashboard import transfer
from proxy.dashboard.health import Health, change_told
from proxy.dashboard.sentences import plain
from proxy.errors import UpstreamError
from proxy.feed import Happened, acting
from proxy.jobs import Jobs
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request

TIMEOUT_S = 10.0
TRIES = 6
FIRST_WAIT_S = 1.0
MAX_WAITING = 100
"""Notifications that wait for a receiver; of more, the oldest are dropped."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver said: the status of its answer, None if there was none, and what is wrong, None if nothing is."""

    problem: str | None
    status: int | None = None
    latency_ms: int = 0


class Webhook:
    """Posts JSON to one URL in order, as a job. Gives a notification up after TRIES tries.

    Slack-compatible receivers show the body's `text`. `&`, `<` and `>` are escaped in it, so that a name or a reason
    cannot mention everybody (api.slack.com/reference/surfaces/formatting). `x-claude-proxy-signature` is
    `t=<unix seconds>,v1=<hex>` with the HMAC-SHA256 of `<t>.<body>` under the secret.
    """

    def __init__(
        self, url: str, secret: str | None, health: Health, *, jobs: Jobs, clock: Clock, rng: Random
    ) -> None:
        parts = urlsplit(url)
        self._target = parts.path or "/"
        self._client = CurlClient.to(f"{parts.scheme}://{parts.netloc}", idle_timeout_s=TIMEOUT_S)
        self._secret = secret
        self._health = health
        self._jobs = jobs
        self._clock = clock
        self._rng = rng
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._closed = False
        self._last_health = health.status()

    def close(self) -> None:
        """Send nothing more: a receiver that hangs must not hold up a shutdown."""
        self._closed = True
        if self._sending is not None and self._sending.cancel():
            log.warning("notifications not sent, since the proxy stops more=%d", len(self._waiting))
        self._client.close()

    def account_changed(self, event: AccountChanged) -> None:
        """Notify if the account has turned invalid, then check the health."""
        new, old = event.new, event.old
        if (
            new is not None
            and new.status is Status.INVALID
            and (old is None or old.status is not Status.INVALID)
        ):
            self._post(
                "account.invalid",
                f"Claude Proxy: account {new.name} is invalid: {new.status_reason}",
                account={"id": new.id, "name": new.name, "reason": new.status_reason},
            )
        self.look()

    def happened(self, event: Happened) -> None:
        """Notify if an account has used most of a quota window, or if somebody has exported the accounts."""
        text = f"Claude Proxy: {event.text}"
        if event.kind == quota_alerts.KIND and event.subject is not None:
            self._post(event.kind, text, account={"id": event.subject.id})
        elif event.kind == transfer.EXPORTED:
            self._post(event.kind, text, by=acting().view())

    def look(self) -> None:
        """Notify if the health has changed. Called after changes and periodically, since cooldowns end by time."""
        status = self._health.status()
        if status == self._last_health:
            return
        before, self._last_health = self._last_health, status
        reasons = self._health.reasons()
        event = "pool.exhausted" if status == "unhealthy" else "health.changed"
        self._post(event, change_told(status, reasons), health=status, was=before, reasons=reasons)

    def _post(self, event: str, text: str, **details: Any) -> None:
        if self._closed:
            return
        if len(self._waiting) == MAX_WAITING:
            log.warning("notification dropped, too many wait event=%s", self._waiting[0]["event"])
        escaped = html.escape(plain(text), quote=False)
        self._waiting.append({"text": escaped, "event": event, "at": rfc3339(self._clock.now()), **details})
        if self._sending is None or self._sending.done():
            self._sending = self._jobs.start("notify", self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            await self._send(self._waiting.popleft())

    async def _send(self, message: dict[str, Any]) -> None:
        for attempt in range(TRIES):
            if attempt:
                await self._clock.sleep(FIRST_WAIT_S * 2.0 ** (attempt - 1) * self._rng.uniform(0.8, 1.2))
            problem = await self._try(json.dumps(message).encode())
            if problem is None:
                return
            log.warning(
                "notification failed event=%s attempt=%d problem=%s", message["event"], attempt + 1, problem
            )
        log.error("notification given up event=%s text=%s", message["event"], message["text"])

    async def _try(self, body: bytes) -> str | None:
        """Send once. Returns what went wrong; None if nothing did."""
        reply = await self._exchange(body)
        return reply.problem

    async def test(self) -> Reply:
        """Send one notification now, once, whatever else waits; what the receiver said to it."""
        text = "Claude Proxy: this is a test, sent by an admin"
        message = {"text": text, "event": "test", "at": rfc3339(self._clock.now())}
        return await self._exchange(json.dumps(message).encode())

    async def _exchange(self, body: bytes) -> Reply:
        headers = [("content-type", "application/json"), ("user-agent", f"claude-proxy/{__version__}")]
        if self._secret is not None:
            at = str(int(self._clock.now()))
            signed = hmac.new(self._secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers.append(("x-claude-proxy-signature", f"t={at},v1={signed}"))
        began = self._clock.monotonic()
        exchange = self._client.open(Request("POST", self._target, headers, body))
        try:
            # A total timeout: a receiver that sends a byte now and then would never hit an idle timeout.
            async with asyncio.timeout(TIMEOUT_S):
                status = (await exchange.head()).status
        except TimeoutError:
            return Reply(f"no answer within {TIMEOUT_S:g} s")
        except UpstreamError as error:
            return Reply(str(error))
        finally:
            exchange.close()
        problem = None if 200 <= status < 300 else f"it answered {status}"
        return Reply(problem, status, round((self._clock.monotonic() - began) * 1000))
