"""What clients authenticate with: how it is made, checked, hashed and shown; and those that were replaced."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from proxy.clock import rfc3339
from proxy.errors import Unprocessable
from proxy.storage.fields import LAST_TIME

KEY_PREFIX: Final = "cp-"
MIN_KEY: Final = 16
MAX_KEY: Final = 256

Time = Annotated[float, Field(ge=0, le=LAST_TIME)]
"""Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A key that was replaced, and works until `ends_at`."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    key_sha256: str = field(repr=False)
    masked: str
    ends_at: Time

    def view(self, used_at: float | None) -> dict[str, str | None]:
        """What an admin may see; `used_at` is when it was used last, in seconds since the epoch."""
        last_used_at = None if used_at is None else rfc3339(used_at)
        return {"key": self.masked, "ends_at": rfc3339(self.ends_at), "last_used_at": last_used_at}


def new_key() -> str:
    """A key of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def checked_key(key: str) -> str:
    """A key that an admin has chosen. Raises Unprocessable."""
    if not MIN_KEY <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise Unprocessable(f"key: {MIN_KEY} to {MAX_KEY} ASCII characters without spaces are needed")
    return key


def masked(key: str) -> str:
    """The key's last four characters, to tell it from others."""
    return f"{KEY_PREFIX if key.startswith(KEY_PREFIX) else ''}…{key[-4:]}"


def sha256(key: str) -> str:
    """The hash by which a key is stored and found."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
