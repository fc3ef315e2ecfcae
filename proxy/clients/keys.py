"""Client keys: what clients of `/v1` authenticate with, and with role `admin` the admin API. Stored as SHA-256."""

from __future__ import annotations

import hmac
import json
import logging
from asyncio import Task
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, ClassVar

from msgspec import Struct
from pydantic import ConfigDict, TypeAdapter, ValidationError

from proxy.clients.budgets import NO_LIMITS, KeyLimits
from proxy.clients.key_hashes import KeyHashes
from proxy.clients.secret import FormerKey, Time, checked_key, masked, new_key, sha256
from proxy.clock import Clock, rfc3339
from proxy.errors import Conflict, Forbidden, NotFound, StorageError
from proxy.feed import Feed, Happened, Subject, changes
from proxy.storage.fields import Fields
from proxy.storage.names import clean_name, clean_tags
from proxy.storage.protocols import Record
from proxy.storage.table import Table

log = logging.getLogger(__name__)


class KeyStatus(StrEnum):
    """A revoked key stays revoked."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    REVOKED = "revoked"


class Role(StrEnum):
    """What a key opens: `/v1`, that and the admin API, or `/metrics` alone."""

    USER = "user"
    ADMIN = "admin"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One client key; `masked` shows its last four characters. Times are seconds since the epoch."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    id: str
    name: str
    key_sha256: str = field(repr=False)
    masked: str
    role: Role
    status: KeyStatus
    created_at: Time
    updated_at: Time
    expires_at: Time | None = None
    limits: KeyLimits = NO_LIMITS
    models: tuple[str, ...] = ()
    """Names or patterns (`claude-haiku-*`) of the models that the key may use; empty allows every model."""

    group: str | None = None
    """Keys of one group see the same files, batches and the like; None: the key sees its own alone."""

    tags: tuple[str, ...] = ()
    """The key uses only accounts that have one of these tags; empty: every account."""

    declared: bool = False
    """Declared in the configuration: neither stored nor editable by admins."""

    former: tuple[FormerKey, ...] = ()
    """The keys that this one has replaced, oldest first, as long as they work."""

    @property
    def etag(self) -> str:
        """ETag of the admin-editable fields and the key: changes whenever one does (RFC 9110 §8.8.3)."""
        edited = (self.name, self.role, self.status, self.expires_at, self.limits.view(), self.models)
        return sha256(json.dumps((*edited, self.group, self.tags, self.masked)))[:12]

    @property
    def group_id(self) -> str:
        """Whose resources the key sees: its group, or its own id."""
        return self.group or self.id

    def told(self) -> dict[str, Any]:
        """What events say of the key: the admin-editable fields."""
        return {
            "name": self.name,
            "role": self.role.value,
            "status": self.status.value,
            "expires_at": None if self.expires_at is None else rfc3339(self.expires_at),
            "limits": self.limits.view(),
            "models": list(self.models),
            "group": self.group,
            "tags": list(self.tags),
            "key": self.masked,
            "former_keys": [old.masked for old in self.former],
        }

    def view(self, used_at: Callable[[str], float | None]) -> dict[str, Any]:
        """What an admin may see: an allow-list without key and hash. `used_at` tells it of a former key's hash."""
        return self.told() | {
            "id": self.id,
            "declared": self.declared,
            "former_keys": [old.view(used_at(old.key_sha256)) for old in self.former],
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "etag": self.etag,
        }

    def opens(self, digest: str, now: float) -> bool:
        """Whether the key with this hash is the present one, or a former one that still works."""
        return hmac.compare_digest(self.key_sha256, digest) or any(
            hmac.compare_digest(old.key_sha256, digest) and now < old.ends_at for old in self.former
        )

    @property
    def is_restricted(self) -> bool:
        """Whether the key has a list of models or a budget, so that a request's model and usage must be known."""
        return bool(self.models) or self.limits.has_budget

    def allows_model(self, model: str) -> bool:
        """Whether the key may use the model."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)


class KeyUse(Struct, gc=False):
    """Usage counters of one key."""

    requests: int = 0
    last_used_at: float | None = None


class ClientKeys:
    """The table of client keys. A change takes effect at once; `add`, `update`, `remove` return when it is on disk."""

    def __init__(
        self,
        table: Table[ClientKey],
        counters: dict[str, Record],
        *,
        clock: Clock,
        feed: Feed,
        new_id: Callable[[str], str],
        declared: Iterable[ClientKey] = (),
    ) -> None:
        self._table = table
        self._table.on_change(self._changed_elsewhere)
        self._declared = {client_key.id: client_key for client_key in declared}
        self._clock = clock
        self._feed = feed
        self._new_id = new_id
        self._hashes = KeyHashes(_ids(self), self._declared)
        self._use = {client_key.id: _read_use(counters.get(client_key.id, {})) for client_key in self}
        self._on_use: Callable[[str], None] = _ignore
        self._on_elsewhere: Callable[[ClientKey], None] = _ignore

    def on_use(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of each key whose counters change, or that is deleted."""
        self._on_use = listener

    def on_change_elsewhere(self, listener: Callable[[ClientKey], None]) -> None:
        """Call `listener` with each key that another instance has changed or deleted."""
        self._on_elsewhere = listener

    def __getitem__(self, key_id: str) -> ClientKey:
        """Raises NotFound."""
        client_key = self.get(key_id)
        if client_key is None:
            raise NotFound(f"no token {key_id[:64]!r}")
        return client_key

    def get(self, key_id: str) -> ClientKey | None:
        """The key, or None if it was deleted."""
        return self._table.get(key_id) or self._declared.get(key_id)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._declared or key_id in self._table

    def __iter__(self) -> Iterator[ClientKey]:
        return chain(self._declared.values(), self._table.values())

    def __len__(self) -> int:
        return len(self._declared) + len(self._table)

    @property
    def unsaved(self) -> dict[str, str]:
        """Ids whose last change is not on disk yet, with the reason."""
        return self._table.unsaved

    def accept(self, keys: Iterable[str]) -> ClientKey | None:
        """Check presented keys: the first one that is a usable client key. None if none is.

        Keys are looked up by hash, so the time of a lookup reveals nothing about a stored key. The hashes are compared
        in constant time as well.
        """
        for key in keys:
            digest = sha256(key)
            client_key = self.opened(digest)
            if client_key is not None:
                if digest != client_key.key_sha256:
                    self._hashes.used(digest, self._clock.now())
                return client_key
        return None

    def opened(self, digest: str) -> ClientKey | None:
        """The usable client key that is presented by the key with this hash; None if none is."""
        key_id = self._hashes.get(digest)
        client_key = None if key_id is None else self[key_id]
        if client_key is None or not client_key.opens(digest, self._clock.now()):
            return None
        return client_key if self.usable(client_key) else None

    def usable(self, client_key: ClientKey) -> bool:
        """Whether the key is active and not expired."""
        return client_key.status is KeyStatus.ACTIVE and (
            client_key.expires_at is None or client_key.expires_at > self._clock.now()
        )

    def used(self, client_key: ClientKey) -> None:
        """Count one request of the key."""
        use = self._use.get(client_key.id)
        if use is not None:
            use.requests += 1
            use.last_used_at = self._clock.now()
            self._on_use(client_key.id)
            self._feed.touch("tokens", client_key.id)

    def use(self, key_id: str) -> KeyUse | None:
        """The counters of a key; None if there is no such key."""
        return self._use.get(key_id)

    def view(self, client_key: ClientKey) -> dict[str, Any]:
        """What an admin may see: an allow-list without key and hash."""
        use = self._use[client_key.id]
        last_used_at = None if use.last_used_at is None else rfc3339(use.last_used_at)
        return client_key.view(self._hashes.used_at) | {
            "requests": use.requests,
            "last_used_at": last_used_at,
        }

    def find(
        self, *, role: Role | None = None, status: KeyStatus | None = None, search: str = ""
    ) -> list[ClientKey]:
        """Matching keys, declared ones first, then by creation; `search` is a part of the name (in any case) or id."""
        wanted = search.casefold()
        return [
            client_key
            for client_key in self
            if (role is None or client_key.role is role)
            and (status is None or client_key.status is status)
            and (wanted in client_key.name.casefold() or wanted in client_key.id)
        ]

    async def add(
        self,
        name: str,
        key: str | None = None,
        *,
        role: Role = Role.USER,
        status: KeyStatus = KeyStatus.ACTIVE,
        expires_at: float | None = None,
        limits: KeyLimits = NO_LIMITS,
        models: tuple[str, ...] = (),
        group: str | None = None,
        tags: Iterable[str] = (),
    ) -> tuple[ClientKey, str]:
        """Create a key. Only here is it returned in full. Raises Unprocessable, Conflict, StorageError."""
        key, now = new_key() if key is None else checked_key(key), self._clock.now()
        digest = sha256(key)
        if digest in self._hashes:
            raise Conflict("this key exists already: choose another, or leave it out to have one made")
        client_key = ClientKey(
            id=self._new_id("tok"),
            name=clean_name(name),
            key_sha256=digest,
            masked=masked(key),
            role=role,
            status=status,
            created_at=now,
            updated_at=now,
            expires_at=expires_at,
            limits=limits,
            models=models,
            group=None if group is None else clean_name(group, "group"),
            tags=clean_tags(tags),
        )
        self._file(None, client_key)
        await self._table.add(client_key.id, client_key, undo=lambda: self._file(client_key, None))
        self.tell("added", f"client key {client_key.name} was made", None, client_key)
        log.info("token added token=%s name=%s role=%s", client_key.id, client_key.name, role.value)
        return client_key, key

    async def update(self, key_id: str, **changes: Any) -> ClientKey:
        """Change fields of a key. The change takes effect at once, and is on disk when this returns.

        Raises Unprocessable, Conflict, StorageError.
        """
        old = self.own(key_id)
        new = replace(old, **_clean(changes))
        if old.status is KeyStatus.REVOKED and new.status is not KeyStatus.REVOKED:
            raise Conflict("a revoked key stays revoked: create a new one")
        if new != old:
            new = replace(new, updated_at=self._clock.now())
            told = new.id, new.name, new.status.value, new.role.value
            log.info("token changed token=%s name=%s status=%s role=%s", *told)
            saved = self._table.commit(new.id, new)
            self.tell("changed", f"client key {new.name} was changed", old, new)
            await saved
        return new

    def own(self, key_id: str) -> ClientKey:
        """A key that admins may change. Raises NotFound, Conflict."""
        client_key = self[key_id]
        if client_key.declared:
            raise Conflict("this key is declared in the configuration: change it there")
        return client_key

    async def remove(self, key_id: str) -> None:
        """Delete a key. It stops working at once, and is gone from disk when this returns."""
        client_key = self.own(key_id)
        self._file(client_key, None)
        forgotten = self._table.forget(key_id)
        self.tell("deleted", f"client key {client_key.name} was deleted", client_key, None)
        await forgotten
        log.info("token deleted token=%s name=%s", client_key.id, client_key.name)

    def set_declared(self, declared: Iterable[ClientKey]) -> Mapping[str, ClientKey]:
        """Have these keys of the configuration, by `declare`; those that were there before."""
        old, self._declared = self._declared, {client_key.id: client_key for client_key in declared}
        self._hashes.fill(_ids(self), self._declared)
        self._use = {key_id: KeyUse() for key_id in self._declared} | self._use
        for key_id in [key_id for key_id in old if key_id not in self]:
            self._file(old[key_id], None)
        return old

    async def left(self) -> list[str]:
        """What is not on disk yet, for people."""
        return await self._table.left()

    async def save_again(self) -> None:
        """Retry the writes that have failed."""
        await self._table.save_again()

    def put(self, client_key: ClientKey) -> Task[None]:
        """Set a key that has other secrets than before; the task ends when it is on disk."""
        self._file(self._table[client_key.id], client_key)
        return self._table.commit(client_key.id, client_key)

    def tell(self, what: str, text: str, old: ClientKey | None, new: ClientKey | None) -> None:
        """Tell of a change of a key: `old` is None if it was added, `new` is None if it was deleted."""
        client_key = _either(old, new)
        before, after = changes(old.told() if old else None, new.told() if new else None)
        subject = Subject("token", client_key.id, client_key.name)
        self._feed.touch("tokens", client_key.id)
        self._feed.tell(Happened(f"token.{what}", text, subject=subject, before=before, after=after))

    def _changed_elsewhere(self, old: ClientKey | None, new: ClientKey | None) -> None:
        client_key = _either(old, new)
        self._file(old, new)
        self._feed.touch("tokens", client_key.id)
        self._on_elsewhere(client_key)

    def _file(self, old: ClientKey | None, new: ClientKey | None) -> None:
        """Update what depends on the keys: `old` is None if it is added, `new` is None if it is deleted."""
        client_key = _either(old, new)
        self._hashes.file(client_key.id, _hashes(old), _hashes(new))
        if new is not None:
            self._use.setdefault(new.id, KeyUse())
        else:
            self._use.pop(client_key.id, None)
            self._on_use(client_key.id)


