"""The demo: a simulated provider, a data folder with a past, and clients that go on using it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from proxy.accounts.account import Account, ApiKey, OAuthTokens
from proxy.clients.keys import Role, declared_key, key_record
from proxy.clock import Clock, rfc3339
from proxy.config.settings import Settings, load_settings
from proxy.errors import StartError
from proxy.logs import say
from proxy.simulator import Grant, Simulator
from proxy.simulator.limits import Meter
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Record, Storage
from proxy.usage.counts import to_line

from . import history
from .traffic import Traffic
from .world import DAY_S, DEMO_KEY, KEYS, ORGANIZATIONS, SEATS, Seat

CONFIG: Final = Path(__file__).parents[3] / "conf" / "demo.yaml"
ADMIN_KEY: Final = "AUTH__API_KEY"
TAKEN: Final = re.compile(rf"(SERVER|LOGGER)__(?!WORKERS$).*|{ADMIN_KEY}")
"""Variables that a demo takes; more than one worker would need a shared store."""
OURS: Final = tuple(f"{section.upper()}__" for section in Settings.model_fields)

TOKEN_LIFE_S: Final = 3600
"""Of an access token: short, so that refreshes are seen."""


class Demo:
    """Its provider is `simulator`, which the caller starts and stops."""

    def __init__(self, *, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._credentials: dict[str, str | Grant] = {}
        self._unused: list[str] = []
        self._keys = {key.name: f"cp-{secrets.token_urlsafe(32)}" for key in KEYS}
        self.simulator = Simulator(
            clock=clock,
            rng=rng,
            event_interval_s=0.05,
            ledger_limit=100,
            eager_tools=False,
            expires_in=TOKEN_LIFE_S,
            organizations=ORGANIZATIONS,
        )

    async def fill(self, storage: Storage) -> None:
        """Put accounts, client keys and their usage so far into an empty data folder."""
        now = self._clock.now()
        accounts = [self._account(seat, now) for seat in SEATS]
        tokens = [
            replace(
                declared_key(key.name, self._keys[key.name], Role.USER, key.limits, key.models),
                status=key.status,
                declared=False,
                created_at=now - 40 * DAY_S,
                updated_at=now - 40 * DAY_S,
            )
            for key in KEYS
        ]
        for account in accounts:
            await storage.put("accounts", account.id, account.record())
        for token in tokens:
            await storage.put("tokens", token.id, key_record(token))
        account_ids = {account.name: account.id for account in accounts}
        token_ids = {token.name: token.id for token in tokens}
        quota = {
            account.id: history.quota(seat, grant.meter, now, self._rng).record()
            for account, seat in zip(accounts, SEATS, strict=True)
            if isinstance(grant := self._credentials[seat.name], Grant)
        }
        await storage.update("quota", quota)
        used = history.usage(now, account_ids, token_ids, self._rng)
        last_used = {account_ids[seat.name]: now - seat.unused_s for seat in SEATS}
        await storage.update("counters", history.counters(used, last_used, now))
        days: dict[str, list[Record]] = defaultdict(list)
        for key, sums in used.items():
            days[rfc3339(key[0])[:10]].append(to_line(key, sums))
        for day, lines in days.items():
            await storage.append(day, lines)

    def settings(self, data_folder: Path, environ: Mapping[str, str]) -> Settings:
        """`conf/demo.yaml`, with the simulator for the Claude API and its OAuth server.

        Of the environment it takes where to listen, how to log and the admin key: the rest may be of a production whose
        accounts, store and receivers of notifications are no business of a demo.
        """
        taken = {name: value for name, value in environ.items() if TAKEN.fullmatch(name)}
        self._unused = sorted(name for name in environ.keys() - taken.keys() if name.startswith(OURS))
        variables = {
            ADMIN_KEY: secrets.token_urlsafe(24),
            **taken,
            "CLAUDE__BASE_URL": self.simulator.base_url,
            "OAUTH__CLIENT_ID": self.simulator.client_id,
            "OAUTH__AUTHORIZE_URL": self.simulator.authorize_url,
            "OAUTH__TOKEN_URL": self.simulator.token_url,
            "STORAGE__DATA_FOLDER": str(data_folder),
        }
        return load_settings(CONFIG, variables)

    async def show(self, url: str, admin_key: str, stop: asyncio.Event) -> None:
        """Say what is there to see, and use the proxy at `url` until `stop`."""
        say(self.welcome(url, admin_key))
        async with self.traffic(url):
            await stop.wait()

    def traffic(self, url: str) -> AbstractAsyncContextManager[None]:
        """Clients that use the proxy at `url` for as long as the context lasts."""
        busy = [self._credentials[seat.name] for seat in SEATS if seat.busy]
        return Traffic(self.simulator, busy, self._keys, clock=self._clock, rng=self._rng).running(url)

    def welcome(self, url: str, admin_key: str) -> str:
        """What is there to see, and to try."""
        unused = f"set and not used here: {', '.join(self._unused)}\n" if self._unused else ""
        return f"""
