"""The generations of single records, where one process alone writes them."""

from __future__ import annotations

from collections.abc import Callable

from proxy.storage.journal import Key
from proxy.storage.protocols import Outdated, Stored

UNWRITTEN = 1
"""The generation of a record that was there at the opening."""


class Stamps:
    """Which write each record has, and the highest fence that came with one."""

    def __init__(self) -> None:
        self._generations: dict[Key, int] = {}
        self._fences: dict[Key, int] = {}

    def of(self, key: Key) -> int:
        """The generation of a record that is there."""
        return self._generations.get(key, UNWRITTEN)

    def check(self, key: Key, known: int | None, fence: int | None, stored: Callable[[], Stored]) -> None:
        """Raise Outdated if the record, which is `stored`, is another than the caller knows."""
        stale = fence is not None and fence < self._fences.get(key, 0)
        if not stale and known is None:
            return
        found = stored()
        if stale or found.generation != known:
            raise Outdated("/".join(key), found, stale=stale)

    def set(self, key: Key, generation: int | None, fence: int | None) -> None:
        """Note a write; `generation` is None if the record was deleted."""
        if generation is None:
            self._generations.pop(key, None)
        else:
            self._generations[key] = generation
        if fence is not None:
            self._fences[key] = fence
