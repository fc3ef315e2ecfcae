"""What runs here, for admins: version, effective configuration, data folder, and what is missing for OAuth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.dashboard.notify.notifier import Notifier
from proxy.storage.size import size_of


@dataclass(frozen=True, slots=True)
class About:
    """`configuration` gives each key with its value, masked if it is a secret, its place, None for a default, and
    whether it can change while the proxy runs.

    `read_again` gives the keys that differ, each with whether that is `applied`. Raises Unprocessable. It is given
    whether it was this process that was asked.
    """

    version: str
    runtime: str
    configuration: Callable[[], list[dict[str, Any]]]
    read_again: Callable[[bool], Coroutine[Any, Any, list[dict[str, Any]]]]
    data_folder: Path
    encryption: str | None
    """The id of the key that files are encrypted with; None if they are plain."""

    missing_for_oauth: Sequence[str]
    """Keys of the configuration without which no OAuth account can be added."""

    notifier: Notifier
    on_asked: list[Callable[[], None]] = field(default_factory=list)
    """Who is told when a reload that this process was asked for is done."""

    async def reload(self, *, was_asked: bool = True) -> list[dict[str, Any]]:
        """Read the configuration again. Raises Unprocessable."""
        changed = await self.read_again(was_asked)
        if was_asked:
            for told in self.on_asked:
                told()
        return changed

    async def view(self) -> dict[str, Any]:
        """What an admin may see."""
        return {
            "version": self.version,
            "runtime": self.runtime,
            "storage": {
                "data_folder": str(self.data_folder),
                "bytes": await asyncio.to_thread(size_of, self.data_folder),
                "encryption_key": self.encryption,
            },
            "oauth": {"ready": not self.missing_for_oauth, "missing": list(self.missing_for_oauth)},
            "notifications": {"targets": self.notifier.view()},
            "config": self.configuration(),
        }
