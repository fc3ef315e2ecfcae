"""Records that come too fast, such as those of a client that only sends nonsense, are summed up."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from proxy.clock import Clock

FIRST = 10
"""So many of a kind from one address are logged in a window."""

WINDOW_S = 10.0

MOST_ADDRESSES = 100
"""More in one window share an entry. With it, a flood from anywhere is some hundred lines a second at most."""

OTHERS = ("of other kinds", "others")


@dataclass(slots=True)
class Sum:
    """What was left out of one kind from one address; `level` is that of its records."""

    kind: str
    address: str
    level: int
    left_out: int


class Floods:
    """Counts records by kind and address. All methods may be called by any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # what logs may be interrupted by what logs: see LineWriter
        self._seen: dict[tuple[str, str], Sum] = {}
        self._began_at = clock.monotonic()

    def passes(self, kind: str, address: str, level: int) -> bool:
        """Count a record; whether it is to be logged."""
        with self._lock:
            key = (kind, address)
            if key not in self._seen and len(self._seen) >= MOST_ADDRESSES:
                key = OTHERS
            found = self._seen.get(key)
            if found is None:
                found = self._seen[key] = Sum(*key, level, -FIRST)
            found.left_out += 1
            return found.left_out <= 0

    def sums(self, *, now: bool = False) -> list[Sum]:
        """What the window left out, if it has passed or is to end `now`. The next one begins."""
        with self._lock:
            time = self._clock.monotonic()
            if not now and time - self._began_at < WINDOW_S:
                return []
            self._began_at = time
            seen, self._seen = self._seen, {}
        return [each for each in seen.values() if each.left_out > 0]
