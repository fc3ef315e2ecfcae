"""Makes notices of what happens: accounts that change, events for people, and the health."""

from __future__ import annotations

from typing import Any

from proxy.accounts.account import AccountChanged, Status
from proxy.clock import Clock
from proxy.dashboard import transfer
from proxy.dashboard.account_events import told
from proxy.dashboard.health import LEVELS, Health, change_told
from proxy.dashboard.notify.notice import Notice
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.sentences import plain
from proxy.feed import Happened, Level, acting

INVALID, HEALTH, EXHAUSTED = "account.invalid", "health.changed", "pool.exhausted"


class Alarms:
    """Listens to the feed, and looks at the health after each change and periodically."""

    def __init__(self, notifier: Notifier, health: Health, *, clock: Clock) -> None:
        self._notifier = notifier
        self._health = health
        self._clock = clock
        self._last_health = health.status()

    def account_changed(self, change: AccountChanged) -> None:
        """Tell if the account has turned invalid, and what else of it some target wants; then look at the health."""
        if not self._notifier:
            return
        if change.elsewhere:  # the instance that has changed it tells
            return self.look()
        new, old = change.new, change.old
        if new is not None and new.status is Status.INVALID and (old is None or old.status is not new.status):
            self._tell(
                INVALID,
                f"account {new.name} is invalid: {new.status_reason}",
                "error",
                new.id,
                account={"id": new.id, "name": new.name, "reason": new.status_reason},
            )
        if self._notifier.wants_more:
            for event in told(change):
                self.happened(event)
        self.look()

    def happened(self, event: Happened) -> None:
        """Tell of an event for people, but of those that this class itself knows better."""
        if not self._notifier or event.kind in (INVALID, HEALTH):
            return
        about = "" if event.subject is None else event.subject.id
        details: dict[str, Any] = {}
        if event.subject is not None:
            # `account` and `id` alone for an account, as receivers have known it from the start.
            kind = event.subject.kind
            details = {kind: {"id": about}} if kind == "account" else {kind: event.subject.view()}
        if event.kind == transfer.EXPORTED:
            details["by"] = acting().view()
        self._tell(event.kind, event.text, event.level, about, **details)

    def look(self) -> None:
        """Tell if the health has changed. It also changes by time alone, as cooldowns end."""
        status = self._health.status()
        if status != self._last_health:
            before, self._last_health = self._last_health, status
            reasons = self._health.reasons()
            event = EXHAUSTED if status == "unhealthy" else HEALTH
            text = plain(change_told(status, reasons))
            details = {"health": status, "was": before, "reasons": reasons}
            self._notifier.put(
                Notice(event, text, LEVELS[status], self._clock.now(), status, "health", details)
            )

    def _tell(self, event: str, text: str, level: Level, about: str, **details: Any) -> None:
        text = f"Claude Proxy: {plain(text)}"
        self._notifier.put(Notice(event, text, level, self._clock.now(), about, details=details))
