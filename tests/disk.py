"""A storage in memory that fails on demand, and the tables of the engine on it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from proxy.accounts.account import Account, ApiKey, load_accounts
from proxy.accounts.pool import Pool
from proxy.clients.keys import ClientKeys, key_record, load_keys
from proxy.errors import StorageError
from proxy.feed import Feed
from proxy.jobs import Jobs
from proxy.storage.findings import Finding, Findings
from proxy.storage.protocols import NOTHING, Kind, Record, Stored
from proxy.storage.table import Table
from proxy.storage.timed import Timed
from tests.service import TestClock


class FullDisk:
    """Takes nothing."""

    degraded = True

    async def put(self, *args: object, **kwargs: object) -> None:
        raise StorageError("no space left on device")

    delete = put


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """A running proxy cannot store a record meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Timed, "put", FullDisk.put)
        patch.setattr(Timed, "delete", FullDisk.delete)
        yield


class Disk:
    """While it is full, nothing durable can be written; what is on it outlives the tables."""

    def __init__(self) -> None:
        self.full = False
        self.notices: Sequence[str] = ()
        self.writes: list[tuple[Kind, str, Record | None]] = []
        self._kinds: dict[Kind, dict[str, Record]] = {
            kind: {} for kind in ("accounts", "tokens", "findings", "counters", "sessions", "quota")
        }

    @property
    def degraded(self) -> bool:
        return self.full

    def __getitem__(self, kind: Kind) -> dict[str, Record]:
        return self._kinds[kind]

    async def load(self, kind: Kind) -> dict[str, Record]:
        return dict(self._kinds[kind])

    async def get(self, kind: Kind, id: str) -> Stored:
        record = self._kinds[kind].get(id)
        return NOTHING if record is None else Stored(1, record)

    async def put(self, kind: Kind, id: str, record: Record) -> None:
        self._write(kind, id, record)

    async def delete(self, kind: Kind, id: str) -> None:
        self._write(kind, id, None)

    async def update(self, kind: Kind, records: Mapping[str, Record | None]) -> None:
        for id, record in records.items():
            self._set(kind, id, record)

    async def close(self) -> None:
        pass

    def _write(self, kind: Kind, id: str, record: Record | None) -> None:
        if self.full:
            raise StorageError("no space left on device")
        self.writes.append((kind, id, record))
        self._set(kind, id, record)

    def _set(self, kind: Kind, id: str, record: Record | None) -> None:
        if record is None:
            self._kinds[kind].pop(id, None)
        else:
            self._kinds[kind][id] = record


def make_pool(
    disk: Disk,
    clock: TestClock,
    jobs: Jobs | None = None,
    *,
    most_remaining: bool = False,
    feed: Feed | None = None,
    new_id: Callable[[str], str] | None = None,
) -> Pool:
    """The pool as it is after a start with what is on `disk`."""
    table = Table(
        "accounts",
        load_accounts(disk["accounts"]),
        record=Account.record,
        storage=disk,
        jobs=jobs or Jobs(),
    )
    return Pool(
        table,
        disk["counters"],
        clock=clock,
        most_remaining=most_remaining,
        feed=feed or Feed(),
        new_id=new_id or new_ids(),
        idle_threshold_s=7 * 86_400,
    )


def make_tokens(disk: Disk, clock: TestClock) -> ClientKeys:
    """The client keys as they are after a start with what is on `disk`."""
    table = Table("tokens", load_keys(disk["tokens"].values()), record=key_record, storage=disk, jobs=Jobs())
    return ClientKeys(table, disk["counters"], clock=clock, feed=Feed(), new_id=new_ids())


def make_findings(disk: Disk, *texts: str) -> Findings:
    """Findings of a start with these texts."""
    found = [Finding.of(text, 1_800_000_000) for text in texts]
    table = Table(
        "findings", [(each.id, each) for each in found], record=Finding.record, storage=disk, jobs=Jobs()
    )
    return Findings(table, Feed())


def new_ids() -> Callable[[str], str]:
    """`acc_1`, `acc_2`, …"""
    numbers = itertools.count(1)
    return lambda kind: f"{kind}_{next(numbers)}"


async def added(pool: Pool, *names: str) -> list[str]:
    """The ids of new accounts with API keys of their own."""
    return [(await pool.add(name, ApiKey(f"sk-ant-api03-{name}"))).id for name in names]