This is a demo: the accounts, their clients and the Claude API are simulated, and nothing is kept.
{unused}
  dashboard   {url}/
  admin key   {admin_key}

Paste this into another terminal:

  curl -N {url}/v1/messages \\
    -H 'x-api-key: {self._keys[DEMO_KEY]}' -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \\
    -d '{{"model":"claude-sonnet-5-5","max_tokens":200,"stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'
"""

    def _meter(self, seat: Seat, meter: Meter, now: float) -> None:
        """Let its windows have run for as long as it takes to use what is used at the start."""
        run_s = (0.2 + 0.7 * seat.used) * history.WINDOWS_S["5h"]
        meter.offset_s = round(now - run_s - meter.end("5h", now))
        meter.start("5h", now, seat.used)
        meter.start("7d", now, seat.used_week)

    def _account(self, seat: Seat, now: float) -> Account:
        key = f"sk-ant-api03-demo-{secrets.token_urlsafe(24)}"
        created_at = now - self._rng.uniform(31, 90) * DAY_S
        account = Account(
            id=f"acc_{secrets.token_hex(8)}",
            name=seat.name,
            credential=ApiKey(key),
            created_at=created_at,
            updated_at=created_at,
        )
        if seat.expires_in_s is None:
            self.simulator.add_api_key(key, organization=seat.organization)
            self._credentials[seat.name] = key
            return account
        grant = self._credentials[seat.name] = self.simulator.add_oauth(organization=seat.organization)
        self._meter(seat, grant.meter, now)
        if seat.revoked:
            self.simulator.revoke(grant)
        expires_at = now + seat.expires_in_s
        return replace(
            account,
            credential=OAuthTokens(grant.access_token, grant.refresh_token, expires_at, grant.scope),
            organization_uuid=grant.organization.uuid,
            organization_name=grant.organization.name,
            last_refresh_at=expires_at - TOKEN_LIFE_S,
            updated_at=expires_at - TOKEN_LIFE_S,
        )


@contextlib.asynccontextmanager
async def started(
    environ: Mapping[str, str], *, clock: Clock, rng: Random
) -> AsyncIterator[tuple[Demo, Settings]]:
    """A demo whose simulator runs, and the settings of a proxy for it, on a data folder that is gone afterwards."""
    with _throw_away() as folder:
        demo = Demo(clock=clock, rng=rng)
        demo.simulator.spool_folder = folder
        await demo.simulator.start()
        try:
            settings = demo.settings(folder / "data", environ)
            storage = JsonFiles.open(settings.storage.data_folder, clock=clock)
            try:
                await demo.fill(storage)
            finally:
                await storage.close()
            yield demo, settings
        finally:
            await demo.simulator.stop()


@contextlib.contextmanager
def _throw_away() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="claude-proxy-demo-")
    except OSError as error:
        raise StartError(
            f"the demo has no folder for its data ({error.strerror}): set TMPDIR to one that can be written"
        ) from error
    with folder as name:
        yield Path(name)
