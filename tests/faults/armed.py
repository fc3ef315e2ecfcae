"""Failpoints that a test arms while the process runs, and that count: `storage.rename.before@2:kill`.

A process that calls `arm` reads them from the file that CP_FAILPOINT_FILE names, in the form of CP_FAILPOINT; with
`@n` one acts from its nth time on, counted from when the file was last changed.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from proxy import failpoints


class Armed(dict[str, str]):
    """In the place of the mapping that proxy.failpoints looks into."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._text = ""
        self._times: Counter[str] = Counter()

    def get(self, name: str, default: Any = None) -> Any:
        text = self._file.read_text()
        if text != self._text:
            self._text = text
            self._times.clear()
        self._times[name] += 1
        for place, action in failpoints.parse(text).items():
            armed, _, nth = place.partition("@")
            if armed == name and self._times[name] >= int(nth or 1):
                return action
        return default


def arm() -> None:
    """If the variable is set, have the failpoints of this process read from there."""
    if file := os.environ.get("CP_FAILPOINT_FILE"):
        failpoints.ARMED = Armed(Path(file))  # type: ignore[misc]
