"""What a client is told if no account can be asked for what it wants, or none is left to be asked."""

from __future__ import annotations

import math
from collections.abc import Collection

from proxy.accounts.lessons import Lessons
from proxy.accounts.pool import Pool
from proxy.clock import rfc3339
from proxy.errors import BadGateway, RateLimited, RequestError, TokenTrouble, Unavailable
from proxy.upstream.verdict import OWN_PROXY

LONG_WAIT_S = 60.0
"""Clients wait as long as `retry-after` says. If the wait is longer than this, they are told not to retry."""

TOKEN_RETRY_S = 5.0
"""When a client may try again if an account has no live token for now, and none comes back earlier from a limit."""


def none_left(
    pool: Pool,
    now: float,
    matters: tuple[str, ...],
    lessons: Lessons,
    *,
    but: Collection[str],
    tags: Collection[str],
    only: str | None,
) -> RequestError:
    """The error if a request has got no answer from any account, by what it has learnt; else as `exhausted`."""
    back_s, trouble = pool.recovers_in(matters, but=but), lessons.token_error
    if isinstance(trouble, TokenTrouble) and (back_s is None or (trouble.passes and back_s > TOKEN_RETRY_S)):
        return Unavailable(_without_token(trouble, name_of(pool, only), back_s), retry_after_s=TOKEN_RETRY_S)
    if back_s is None and (error := unreached(pool, lessons)) is not None:
        return error
    return exhausted(pool, now, matters, but=but, tags=tags, only=only)


def _without_token(trouble: TokenTrouble, name: str | None, back_s: float | None) -> str:
    if name is not None:
        return f"account {name!r} has no live token: {trouble}"
    none = "no account has a live token" if back_s is None else "no account is free that has a live token"
    return f"{none}: {trouble}"


def unreached(pool: Pool, lessons: Lessons) -> RequestError | None:
    """The error for a request that an account's own proxy has kept from it; None if none has."""
    down = [
        each.evidence for account, each, _ in lessons.held if each.matter == OWN_PROXY and account.id in pool
    ]
    return BadGateway(f"the upstream's server cannot be reached: {down[-1]}") if down else None


def name_of(pool: Pool, only: str | None) -> str | None:
    """The name of the account that alone may be asked, if one is."""
    return pool[only].name if only is not None and only in pool else None


def exhausted(
    pool: Pool,
    now: float,
    matters: tuple[str, ...] = (),
    *,
    but: Collection[str] = (),
    tags: Collection[str] = (),
    only: str | None = None,
) -> RequestError:
    """The error if no account can be asked for these matters, and those in `but` have refused.

    `tags` are the client key's. With `only`, no other account than that one may be asked.
    """
    if not len(pool):
        return Unavailable("no accounts available", should_retry=False)
    if only is not None and only not in pool:
        return Unavailable("the account which alone could answer this was removed", retry_after_s=1)
    if only is not None and not pool[only].works:
        account = pool[only]
        why = f"account {account.name!r}, which alone can answer this, is {account.status.value}"
        return Unavailable(why, should_retry=False)
    if not any(account.serves(tags) for account in pool):
        return Unavailable("no account has one of this client key's tags", should_retry=False)
    others = {a.id for a in pool if not a.serves(tags) or only not in (None, a.id)}
    first = pool.first_back(matters, {*but, *others})
    if first is None:
        return Unavailable("all accounts invalid or inactive", should_retry=False)
    wait_s, account_id = first
    name, back = pool[account_id].name, rfc3339(now + wait_s)
    return RateLimited(
        f"all accounts rate limited: '{name}' comes back first, at {back}"
        if only is None
        else f"account '{name}', which alone can answer this, is rate limited until {back}",
        should_retry=False if wait_s > LONG_WAIT_S else None,
        retry_after_s=max(1, math.ceil(wait_s)),
    )
