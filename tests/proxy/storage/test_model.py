"""Whatever is done in whatever order, the storage holds what a dict would hold."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.clock import SystemClock
from proxy.storage.envelope import Keyring
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind, Record

durable = st.sampled_from(["accounts", "tokens"])
disposable = st.sampled_from(["counters", "sessions"])
ids = st.sampled_from(["a", "b", "c"])
records = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3)


class AStorageIsADict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.home = tempfile.TemporaryDirectory()
        self.folder = Path(self.home.name) / "data"
        self.model: dict[Kind, dict[str, Record]] = {
            "accounts": {},
            "tokens": {},
            "counters": {},
            "sessions": {},
        }
        self.broken = False
        self.open()

    def open(self) -> None:
        self.storage = JsonFiles.open(self.folder, clock=SystemClock(), keyring=self.keyring())

    def keyring(self) -> Keyring:
        return Keyring()

    @rule(kind=durable, id=ids, record=records)
    def put(self, kind: Kind, id: str, record: Record) -> None:
        self.loop.run(self.awaited(self.storage.put(kind, id, record)))
        self.model[kind][id] = record

    @rule(kind=durable, id=ids)
    def delete(self, kind: Kind, id: str) -> None:
        self.loop.run(self.awaited(self.storage.delete(kind, id)))
        self.model[kind].pop(id, None)

    @rule(kind=disposable, by_id=st.dictionaries(ids, st.none() | records))
    def update(self, kind: Kind, by_id: dict[str, Record | None]) -> None:
        self.loop.run(self.awaited(self.storage.update(kind, by_id)))
        both = self.model[kind] | by_id
        self.model[kind] = {id: record for id, record in both.items() if record is not None}

    @rule(kind=durable, id=ids, values=st.lists(st.none() | records, min_size=1, max_size=4))
    def write_many_and_cancel(self, kind: Kind, id: str, values: list[Record | None]) -> None:
        async def write() -> None:
            tasks = [
                asyncio.create_task(
                    self.storage.delete(kind, id) if value is None else self.storage.put(kind, id, value)
                )
                for value in values
            ]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)

        self.loop.run(write())
        self.model[kind].pop(id, None)
        if values[-1] is not None:
            self.model[kind][id] = values[-1]

    @precondition(lambda self: not self.broken)
    @rule()
    def break_accounts(self) -> None:
        (self.folder / "accounts").rename(self.folder / "elsewhere")
        self.broken = True

    @precondition(lambda self: self.broken)
    @rule()
    def mend_accounts(self) -> None:
        (self.folder / "elsewhere").rename(self.folder / "accounts")
        self.broken = False

    @precondition(lambda self: not self.broken)
    @rule()
    def reopen(self) -> None:
        self.loop.run(self.storage.close())
        self.open()

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        for kind, expected in self.model.items():
            assert self.loop.run(self.awaited(self.storage.load(kind))) == expected

    async def awaited(self, work: Any) -> Any:
        return await work

    def teardown(self) -> None:
        if self.broken:
            self.mend_accounts()
        self.reopen()
        self.holds_what_the_dict_holds()
        self.loop.run(self.storage.close())
        self.loop.close()
        self.home.cleanup()


class AnEncryptedStorageIsADict(AStorageIsADict):
    """Each opening is one more rotation; every third key is none."""

    openings = 0

    def keyring(self) -> Keyring:
        self.openings += 1
        old, new = (self.key(n) for n in (self.openings - 1, self.openings))
        return Keyring(new, [old] if old else [])

    def key(self, n: int) -> bytes | None:
        return bytes(range(n, n + 32)) if n % 3 else None


TestAStorageIsADict = AStorageIsADict.TestCase
TestAStorageIsADict.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, database=None)
TestAnEncryptedStorageIsADict = AnEncryptedStorageIsADict.TestCase
TestAnEncryptedStorageIsADict.settings = TestAStorageIsADict.settings
