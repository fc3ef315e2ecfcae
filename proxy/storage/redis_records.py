"""Records in Redis: one hash a kind, written by a script that compares generations and tells of the change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from proxy.errors import StorageError
from proxy.storage.codec import Document, to_text, to_text_unread
from proxy.storage.durability import Durability
from proxy.storage.envelope import HEAD_BYTES, Keyring
from proxy.storage.layout import DURABLE, checked, kind_of
from proxy.storage.protocols import NOTHING, Kind, Outcome, Outdated, Record, Snapshot, Stored
from proxy.storage.redis import RedisLink, script
from proxy.storage.redis_wire import Reply
from proxy.storage.totals import TOTALS, Wanted

CHANGES_KEPT: Final = 100_000
PAGE: Final = 500
"""Records that are read or sent at once."""

log = logging.getLogger(__name__)


class RedisRecords:
    """Implements Records but for `follow`, and Counters. `instance` is who writes."""

    def __init__(self, link: RedisLink, instance: str, keyring: Keyring, durability: Durability) -> None:
        self._link = link
        self._instance = instance
        self._keyring = keyring
        self._durability = durability
        self._lane = link.lane()
        self._counted: dict[str, Record] = {}  # counters as this instance has added them so far
        self._counts = False
        self._keys = [link.key(name) for name in ("changes", "generation", "deleted", "fences")]

    async def load(self, kind: Kind) -> dict[str, Record]:
        """Durable records as they are, disposable ones as sums over the instances."""
        if kind in DURABLE:
            return {
                id: each.record for id, each in (await self.stored(kind)).items() if each.record is not None
            }
        found: dict[str, Record] = {}
        async for page in self._pages(kind):
            found |= {id: json.loads(value) for id, value in page.items()}
        if kind == "counters" and not self._counts:  # the caller goes on counting from here
            self._counts = True
            self._counted = {id: dict(record) for id, record in found.items()}
        return found | await self._used() if kind == "counters" else found

    async def _used(self) -> dict[str, Record]:
        """The counters of client keys, which the scripts of their limits keep."""
        found: dict[str, Record] = {}
        since, count = 0, PAGE
        while count == PAGE:
            wanted = msgspec.msgpack.encode(Wanted(since, PAGE))
            packed = await self._lane.run(script("totals"), (self._link.key(""),), (wanted,))
            assert isinstance(packed, bytes)
            since, count, totals = TOTALS.decode(packed)
            found |= {each.id: each.record() for each in totals}
        return found

    async def stored(self, kind: Kind) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        async for page in self._pages(kind_of(kind, durable=True)):
            found |= await asyncio.to_thread(self._decoded, kind, page)
        return found

    async def get(self, kind: Kind, id: str) -> Stored:
        value, deleted = await asyncio.gather(
            self._lane.call("HGET", self._records(kind_of(kind, durable=True)), checked(id)),
            self._lane.call("ZSCORE", self._keys[2], f"{kind}/{id}"),
        )
        if isinstance(value, bytes):
            return self._stored(kind, id, value)
        return Stored(int(float(deleted)), None) if isinstance(deleted, bytes) else NOTHING

    async def snapshot(self, kind: Kind) -> Snapshot:
        """All records, and what was deleted. Raises StorageError."""
        start = f"{kind}/".encode()
        gone = await self._lane.call("ZRANGE", self._keys[2], 0, -1, "WITHSCORES")
        assert isinstance(gone, list)
        pairs = zip(gone[::2], gone[1::2], strict=True)
        deleted = {
            name[len(start) :].decode(): int(float(generation))
            for name, generation in pairs
            if isinstance(name, bytes) and isinstance(generation, bytes) and name.startswith(start)
        }
        found: dict[str, Stored] = {}
        async for page in self._pages(kind):
            found |= await asyncio.to_thread(self._readable, kind, page)
        return Snapshot(found, deleted)

    async def rekey(self) -> int:
        """Write everything again that is not encrypted as it is now. Returns how much that was. Raises StorageError."""
        count = 0
        for kind in DURABLE:
            async for page in self._pages(kind):
                for id, value in page.items():
                    generation, _, rest = value.partition(b" ")
                    if not self._keyring.writes_as(rest[:HEAD_BYTES]):
                        record = self.decoded(kind, id, int(generation), rest).record
                        assert record is not None
                        with contextlib.suppress(Outdated):  # another instance was faster
                            await self.put(kind, id, record, known=int(generation))
                        count += 1
        return count

    # Not `async def`: the call itself sends the write.

    def put(
        self, kind: Kind, id: str, record: Record, *, known: int | None = None, fence: int | None = None
    ) -> Outcome:
        value = self._keyring.encode(Document(0, {checked(id): to_text(record)}), f"{kind}/{id}")
        return self._write(kind, id, value, known, fence)

    async def put_new(self, kind: Kind, records: Mapping[str, Record]) -> None:
        each = iter(records.items())
        while some := list(islice(each, PAGE)):
            await asyncio.gather(*(self.put(kind, id, record, known=0) for id, record in some))

    def delete(self, kind: Kind, id: str, *, known: int | None = None) -> Outcome:
        return self._write(kind, checked(id), b"", known, None)

    def decoded(self, kind: Kind, id: str, generation: int, value: bytes) -> Stored:
        """A record from its value; an empty one stands for none. Raises StorageError."""
        if not value:
            return Stored(generation, None)
        name = f"{kind}/{id}"
        try:
            text = self._keyring.decode(value, name, f"{name} in the shared store").records[id]
        except (ValueError, KeyError) as error:
            raise StorageError(f"{name} in the shared store cannot be read: {error}") from None
        record: Record = json.loads(text)
        return Stored(generation, record)

    async def update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        """Counters are added to what other instances have counted; of others, the last to write is right."""
        kind_of(kind, durable=False)
        texts = {
            checked(id): "" if record is None else to_text_unread(record) for id, record in records.items()
        }
        parts = [part for id, text in texts.items() for part in (id, self._before(kind, id), text)]
        await self._lane.run(script("update"), [self._records(kind)], [kind, *parts])
        if kind == "counters":
            for id, text in texts.items():
                self._counted.pop(id, None)
                if text:
                    self._counted[id] = json.loads(text)

    def _before(self, kind: Kind, id: str) -> str:
        return to_text_unread(self._counted[id]) if kind == "counters" and id in self._counted else ""

    def _write(self, kind: Kind, id: str, value: bytes, known: int | None, fence: int | None) -> Outcome:
        keys = [self._records(kind_of(kind, durable=True)), *self._keys]
        args = [
            kind,
            id,
            "" if known is None else known,
            value,
            self._instance,
            "" if fence is None else fence,
            CHANGES_KEPT,
        ]
        sent = self._lane.run(script("put"), keys, args)
        return self._outcome(kind, id, sent, self._durability.confirm(self._lane))

    async def _outcome(
        self, kind: Kind, id: str, sent: asyncio.Future[Reply], confirmed: asyncio.Future[None] | None
    ) -> int:
        try:
            match await sent:
                case [b"done", int(generation)]:
                    if confirmed is not None:
                        await confirmed
                    return generation
                case [bytes(why), int(generation), bytes(value)]:
                    stored = self.decoded(kind, id, generation, value)
                    raise Outdated(f"{kind}/{id}", stored, stale=why == b"stale")
        finally:
            if confirmed is not None and not confirmed.done():
                confirmed.cancel()
            elif confirmed is not None and not confirmed.cancelled():
                confirmed.exception()  # asked for, so that it is not told as forgotten
        raise StorageError(f"{kind}/{id} could not be saved: the shared store answers what is no answer")

    def _records(self, kind: Kind) -> str:
        return self._link.key("records", kind)

    async def _pages(self, kind: Kind) -> AsyncIterator[dict[str, bytes]]:
        cursor = b"0"
        while True:
            match await self._lane.call("HSCAN", self._records(kind), cursor, "COUNT", PAGE):
                case [bytes(cursor), [*pairs]]:
                    yield {
                        id.decode(): value
                        for id, value in zip(pairs[::2], pairs[1::2], strict=True)
                        if isinstance(id, bytes) and isinstance(value, bytes)
                    }
            if cursor == b"0":
                return

    def _readable(self, kind: Kind, page: Mapping[str, bytes]) -> dict[str, Stored]:
        """What can be read: one record that cannot must not keep the others from being heard of."""
        found: dict[str, Stored] = {}
        for id, value in page.items():
            try:
                found[id] = self._stored(kind, id, value)
            except StorageError as error:
                log.error("left as it was here error=%s", error)
        return found

    def _decoded(self, kind: Kind, page: Mapping[str, bytes]) -> dict[str, Stored]:
        return {id: self._stored(kind, id, value) for id, value in page.items()}

    def _stored(self, kind: Kind, id: str, value: bytes) -> Stored:
        generation, _, rest = value.partition(b" ")
        return self.decoded(kind, id, int(generation), rest)
