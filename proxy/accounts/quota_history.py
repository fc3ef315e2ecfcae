"""How much of each quota window was used over the last day and week: sampled, bounded, and kept over a restart."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from proxy.accounts.account import AccountChanged
from proxy.accounts.pool import Pool
from proxy.accounts.quota import MAX_WINDOWS, Quota, Window, is_name
from proxy.clock import Clock
from proxy.feed import Feed
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record, Storage
from proxy.storage.unsaved import Unsaved

Range = Literal["24h", "7d"]

STEPS_S: Final[Mapping[Range, int]] = {"24h": 300, "7d": 3600}
"""Seconds that a point of each range covers."""

POINTS: Final[Mapping[Range, int]] = {"24h": 288, "7d": 168}

UNITS: Final = 200
"""A point is a byte of half per cents, so that 1,000 accounts with three windows take about 3 MB."""

UNKNOWN: Final = 255
"""A point of a time at which nobody knew, and of one that the proxy was not running."""


class Track(NamedTuple):
    """The highest use of one window in each step of time; `end` is the number of the newest step since the epoch."""

    end: int
    points: bytes

    def moved(self, step: int) -> Track:
        """With all steps up to this one. A clock that was set back by more than a step begins a new track."""
        by = step - self.end
        if by in (0, -1):
            return self
        size = len(self.points)
        new = by if 0 < by < size else size
        return Track(step, self.points[new:] + bytes([UNKNOWN]) * new)

    def noted(self, step: int, point: int) -> Track:
        """With a point that counts in this step if it is the highest."""
        track = self if step == self.end else self.moved(step)
        newest = track.points[-1]
        if newest != UNKNOWN and newest >= point:
            return track
        return Track(track.end, track.points[:-1] + bytes([point]))


class Past(NamedTuple):
    """The tracks of one window. They are never changed, only replaced, so that a copy costs nothing."""

    day: Track
    week: Track

    def of(self, range: Range) -> Track:
        return self.day if range == "24h" else self.week


Pasts = dict[str, Past]
"""The past of an account's windows, by their names."""


class Kept(NamedTuple):
    """What is stored of an account."""

    quota: Quota
    pasts: Pasts

    def record(self) -> Record:
        return {name: self._window(name) for name in self.quota}

    def _window(self, name: str) -> Record:
        told = {field: value for field, value in self.quota[name]._asdict().items() if value is not None}
        past = self.pasts.get(name)
        if past is None:
            return told
        return told | {
            range: {"end": past.of(range).end, "points": base64.b64encode(past.of(range).points).decode()}
            for range in STEPS_S
        }


class QuotaHistory:
    """Samples the quota of all accounts. `load` gives the pool the quota that it knew before a restart."""

    def __init__(self, pool: Pool, stored: Mapping[str, Record], *, feed: Feed, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._pasts: dict[str, Pasts] = {}
        self._unsaved = Unsaved("quota", self._kept, Kept.record, stored)
        for id, record in stored.items():
            self._load(id, record)
        feed.on_account_change(self._account_changed)

    def sample(self) -> None:
        """Note how much of each window is used now. Called a few times in each step."""
        now = self._clock.now()
        for account_id in self._pool.quotas:
            pasts = self._pasts.setdefault(account_id, {})
            quota = self._pool.quotas[account_id]
            for name, window in quota.items():
                if (used := window.full) is not None and not window.is_over(now):
                    pasts[name] = noted(pasts.get(name), used, now)
            if len(pasts) > len(quota):  # an account that tells of ever new windows has lost its oldest
                self._pasts[account_id] = {name: past for name, past in pasts.items() if name in quota}
            self._unsaved.add(account_id)

    def points(self, account_id: str, range: Range) -> dict[str, list[float | None]]:
        """The use of each window of an account, oldest first; the last point is that of the step that has begun."""
        step = int(self._clock.now() // STEPS_S[range])
        return {
            name: [None if point == UNKNOWN else point / UNITS for point in past.of(range).moved(step).points]
            for name, past in self._pasts.get(account_id, {}).items()
        }

    async def save(self, storage: Storage) -> None:
        """Write what has changed. Raises StorageError."""
        await self._unsaved.save(storage)

    def _load(self, account_id: str, record: Record) -> None:
        if account_id not in self._pool:
            self._unsaved.remove(account_id)  # it was deleted just before a crash
            return
        kept = _read(record)
        self._pasts[account_id] = kept.pasts
        self._pool.quotas.set(account_id, kept.quota)

    def _kept(self, account_id: str) -> Kept | None:
        if account_id not in self._pool:
            return None
        return Kept(self._pool.quotas[account_id], self._pasts.get(account_id, {}).copy())

    def _account_changed(self, event: AccountChanged) -> None:
        if event.new is None and event.old is not None:
            self._pasts.pop(event.old.id, None)
            self._unsaved.remove(event.old.id)


def read_quota_record(id: str, record: Record) -> None:
    """Check the stored quota of an account. Raises ValueError, which names the field, if it is malformed."""
    _read(record)


def noted(past: Past | None, used: float, now: float) -> Past:
    """The past of a window, None if it begins, with the part of it that is used now."""
    day, week = (int(now // step_s) for step_s in STEPS_S.values())
    point = min(UNKNOWN - 1, round(used * UNITS))
    if past is None:
        past = Past(_empty("24h", day), _empty("7d", week))
    return Past(past.day.noted(day, point), past.week.noted(week, point))


def _empty(range: Range, step: int) -> Track:
    return Track(step, bytes([UNKNOWN]) * POINTS[range])


def _read(record: Record) -> Kept:
    if len(record) > MAX_WINDOWS:
        raise ValueError("it has more windows than an account")
    kept = Kept({}, {})
    for name in record:
        if not is_name(name):
            raise ValueError("a window has a name that none can have")
        fields = Fields(record).inside(name)
        kept.quota[name] = Window(
            used=fields.amount("used") if "used" in fields else None,
            limit=fields.count("limit") if "limit" in fields else None,
            remaining=fields.count("remaining") if "remaining" in fields else None,
            resets_at=fields.time("resets_at") if "resets_at" in fields else None,
            status=fields.text("status") if "status" in fields else None,
        )
        if all(range in fields for range in STEPS_S):
            kept.pasts[name] = Past(*(_track(fields.inside(range), range) for range in STEPS_S))
    return kept


def _track(fields: Fields, range: Range) -> Track:
    try:
        points = base64.b64decode(fields.text("points"), validate=True)
    except binascii.Error:
        raise ValueError(f"a window has {range}.points that are no base64") from None
    if len(points) != POINTS[range]:
        raise ValueError(f"a window has {len(points)} {range}.points, not {POINTS[range]}")
    return Track(fields.count("end"), points)
