"""Which account each conversation is with: by what names it, for as long as its prompt cache may live."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple, TypeVar

import msgspec

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.protocols import Record, Storage

K = TypeVar("K")
V = TypeVar("V")

LOG = "conversations"
VERSION = 1

MOST = 100_000
"""Of so many names of conversations the oldest are forgotten first; they take some 30 MB."""

MOST_MESSAGES = 20_000
MESSAGE_LIVES_S = 3600.0
"""A thread of messages lives for five minutes; what diagnoses a cache asks for older ones."""

MOST_OBSOLETE = 50_000


class Name(NamedTuple):
    """What names a conversation of a group: `session …`, or the hash of its first messages in hexadecimal."""

    group: str
    of: str


class Writer(NamedTuple):
    """Who has a message: the group that asked for it, and the account that wrote it."""

    group: str
    account_id: str


Held = tuple[str, float]
"""An account's id, and until when in seconds since the epoch."""


class _Line(msgspec.Struct):
    version: int = 0
    group: str = ""
    of: str = ""
    account: str = ""
    until: float = 0.0


_LINE: Final = msgspec.json.Decoder(_Line)


class Conversations:
    """The account of each conversation; `ttl_s` after its last turn it is forgotten."""

    def __init__(self, storage: Storage, *, clock: Clock, ttl_s: float) -> None:
        self._storage = storage
        self._clock = clock
        self._ttl_s = ttl_s
        self._accounts: OrderedDict[Name, Held] = OrderedDict()
        self._messages: OrderedDict[str, tuple[Writer, float]] = OrderedDict()
        self._pending: dict[Name, Held] = {}
        self._lines = 0
        self._is_behind = False  # the log lacks something that is not pending

    async def load(self) -> None:
        """Read the log. Raises StorageError."""
        await self._storage.each_line(LOG, self._read)

    def _read(self, text: bytes) -> None:
        line = _LINE.decode(text)
        self._lines += 1
        if line.version > VERSION:
            raise StorageError(
                f"{LOG}.jsonl is of version {line.version}: start the newer program that wrote it"
            )
        if line.until > self._clock.now():
            _keep(self._accounts, Name(line.group, line.of), (line.account, line.until), MOST)

    def __len__(self) -> int:
        return len(self._accounts)

    def find(self, names: Iterable[Name]) -> str | None:
        """The account of the first of the names that is known; None if none is."""
        known, now = self._accounts, self._clock.now()
        for name in names:
            found = known.get(name)
            if found is not None and found[1] > now:
                return found[0]
        return None

    def keep(self, name: Name, account_id: str) -> None:
        """Remember that the conversation had a turn with this account."""
        held = (account_id, self._clock.now() + self._ttl_s)
        _keep(self._accounts, name, held, MOST)
        self._pending[name] = held

    def writer_of(self, message_id: str) -> Writer | None:
        """Who has a message; None if it is not known."""
        found = self._messages.get(message_id)
        return found[0] if found is not None and found[1] > self._clock.now() else None

    def keep_message(self, group: str, message_id: str, account_id: str) -> None:
        """Remember which account wrote a message, for requests that go on from it. In memory only."""
        until = self._clock.now() + MESSAGE_LIVES_S
        _keep(self._messages, message_id, (Writer(group, account_id), until), MOST_MESSAGES)

    async def save(self) -> None:
        """Append what has changed; a power cut may lose it. Raises StorageError: then all is written the next time."""
        pending, self._pending = self._pending, {}
        if not pending and not self._is_behind:
            return
        is_long = self._lines > 2 * len(self._accounts) + MOST_OBSOLETE
        try:
            if is_long or self._is_behind or not self._lines:
                known = tuple(self._accounts.items())
                await self._storage.replace_log(LOG, chain([{"version": VERSION}], _records(known)))
                self._lines = 1 + len(known)
            else:
                await self._storage.append(LOG, list(_records(pending.items())))
                self._lines += len(pending)
        except BaseException:  # also if it was cancelled
            self._is_behind = True
            raise
        self._is_behind = False


def _keep(known: OrderedDict[K, V], name: K, held: V, most: int) -> None:
    """The latest are at the end."""
    known[name] = held
    known.move_to_end(name)
    if len(known) > most:
        known.popitem(last=False)


def _records(held: Iterable[tuple[Name, Held]]) -> Iterator[Record]:
    for name, (account_id, until) in held:
        yield {"group": name.group, "of": name.of, "account": account_id, "until": until}
