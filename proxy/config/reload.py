"""Reads the configuration again while the proxy runs: what can change then does, and the rest is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from proxy.config.effective import Effective, differing, effective
from proxy.config.settings import Settings
from proxy.errors import SettingsError, StartError, Unprocessable
from proxy.feed import Feed, Happened

Taker = Callable[[Settings], None]

log = logging.getLogger(__name__)


class Reload:
    """`settings` are those in effect. `takers`: for each key that can change, who takes its new value, in order."""

    def __init__(self, settings: Settings, feed: Feed, takers: Mapping[str, Sequence[Taker]]) -> None:
        self._settings = settings
        self._feed = feed
        self._takers = takers
        self._ordered = list(dict.fromkeys(taker for some in takers.values() for taker in some))
        self._reading = asyncio.Lock()

    def view(self) -> list[dict[str, Any]]:
        """The configuration in effect, each key with its value, masked if it is a secret, and its place."""
        return [asdict(each) | {"live": each.key in self._takers} for each in effective(self._settings)]

    async def again(self, tells: bool = True) -> list[dict[str, Any]]:
        """The keys that differ from what is in effect, `applied` if they have just changed; the others need a restart.

        All that can change does, or nothing. If it `tells`, that is an event. Raises Unprocessable, which says what is
        wrong with the file and where.
        """
        async with self._reading:
            try:
                read = await asyncio.to_thread(self._settings.read_again)
                found = differing(self._settings, read)
                self._take([each for each in found if each.key in self._takers], read, tells)
            except (SettingsError, StartError) as error:
                log.error("configuration not taken, the one before stays: %s", error)
                raise Unprocessable(str(error)) from None
        waiting = [each.key for each in found if each.key not in self._takers]
        if waiting:
            log.warning("configuration read again, these need a restart: %s", ", ".join(waiting))
        return [asdict(each) | {"applied": each.key in self._takers} for each in found]

    def _take(self, found: Sequence[Effective], read: Settings, tells: bool) -> None:
        old = new = self._settings
        for each in found:
            new = new.taking(each.key, read)
        wanted = {taker for each in found for taker in self._takers[each.key]}
        takers = [taker for taker in self._ordered if taker in wanted]
        try:
            for take in takers:
                take(new)
        except Exception:
            for take in takers:
                take(old)
            raise
        self._settings = new
        told = ", ".join(each.key for each in found)
        log.info("configuration read again, changed: %s", told or "nothing")
        if found and tells:
            before = {each.key: each.value for each in effective(old)}
            self._feed.tell(
                Happened(
                    "server.reloaded",
                    f"the configuration was read again: {told}",
                    before={each.key: before[each.key] for each in found},
                    after={each.key: each.value for each in found},
                )
            )
