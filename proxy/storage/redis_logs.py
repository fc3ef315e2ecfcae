"""Logs in Redis: one stream each, to which every instance appends, and which others follow by the ids of entries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from proxy.errors import StorageError
from proxy.storage.codec import to_text_unread
from proxy.storage.durability import Durability
from proxy.storage.layout import DAY, ROOT_LOGS, checked, event_day
from proxy.storage.logs import AT_ONCE, Seen, parse
from proxy.storage.protocols import Record
from proxy.storage.redis import RedisLink, script
from proxy.storage.redis_wire import Part, Reply

PAGE: Final = 200
"""Entries that are read at once."""

Take = Callable[[bytes], object]

log = logging.getLogger(__name__)

EntryId = tuple[int, int]
FIRST: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `instance` is who appended it, b"" if a replacement has; `was` is its id before that, or its own."""

    id: EntryId
    was: EntryId
    instance: bytes
    line: bytes


@dataclass(slots=True)
class Followed:
    """How far a log was read: `at` is an id of now, `seen` the highest one that its entries have had."""

    at: EntryId = FIRST
    seen: EntryId = FIRST
    replaced: bytes = b""
    """How often it had been replaced when it was read; b"" if that is not known."""

    read: EntryId = FIRST
    """How far `each_line` has read it, without what came to `take` since."""

    take: Take | None = None
    own: bool = False
    """Whether `take` hears of this instance's lines as well."""


class RedisLogs:
    """Implements Logs, for one instance."""

    def __init__(self, link: RedisLink, instance: str, durability: Durability) -> None:
        self._link = link
        self._instance = instance
        self._durability = durability
        self._lane = link.lane()
        self.read: dict[str, Followed] = {}

    async def logs(self) -> list[str]:
        return [name for name in await self._names() if event_day(name) is None and name not in ROOT_LOGS]

    async def event_days(self) -> list[str]:
        days = [event_day(name) for name in await self._names()]
        return [day for day in days if day is not None and DAY.fullmatch(day)]

    async def read_log(self, log: str) -> list[Record]:
        lines: list[Record] = []
        await self.each_line(log, lambda text: lines.append(parse(text)))
        return lines

    async def each_line(self, log: str, take: Take) -> None:
        followed = self.read.setdefault(checked(log), Followed())
        seen, at = Seen(), FIRST
        followed.replaced = await self._replaced(log)
        while entries := await self._range(log, at):
            at = followed.read = entries[-1].id
            if followed.take is not None:
                self.took(log, entries)  # else whoever follows would miss what is read here first
            followed.seen = max(followed.seen, *(entry.was for entry in entries))
            followed.at = max(followed.at, at)
            await asyncio.to_thread(_hand_over, entries, take, seen)
        if seen.damaged:
            _log_damaged(log, seen.damaged)

    # Not `async def`: the call itself sends the lines.

    def append(
        self, log: str, lines: Iterable[Record], *, durable: bool = False
    ) -> Coroutine[Any, Any, None]:
        key = self._key(checked(log))
        try:
            sent = self._append(key, log, _texts(lines), self._instance)
        except (TypeError, ValueError) as error:
            return _raise(error)
        return self._done(sent, self._durability.confirm(self._lane) if durable else None)

    def remove_log(self, log: str) -> Coroutine[Any, Any, None]:
        removed = self._lane.call("DEL", self._key(checked(log)))
        self._lane.call("SREM", self._link.key("logs"), log).add_done_callback(_ignore)
        return self._done(removed, None)

    def append_chained(
        self, log: str, lines: Sequence[Record], *, follows: str, makes: str, durable: bool
    ) -> Coroutine[Any, Any, str]:
        """See peers.Chained."""
        keys = [self._key(checked(log)), self._link.key("logs"), self._link.key("tip")]
        sent = self._lane.run(script("chain"), keys, [log, self._instance, follows, makes, *_texts(lines)])
        return self._chained(sent, self._durability.confirm(self._lane) if durable else None)

    async def _chained(self, sent: asyncio.Future[Reply], confirmed: asyncio.Future[None] | None) -> str:
        await self._done(sent, confirmed)
        tip = sent.result()
        assert isinstance(tip, bytes)
        return tip.decode()

    def replace_log(
        self, log: str, lines: Iterable[Record], *, as_read: bool = False
    ) -> Coroutine[Any, Any, None]:
        return self._replace(checked(log), iter(lines), self._lane.call(*self._newest(log)), as_read)

    def follow_log(self, log: str, take: Take | None, *, own: bool = False) -> None:
        followed = self.read.setdefault(checked(log), Followed())
        followed.take, followed.own = take, own

    async def follow_end(self, log: str, take: Take) -> None:
        """Hand each line that any instance appends from now on to `take`. Raises StorageError."""
        self.follow_log(log, None)
        there = _entries(await self._lane.call(*self._newest(log)))
        followed = self.read[log]
        followed.at = followed.seen = there[0].id if there else FIRST
        self.follow_log(log, take, own=True)

    async def catch_up(self) -> None:
        for log, followed in self.read.items():
            if followed.take is not None:
                while entries := await self._range(log, followed.at):
                    self.took(log, entries)

    async def rewind(self) -> None:
        """Go back to the end of followed logs of which the store has lost the last lines. Raises StorageError."""
        for log, followed in self.read.items():
            there = _entries(await self._lane.call(*self._newest(log))) if followed.take is not None else ()
            if followed.take is not None and (not there or there[0].id < followed.at):
                followed.at = followed.seen = there[0].id if there else FIRST

    def took(self, log: str, entries: Sequence[Entry]) -> None:
        """Hand entries of a followed log over, but for those that were handed over before, and one's own."""
        followed, seen, own = self.read[log], Seen(), self._instance.encode()
        fresh = [entry for entry in entries if entry.id > followed.at]
        for entry in fresh:
            followed.at = entry.id
            if entry.instance and entry.was > followed.seen:
                followed.seen = entry.was
                if (followed.own or entry.instance != own) and followed.take is not None:
                    _hand_over([entry], followed.take, seen)
        if seen.damaged:
            _log_damaged(log, seen.damaged)

    def key_of(self, log: str) -> str:
        """The stream of a log."""
        return self._key(log)

    def _append(
        self, key: str, name: str, texts: Iterable[str], instance: str, first: bytes = b""
    ) -> asyncio.Future[Reply]:
        """Append lines in one step; `name` is that of the log, "" for one that is not to be listed yet."""
        keys = [key, self._link.key("logs")]
        return self._lane.run(script("append"), keys, [name, instance, first, *texts])

    async def _done(self, sent: Awaitable[Reply], confirmed: asyncio.Future[None] | None) -> None:
        try:
            await sent
        except BaseException:
            if confirmed is not None:
                confirmed.add_done_callback(_ignore)
            raise
        if confirmed is not None:
            await confirmed

    async def _replace(
        self, log: str, lines: Iterator[Record], newest: Awaitable[Reply], as_read: bool
    ) -> None:
        """Write the new lines beside the old ones, then put them in their place with what came meanwhile."""
        there = _entries(await newest)
        last = there[0].id if there else FIRST
        followed = self.read.get(log)
        # What others have appended since it was read is kept, and what anybody appends from now on.
        known = FIRST if followed is None else followed.read if as_read else followed.at
        taken = min(last, known) if known > FIRST else last
        new, first = self._link.key("new", self._instance, log), _text((last[0], last[1] + 1))
        await self._lane.call("DEL", new)
        while some := await asyncio.to_thread(lambda: _texts(islice(lines, AT_ONCE * 10))):
            await self._append(new, "", some, "", first)
            first = b""
        keys = [self._key(log), new, self._link.key("logs"), self._link.key("replaced")]
        replaced = b"" if followed is None else followed.replaced
        args: list[Part] = [log, _text(taken), _text(last), self._instance, replaced]
        done = await self._lane.run(script("replace"), keys, args)
        if followed is not None:
            followed.replaced = await self._replaced(log)
        if not done:
            raise StorageError(f"{log} was replaced by another instance in the meantime")

    async def _replaced(self, log: str) -> bytes:
        count = await self._lane.call("HGET", self._link.key("replaced"), log)
        return count if isinstance(count, bytes) else b"0"

    def _newest(self, log: str) -> tuple[str, ...]:
        return "XREVRANGE", self._key(log), "+", "-", "COUNT", "1"

    async def _range(self, log: str, after: EntryId) -> list[Entry]:
        start = b"(" + _text(after) if after > FIRST else b"-"
        return _entries(await self._lane.call("XRANGE", self._key(log), start, "+", "COUNT", PAGE))

    async def _names(self) -> list[str]:
        names = await self._lane.call("SMEMBERS", self._link.key("logs"))
        assert isinstance(names, list)
        return sorted(name.decode() for name in names if isinstance(name, bytes))

    def _key(self, log: str) -> str:
        return self._link.key("log", log)


