"""Names and patterns of models, as the list of a client key has them."""

from __future__ import annotations

import re
from typing import Final

MAX_PATTERN: Final = 128
"""Each request of the key is compared with each."""

# `*` stands for any text, `?` for a character. `[1m]`, which some clients put after a name, never goes upstream; here
# it would stand for one of its characters.
PATTERN: Final = rf"[A-Za-z0-9._:@/+*?-]{{1,{MAX_PATTERN}}}"

MEANING: Final = "letters, digits and any of ._:@/+- with * for any text"


def is_pattern(text: str) -> bool:
    """Whether a model's name can match this."""
    return re.fullmatch(PATTERN, text) is not None
