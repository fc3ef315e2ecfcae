"""Which accounts of other programs can serve here, and why the others cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from proxy.accounts.account import Account, ApiKey, OAuthTokens, Status
from proxy.accounts.credentials import CONSOLE_KEY
from proxy.accounts.foreign.offer import Found, Offer, Refusal, shown
from proxy.accounts.moving import MOST_ACCOUNTS, arrivals
from proxy.http.outbound import proxy_url

LONGEST: Final = 4096
"""Characters of a credential; theirs have some 110."""

API: Final = "https://api.anthropic.com"

# What claude-relay-service makes of a text with its key: 16 bytes and the ciphertext, in hexadecimal.
ENCRYPTED: Final = re.compile(r"[0-9a-f]{32}:(?:[0-9a-f]{2})+")
TAKEN_OUT: Final = "[REDACTED]"

OTHERS_LOGIN: Final = (
    "an OAuth login can be refreshed only with the client id that it was made with. If that is not your "
    "oauth.client_id, these accounts stop when their access tokens expire: authorise them anew here"
)


@dataclass(frozen=True, slots=True)
class Here:
    """What this proxy is set up for. `missing`: keys of the configuration without which no login can be refreshed."""

    base_url: str
    client_id: str | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The accounts that are taken, with the names that the file has for them; what is not; and warnings."""

    taken: list[tuple[Account, str]]
    refused: list[Refusal]
    warnings: list[str]


def judge(
    offers: Iterable[Found], pool: Iterable[Account], here: Here, now: float, new_id: Callable[[str], str]
) -> Judged:
    """What becomes of each. Nothing is asked of anybody: whether a credential works shows with its first use."""
    judged = Judged([], [], [])
    coming: list[tuple[Account, Offer]] = []
    for number, each in enumerate(offers):
        why = each.why if isinstance(each, Refusal) else _why_not(each, here, now)
        if why is None and number >= MOST_ACCOUNTS:
            why = f"no more than {MOST_ACCOUNTS} accounts are taken at once"
        if why is not None or isinstance(each, Refusal):
            judged.refused.append(Refusal(each.name, why or ""))
        else:
            coming.append((_account(each, now, new_id("acc")), each))
    found = arrivals(pool, (account for account, _ in coming), now)
    for arrival, (_, offer) in zip(found, coming, strict=True):
        if arrival.there is None:
            judged.taken.append((arrival.account, offer.name))
        else:
            there = shown(arrival.there.name)
            judged.refused.append(
                Refusal(offer.name, f"it is there already, or twice in the file: as {there!r}")
            )
    kept = {account.id for account, _ in judged.taken}
    logins = [o for a, o in coming if a.id in kept and isinstance(o.credential, OAuthTokens)]
    if any(offer.client_id is None for offer in logins):
        judged.warnings.append(OTHERS_LOGIN)
    if logins:
        judged.warnings.append(
            "a refresh token works once: stop the other program first, and delete them there"
        )
    return judged


def _why_not(offer: Offer, here: Here, now: float) -> str | None:
    secrets = (
        [offer.credential.key]
        if isinstance(offer.credential, ApiKey)
        else [offer.credential.access_token, offer.credential.refresh_token or ""]
    )
    if TAKEN_OUT in secrets:
        return "its credentials were taken out of the export"
    if any(ENCRYPTED.fullmatch(secret) for secret in secrets):
        return (
            "it is encrypted with that server's key: export it decrypted (scripts/data-transfer-enhanced.js)"
        )
    if not secrets[0]:
        return "it has no API key" if isinstance(offer.credential, ApiKey) else "it has no access token"
    if any(
        len(each) > LONGEST or not each.isascii() or not each.isprintable() or " " in each for each in secrets
    ):
        return "its credential is none that a header can carry"
    if offer.proxy is not None:
        try:
            proxy_url(offer.proxy)
        except ValueError:
            return "its outbound proxy cannot be used here, and without it would be another way out"
    if isinstance(offer.credential, ApiKey):
        return _why_not_key(offer, offer.credential, here)
    return _why_not_login(offer, offer.credential, here, now)


def _why_not_key(offer: Offer, key: ApiKey, here: Here) -> str | None:
    if offer.base_url is not None and offer.base_url.rstrip("/") not in (API, here.base_url):
        return "its key is for another API than claude.base_url"
    return None if key.key.startswith(CONSOLE_KEY) else f"it is no Console API key ({CONSOLE_KEY}…)"


def _why_not_login(offer: Offer, tokens: OAuthTokens, here: Here, now: float) -> str | None:
    if tokens.refresh_token is None:
        expired = tokens.expires_at is not None and tokens.expires_at <= now
        return "it is expired, and has no refresh token" if expired else "it has no refresh token"
    if here.missing:
        return f"an OAuth login is refreshed with your own registration: set {' and '.join(here.missing)}"
    if offer.client_id is not None and offer.client_id != here.client_id:
        return "it was made with another client id than oauth.client_id, so it cannot be refreshed here"
    if offer.base_url is not None and offer.base_url.rstrip("/") not in (API, here.base_url):
        return "it is for another API than claude.base_url"
    return None


def _account(offer: Offer, now: float, id: str) -> Account:
    account = Account(
        id=id,
        name=offer.name,
        credential=offer.credential,
        created_at=now,
        updated_at=now,
        organization_uuid=offer.organization_uuid,
        proxy=None if offer.proxy is None else proxy_url(offer.proxy),
        unchecked=isinstance(offer.credential, ApiKey),
    )
    if offer.active:
        return account
    return replace(account, status=Status.INACTIVE, status_reason="it was inactive where it came from")