def _texts(lines: Iterable[Record]) -> list[str]:
    return [to_text_unread(line) for line in lines]


def entries_of(replies: Reply) -> list[Entry]:
    """The lines in what XRANGE or XREAD answers."""
    return _entries(replies)


def _entries(replies: Reply) -> list[Entry]:
    found = []
    for each in replies if isinstance(replies, list) else ():
        match each:
            case [bytes(id), [b"i", bytes(instance), b"l", bytes(line)]]:
                at = read_id(id)
                found.append(Entry(at, at, instance, line))
            case [bytes(id), [b"i", bytes(instance), b"l", bytes(line), b"was", bytes(was)]]:
                found.append(Entry(read_id(id), read_id(was), instance, line))
    return found


def read_id(id: bytes) -> EntryId:
    """The id of an entry, as it is compared."""
    ms, _, number = id.partition(b"-")
    return int(ms), int(number)


def _text(id: EntryId) -> bytes:
    return b"%d-%d" % id


def _hand_over(entries: Iterable[Entry], take: Take, seen: Seen) -> None:
    for entry in entries:
        try:
            take(entry.line)
            seen.lines += 1
        except (ValueError, RecursionError):
            seen.damaged += 1


def _log_damaged(name: str, lines: int) -> None:
    log.warning("damaged lines are left out log=%s lines=%s", name, lines)


def _ignore(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


async def _raise(error: Exception) -> None:
    raise error
