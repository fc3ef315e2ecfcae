"""One refresh of an account over all instances: who has its lease renews the tokens, and the others wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from proxy.accounts.account import Account, Status, failed_between
from proxy.accounts.pool import Pool
from proxy.clock import Clock
from proxy.errors import StorageError, TokenRefused, TokenTrouble
from proxy.storage.protocols import Lease, Leases

LEASE_S: Final = 90.0
"""Longer than a refresh takes; what a dead instance has begun is taken over after it."""

RENEW_S: Final = 30.0
AGAIN_S: Final = 5.0
"""How long one waits for the tokens of another instance before it tries to get the lease again."""

Work = Callable[[str], Awaitable[None]]


class Alone(Protocol):
    """Sees to it that one refresh of an account runs at a time."""

    patience_s: float
    """So long after its beginning, a refresh that somebody else began counts as interrupted."""

    async def run(self, account_id: str, work: Work) -> None:
        """Do `work`, unless the tokens are renewed elsewhere. Raises what it raises; TokenTrouble, TokenRefused."""


class Unshared:
    """There is one instance."""

    patience_s = 0.0

    async def run(self, account_id: str, work: Work) -> None:
        await work(account_id)


class Shared:
    """There are several, and the store has the leases."""

    patience_s = LEASE_S

    def __init__(self, pool: Pool, leases: Leases, clock: Clock) -> None:
        self._pool = pool
        self._leases = leases
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._doubtful: set[str] = set()
        """Leases that the store may take for ours, since an answer was lost: others would wait for their end."""

    async def run(self, account_id: str, work: Work) -> None:
        before = self._pool[account_id]
        lease = await self._lease(before)
        if lease is None:
            return
        self._held[account_id] = lease
        try:
            await self._reread(account_id)
            if not _is_renewed(before, self._pool[account_id]):
                self._check(self._pool[account_id])
                self._pool.fence(account_id, lease.fence)
                await work(account_id)
        finally:
            self._pool.fence(account_id, None)
            del self._held[account_id]
            await self._release(lease)

    def _check(self, account: Account) -> None:
        """Raise TokenTrouble if another instance is at it: a failover may lose a lease, but no intent."""
        began = account.refresh_began_at
        if began is not None and self._clock.now() - began < LEASE_S:
            raise TokenTrouble("another instance has begun a refresh, and its answer may still come")

    async def renew(self) -> None:
        """Keep the leases of the refreshes that run; as a job every RENEW_S."""
        for lease in tuple(self._held.values()):
            with contextlib.suppress(StorageError):  # what it has changed is merged, if another one took over
                await self._leases.renew(lease, LEASE_S)

    async def tidy(self) -> None:
        """End what is not known to have ended; as a job. Raises StorageError."""
        for name in tuple(self._doubtful):
            if name not in {held.name for held in self._held.values()}:
                lease = await self._leases.take(name, LEASE_S)
                if lease is not None:
                    await self._leases.release(lease)
            self._doubtful.discard(name)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._leases.release(lease)
        except StorageError:
            self._doubtful.add(lease.name)

    async def _lease(self, before: Account) -> Lease | None:
        """The account's lease; None if another instance has renewed the tokens. Raises TokenTrouble, TokenRefused."""
        name = f"refresh:{before.id}"
        while True:
            changed = self._pool.changes_elsewhere(before.id)
            try:
                lease = await self._leases.take(name, LEASE_S)
            except StorageError as error:
                self._doubtful.add(name)
                raise TokenTrouble(f"no token is rotated: {error}") from error
            if lease is not None:
                return lease
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await changed
            if _is_renewed(before, self._pool[before.id]):
                return None

    async def _reread(self, account_id: str) -> None:
        try:
            await self._pool.reread(account_id)
        except StorageError as error:
            raise TokenTrouble(f"no token is rotated: {error}") from error


def _is_renewed(before: Account, now: Account) -> bool:
    """Whether there are other tokens. Raises TokenTrouble or TokenRefused if getting them has failed."""
    if now.credential != before.credential:
        return True
    if now.status is Status.INVALID and before.status is not Status.INVALID:
        raise TokenRefused(now.status_reason or "the grant is refused")
    error = now.last_refresh_error
    # It may have failed as the time before, and then says the same.
    if error is not None and (error != before.last_refresh_error or failed_between(before, now)):
        raise TokenTrouble(error)
    return False
