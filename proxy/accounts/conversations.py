"""Which account each conversation is with: by what names it, for as long as its prompt cache may live."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple, TypeVar

import msgspec

from proxy.accounts.lately import Held, Lately, Name
from proxy.clock import Clock
from proxy.errors import StorageError, StoreAway
from proxy.storage.protocols import Record, Storage

K = TypeVar("K")
V = TypeVar("V")

LOG = "conversations"
VERSION = 1

MOST = 100_000
"""Of more names of conversations the oldest hundredth is forgotten; they take some 20 MB."""

MOST_MESSAGES = 20_000
MESSAGE_LIVES_S = 3600.0
"""A thread of messages lives for five minutes; what diagnoses a cache asks for older ones."""

MOST_OBSOLETE = 50_000
MOST_IN_LINE = 100
MOST_AT_ONCE = 1000
"""Names, and turns, that are told to other instances in one call."""

MINUTE_S = 60

LONGEST_SESSION = 256
MOST_LOOKED_UP = 512
"""So many of a conversation's last messages may have been edited before it is taken for a new one."""


class Writer(NamedTuple):
    """Who has a message: the group that asked for it, and the account that wrote it."""

    group: str
    account_id: str


class _Line(msgspec.Struct):
    """The version, or names of conversations by group, which had their last turn with this account in one minute.

    `turns`, for other instances: the name of a turn of `group`, that of the turn before, and until when it counts.
    Before there were `groups`, a line had the names of one `group`, in `of`.
    """

    version: int = 0
    groups: dict[str, list[str | int]] = {}
    group: str = ""
    of: list[str | int] = []
    account: str = ""
    until: float = 0.0
    turns: list[tuple[str | int, str | int | None, float]] = []


_LINE: Final = msgspec.json.Decoder(_Line)


def read_line(text: bytes) -> _Line:
    """A line of the log. Raises ValueError if it is malformed, StorageError if a newer program wrote it."""
    line = _LINE.decode(text)
    if line.version > VERSION:
        raise StorageError(f"{LOG}.jsonl is of version {line.version}: start the newer program that wrote it")
    return line


