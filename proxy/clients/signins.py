"""Sign-ins to the dashboard: one record per browser, found by the hash of its cookie. No cookie is stored."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import re
import secrets
from asyncio import Task
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field

from proxy.clients.admin_key import AdminKey
from proxy.clients.keys import ClientKey, ClientKeys, Role
from proxy.clients.secret import sha256
from proxy.clock import Clock
from proxy.feed import Feed, Happened, Who
from proxy.storage.fields import Fields
from proxy.storage.protocols import Record, Storage
from proxy.storage.table import Table
from proxy.storage.unsaved import Unsaved

IDLE_S = 12 * 3600.0
LONGEST_S = 7 * 86400.0
ADMIN_KEY = "admin key"
"""What the admin key is called in events."""

MAX_SIGNINS = 100
"""Sign-ins are bounded, since a key can sign in any number of times. The least recently used one is dropped."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignIn:
    """`id` is the SHA-256 of the cookie, `created_at` seconds since the epoch.

    `admin_key_mac` is the HMAC of the admin key, keyed with the cookie. It shows whether the admin key has changed.
    The cookie is stored nowhere, so nobody can test guessed keys against the file.
    """

    id: str
    key_id: str | None  # the client key that signed in; None for the admin key
    admin_key_mac: str
    created_at: float
    key_sha256: str | None = field(default=None, repr=False)
    """Of the client key as it was shown, which may be replaced; None of the admin key, and if it began long ago."""

    @property
    def shown_id(self) -> str:
        """The beginning of its id, which tells sign-ins apart."""
        return f"signin_{self.id[:16]}"