def client_of(keys: ClientKeys, presented: Sequence[str]) -> ClientKey | None:
    """The first of the presented keys that is usable for `/v1`; None if none is usable.

    Raises Forbidden if those that are usable are for `/metrics` alone.
    """
    first = keys.accept(presented)
    if first is None or first.role is not Role.METRICS:
        return first
    for other in (keys.accept([each]) for each in presented):
        if other is not None and other.role is not Role.METRICS:
            return other
    raise Forbidden("this client key is for /metrics alone: its role is `metrics`", should_retry=False)


def _either(old: ClientKey | None, new: ClientKey | None) -> ClientKey:
    client_key = new or old
    assert client_key is not None
    return client_key


def _ids(keys: ClientKeys) -> Iterator[tuple[str, list[str]]]:
    """Each key's id with its hashes."""
    return ((client_key.id, _hashes(client_key)) for client_key in keys)


def _hashes(client_key: ClientKey | None) -> list[str]:
    if client_key is None:
        return []
    return [client_key.key_sha256, *(old.key_sha256 for old in client_key.former)]


def _clean(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes with their names as they are stored. Raises Unprocessable."""
    names = {what: changes[what] for what in ("name", "group") if changes.get(what) is not None}
    clean: dict[str, Any] = {what: clean_name(name, what) for what, name in names.items()}
    if "tags" in changes:
        clean["tags"] = clean_tags(changes["tags"])
    return changes | clean


def _ignore(key: object) -> None:
    """Stand in for the listener until one is set."""


def key_record(client_key: ClientKey) -> Record:
    """The stored form of a key; `load_keys` reads it."""
    return asdict(client_key)


_READER = TypeAdapter(ClientKey)


def load_keys(records: Iterable[Record]) -> list[tuple[str, ClientKey]]:
    """The stored keys with their ids, oldest first. Raises StorageError if a record is malformed."""
    keys = []
    for record in records:
        try:
            keys.append(read_key(str(record.get("id")), record))
        except ValueError as error:
            raise StorageError(
                f"token {record.get('id')!r} in the data folder is not complete ({error}): restore tokens.json "
                "from a backup, or move it away to start without client keys"
            ) from None
    return [(t.id, t) for t in sorted(keys, key=lambda t: (t.created_at, t.id))]


def read_key(id: str, record: Record) -> ClientKey:
    """The key in a stored record. Raises ValueError, which names the fields, if it is malformed."""
    try:
        client_key = _READER.validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        fields = ", ".join(".".join(map(str, each["loc"][:2])) for each in problems)
    else:
        if client_key.id == id:
            return client_key
        fields = "id"
    raise ValueError(f"{fields}: not as it is stored")  # out here: the error above holds the record


def declared_key(
    name: str,
    key: str,
    role: Role,
    limits: KeyLimits,
    models: tuple[str, ...],
    *,
    group: str | None = None,
    tags: tuple[str, ...] = (),
) -> ClientKey:
    """A key from the configuration."""
    digest = sha256(key)
    return ClientKey(
        id=f"tok_{digest[:16]}",
        name=name,
        key_sha256=digest,
        masked=masked(key),
        role=role,
        status=KeyStatus.ACTIVE,
        created_at=0.0,
        updated_at=0.0,
        limits=limits,
        models=models,
        group=group,
        tags=tags,
        declared=True,
    )


def _read_use(record: Record) -> KeyUse:
    fields = Fields(record)
    try:
        return KeyUse(fields.count("requests"), fields.time_or_none("last_used_at"))
    except ValueError:
        return KeyUse()
