"""The scripts of shared limits on a real store, whose time only the test moves; leases end when the test says so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import msgspec
import pytest
import redis

from proxy.storage.redis import SCRIPTS, Script, script
from tests.redis_server import RedisServer

PREFIX = "{tests}:"
DAY_S = 86_400
START = 1_800_000_000  # 2027-01-15T08:00Z


TEST_TIME = """
local function test_time()
  local told, time = redis.call('GET', KEYS[1] .. 'time') or '', redis.call('TIME')
  local ahead = string.match(told, '^ahead (-?%d+)$')
  if ahead then return {time[1] + math.floor(ahead / 1000000), time[2] + ahead % 1000000} end
  local whole, micro = string.match(told, '^(%d+) (%d+)$')
  return whole and {whole, micro} or time
end
"""


def told_time(now: float) -> str:
    """What is stored in `time` as the time of scripts, which stands still."""
    return "{} {}".format(*divmod(round(now * 1_000_000), 1_000_000))


def told_ahead(seconds: float) -> str:
    """What is stored in `time` to have the time of scripts go on, so far ahead of the store's own."""
    return f"ahead {round(seconds * 1_000_000)}"


@cache
def script_at_test_time(name: str) -> Script:
    """In place of `redis.script`."""
    text = with_test_time(script(name).text)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def with_test_time(text: str) -> str:
    """A script that takes the test's time for the store's, if there is one."""
    return text.replace("redis.call('TIME')", "test_time()").replace(
        "local prefix", f"{TEST_TIME}local prefix", 1
    )


@pytest.fixture(name="store")
def limit_store(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[LimitScripts]:
    """The store of a pool named `tests`, whose time is the test's, for a RedisLink as well."""
    monkeypatch.setattr("proxy.storage.redis.script", script_at_test_time)
    with redis.Redis(unix_socket_path=str(redis_server.path)) as client:
        yield LimitScripts(client)


def months(now: float) -> list[int]:
    """First days of five months around `now`, in days since the epoch."""
    at = datetime.fromtimestamp(now, UTC)
    index = at.year * 12 + at.month - 1
    return [
        date(each // 12, each % 12 + 1, 1).toordinal() - date(1970, 1, 1).toordinal()
        for each in range(index - 1, index + 4)
    ]


class LimitScripts:
    """The scripts by name, in the terms of a test."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now = float(START)
        self._scripts: dict[str, Any] = {}
        self.move(0)

    def move(self, seconds: float) -> None:
        """Set the store's time forward."""
        self.now += seconds
        self.client.set(PREFIX + "time", told_time(self.now))

    def run(self, name: str, *args: Any) -> Any:
        made = self._scripts.get(name)
        if made is None:
            text = with_test_time((SCRIPTS / f"{name}.lua").read_text())
            made = self._scripts[name] = self.client.register_script(text)
        return made(keys=[PREFIX], args=args)

    def admit(self, id: str, *, key: str = "k", owner: str = "i1", **asked: Any) -> tuple[str, int]:
        """What it says of a request, and how many microseconds to wait."""
        given = {"id": id, "key": key, "owner": owner, "lease_ms": 15_000, "months": months(self.now)} | asked
        said, *numbers = self.run("admit", msgspec.msgpack.encode(given))
        return said.decode(), numbers[0] if numbers else 0

    def settle(
        self, *ids: str, owner: str = "i1", key: str = "k", batch: str | None = None, **rest: Any
    ) -> int:
        entries = [{"id": id, "owner": owner, "key": key} | rest for id in ids]
        return self.settle_all(entries, batch)

    def settle_all(self, entries: Iterable[dict[str, Any]], batch: str | None = None) -> int:
        asked = {"months": months(self.now), "entries": list(entries)} | ({"batch": batch} if batch else {})
        return int(self.run("settle", msgspec.msgpack.encode(asked)))

    def reap(self, owner: str = "i9", most: int = 1000, *, new: bool = True) -> list[tuple[str, str]]:
        """Find the tickets of dead instances and give them back; which they were, as (instance, request).

        `new`: the instance that asks has just started.
        """
        _, *names = self.run("reap", owner, 15_000, most, int(new))
        found = [each.decode() for each in names]
        pairs = list(zip(found[::2], found[1::2], strict=True))
        self.settle_all({"id": id, "owner": owner, "key": "", "reaped": True} for owner, id in pairs)
        return pairs

    def retake(
        self, owner: str, *tickets: dict[str, Any], minute: Iterable[Any] = (), server: str | None = None
    ) -> list[str]:
        """Say what an instance holds; which of it has no place any more."""
        asked = {"owner": owner, "lease_ms": 15_000, "tickets": tickets, "minute": list(minute)}
        given = msgspec.msgpack.encode(asked | ({"server": server} if server else {}))
        return [id.decode() for id in self.run("retake", given)]

    def die(self, owner: str) -> None:
        """End the lease of an instance."""
        self.client.delete(f"{PREFIX}alive:{owner}")

    def turns(self, owner: str) -> list[str]:
        """The clients that an instance was told of since the last time."""
        told = self.client.lpop(f"{PREFIX}turns:{owner}", 100) or []
        return [each.decode() for each in told]

    def totals(self, since: int = 0, most: int = 100, keys: Iterable[str] = ()) -> tuple[int, int, list[Any]]:
        asked = msgspec.msgpack.encode({"since": since, "most": most, "keys": list(keys)})
        last, changed, rows = msgspec.msgpack.decode(self.run("totals", asked))
        return last, changed, rows

    def used(self, key: str = "k") -> dict[str, float]:
        """The numbers of one key."""
        names = (
            "id", "day", "day_tokens", "day_nano", "month", "month_tokens", "month_nano", "requests", "last_used_at",
            "reservations", "reserved_tokens", "reserved_nano", "running", "minute", "newest",
        )  # fmt: skip
        row = self.totals(keys=[key])[2][-1]
        return dict(zip(names, row, strict=True))

    def left(self) -> set[str]:
        """The names in the store that say that something is held."""
        return self.left_of("open:", "running:", "slots:", "queue:")

    def left_of(self, *kinds: str) -> set[str]:
        """The names of these kinds. A queue counts for each who waits."""
        names = (name.decode().removeprefix(PREFIX) for name in self.client.scan_iter(match=f"{PREFIX}*"))
        return {
            f"{name}{n or ''}"
            for name in names
            if name.startswith(kinds)
            for n in range(self.client.zcard(PREFIX + name) if name.startswith("queue:") else 1)
        }
