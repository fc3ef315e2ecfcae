"""Moves accounts between proxies: an export under a passphrase, and what an import takes of one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from proxy.accounts.account import Account
from proxy.accounts.moving import Arrival, arrivals, read_accounts
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys, key_record
from proxy.clock import Clock
from proxy.feed import Feed, Happened
from proxy.storage.passphrase import Records, check_passphrase, seal, unseal

EXPORTED: Final = "account.exported"


class Transfer:
    """One at a time, since each takes 64 MiB; the work is done in another thread."""

    def __init__(self, pool: Pool, keys: ClientKeys, *, feed: Feed, clock: Clock) -> None:
        self._pool = pool
        self._keys = keys
        self._feed = feed
        self._clock = clock
        self._turn = asyncio.Lock()

    async def export(self, passphrase: str, *, client_keys: bool = False) -> dict[str, Any]:
        """The accounts with their credentials, and the client keys if wanted, in a file that the passphrase opens.

        Raises Unprocessable.
        """
        check_passphrase(passphrase)
        async with self._turn:
            accounts = list(self._pool)
            keys = [key for key in self._keys if client_keys and not key.declared]
            records: Records = {
                "accounts": [account.record() for account in accounts],
                "tokens": [key_record(key) for key in keys],
            }
            file = await asyncio.to_thread(seal, records, passphrase)
        text = f"accounts were exported with their credentials: {len(accounts)}"
        after = {"accounts": len(accounts), "client_keys": len(keys)}
        self._feed.tell(Happened(EXPORTED, text, "warning", after=after))
        return file

    async def take_in(self, file: Mapping[str, Any], passphrase: str, *, dry_run: bool) -> list[Arrival]:
        """What becomes of each account in the file, done unless it is a `dry_run`; on disk when this returns.

        Raises Unprocessable, StorageError. After the latter some may be there: to try again takes the others.
        """
        check_passphrase(passphrase)
        async with self._turn:
            coming = await asyncio.to_thread(_read, file, passphrase)
            if dry_run:
                return arrivals(self._pool, coming, self._clock.now())
            return [await self._take(account) for account in coming]

    async def _take(self, account: Account) -> Arrival:
        # Looked at one by one: others may add, rename and delete accounts while one is written.
        [arrival] = arrivals(self._pool, [account], self._clock.now())
        if arrival.there is None:
            await self._pool.insert(arrival.account)
        return arrival


def _read(file: Mapping[str, Any], passphrase: str) -> list[Account]:
    return read_accounts(unseal(file, passphrase).get("accounts", []))
