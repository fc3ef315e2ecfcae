"""What scans of JSON share, which look for some members and build nothing of the rest."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, ValidationError

ABSENT: Final = Raw(b"")
"""The default of a member that is kept as the JSON that it is; it is false."""

_LONGEST_CHARACTER = len(r"\ud83d\ude00")  # one outside the basic plane, escaped
_TEXT: Final = msgspec.json.Decoder(str)


def text(value: Raw, most: int) -> str | None:
    """A string of at most `most` characters; None if the member is anything else.

    Raises DecodeError if it is not in UTF-8.
    """
    if not 0 < len(value) <= _LONGEST_CHARACTER * most + 2:
        return None
    try:
        found = _TEXT.decode(value)
    except ValidationError:
        return None
    return found if len(found) <= most else None
