"""What other instances do, as it happens: one blocking read of the changes and of the logs that are followed."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.protocols import Follower, Kind
from proxy.storage.redis import RedisLink
from proxy.storage.redis_logs import RedisLogs, entries_of
from proxy.storage.redis_records import RedisRecords
from proxy.storage.redis_wire import Reply

BLOCK_S: Final = 1.0
"""The longest silence of the store: one read a second where nothing happens, and a cut is noticed soon after."""

AT_ONCE: Final = 100
"""Changes, and lines of each log, that are taken in one step of the loop."""

FIRST_AGAIN_S: Final = 0.25
LAST_AGAIN_S: Final = 1.0
"""Between two tries to reach a store that is away."""

log = logging.getLogger(__name__)


class RedisChanges:
    """Follows from where `begin` found the stream. After a cut, and if changes were missed, all is compared."""

    def __init__(
        self, link: RedisLink, records: RedisRecords, logs: RedisLogs, *, instance: str, clock: Clock
    ) -> None:
        self._link = link
        self._records = records
        self._logs = logs
        self._instance = instance.encode()
        self._clock = clock
        self._lane = link.lane(longer_s=BLOCK_S)
        self._key = link.key("changes")
        self._at = b"0-0"
        self._generation: int | None = None  # of the last change that was read
        self._followers: dict[str, tuple[Kind, Follower]] = {}
        self._task: asyncio.Task[None] | None = None
        self.seen_at = clock.monotonic()
        """When the store was last heard."""

    def follow(self, kind: Kind, follower: Follower) -> None:
        """Tell `follower` of this kind's changes."""
        self._followers[kind] = kind, follower

    async def begin(self) -> None:
        """Note where the stream ends, before anything is loaded. Raises StorageError."""
        self._at, self._generation = await self._end()

    def listen(self) -> None:
        """Follow it from there."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def compare(self) -> None:
        """Give each follower all that is there now. Raises StorageError."""
        self._at, self._generation = await self._end()
        for kind, follower in self._followers.values():
            follower.compare(await self._records.snapshot(kind))
        await self._logs.rewind()
        await self._logs.catch_up()

    async def _follow(self) -> None:
        missed, again_s = False, FIRST_AGAIN_S
        while True:
            try:
                if missed:
                    await self.compare()
                    log.warning("compared with the shared store, whose changes may have been missed")
                missed, again_s = not await self._read(), FIRST_AGAIN_S
            except StorageError as error:
                missed = True
                log.debug("changes are not heard error=%s", error)
                await self._clock.sleep(again_s)
                again_s = min(again_s * 2, LAST_AGAIN_S)
            except Exception:
                missed = True
                log.exception("changes of other instances are not understood")
                await self._clock.sleep(LAST_AGAIN_S)

    async def _read(self) -> bool:
        """Take what has come, or wait for it. False if changes were missed."""
        streams = {self._key: self._at}
        names: dict[bytes, str] = {}
        for name, followed in self._logs.read.items():
            if followed.take is not None:
                key = self._logs.key_of(name)
                streams[key] = b"%d-%d" % followed.at
                names[key.encode()] = name
        reply = await self._lane.call(
            "XREAD", "COUNT", AT_ONCE, "BLOCK", round(BLOCK_S * 1000), "STREAMS", *streams, *streams.values()
        )
        self.seen_at = self._clock.monotonic()
        whole = True
        for each in reply if isinstance(reply, list) else ():
            match each:
                case [bytes(stream), [*entries]] if stream in names:
                    self._logs.took(names[stream], entries_of(entries))
                case [bytes(), [*entries]]:
                    whole = all([self._take(entry) for entry in entries])
        return whole

    def _take(self, entry: Reply) -> bool:
        """Pass one change on. False if there were others before it that have not come."""
        match entry:
            case [bytes(at), [_, bytes(kind), _, bytes(id), _, bytes(number), _, bytes(value), _, bytes(by)]]:
                generation = int(number)
            case _:
                raise StorageError("a change in the shared store cannot be read")
        before, self._generation, self._at = self._generation, generation, at
        found = self._followers.get(kind.decode())
        if found is not None and by != self._instance:
            followed, follower = found
            try:
                stored = self._records.decoded(followed, id.decode(), generation, value)
            except StorageError as error:
                log.error("left as it was here error=%s", error)
            else:
                follower.changed(id.decode(), stored)
        return before is None or generation == before + 1

    async def _end(self) -> tuple[bytes, int | None]:
        """The id and the generation of the last change."""
        match await self._lane.call("XREVRANGE", self._key, "+", "-", "COUNT", 1):
            case [[bytes(id), [_, _, _, _, _, bytes(generation), *_]]]:
                return id, int(generation)
        return b"0-0", None
