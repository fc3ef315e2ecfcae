"""A target of notifications: where it is, what it is told, and when it is left in peace."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from proxy.dashboard.notify.notice import ALARMS, Notice


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Every day from `start` to `end`, in minutes after midnight of the time zone; over midnight if `end` is less."""

    start: int
    end: int
    zone: str

    def at(self, now: float) -> bool:
        """Whether `now`, in seconds since the epoch, is within them."""
        local = datetime.fromtimestamp(now, ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mail server, and who writes to whom. `tls`: `starttls`, `tls` from the first byte, or `none`."""

    host: str
    port: int
    tls: str
    sender: str
    to: tuple[str, ...]
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """`events` are kinds or patterns such as `account.*`. Who knows `url` may post there: it is a secret.

    `secret` signs what a generic webhook gets, `token` opens a topic of ntfy. `mailbox` is set for `email` only, which
    has no URL.
    """

    name: str
    kind: str
    url: str = field(default="", repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    mailbox: Mailbox | None = None
    events: tuple[str, ...] = ALARMS
    quiet: QuietHours | None = None
    quiet_errors: bool = False

    def wants(self, event: str) -> bool:
        """Whether it is told of this kind of event."""
        return any(fnmatchcase(event, pattern) for pattern in self.events)

    def rests(self, notice: Notice, now: float) -> bool:
        """Whether the notice has to wait for the end of the quiet hours. Errors do not, unless `quiet_errors`."""
        if self.quiet is None or (notice.level == "error" and not self.quiet_errors):
            return False
        return self.quiet.at(now)

    def view(self) -> dict[str, Any]:
        """What an admin may see."""
        return {"name": self.name, "kind": self.kind, "events": list(self.events)}