class Signins:
    """The table of sign-ins. They are saved when they begin and end, so that they survive a restart."""

    def __init__(
        self,
        table: Table[SignIn],
        counters: dict[str, Record],
        *,
        admin_key: AdminKey,
        keys: ClientKeys,
        feed: Feed,
        clock: Clock,
    ) -> None:
        self._table = table
        self._table.on_change(self._changed_elsewhere)
        self._admin_key = admin_key
        self._keys = keys
        self._feed = feed
        self._clock = clock
        self._seen_at = {each.id: _read_seen(counters.get(each.id, {}), each) for each in table.values()}
        self._unsaved = Unsaved("counters", self._record, dict, counters)
        self._followers: list[Callable[[str], None]] = []
        admin_key.on_replaced(self.end_all)

    def __contains__(self, id: object) -> bool:
        return id in self._table

    def on_end(self, follower: Callable[[str], None]) -> None:
        """Call `follower` with the id of each sign-in that ends, for whatever reason."""
        self._followers.append(follower)

    async def begin(
        self, client_key: ClientKey | None, address: str, *, shown: str = ""
    ) -> tuple[str, SignIn]:
        """Start a sign-in; `shown` is the client key itself. Only here is its cookie returned. Raises StorageError."""
        for each in sorted(self._table.values(), key=lambda each: self._seen_at[each.id])[: 1 - MAX_SIGNINS]:
            self._forget(each)
        cookie = secrets.token_urlsafe(32)
        new = SignIn(
            id=hashlib.sha256(cookie.encode()).hexdigest(),
            key_id=None if client_key is None else client_key.id,
            admin_key_mac=self._admin_key.mac(cookie),
            created_at=self._clock.now(),
            key_sha256=None if client_key is None else sha256(shown),
        )
        self._see(new.id)
        await self._table.add(new.id, new, undo=lambda: self._drop(new.id))
        name = ADMIN_KEY if client_key is None else client_key.name
        by = Who("admin", new.shown_id, name, address)
        self._feed.tell(Happened("admin.login", f"an admin signed in from {address}", by=by))
        log.info("signed in client=%s key=%s", address, new.key_id or "admin")
        return cookie, new

    def find(self, cookie: str) -> SignIn | None:
        """The sign-in of this cookie, marked as used. None if unknown or expired."""
        found = self._table.get(hashlib.sha256(cookie.encode()).hexdigest())
        if (
            found is None
            or self._over(found)
            or not hmac.compare_digest(found.admin_key_mac, self._admin_key.mac(cookie))
        ):
            return None
        self.seen(found.id)
        return found

    def seen(self, id: str) -> bool:
        """Mark a sign-in as used. False if it has ended."""
        if id not in self._table:
            return False
        self._see(id)
        return True

    def expires_at(self, sign_in: SignIn) -> float:
        """When it ends if it is not used again, in seconds since the epoch."""
        return min(self._seen_at.get(sign_in.id, 0.0) + IDLE_S, sign_in.created_at + LONGEST_S)

    async def end(self, sign_in: SignIn) -> None:
        """Sign out. It takes effect at once, and is on disk when this returns. Raises StorageError."""
        forgotten = self._forget(sign_in)
        self._feed.tell(Happened("admin.logout", "an admin signed out"))
        log.info("signed out key=%s", sign_in.key_id or "admin")
        await forgotten

    def end_of(self, key_id: str, *, but: SignIn | None) -> None:
        """End the sign-ins with a client key, except one."""
        for each in tuple(self._table.values()):
            if each.key_id == key_id and each != but:
                self._forget(each)

    def end_with(self, key_id: str, hashes: Collection[str]) -> None:
        """End the sign-ins with a client key that showed one of its former keys, or of which that is not known."""
        for each in tuple(self._table.values()):
            if each.key_id == key_id and (each.key_sha256 is None or each.key_sha256 in hashes):
                self._forget(each)

    def end_all(self) -> None:
        """End every sign-in: the admin key is another one, to which all are bound."""
        for each in tuple(self._table.values()):
            self._forget(each)

    def clean(self) -> None:
        """End sign-ins that have expired, and those whose client key is no longer a usable admin key."""
        for each in tuple(self._table.values()):
            if self._over(each):
                self._forget(each)

    async def save_counters(self, storage: Storage) -> None:
        """Write the times of last use that have changed. Raises StorageError."""
        await self._unsaved.save(storage)

    async def hear(self, storage: Storage) -> None:
        """Take the times of last use that other instances have written. Raises StorageError."""
        counters = await storage.load("counters")
        for each in self._table.values():
            seen_at = _read_seen(counters.get(each.id, {}), each)
            self._seen_at[each.id] = max(seen_at, self._seen_at.get(each.id, 0.0))

    async def left(self) -> list[str]:
        """What is not on disk yet, for people."""
        return await self._table.left()

    async def save_again(self) -> None:
        """Retry the writes that have failed."""
        await self._table.save_again()

    def _see(self, id: str) -> None:
        self._seen_at[id] = self._clock.now()
        self._unsaved.add(id)

    def _record(self, id: str) -> Record | None:
        return {"last_seen_at": self._seen_at[id]} if id in self._seen_at else None

    def _over(self, sign_in: SignIn) -> bool:
        return self.expires_at(sign_in) <= self._clock.now() or not self._is_admins(sign_in)

    def _is_admins(self, sign_in: SignIn) -> bool:
        if sign_in.key_id is None:
            return True
        if sign_in.key_id not in self._keys:
            return False
        client_key = self._keys[sign_in.key_id]
        return client_key.role is Role.ADMIN and self._keys.usable(client_key)

    def _forget(self, sign_in: SignIn) -> Task[None]:
        forgotten = self._table.forget(sign_in.id)
        self._drop(sign_in.id)
        return forgotten

    def _changed_elsewhere(self, old: SignIn | None, new: SignIn | None) -> None:
        if new is not None:
            self._seen_at.setdefault(new.id, new.created_at)
        elif old is not None:
            self._drop(old.id)

    def _drop(self, id: str) -> None:
        self._seen_at.pop(id, None)
        self._unsaved.remove(id)
        for follower in self._followers:
            follower(id)


def signin_record(sign_in: SignIn) -> Record:
    """What is stored; `load_signins` reads it."""
    record = asdict(sign_in)
    return record | {"token_id": record.pop("key_id")}  # the name that it has on disk


def load_signins(records: Iterable[Record]) -> Iterator[tuple[str, SignIn]]:
    """The stored sign-ins. Malformed records are skipped: a lost sign-in costs one more login."""
    for record in records:
        with contextlib.suppress(ValueError):
            sign_in = read_signin(str(record.get("id")), record)
            yield sign_in.id, sign_in


def read_signin(id: str, record: Record) -> SignIn:
    """The sign-in in a stored record. Raises ValueError, which names the field, if it is malformed."""
    fields = Fields(record)
    for name in ("id", "admin_key_mac"):
        if not re.fullmatch("[0-9a-f]{64}", fields.text(name)):
            raise ValueError(f"{name} is no SHA-256")
    if fields.text("id") != id:
        raise ValueError("id is another sign-in's")
    return SignIn(
        id,
        fields.text_or_none("token_id"),
        fields.text("admin_key_mac"),
        fields.time("created_at"),
        fields.text_or_none("key_sha256") if "key_sha256" in fields else None,
    )


def _read_seen(record: Record, sign_in: SignIn) -> float:
    try:
        return Fields(record).time("last_seen_at")
    except ValueError:
        return sign_in.created_at
