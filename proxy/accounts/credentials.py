"""Whether credentials work: API keys are proven before they are stored, accounts are tested for an admin."""

from __future__ import annotations

from collections.abc import Callable

from proxy.accounts.account import Account, ApiKey, OAuthTokens
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Finding, Probe
from proxy.accounts.refresh import Refresher
from proxy.errors import BadGateway, TokenRefused, TokenTrouble, Unprocessable

CONSOLE_KEY = "sk-ant-api"
WANTED = f"a Console API key ({CONSOLE_KEY}…) is needed"

OTHER_KINDS = {
    "sk-ant-admin": "an Admin API key, which cannot send messages",
    "sk-ant-sid": "the session key of a browser",
    "sk-ant-oat": "the access token of an OAuth login",
    "sk-ant-ort": "the refresh token of an OAuth login",
    "sk-proj": "a key of OpenAI",
    "sk-svcacct": "a key of OpenAI",
    "sk-or-": "a key of OpenRouter",
    "AIza": "a key of Google",
    "cp-": "a client key of this proxy",
}
"""What begins otherwise may be the key of a gateway that stands before the API."""


class Credentials:
    """Proves credentials with `GET /v1/models`. `is_ours` tells the keys that open this proxy itself."""

    def __init__(
        self, pool: Pool, probe: Probe, refresher: Refresher, *, is_ours: Callable[[str], bool]
    ) -> None:
        self._pool = pool
        self._probe = probe
        self._refresher = refresher
        self._is_ours = is_ours

    async def add_key(self, name: str, text: str, *, verify: bool = True) -> Account:
        """Add an API key as an account, once the API has accepted it; with `verify` False at once, as unchecked.

        Raises Unprocessable if it is another kind of key or is refused, BadGateway if nobody can tell, Conflict.
        """
        key = self._read(text)
        self._pool.check_new(name, key)
        if verify:
            await self._prove(key, 'Try again, or add it unchecked with "verify": false.')
        elif not key.key.startswith(CONSOLE_KEY):
            raise Unprocessable(f'api_key: {WANTED}; any other has to be proven, without "verify": false')
        return await self._pool.add(name, key, unchecked=not verify)

    async def new_key(self, account: Account, text: str) -> ApiKey:
        """The key in `text`, which the API has accepted, to replace that of `account`. Raises as `add_key` does."""
        if account.type != "api_key":
            raise Unprocessable(
                f"api_key: '{account.name}' is an OAuth login: re-authorise it, or add the key as another account"
            )
        key = self._read(text)
        self._pool.check_credential(key, but=account.id)
        await self._prove(key, "Try again.", account.proxy)
        return key

    async def works(self, account: Account) -> bool:
        """Whether the account's credential is accepted; a token is refreshed first, if that can be had now."""
        if account.type == "oauth":
            try:
                account = await self._refresher.refresh(account.id, forced=True)
            except TokenRefused:
                return False
            except TokenTrouble:
                account = self._pool[account.id]  # its token may be good all the same
        return await self._probe.works(account) is True

    async def test(self, account: Account) -> Finding:
        """What the API says of the account now. A key that it refuses with 401 makes the account INVALID."""
        try:
            account = await self._refresher.usable(account)
        except (TokenRefused, TokenTrouble) as error:
            return Finding(None, 0, str(error))
        found = await self._probe.ask(account.sent, account.proxy)
        if found.status is not None:
            self._pool.reached(account.id)
        if self._pool.is_current(account):
            if found.ok:
                await self._pool.change(account.id, Account.checked)
            elif found.works is False and not isinstance(account.credential, OAuthTokens):
                self._pool.invalidate(account.id, found.message)
        return found

    def _read(self, text: str) -> ApiKey:
        """The key in `text`. Raises Unprocessable if it cannot be one of the API's; no error repeats it."""
        text = text.strip()
        kind = next((what for start, what in OTHER_KINDS.items() if text.startswith(start)), None)
        if kind is None and self._is_ours(text):
            kind = "a key that opens this proxy"
        if kind is not None:
            raise Unprocessable(f"api_key: this is {kind}: {WANTED}")
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise Unprocessable(f"api_key: {WANTED}, which is ASCII characters without spaces")
        return ApiKey(text)

    async def _prove(self, key: ApiKey, way_on: str, proxy: str | None = None) -> None:
        found = await self._probe.ask(key.sent, proxy)
        if found.refused:
            odd = "" if key.key.startswith(CONSOLE_KEY) else f"{WANTED}, which this does not look like; "
            raise Unprocessable(f"api_key: {odd}the upstream refuses it: {found.message}")
        if not found.ok:
            raise BadGateway(
                f"The key could not be checked: {found.message}. {way_on}", type="upstream_unreachable"
            )
