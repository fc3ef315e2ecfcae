"""Refreshes OAuth access tokens: one refresh per account at a time; new tokens are on disk before they are used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from proxy.accounts.account import Account, AccountChanged, ApiKey, OAuthTokens, Status
from proxy.accounts.alone import Alone, Unshared
from proxy.accounts.balancer import REFRESH_AHEAD_S
from proxy.accounts.lifetimes import Lifetimes
from proxy.accounts.oauth import NO_ACCESS_TOKEN, OAuthServer
from proxy.accounts.outcomes import Outcomes
from proxy.accounts.pool import Pool
from proxy.accounts.troubles import Troubles
from proxy.clock import Clock, rfc3339
from proxy.errors import StorageError, TokenRefused, TokenTrouble
from proxy.failpoints import failstep
from proxy.jobs import Jobs

LEAST_INTERVAL_S = 60.0
"""Least time between two refreshes of one account, so that a wrong `expires_in` cannot cause a refresh loop."""

LONGEST_WAIT_S = 75.0
"""How long a request waits for a shared refresh: two calls to the OAuth server of 30 s each, and the disk."""

SHORT_WAIT_S = 3.0
"""How long a request waits for a refresh if the token lives on: longer than most take, so that it gets the new one."""

LAST_S = 10.0
"""A token with so little left is not used without waiting for the new one: it could end on its way."""

NOT_WRITABLE = "new tokens cannot be written, so no token is rotated"
NOT_CONFIGURED = "oauth.client_id, oauth.authorize_url and oauth.token_url are not configured"
NOT_RENEWABLE = "the account has no refresh token: re-authorise it before its token ends"

log = logging.getLogger(__name__)


class Refresher:
    """Refreshes access tokens, and gives out accounts with a valid one.

    A refresh first saves its intent, which proves that the disk takes writes; then it calls the OAuth server, saves the
    tokens, and only then uses them. It runs as a job: no client cancels it by leaving, and a shutdown waits for it.
    """

    def __init__(
        self,
        pool: Pool,
        server: OAuthServer | None,
        *,
        alone: Alone | None = None,
        jobs: Jobs,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._pool = pool
        self._alone = alone or Unshared()
        self._server = server
        self._jobs = jobs
        self._clock = clock
        self.outcomes = Outcomes()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._troubles = Troubles(clock=clock, rng=rng)
        self._lifetimes = Lifetimes(clock)
        self.learn = self._lifetimes.learn

    async def usable(self, account: Account) -> Account:
        """The account with a valid credential, refreshed if necessary. Raises TokenRefused or TokenTrouble."""
        if isinstance(account.credential, ApiKey):
            return account
        account = self.settled(account)
        if not self._due(account, REFRESH_AHEAD_S):
            return account
        wait_s = LONGEST_WAIT_S if self._lifetimes.ends(account, LAST_S) else SHORT_WAIT_S
        try:
            return await self.refresh(account.id, wait_s=wait_s)
        except TokenTrouble:
            if account.id not in self._pool:
                raise
            account = self._pool[account.id]
            if not self._lifetimes.ends(account, 0.0):
                return account  # the old token is still valid
            if account.received is None:
                raise
            return self._publish(account.id)  # not on disk yet, but the old token has expired

    async def refresh(
        self,
        account_id: str,
        *,
        failed: str | None = None,
        forced: bool = False,
        wait_s: float | None = None,
    ) -> Account:
        """Refresh an account's token, or wait for the refresh that is running, for LONGEST_WAIT_S or `wait_s`.

        `failed` is the access token that the API rejected: if there is another already, nothing is refreshed.
        `forced` skips the backoff, for admins. Raises TokenRefused, TokenTrouble, and NotFound if the account is
        deleted meanwhile.
        """
        account = self.settled(self._pool[account_id])
        assert isinstance(account.credential, OAuthTokens)
        if failed is not None and account.credential.access_token != failed:
            return account
        task = self._running.get(account_id)
        if task is None and failed is not None and account.received is not None:
            return self._publish(account_id)  # not on disk yet, but the old token is refused
        if task is None:
            if not forced:
                self._may_start(account)
            task = self._run(account_id, "refresh", self._alone.run(account_id, self._rotate))
            task.add_done_callback(partial(self.outcomes.count, account_id))
        try:
            async with asyncio.timeout(LONGEST_WAIT_S if wait_s is None else wait_s):
                await asyncio.shield(task)
        except TimeoutError:
            raise TokenTrouble("the refresh takes too long") from None
        except StorageError as error:  # the running job was a re-authorisation
            raise TokenTrouble(f"the new tokens could not be saved yet: {error}") from error
        return self._pool[account_id]

    async def reauthorize(self, account_id: str, tokens: OAuthTokens) -> Account:
        """Replace an account's tokens. An INVALID account becomes ACTIVE. On disk when this returns.

        Raises StorageError, and NotFound if the account is deleted meanwhile.
        """
        while (running := self._running.get(account_id)) is not None:
            await asyncio.wait([running])
        await asyncio.shield(self._run(account_id, "reauthorize", self._replace(account_id, tokens)))
        return self._pool[account_id]

    def needs_refresh(self, account: Account, within_s: float = REFRESH_AHEAD_S) -> bool:
        """Whether the account works and its token has expired or does within `within_s`."""
        return account.works and self._due(account, within_s)

    def may_try_again(self, account: Account) -> bool:
        """Whether the account's last refresh failed, the pause after it is over, and another may succeed."""
        paused = self._troubles.now(account.id) is not None
        return account.last_refresh_error is not None and self._may_succeed(account) and not paused

    def is_running(self, account_id: str) -> bool:
        """Whether the account's token is being refreshed."""
        return account_id in self._running

    def is_fresh(self, account: Account) -> bool:
        """Whether the token was refreshed less than LEAST_INTERVAL_S ago."""
        return 0 <= self._clock.now() - (account.last_refresh_at or 0.0) < LEAST_INTERVAL_S

    def start(self) -> None:
        """Note when the stored tokens expire, and warn of refreshes that a crash interrupted."""
        for account in self._pool:
            self._lifetimes.learn(account)
            if account.refresh_began_at is not None:
                log.warning(
                    "refresh interrupted, its answer may be lost: trying again account=%s", account.id
                )

    def heard(self, change: AccountChanged) -> None:
        """Go by another outbound proxy of an account, and by what another instance's refresh has come to."""
        old, new = change.old, change.new
        if old is not None and new is not None and old.proxy != new.proxy:
            self._troubles.over(new.id)  # what failed on the old way says nothing of the new one
        if not change.elsewhere or new is None:
            return
        if old is None or old.credential != new.credential:
            self._troubles.over(new.id)
            self._lifetimes.learn(new)
        elif old.refresh_began_at is not None and new.refresh_began_at is None and new.last_refresh_error:
            self._troubles.failed(new.id, new.last_refresh_error, None)

    def _run(self, account_id: str, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a job. Until it ends, nothing else may change the account's tokens."""
        task = self._jobs.start(f"{what} {account_id}", work)
        self._running[account_id] = task
        task.add_done_callback(lambda _: self._ended(account_id))
        self._pool.touch(account_id)
        return task

    def _ended(self, account_id: str) -> None:
        del self._running[account_id]
        self._pool.touch(account_id)

    async def _replace(self, account_id: str, tokens: OAuthTokens) -> None:
        now = self._clock.now()
        self._troubles.over(account_id)
        await self._pool.change(account_id, lambda a: a.refresh_received(tokens, now))
        self._publish(account_id)
        await self._activate(account_id)

    async def _activate(self, account_id: str) -> None:
        now = self._clock.now()
        await self._pool.change(account_id, lambda a: a.activated(now) if a.status is Status.INVALID else a)

    async def _rotate(self, account_id: str) -> None:
        account = self._pool[account_id]
        tokens = account.credential
        assert isinstance(tokens, OAuthTokens)
        try:
            if self._server is None:
                raise TokenTrouble(NOT_CONFIGURED, passes=False)
            if tokens.refresh_token is None:
                raise TokenTrouble(NOT_RENEWABLE, passes=False)
            await _intend(self._pool, account_id, self._clock.now())
            with failstep("refresh.call"):
                received = await self._server.refresh(tokens, proxy=account.proxy)
        except TokenTrouble as trouble:
            self._failed(account_id, str(trouble), trouble.retry_after_s)
            raise
        except TokenRefused as refusal:
            await self._refused(account_id, tokens, str(refusal))
            return
        await self._save(account_id, tokens, received)
        if not _is_renewed(tokens, received):
            self._failed(account_id, NO_ACCESS_TOKEN, None)
            raise TokenTrouble(NO_ACCESS_TOKEN)

    async def _save(self, account_id: str, used: OAuthTokens, received: OAuthTokens) -> None:
        pool, now = self._pool, self._clock.now()
        if account_id not in pool:
            return  # deleted meanwhile

        def take(account: Account) -> Account:
            if _is_renewed(used, received):
                self._troubles.over(account_id)
                return account.refresh_received(received, now)
            return replace(account, received=received)

        try:
            with failstep("refresh.save"):
                await pool.change(account_id, take)
        except StorageError as error:
            # They stay in memory and are written again every second. The old token is used until it expires.
            log.error("new tokens are not on disk yet account=%s error=%s", account_id, error)
            raise TokenTrouble("the new tokens could not be saved yet") from error
        if account_id in pool:
            with failstep("refresh.publish"):
                self._publish(account_id)
            if self._alone.patience_s:  # another instance may have taken over, and been refused since
                await self._activate(account_id)

    def _publish(self, account_id: str) -> Account:
        account = self._pool.publish(account_id)
        self._lifetimes.learn(account)
        log.info("token refreshed account=%s expires_at=%s", account_id, rfc3339(account.expires_at or 0.0))
        return account

    def settled(self, account: Account) -> Account:
        """The account. If tokens could not be saved at first but are on disk by now, it uses them from now on."""
        if account.received is None or account.id in self._running or account.id in self._pool.unsaved:
            return account
        return self._publish(account.id)

    async def _refused(self, account_id: str, used: OAuthTokens, why: str) -> None:
        """Handle a rejected refresh token: use newer tokens if storage has them, else make the account INVALID."""
        pool = self._pool
        stored = await pool.stored_tokens(account_id)
        if stored is not None and stored.refresh_token != used.refresh_token:
            await self._save(account_id, used, stored)
            return
        self._failed(account_id, why, None)
        if account_id in pool:
            pool.invalidate(account_id, why)
        raise TokenRefused(why)

    def _failed(self, account_id: str, why: str, retry_after_s: float | None) -> None:
        wait_s = self._troubles.failed(account_id, why, retry_after_s)
        log.warning("refresh failed account=%s again_in_s=%.0f reason=%s", account_id, wait_s, why)
        if account_id in self._pool:
            self._pool.change(account_id, lambda a: a.refresh_failed(why, self._clock.now()))

    def _may_start(self, account: Account) -> None:
        if (trouble := self._troubles.now(account.id)) is not None:
            raise TokenTrouble(trouble, passes=self._may_succeed(account))
        if account.refresh_began_at is None and self.is_fresh(account):
            raise TokenTrouble("the token was refreshed less than a minute ago")

    def _may_succeed(self, account: Account) -> bool:
        tokens = account.credential
        return (
            self._server is not None and isinstance(tokens, OAuthTokens) and tokens.refresh_token is not None
        )

    def _due(self, account: Account, within_s: float) -> bool:
        """Whether the token expires within `within_s`, or the answer of an interrupted refresh may be lost."""
        began = account.refresh_began_at
        is_over = began is not None and self._clock.now() - began >= self._alone.patience_s
        interrupted = is_over and account.id not in self._running
        return interrupted or self._lifetimes.ends(account, within_s)


async def _intend(pool: Pool, account_id: str, now: float) -> None:
    """Save the intent to refresh. Raises TokenTrouble if it cannot be written, or only to the journal."""
    try:
        if not pool.unsaved:
            with failstep("refresh.intent"):
                await pool.change(account_id, lambda a: a.refresh_begun(now))
    except StorageError as error:
        raise TokenTrouble(f"{NOT_WRITABLE}: {error}") from error
    if not pool.writable:
        raise TokenTrouble(NOT_WRITABLE)


def _is_renewed(used: OAuthTokens, received: OAuthTokens) -> bool:
    """Whether the answer changed more than the refresh token."""
    return received != replace(used, refresh_token=received.refresh_token)
