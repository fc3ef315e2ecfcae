"""Limits of a client key: requests per minute, concurrent requests, tokens and cost per day and month (UTC)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Set
from copy import copy
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from msgspec import Struct, field
from pydantic import ConfigDict, Field

from proxy.clients import refusals
from proxy.clock import Clock, rfc3339
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record

MINUTE_S = 60.0

Number = Annotated[int, Field(ge=1)]
Usd = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of one key. None means no limit."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    requests_per_minute: Number | None = None
    concurrent_requests: Number | None = None
    tokens_per_day: Number | None = None
    tokens_per_month: Number | None = None
    cost_usd_per_day: Usd | None = None
    cost_usd_per_month: Usd | None = None

    def view(self) -> dict[str, float | None]:
        """All of them by name."""
        return {name: getattr(self, name) for name in _NAMES}

    @property
    def has_budget(self) -> bool:
        """Whether tokens or cost are limited, so that the usage of each request must be known."""
        budgets = (self.tokens_per_day, self.tokens_per_month, self.cost_usd_per_day, self.cost_usd_per_month)
        return budgets != NO_BUDGETS


NO_LIMITS = KeyLimits()
NO_BUDGETS = (None, None, None, None)
_NAMES = tuple(each.name for each in fields(KeyLimits))


class Window(Struct, gc=False):
    """What was spent in one day or month."""

    name: str = ""
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What requests of one key hold: those of the last minute, the newest of them so long ago, and those that run."""

    recent: int
    newest_s: float
    running: int
    reservations: int
    tokens: int
    cost_usd: float


class _Account(Struct, gc=False):
    """What one key has spent, and the sums of its open reservations.

    Of 100,000 keys these are many: structs take little, and the garbage collector does not look at them.
    """

    key_id: str
    day: Window = field(default_factory=Window)
    month: Window = field(default_factory=Window)
    begun: list[float] = field(default_factory=list)  # when; an empty deque would take 600 bytes
    old: int = 0  # so many of `begun` are a minute old
    is_due: bool = False  # at some time, its oldest request of the last minute is to be forgotten
    turned_on: int = -1  # the day of `day` and `month`, in days since the epoch
    running: int = 0
    reservations: int = 0
    reserved_tokens: int = 0
    reserved_usd: float = 0.0

    def forget_old(self, now: float) -> bool:
        """Forget the requests that began a minute or more before `now`, on the monotonic clock. Whether any did."""
        begun, old, count = self.begun, self.old, len(self.begun)
        while old < count and begun[old] + MINUTE_S <= now:
            old += 1
        changed = old != self.old
        if old * 2 > count:  # in large parts, so that it takes no longer for a key of many requests
            del begun[:old]
            old = 0
        self.old = old
        return changed

    @property
    def recent(self) -> int:
        """The requests of the last minute, as of the last `forget_old`."""
        return len(self.begun) - self.old


