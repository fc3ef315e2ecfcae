"""The admin key: one object that all share who ask for it, so that it can be replaced while the proxy runs."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable


class AdminKey:
    """Opens the admin API. It is compared by its hash, in constant time."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._digest = _digest(key)
        self._followers: list[Callable[[], None]] = []

    def opens(self, key: str) -> bool:
        """Whether this is the admin key."""
        return hmac.compare_digest(_digest(key), self._digest)

    def mac(self, cookie: str) -> str:
        """The HMAC of the admin key, keyed with a cookie: whoever has no cookie cannot test guessed keys with it."""
        return hmac.new(cookie.encode(), self._key, hashlib.sha256).hexdigest()

    def on_replaced(self, follower: Callable[[], None]) -> None:
        """Call `follower` once another key has taken this one's place."""
        self._followers.append(follower)

    def replace(self, key: str) -> None:
        """Have another key from now on. The old one opens nothing any more."""
        if self.opens(key):
            return
        self._key, self._digest = key.encode(), _digest(key)
        for follower in self._followers:
            follower()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