class Conversations:
    """The account of each conversation; `ttl_s` after its last turn, or within a minute from then, it is forgotten."""

    def __init__(self, storage: Storage, *, clock: Clock, ttl_s: float) -> None:
        self._storage = storage
        self._clock = clock
        self.ttl_s = ttl_s
        # The latest are at the end. Names share what holds them, by account: most turns make nothing new.
        self._accounts: dict[Name, Held] = {}
        self._holds: dict[str, Held] = {}
        self._messages: dict[str, tuple[Writer, float]] = {}
        self._pending: dict[Name, Held] = {}
        self._turns: deque[tuple[Name, str, float, Name | None]] = deque(maxlen=MOST)  # to be told to others
        self._is_shared = storage.is_shared
        self._written = 0  # names in the log
        self.lately = Lately(clock=clock)
        self._is_behind = False  # the log lacks something that is not pending

    async def load(self) -> None:
        """Read the log. Raises StorageError.

        Two instances may go on with one conversation at once. All go by the last line of the log that they share, so
        each follows its own lines as well.
        """
        await self._storage.each_line(LOG, self._read)
        self._storage.follow_log(LOG, self._read, own=True)

    def _read(self, text: bytes) -> None:
        """Take a line, but for names that have had a turn here since: the line that tells of it comes later.

        What has ended ends what an earlier line said, which may have been to last longer.
        """
        line = read_line(text)
        names = [(group, of) for group, some in (line.groups or {line.group: line.of}).items() for of in some]
        self._written += len(names)
        now = self._clock.now()
        for of, after, until in line.turns:
            if until > now:
                before = None if after is None else (line.group, after)
                self.lately.turn((line.group, of), (line.account, until), after=before)
        held = line.account, line.until
        for name in names:
            if name in self._pending:
                continue
            if line.until <= now:
                self._accounts.pop(name, None)
            elif self._accounts.get(name) != held:
                _keep(self._accounts, name, held, MOST)

    def __len__(self) -> int:
        return len(self._accounts)

    def first(self, group: str, session: str | None, chain: Sequence[int]) -> Name | None:
        """The name by which a group's conversation is known: its session, else its messages, of as many as are known.

        A session that was forked has another name, and the same messages; but not with its first message. None if
        nothing of it is known.
        """
        known, now = self._accounts, self._clock.now()
        if session is not None:
            name: Name = (group, session[:LONGEST_SESSION])
            found = known.get(name)
            if found is not None and found[1] > now:
                return name
        if len(chain) > 1:
            for said in islice(reversed(chain), MOST_LOOKED_UP):
                name = (group, said)
                found = known.get(name)
                if found is not None and found[1] > now:
                    return name
        return None

    def account_of(self, names: Iterable[Name]) -> str | None:
        """The account of the first of the names that is known; None if none is."""
        now = self._clock.now()
        for name in names:
            found = self._accounts.get(name)
            if found is not None and found[1] > now:
                return found[0]
        return None

    def turn(self, names: Sequence[Name], account_id: str, *, after: Name | None) -> None:
        """Remember a turn, of the conversation that was found by `after`, and is by `names` from now on."""
        held = self.keep(names, account_id)
        self.lately.turn(names[0], held, after=after)
        if self._is_shared:
            self._turns.append((names[0], *held, after))

    def keep(self, names: Iterable[Name], account_id: str) -> Held:
        """Remember that the conversation of these names had a turn with this account; returns who holds it now.

        Until when is rounded up to whole minutes, so that another turn in one minute changes nothing.
        """
        until = math.ceil((self._clock.now() + self.ttl_s) / MINUTE_S) * MINUTE_S
        held = self._holds.get(account_id)
        if held is None or held[1] != until:
            held = self._holds[account_id] = account_id, until
        for name in names:
            # Another instance may have had a turn meanwhile.
            if self._accounts.get(name) is not held or self._is_shared:
                _keep(self._accounts, name, held, MOST)
                self._pending[name] = held
        if len(self._pending) > MOST:  # nothing was saved for long
            _make_room(self._pending, MOST)
            self._is_behind = True
        return held

    def writer_of(self, message_id: str) -> Writer | None:
        """Who has a message; None if it is not known."""
        found = self._messages.get(message_id)
        return found[0] if found is not None and found[1] > self._clock.now() else None

    def keep_message(self, group: str, message_id: str, account_id: str) -> None:
        """Remember which account wrote a message, for requests that go on from it. In memory only."""
        until = self._clock.now() + MESSAGE_LIVES_S
        _keep(self._messages, message_id, (Writer(group, account_id), until), MOST_MESSAGES)

    async def save(self) -> None:
        """Append what has changed; a power cut may lose it. Raises StorageError: then it is written the next time."""
        if self._is_shared:
            return await self._tell()
        pending, is_behind = self._pending, self._is_behind
        if not pending and not is_behind:
            return
        self._pending, self._is_behind = {}, False
        try:
            if self._is_long or is_behind or not self._written:
                await self._replace()
            else:
                await self._append(pending)
        except BaseException:  # also if it was cancelled
            self._is_behind = True
            raise

    async def _tell(self) -> None:
        """Append it, for other instances too, whose lines are there as well. A line twice does no harm.

        In parts, each of which a slow store takes in time; and while it is away nothing is made ready for it.
        """
        for _ in range(0, max(len(self._pending), len(self._turns)), MOST_AT_ONCE):
            if (away := self._storage.away) is not None:
                raise StoreAway(away)
            names = dict(islice(self._pending.items(), MOST_AT_ONCE))
            turns = list(islice(self._turns, MOST_AT_ONCE))
            for name in names:
                del self._pending[name]
            for _ in turns:
                self._turns.popleft()
            try:
                await self._storage.append(LOG, chain(_records(names.items()), _told(turns)))
            except BaseException:
                self._pending = names | self._pending
                self._turns = deque(chain(turns, self._turns), maxlen=MOST)
                raise
        if self._is_long:
            await self._replace()

    @property
    def _is_long(self) -> bool:
        return self._written > 2 * len(self._accounts) + MOST_OBSOLETE

    async def _append(self, pending: dict[Name, Held]) -> None:
        await self._storage.append(LOG, _records(pending.items()))
        self._written += len(pending)

    async def _replace(self) -> None:
        known = tuple(self._accounts)
        turns = ((name, *held, None) for name, held in self.lately.turns()) if self._is_shared else ()
        await self._storage.replace_log(
            LOG, chain([{"version": VERSION}], _records(self._held(known)), _told(turns))
        )
        self._written = len(known)

    def _held(self, names: Iterable[Name]) -> Iterator[tuple[Name, Held]]:
        """Who holds each, as it is when it is written: what has changed since the call is pending as well."""
        for name in names:
            held = self._accounts.get(name)
            if held is not None:
                yield name, held


def _keep(known: dict[K, V], name: K, held: V, most: int) -> None:
    """The latest are at the end. Room is made for many at once: to find the first looks at all gaps before it."""
    known.pop(name, None)
    known[name] = held
    if len(known) > most:
        _make_room(known, most)


def _make_room(known: dict[K, V], most: int) -> None:
    for old in tuple(islice(known, most // 100)):
        del known[old]


def _records(held: Iterable[tuple[Name, Held]]) -> Iterator[Record]:
    """Many names a line: a busy proxy writes thousands a second."""
    alike: dict[Held, list[Name]] = {}
    for name, who in held:
        alike.setdefault(who, []).append(name)
    for (account_id, until), names in alike.items():
        for start in range(0, len(names), MOST_IN_LINE):
            groups: dict[str, list[str | int]] = {}
            for group, of in names[start : start + MOST_IN_LINE]:
                groups.setdefault(group, []).append(of)
            yield {"account": account_id, "until": until, "groups": groups}


def _told(turns: Iterable[tuple[Name, str, float, Name | None]]) -> Iterator[Record]:
    """Turns of conversations, some of one group and account in a line."""
    alike: dict[tuple[str, str], list[tuple[str | int, str | int | None, float]]] = {}
    for (group, of), account_id, until, after in turns:
        alike.setdefault((group, account_id), []).append((of, None if after is None else after[1], until))
    for (group, account_id), some in alike.items():
        for start in range(0, len(some), MOST_IN_LINE):
            yield {"group": group, "account": account_id, "turns": some[start : start + MOST_IN_LINE]}
