"""The event log for admins: the newest events, numbered, in memory only."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from itertools import dropwhile
from typing import Any

from proxy.accounts.account import Account, AccountChanged, ApiKey, Status
from proxy.clock import Clock, rfc3339
from proxy.feed import Feed, Happened, Level

MOST = 1000

LEVELS: dict[Status, Level] = {Status.RATE_LIMITED: "warning", Status.INVALID: "error"}


class EventLog:
    """Records the feed's events. An event has `id` (1, 2, 3…), `at`, `level`, `kind`, `text` and its subject's ids."""

    def __init__(self, feed: Feed, *, clock: Clock) -> None:
        self._clock = clock
        self._feed = feed
        self._events: deque[dict[str, Any]] = deque(maxlen=MOST)
        self.newest = 0
        feed.on_account_change(self._account_changed)
        feed.on_event(self._happened)

    def since(self, id: int, most: int = MOST) -> list[dict[str, Any]]:
        """The newest events after `id`, oldest first."""
        found = list(dropwhile(lambda event: event["id"] <= id, self._events))
        return found[-most:]

    def _happened(self, event: Happened) -> None:
        about = {
            "token_id": event.key_id,
            "session_id": event.session_id,
            "account_id": event.account_id,
        }
        self._note(event.level, event.kind, event.text, about)

    def _account_changed(self, event: AccountChanged) -> None:
        old, new = event.old, event.new
        account = new or old
        assert account is not None
        about = {"account_id": account.id, "account_name": account.name}
        for kind, text, level in _told(old, new):
            self._note(level, f"account.{kind}", text, about)

    def _note(self, level: Level, kind: str, text: str, about: Mapping[str, str | None]) -> None:
        self.newest += 1
        who = {name: value for name, value in about.items() if value is not None}
        at = rfc3339(self._clock.now())
        self._events.append({"id": self.newest, "at": at, "level": level, "kind": kind, "text": text} | who)
        self._feed.touch("events", "")


def _told(old: Account | None, new: Account | None) -> list[tuple[str, str, Level]]:
    """The events of an account's change, each as kind, text and level."""
    if old is None:
        assert new is not None
        return [("added", f"{new.name} was added", "info")]
    if new is None:
        return [("deleted", f"{old.name} was deleted", "info")]
    told: list[tuple[str, str, Level]] = []
    if old.name != new.name:
        told.append(("renamed", f"{old.name} is called {new.name} now", "info"))
    if isinstance(new.credential, ApiKey) and new.credential != old.credential:
        told.append(("rekeyed", f"{new.name} has a new key", "info"))
    if old.last_refresh_at != new.last_refresh_at:
        told.append(("refreshed", f"{new.name} has a new token", "info"))
    if new.last_refresh_error is not None and new.updated_at != old.updated_at and _failed(old, new):
        told.append(("refresh_failed", f"{new.name} was not refreshed: {new.last_refresh_error}", "warning"))
    if (old.status, old.rate_limited_until) != (new.status, new.rate_limited_until):
        why = "" if new.status_reason is None else f": {new.status_reason}"
        end = None if new.rate_limited_until is None else rfc3339(new.rate_limited_until)
        until = "" if end is None or end in why else f" until {end}"
        text = f"{new.name} is {new.status.value.replace('_', ' ')}{until}{why}"
        told.append((new.status.value, text, LEVELS.get(new.status, "info")))
    return told


def _failed(old: Account, new: Account) -> bool:
    """Whether the change is a refresh that failed."""
    return new == replace(
        old,
        refresh_began_at=None,
        last_refresh_error=new.last_refresh_error,
        updated_at=new.updated_at,
    )
