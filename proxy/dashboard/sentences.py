"""Sentences for people in which times stand: as parts, so that a page shows the times in the mode that is chosen."""

from __future__ import annotations

import re
from typing import Final

TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z")

Part = str | dict[str, str]
"""Words, or `{"time": <RFC 3339>}`."""


def parts(text: str) -> list[Part]:
    """The text with each time of RFC 3339 as a part of its own."""
    found: list[Part] = []
    end = 0
    for time in TIME.finditer(text):
        found += [text[end : time.start()], {"time": time[0]}]
        end = time.end()
    return [part for part in (*found, text[end:]) if part]


def plain(text: str) -> str:
    """The text with its times as people write them: `2026-11-29 14:02:11 UTC`."""
    return TIME.sub(r"\1 \2 UTC", text)
