"""Client keys by the hashes of their secrets: the present ones, and former ones that still work."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence


class KeyHashes:
    """Finds a key by a hash. If a key is both stored and declared, the `declared` one counts."""

    def __init__(self, keys: Iterable[tuple[str, Sequence[str]]], declared: Container[str]) -> None:
        self._used: dict[str, float] = {}  # of former ones, since the start
        self.fill(keys, declared)

    def fill(self, keys: Iterable[tuple[str, Sequence[str]]], declared: Container[str]) -> None:
        """Begin anew with these keys."""
        self._declared = declared
        self._ids: dict[str, str] = {}
        for key_id, digests in keys:
            self.file(key_id, (), digests)

    def get(self, digest: str) -> str | None:
        """The id of the key with this hash."""
        return self._ids.get(digest)

    def __contains__(self, digest: object) -> bool:
        return digest in self._ids

    def file(self, key_id: str, old: Sequence[str], new: Sequence[str]) -> None:
        """Exchange a key's hashes; none are left of one that is deleted."""
        for digest in old:
            if digest not in new:
                self._used.pop(digest, None)
                if self._ids.get(digest) == key_id:
                    del self._ids[digest]
        for digest in new:
            if key_id in self._declared or self._ids.get(digest) not in self._declared:
                self._ids[digest] = key_id

    def used(self, digest: str, now: float) -> None:
        """Note a use of a former one."""
        self._used[digest] = now

    def used_at(self, digest: str) -> float | None:
        """When a former one was used last, since the start."""
        return self._used.get(digest)
