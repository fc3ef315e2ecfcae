"""Rotation: a client key gets a new secret under its id, and the one before works on for a while."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from proxy.clients.keys import ClientKey, ClientKeys, KeyStatus
from proxy.clients.secret import FormerKey, masked, new_key, sha256
from proxy.clock import Clock, rfc3339
from proxy.errors import Conflict, StorageError

MOST_FORMER: Final = 5
"""Each is one more secret that opens the door, and is compared with what clients present."""

log = logging.getLogger(__name__)


class Rotation:
    """Replaces the secrets of client keys, and ends those that were replaced when their time is over."""

    def __init__(
        self, keys: ClientKeys, *, clock: Clock, on_expired: Callable[[str, Collection[str]], None]
    ) -> None:
        """`on_expired` is called with the id of a key and the hashes of its former ones whose time has run out."""
        self._keys = keys
        self._clock = clock
        self._on_expired = on_expired
        self._next_end = self._first_end()

    async def rotate(self, key_id: str, overlap_s: float) -> str:
        """Give a client key a new secret, which is returned only here; the present one works for `overlap_s` more.

        Without overlap, all former ones end at once as well. It is on disk when this returns; if it cannot be stored,
        nothing has changed. Raises NotFound, Conflict, StorageError.
        """
        now, key = self._clock.now(), new_key()
        self._expire(self._keys.own(key_id), now)
        old = self._keys.own(key_id)
        if old.status is KeyStatus.REVOKED:
            raise Conflict("a revoked key stays revoked: create a new one")
        if overlap_s and len(old.former) >= MOST_FORMER:
            raise Conflict(f"{MOST_FORMER} former keys of it still work: end them first")
        ends_at = now + overlap_s
        former = (*old.former, FormerKey(old.key_sha256, old.masked, ends_at)) if overlap_s else ()
        new = replace(old, key_sha256=sha256(key), masked=masked(key), former=former, updated_at=now)
        await self._exchange(old, new)
        until = (
            f"; the one before works until {rfc3339(ends_at)}" if overlap_s else "; the one before has ended"
        )
        self._keys.tell("rotated", f"client key {new.name} was given a new key{until}", old, new)
        log.info("token rotated token=%s name=%s overlap_s=%d", new.id, new.name, overlap_s)
        return key

    async def end_former(self, key_id: str) -> None:
        """End all former keys at once; it is on disk when this returns. Raises NotFound, Conflict, StorageError."""
        old = self._keys.own(key_id)
        if old.former:
            saved = self._keys.put(replace(old, former=(), updated_at=self._clock.now()))
            self._ended(old)
            await saved

    def tick(self) -> None:
        """Drop the former keys whose time is over: they have opened nothing since."""
        now = self._clock.now()
        if now < self._next_end:
            return
        for key in list(self._keys):
            self._expire(key, now)
        self._next_end = self._first_end()

    def _expire(self, old: ClientKey, now: float) -> None:
        over = [each.key_sha256 for each in old.former if each.ends_at <= now]
        if over:
            self._keys.put(replace(old, former=tuple(each for each in old.former if each.ends_at > now)))
            self._ended(old)
            self._on_expired(old.id, over)

    async def _exchange(self, old: ClientKey, new: ClientKey) -> None:
        """Set the new secret; if it cannot be stored, the old one again, since nobody gets to see the new one."""
        try:
            await self._keys.put(new)
        except StorageError:
            present = self._keys.get(new.id)
            if present is not None and present.key_sha256 == new.key_sha256:
                former = replace(
                    present,
                    key_sha256=old.key_sha256,
                    masked=old.masked,
                    former=old.former,
                    updated_at=old.updated_at,
                )
                with contextlib.suppress(StorageError):
                    await self._keys.put(former)
            raise
        finally:
            self._next_end = self._first_end()

    def _ended(self, old: ClientKey) -> None:
        new = self._keys[old.id]
        gone = ", ".join(each.masked for each in old.former if each not in new.former)
        self._keys.tell("former_ended", f"the former key {gone} of client key {new.name} has ended", old, new)

    def _first_end(self) -> float:
        return min((former.ends_at for each in self._keys for former in each.former), default=math.inf)
