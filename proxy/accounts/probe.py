"""Asks the upstream whether a credential works: one `GET /v1/models`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.accounts.account import Account
from proxy.clock import Clock
from proxy.errors import UpstreamError
from proxy.http.headers import AnswerHeaders, Credential, to_upstream
from proxy.jobs import Jobs
from proxy.upstream.driver import CurlClient
from proxy.upstream.error_body import read_error
from proxy.upstream.exchange import Exchange, Request
from proxy.upstream.verdict import Asked, judge

API_VERSION = "2023-06-01"
"""The API requires `anthropic-version`, also of the probe. A client's own header is never changed."""

LONGEST_S = 10.0
"""Timeout of a probe. It is short, since a client's request waits for the probe before it tries the next account."""

JUDGED_BYTES = 64 * 1024
"""As much of an error's body is read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What `GET /v1/models` said of a credential, in `message` for people and without secrets.

    `status` is None if no answer came. `refused`: the API itself says that this credential cannot be used.
    """

    status: int | None
    latency_ms: int
    message: str
    ok: bool = False
    refused: bool = False

    @property
    def works(self) -> bool | None:
        """True if the API accepts the credential, False if it answers 401, None if nobody can tell."""
        return True if self.ok else False if self.status == 401 and self.refused else None


class Probe:
    """Runs one probe per credential and proxy at a time; concurrent callers share its result."""

    def __init__(self, client: CurlClient, jobs: Jobs, clock: Clock) -> None:
        self._client = client
        self._jobs = jobs
        self._clock = clock
        self._asking: dict[tuple[Credential, str | None], asyncio.Task[Finding]] = {}

    async def ask(self, credential: Credential, proxy: str | None = None) -> Finding:
        """What the API says of the credential, asked through the outbound `proxy` of its account."""
        asked = credential, proxy
        task = self._asking.get(asked)
        if task is None:
            task = self._jobs.start("probe", self._ask(credential, proxy), wait=False)
            self._asking[asked] = task
            task.add_done_callback(lambda _: self._asking.pop(asked, None))
        return await asyncio.shield(task)

    async def works(self, account: Account) -> bool | None:
        """Whether the API accepts the account's credential, as `Finding.works`."""
        return (await self.ask(account.sent, account.proxy)).works

    async def _ask(self, credential: Credential, proxy: str | None) -> Finding:
        headers = to_upstream([("anthropic-version", API_VERSION)], credential)
        began = self._clock.monotonic()
        exchange = self._client.open(Request("GET", "/v1/models", headers, proxy=proxy))
        try:
            async with asyncio.timeout(LONGEST_S):
                return await self._read(exchange, credential, began)
        except TimeoutError:
            return Finding(None, self._ms_since(began), f"no answer came within {LONGEST_S:g} s")
        except UpstreamError as error:
            return Finding(None, self._ms_since(began), str(error))
        finally:
            exchange.close()

    async def _read(self, exchange: Exchange, credential: Credential, began: float) -> Finding:
        head = await exchange.head()
        status, latency_ms, headers = head.status, self._ms_since(began), AnswerHeaders(head.lines)
        told = f"GET /v1/models answered {status}"
        odd = Finding(status, latency_ms, f"{told}, and not as the API does")
        if status != 401 and "json" not in headers.get("content-type").lower():
            return odd
        if 200 <= status < 300:
            return Finding(status, latency_ms, told, ok=True)
        start = b""
        while len(start) < JUDGED_BYTES and (data := await exchange.read()):
            start += data
        error = read_error(start, headers.get("content-encoding"), headers.get("content-type"))
        if error.is_page:
            return odd
        kind, now = credential.kind, self._clock.now()
        verdict = judge(status, headers, error, account_kind=kind, asked=Asked(), now=now)
        why = verdict.evidence.replace(credential.secret, "[...]")
        refused = status in (401, 402, 403) or verdict.invalid_reason is not None
        return Finding(status, latency_ms, f"GET /v1/models answered {why}", refused=refused)

    def _ms_since(self, began: float) -> int:
        return round((self._clock.monotonic() - began) * 1000)