class Budgets:
    """Enforces the limits of keys: the most that a request may cost is reserved before it, and settled after it."""

    def __init__(self, stored: dict[str, Record], *, clock: Clock) -> None:
        self._clock = clock
        self._on_spend: Callable[[str], None] = _ignore
        self._accounts: dict[str, _Account] = {}
        self._changed: set[str] = set()  # keys whose meters may have changed since the last tick
        # By the second in which a key's oldest request will be a minute old.
        self._due: dict[int, list[str]] = {}
        for id, record in stored.items():
            if "day" in record:  # else an account's counters
                self._accounts[id] = _Account(id, _read(record["day"]), _read(record.get("month")))

    def on_spend(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of a key whenever its spending changes or the key is deleted."""
        self._on_spend = listener

    def begin(self, key_id: str, limits: KeyLimits) -> Callable[[], None]:
        """Count a request that begins, and return the function to call when it ends. Raises RateLimited."""
        account = self._account(key_id)
        if limits.concurrent_requests is not None and account.running >= limits.concurrent_requests:
            raise refusals.too_many(account.running)
        if limits.requests_per_minute is not None:
            now = self._clock.monotonic()
            account.forget_old(now)
            if account.recent >= limits.requests_per_minute:
                wait_s = account.begun[-limits.requests_per_minute] + MINUTE_S - now
                raise refusals.too_often(limits.requests_per_minute, wait_s)
            account.begun.append(now)
            self._forget_in_time(account)
        is_shown = limits.requests_per_minute is not None or limits.concurrent_requests is not None
        if is_shown:
            self._changed.add(key_id)
        account.running += 1
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                account.running -= 1
                if is_shown:
                    self._changed.add(key_id)

        return end

    def reserve(self, key_id: str, limits: KeyLimits, *, tokens: int, cost_usd: float) -> Reservation:
        """Reserve the most that a request may use.

        Raises RateLimited: a `billing_error` if that exceeds a budget even without what is reserved already.
        """
        account = self._account(key_id)
        self._turn_over(account)
        # The month first: if both budgets are spent, the client must wait for the next month.
        windows = (
            ("month", account.month, limits.tokens_per_month, limits.cost_usd_per_month),
            ("day", account.day, limits.tokens_per_day, limits.cost_usd_per_day),
        )
        if (spent := _exceeded(windows, tokens, cost_usd)) is not None:
            resets_at = self._month_ends() if spent[1] == "month" else self._day_ends()
            raise refusals.spent(*spent, resets_at=resets_at, wait_s=resets_at - self._clock.now())
        with_held = tokens + account.reserved_tokens, cost_usd + account.reserved_usd
        if (held := _exceeded(windows, *with_held)) is not None:
            raise refusals.held(*held)
        account.reservations += 1
        account.reserved_tokens += tokens
        account.reserved_usd += cost_usd
        self._changed.add(key_id)
        return Reservation(self, account, tokens, cost_usd)

    def know(self, key_id: str) -> None:
        """Keep sums for a key of which no request was begun here."""
        self._account(key_id)

    def spend(self, key_id: str, *, tokens: int, cost_usd: float) -> None:
        """Record spend without a reservation. Ignored if the key was deleted."""
        account = self._accounts.get(key_id)
        if account is not None:
            self._count(account, tokens, cost_usd)

    def restore(self, lines: Iterable[Record]) -> None:
        """Count what another process has spent. Raises ValueError, which names the field, if it is malformed."""
        for line in lines:
            fields = Fields(line)
            account = self._account(fields.text("key"))
            self._count(account, fields.count("tokens"), float(fields.amount("cost_usd")))

    def mirror(self, key_id: str, day: Window, month: Window, held: Held) -> None:
        """Take the sums over all instances in place of those kept here."""
        account = self._account(key_id)
        account.day, account.month, account.turned_on = day, month, -1
        account.running, account.reservations = held.running, held.reservations
        account.reserved_tokens, account.reserved_usd = held.tokens, held.cost_usd
        # When each of the minute came is known where it came; here, that the newest is the last one to be forgotten.
        account.begun, account.old = [self._clock.monotonic() - held.newest_s] * held.recent, 0
        self._forget_in_time(account)
        self._changed.add(key_id)

    def settle(self, account: _Account, reservation: Reservation, *, tokens: int, cost_usd: float) -> None:
        """Release a reservation and count what was used, in the current day and month."""
        account.reservations -= 1
        account.reserved_tokens -= reservation.tokens
        account.reserved_usd -= reservation.cost_usd
        if not account.reservations:
            account.reserved_usd = 0.0  # drops the rounding error
        self._count(account, tokens, cost_usd)

    def _count(self, account: _Account, tokens: int, cost_usd: float) -> None:
        self._turn_over(account)
        for window in (account.day, account.month):
            window.tokens += tokens
            window.cost_usd += cost_usd
        self._on_spend(account.key_id)

    def _account(self, key_id: str) -> _Account:
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(key_id)
        return account

    def view(self, key_id: str) -> dict[str, Any]:
        """What a key has used of its budgets."""
        account = self._accounts.get(key_id) or _Account(key_id)
        self._turn_over(account)
        return {
            "tokens_today": account.day.tokens,
            "tokens_this_month": account.month.tokens,
            "cost_usd_today": round(account.day.cost_usd, 6),
            "cost_usd_this_month": round(account.month.cost_usd, 6),
        }

    def meters(self, key_id: str, limits: KeyLimits) -> list[dict[str, Any]]:
        """How much of each limit of a key is used, the fullest first.

        `reserved` is held for requests in flight, in addition to what is `used`. At `resets_at` nothing is used any
        more if nothing comes; null if that is not known.
        """
        if limits == NO_LIMITS:
            return []
        account = self._accounts.get(key_id) or _Account(key_id)
        self._turn_over(account)
        day, month = account.day, account.month
        tokens, usd = account.reserved_tokens, account.reserved_usd
        day_ends, month_ends = self._day_ends(), self._month_ends()
        amounts: dict[str, tuple[float, float, float | None]] = {
            "requests_per_minute": (account.recent, 0, self._minute_ends(account)),
            "concurrent_requests": (account.running, 0, None),
            "tokens_per_day": (day.tokens, tokens, day_ends),
            "tokens_per_month": (month.tokens, tokens, month_ends),
            "cost_usd_per_day": (day.cost_usd, usd, day_ends),
            "cost_usd_per_month": (month.cost_usd, usd, month_ends),
        }
        meters = [
            {
                "limit": name,
                "most": most,
                "used": round(used, 6),
                "reserved": round(reserved, 6),
                "resets_at": None if resets_at is None else rfc3339(resets_at),
            }
            for name, (used, reserved, resets_at) in amounts.items()
            if (most := getattr(limits, name)) is not None
        ]
        return sorted(meters, key=lambda each: -(each["used"] + each["reserved"]) / each["most"])

    def tick(self) -> Set[str]:
        """Forget requests that are a minute old. Returns the keys whose meters may have changed since the last tick.

        No other keys are looked at: a second's look at 100,000 of them held the loop for 0.2 s.
        """
        now = self._clock.monotonic()
        for second in [second for second in self._due if second <= now]:
            for key_id in self._due.pop(second):
                account = self._accounts.get(key_id)
                if account is not None:  # else it was deleted
                    account.is_due = False
                    if account.forget_old(now):
                        self._changed.add(key_id)
                    self._forget_in_time(account)
        changed, self._changed = self._changed, set()
        return changed

    def _forget_in_time(self, account: _Account) -> None:
        if account.recent and not account.is_due:
            account.is_due = True
            self._due.setdefault(math.floor(account.begun[account.old] + MINUTE_S), []).append(account.key_id)

    def reserved(self, key_id: str) -> tuple[int, int, float]:
        """The reservations of a key that are not settled: how many, their tokens and their US dollars."""
        account = self._accounts.get(key_id) or _Account(key_id)
        return account.reservations, account.reserved_tokens, account.reserved_usd

    def forget(self, key_id: str) -> None:
        """Remove a deleted key."""
        self._accounts.pop(key_id, None)
        self._changed.discard(key_id)
        self._on_spend(key_id)

    def spent(self, key_id: str) -> tuple[()] | tuple[Window, Window]:
        """What a key has spent in its last day and month, as copies; nothing if it has spent nothing."""
        account = self._accounts.get(key_id)
        return () if account is None else (copy(account.day), copy(account.month))

    def _turn_over(self, account: _Account) -> None:
        """Start a new day or month if one has begun. Open reservations stay."""
        today = int(self._clock.now() // 86_400)
        if account.turned_on == today:
            return
        account.turned_on = today
        day = _name_of(today)
        for window, name in ((account.day, day), (account.month, day[:7])):
            if window.name != name:
                window.name, window.tokens, window.cost_usd = name, 0, 0.0

    def _minute_ends(self, account: _Account) -> float | None:
        """When the newest request will be a minute old, in whole seconds since the epoch."""
        if not account.recent:
            return None
        return math.ceil(self._clock.now() + account.begun[-1] + MINUTE_S - self._clock.monotonic())

    def _today(self) -> datetime:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return now.replace(hour=0, minute=0, second=0, microsecond=0)

    def _day_ends(self) -> float:
        return (self._today() + timedelta(days=1)).timestamp()

    def _month_ends(self) -> float:
        return (self._today().replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()


class Reservation:
    """What one request has reserved."""

    def __init__(self, budgets: Budgets, account: _Account, tokens: int, cost_usd: float) -> None:
        self._budgets = budgets
        self._account = account
        self._settled = False
        self.tokens = tokens
        self.cost_usd = cost_usd

    def settle(self, *, tokens: int, cost_usd: float) -> None:
        """Release the reservation and count what was used. A second call does nothing."""
        if not self._settled:
            self._settled = True
            self._budgets.settle(self._account, self, tokens=tokens, cost_usd=cost_usd)


@lru_cache(maxsize=2)
def _name_of(day: int) -> str:
    """A day since the epoch as `2026-11-29`."""
    return rfc3339(day * 86_400)[:10]


def _ignore(key_id: str) -> None:
    """Stand in for the listener until one is set."""


def _exceeded(
    windows: Iterable[tuple[str, Window, int | None, float | None]], tokens: int, cost_usd: float
) -> tuple[str, str] | None:
    """Unit and period of the first budget that does not hold so much more; None if all do."""
    for period, window, most_tokens, most_usd in windows:
        if _over(window.tokens + tokens, most_tokens):
            return "token", period
        if _over(window.cost_usd + cost_usd, most_usd):
            return "cost", period
    return None


def _over(amount: float, most: float | None) -> bool:
    return most is not None and amount > most


def _read(record: object) -> Window:
    try:
        return read_window(Fields(record))
    except ValueError:
        return Window()


def read_window(fields: Fields) -> Window:
    """What is stored of a day or month. Raises ValueError, which names the field, if it is malformed."""
    return Window(fields.text("name"), fields.count("tokens"), float(fields.amount("cost_usd")))
