"""Asks the upstream whether an account's credential works: one `GET /v1/models`."""

from __future__ import annotations

import asyncio

from proxy.accounts.account import Account
from proxy.errors import UpstreamError
from proxy.http.headers import to_upstream
from proxy.jobs import Jobs
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Request

API_VERSION = "2023-06-01"
"""The API requires `anthropic-version`, also of the probe. A client's own header is never changed."""

LONGEST_S = 10.0
"""Timeout of a probe. It is short, since a client's request waits for the probe before it tries the next account."""


class Probe:
    """Runs one probe per account at a time; concurrent callers share its result."""

    def __init__(self, client: CurlClient, jobs: Jobs) -> None:
        self._client = client
        self._jobs = jobs
        self._asking: dict[str, asyncio.Task[bool | None]] = {}

    async def works(self, account: Account) -> bool | None:
        """True if the API accepts the credential, False if it answers 401, None if the probe is inconclusive."""
        task = self._asking.get(account.id)
        if task is None:
            task = self._jobs.start(f"probe {account.id}", self._ask(account), wait=False)
            self._asking[account.id] = task
            task.add_done_callback(lambda _: self._asking.pop(account.id, None))
        return await asyncio.shield(task)

    async def _ask(self, account: Account) -> bool | None:
        headers = to_upstream([("anthropic-version", API_VERSION)], account.sent)
        exchange = self._client.open(Request("GET", "/v1/models", headers, proxy=account.proxy))
        try:
            async with asyncio.timeout(LONGEST_S):
                status = (await exchange.head()).status
        except (UpstreamError, TimeoutError):
            return None
        finally:
            exchange.close()
        if status == 401:
            return False
        return True if status < 400 else None
