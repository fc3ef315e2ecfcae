"""OAuth logins in progress. Each has one state, one PKCE verifier, a lifetime of ten minutes and one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from proxy.accounts.account import Account
from proxy.accounts.granted import Granted, refuse_api_key
from proxy.accounts.login import LIFE_S, Failure, Login, hashed
from proxy.accounts.names import free_name
from proxy.accounts.oauth import Pkce
from proxy.accounts.pasted import read_pasted, refused_by_provider
from proxy.accounts.pool import Pool
from proxy.clock import Clock, rfc3339
from proxy.errors import (
    InvalidRequest,
    RequestError,
    StorageError,
)
from proxy.feed import SYSTEM, Feed, act_as, acting
from proxy.jobs import Jobs
from proxy.storage.protocols import Lease, Leases
from proxy.storage.table import Table

MAX_WAITING: Final = 100
LEASE_S: Final = 90.0
"""Longer than an exchange takes; after it, another instance takes over what a dead one has begun."""

AGAIN_S: Final = 1.0
"""How long one waits for the outcome at another instance before it tries to get the lease again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a login is to be finished."""

    code: str = field(repr=False)
    name: str | None
    org_id: str | None
    account_id: str | None


class Logins:
    """Starts and finishes OAuth logins, by redirect or by a pasted code. Finishing one twice gives the same outcome,
    at whichever instances: who finishes one has its lease.
    """

    def __init__(
        self,
        table: Table[Login],
        leases: Leases,
        pool: Pool,
        granted: Granted,
        *,
        feed: Feed,
        jobs: Jobs,
        clock: Clock,
        new_id: Callable[[str], str],
    ) -> None:
        self._table = table
        self._table.on_change(self._changed_elsewhere)
        self._leases = leases
        self._pool = pool
        self._granted = granted
        self._feed = feed
        self._jobs = jobs
        self._clock = clock
        self._new_id = new_id
        self._running: dict[str, asyncio.Task[Account]] = {}
        self._heard = asyncio.Event()  # set, and replaced, when another instance has changed a login

    def begin(
        self,
        *,
        redirect_uri: str,
        org_id: str | None = None,
        account_id: str | None = None,
        name: str | None = None,
    ) -> tuple[Login, str]:
        """A new login and the URL to open. Raises Unprocessable, NotFound."""
        server = self._granted.server()
        if account_id is not None:
            refuse_api_key(self._pool[account_id])
        name = None if name is None else free_name(self._pool, name)
        self.forget_old()
        while len(self._table) >= MAX_WAITING:
            self._drop(min(self._table.values(), key=lambda login: login.ends))
        login = Login(
            id=self._new_id("flow"),
            state=secrets.token_urlsafe(32),
            pkce=Pkce.new(),
            redirect_uri=redirect_uri,
            ends=self._clock.monotonic() + LIFE_S,
            expires_at=self._clock.now() + LIFE_S,
            org_id=org_id,
            account_id=account_id,
            begun_by=acting(),
            name=name,
        )
        self._set(login)
        url = server.authorization_url(
            state=login.state, challenge=login.pkce.challenge, redirect_uri=redirect_uri
        )
        return login, url

    def ids(self) -> list[str]:
        """Ids of all known logins."""
        return [login.id for login in self._table.values()]

    def view(self, flow_id: str) -> dict[str, Any] | None:
        """What an admin may see of a login: no `state`, no code. None if it is unknown or was dropped."""
        login = next((login for login in self._table.values() if login.id == flow_id), None)
        if login is None:
            return None
        return {
            "id": login.id,
            "status": "done" if login.done else "failed" if login.error else "waiting",
            "account_id": login.done or (login.error and login.error.account_id) or login.account_id,
            "expires_at": rfc3339(login.expires_at),
            "error_type": login.error and login.error.type,
            "error_message": login.error and login.error.message,
        }

    async def finish(
        self,
        pasted: str,
        *,
        state: str | None = None,
        name: str | None = None,
        org_id: str | None = None,
        account_id: str | None = None,
    ) -> Account:
        """Finish a login and return its account, which is in storage.

        Raises RequestError with a text for the admin, and StorageError.
        """
        self._granted.server()
        self.forget_old()
        given = read_pasted(pasted)
        if state and given.state and state != given.state:
            raise _state_mismatch()
        wanted = given.state or state or None
        login = self._only(given.code) if wanted is None else await self._of(wanted)
        asked = Asked(
            given.code,
            name or login.name,
            org_id or login.org_id,
            account_id or login.account_id,
        )
        known = self._known(login, asked)
        if known is not None:
            return known
        task = self._running.get(login.key)
        if task is None:
            if acting() == SYSTEM:  # the provider's redirect, which comes without a sign-in
                act_as(login.begun_by)
            task = self._running[login.key] = self._jobs.start("login", self._alone(login.key, asked))
            task.add_done_callback(lambda _: self._running.pop(login.key))
        return await asyncio.shield(task)

    async def refused(self, state: str, error: str) -> RequestError:
        """End a login that the provider refused, and return the error. Raises InvalidRequest if it is unknown."""
        self.forget_old()
        login = await self._of(state)
        if login.over:
            raise _expired()
        told = refused_by_provider(error)
        await self._save(replace(login, error=Failure.of(told), over=True))
        return told

    def forget_old(self) -> None:
        """Drop expired logins."""
        now = self._clock.monotonic()
        for login in [login for login in self._table.values() if login.ends <= now]:
            self._drop(login)

    async def _alone(self, key: str, asked: Asked) -> Account:
        """Finish a login, or give what another instance has made of it."""
        lease = await self._lease(key)
        try:
            await self._reread(key)
            login = self._table.get(key)
            if login is None:
                raise _expired()
            return self._known(login, asked) or await self._attempt(login, asked)
        finally:
            if lease is not None:
                with contextlib.suppress(StorageError):  # it ends by itself
                    await self._leases.release(lease)

    async def _lease(self, key: str) -> Lease | None:
        """The login's lease; None once another instance has finished it. Raises StorageError."""
        while True:
            heard = self._heard
            lease = await self._leases.take(f"login:{key}", LEASE_S)
            if lease is not None:
                return lease
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await heard.wait()
            if (login := self._table.get(key)) is None or login.done is not None:
                return None

    async def _attempt(self, login: Login, asked: Asked) -> Account:
        code = hashed(asked.code)
        login = replace(login, code=code, grant=login.grant if login.code == code else None)
        try:
            grant = login.grant or await self._granted.exchange(asked.code, login)
            login = replace(login, grant=grant)
            account = await self._granted.use(
                grant, name=asked.name, org_id=asked.org_id, account_id=asked.account_id
            )
        except (RequestError, StorageError) as error:
            failure = Failure.of(error) if isinstance(error, RequestError) else None
            await self._save(replace(login, error=failure))
            raise
        await self._save(replace(login, done=account.id, grant=None, error=None))
        return account

    def _known(self, login: Login, asked: Asked) -> Account | None:
        """The account of a login that is finished; None if it is not. Raises InvalidRequest if it is used up."""
        if login.over:
            raise _expired()
        if login.done is None:
            return None
        # The admin may paste a code that the redirect has delivered already.
        if (
            login.code == hashed(asked.code)
            and login.done in self._pool
            and asked.account_id in (None, login.done)
        ):
            return self._pool[login.done]
        raise _expired()

    def _only(self, code: str) -> Login:
        """The login that a code without a state belongs to. Raises InvalidRequest."""
        logins, used = self._table.values(), hashed(code)
        waiting = [each for each in logins if each.code == used] or [
            each for each in logins if each.done is None and not each.over
        ]
        if not waiting:
            raise _expired()
        if len(waiting) > 1:
            raise InvalidRequest(
                "Several logins are open. Paste the code with its state, as code#state.", type="state_missing"
            )
        return waiting[0]

    async def _of(self, state: str) -> Login:
        """The login with this state. Raises InvalidRequest if there is none, and StorageError."""
        key = hashed(state)
        if key not in self._table:
            await self._reread(key)  # it may have been begun elsewhere a moment ago
        login = self._table.get(key)
        if login is None or not hmac.compare_digest(login.key, key) or login.ends <= self._clock.monotonic():
            raise _expired()
        return login

    async def _reread(self, key: str) -> None:
        """Take what other instances have made of a login, and its account with it. Raises StorageError."""
        await self._table.reread(key)
        login = self._table.get(key)
        if login is not None and login.done is not None and login.done not in self._pool:
            await self._pool.reread(login.done)

    def _set(self, login: Login) -> asyncio.Task[None]:
        self._touch(login)
        return self._table.commit(login.key, login)

    async def _save(self, login: Login) -> None:
        """Set a login unless it was dropped meanwhile. It is in the store when this returns, if that takes it."""
        if login.key in self._table:
            with contextlib.suppress(StorageError):  # logged, and tried again
                await self._set(login)

    def _drop(self, login: Login) -> None:
        self._touch(login)
        self._table.forget(login.key)

    def _changed_elsewhere(self, old: Login | None, new: Login | None) -> None:
        login = new or old
        assert login is not None
        self._touch(login)
        self._heard.set()
        self._heard = asyncio.Event()

    def _touch(self, login: Login) -> None:
        self._feed.touch("flows", login.id)


def _state_mismatch() -> RequestError:
    return InvalidRequest(
        "This code belongs to a different link. Open the link above again and paste the new code.",
        type="state_mismatch",
    )


def _expired() -> RequestError:
    return InvalidRequest(
        "This link expired (valid 10 minutes) or the server restarted. Get a new link.", type="flow_expired"
    )
