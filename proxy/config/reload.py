"""Reads the configuration again while the proxy runs: what can change then does, and the rest is told."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Any, Final

from proxy.config.effective import differing, effective
from proxy.config.settings import Settings
from proxy.errors import SettingsError, Unprocessable
from proxy.feed import Feed, Happened

LIVE: Final = frozenset({"logger.level"})
"""What can change while the proxy runs. All else was handed to the parts when they were made."""


class Reload:
    """`settings` are those in effect."""

    def __init__(self, settings: Settings, feed: Feed) -> None:
        self._settings = settings
        self._feed = feed

    def view(self) -> list[dict[str, Any]]:
        """The configuration in effect, each key with its value, masked if it is a secret, and its place."""
        return [asdict(each) for each in effective(self._settings)]

    async def again(self) -> list[dict[str, Any]]:
        """The keys that differ from what is in effect, `applied` if they have just changed. Raises Unprocessable."""
        try:
            read = await asyncio.to_thread(self._settings.read_again)
        except SettingsError as error:
            raise Unprocessable(str(error)) from None
        before, found = self._settings, differing(self._settings, read)
        for key in (each.key for each in found if each.key in LIVE):
            self._settings = self._settings.taking(key, read)
        was, now = before.logger.level, self._settings.logger.level
        if was != now:
            logging.getLogger().setLevel(now.upper())
            text = f"the log's level is {now} now"
            self._feed.tell(Happened("server.reloaded", text, before={"level": was}, after={"level": now}))
        return [asdict(each) | {"applied": each.key in LIVE} for each in found]
