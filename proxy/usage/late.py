"""What becomes of requests that end after their process has given up the data folder: another one counts them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial

from proxy.jobs import Jobs
from proxy.storage.handover import SPENDING
from proxy.storage.last_saves import LastSaves
from proxy.storage.protocols import Record, Storage
from proxy.usage.allowance import spent
from proxy.usage.counts import amounts_of, from_line
from proxy.usage.request import RequestRecord
from proxy.usage.series import Series

EVERY_S = 2.0


class Late:
    """Hands over what late requests use: as lines of the usage, and sums of what each key has spent. Then what `saves`
    add, such as which batches are counted.

    The budgets themselves are another process's by then.
    """

    def __init__(self, storage: Storage, last_saves: LastSaves, outlives: AsyncExitStack) -> None:
        self._storage = storage
        self._last_saves = last_saves
        self.hurried = last_saves.hurried
        self._outlives = outlives  # is left after the folder was given up
        self._is_late = False
        self.at_end: list[Callable[[], Awaitable[None]]] = []
        """What is called when the last late request has ended."""
        self.saves: list[Callable[[], Awaitable[None]]] = []
        """What is saved after usage and spending."""
        self._spent: dict[str, tuple[int, float]] = {}

    def begin(self) -> None:
        """All that ends from now on is late. To be called in the step that reads the budgets to store them."""
        self._is_late, self._spent = True, {}

    def count(self, record: RequestRecord) -> None:
        """Count what a late request has spent: a sink, called after it was priced."""
        if self._is_late and record.form is not None and record.key is not None:
            self._add(record.key.id, *spent(record))

    async def go_on(self, series: Series, end: Callable[[], Awaitable[None]]) -> None:
        """Have requests go on until `end` returns, which is after the rest of the engine was left.

        A store that both processes share need not be given up: then it is awaited here.
        """
        if self._storage.is_shared:
            return await end()
        self._outlives.push_async_callback(self._hand_over, series, end)

    async def _hand_over(self, series: Series, end: Callable[[], Awaitable[None]]) -> None:
        save = partial(self._save, series)
        (jobs := Jobs()).every("hand over", EVERY_S, save)
        try:
            await end()
        finally:
            await jobs.close()
            for each in self.at_end:
                await each()
            self._last_saves.add("the usage of the last streams", save, series.left)
            await self._last_saves.run()

    async def _save(self, series: Series) -> None:
        """What cannot be handed over is kept for the next time. Raises StorageError."""
        await series.flush(self._storage)
        if self._spent:
            await self._tell_spent()
        for each in self.saves:
            await each()

    async def _tell_spent(self) -> None:
        handed, self._spent = self._spent, {}
        lines = [{"key": id, "tokens": tokens, "cost_usd": usd} for id, (tokens, usd) in handed.items()]
        try:
            await self._storage.append(SPENDING, lines)
        except BaseException:
            for id, sums in handed.items():
                self._add(id, *sums)
            raise

    def _add(self, key_id: str, tokens: int, cost_usd: float) -> None:
        before = self._spent.get(key_id, (0, 0.0))
        self._spent[key_id] = before[0] + tokens, before[1] + cost_usd


def restore(series: Series, lines: Iterable[Record]) -> None:
    """Count the usage that another process has handed over."""
    for line in lines:
        if (row := from_line(line)) is not None:
            (minute, ids), sums = row
            series.add(ids, amounts_of(sums), at=minute)
