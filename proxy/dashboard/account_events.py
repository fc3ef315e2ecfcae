"""What people are told of an account's change: one event for each thing that matters, none for what only counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from proxy.accounts.account import Account, AccountChanged, ApiKey, Status, failed_between
from proxy.clock import rfc3339
from proxy.feed import Happened, Level, Subject, changes

LEVELS: dict[Status, Level] = {Status.RATE_LIMITED: "warning", Status.INVALID: "error"}

EDITED = ("priority", "weight", "reserve", "tags", "note", "proxy")
"""Fields of `Account.view` that admins edit and that have no event of their own."""

_TOOK = re.compile(r"\bafter \d+ m(?:illi)?s(?:econds)?\b")  # as libcurl says it

REPLACED = {"api_key": "replaced"}
"""All that is said of a secret."""


def told(change: AccountChanged) -> Iterator[Happened]:
    """The events of one change, in order."""
    old, new = change.old, change.new
    account = new or old
    assert account is not None
    subject = Subject("account", account.id, account.name)
    if old is None:
        yield Happened("account.added", f"{account.name} was added", subject=subject, after=_all(account))
    elif new is None:
        yield Happened(
            "account.deleted", f"{account.name} was deleted", subject=subject, before=_all(account)
        )
    else:
        yield from _edits(old, new, subject)
        yield from _refreshes(old, new, subject)
        yield from _states(old, new, subject)


def _edits(old: Account, new: Account, subject: Subject) -> Iterator[Happened]:
    if old.name != new.name:
        text = f"{old.name} is called {new.name} now"
        names = {"name": old.name}, {"name": new.name}
        yield Happened("account.renamed", text, "info", subject, *names)
    if isinstance(new.credential, ApiKey) and new.credential != old.credential:
        yield Happened("account.rekeyed", f"{new.name} has a new key", subject=subject, after=REPLACED)
    if (
        old.proxy != new.proxy and _edited(old)["proxy"] == _edited(new)["proxy"]
    ):  # of which no credential is shown
        text = f"the outbound proxy of {new.name} has another credential"
        yield Happened("account.changed", text, "info", subject, after={"proxy_credential": "replaced"})
    before, after = changes(_edited(old), _edited(new))
    if after:
        text = f"{new.name} was changed: {', '.join(after)}"
        yield Happened("account.changed", text, "info", subject, before, after)


def _refreshes(old: Account, new: Account, subject: Subject) -> Iterator[Happened]:
    if old.last_refresh_at != new.last_refresh_at:
        yield Happened("account.refreshed", f"{new.name} has a new token", subject=subject)
    if _reason(new) != _reason(old) and failed_between(old, new):
        text = f"{new.name} was not refreshed: {new.last_refresh_error}"
        yield Happened("account.refresh_failed", text, "warning", subject)


def _states(old: Account, new: Account, subject: Subject) -> Iterator[Happened]:
    if (old.status, old.rate_limited_until) == (new.status, new.rate_limited_until):
        return
    why = "" if new.status_reason is None else f": {new.status_reason}"
    end = None if new.rate_limited_until is None else rfc3339(new.rate_limited_until)
    until = "" if end is None or end in why else f" until {end}"
    text = f"{new.name} is {new.status.value.replace('_', ' ')}{until}{why}"
    level = LEVELS.get(new.status, "info")
    states = {"status": old.status.value}, {"status": new.status.value}
    yield Happened(f"account.{new.status.value}", text, level, subject, *states)


def _all(account: Account) -> dict[str, Any]:
    return {"name": account.name, "type": account.type, "status": account.status.value} | _edited(account)


def _edited(account: Account) -> dict[str, Any]:
    view = account.view()
    return {name: view[name] for name in EDITED if name in view}


def _reason(account: Account) -> str:
    """Why its last refresh failed. How long that took is another each time, and no news."""
    return _TOOK.sub("", account.last_refresh_error or "")
