"""Secrets that were planted, in all forms in which they may come out."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote


def forms(secret: str) -> set[bytes]:
    """The secret as it is, as hex, percent-encoded, and as base64 wherever it stands in what was encoded."""
    plain = secret.encode()
    found = {plain, plain.hex().encode(), plain.hex().upper().encode(), quote(secret, safe="").encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # A character of base64 holds bits of two bytes: the outermost depend on what stands around the secret.
        found |= {encode(b"_" * shift + plain)[4 if shift else 0 : -4] for shift in range(3)}
    return found


def leaked(text: str | bytes, secrets: Iterable[str]) -> list[str]:
    """Which of the secrets the text holds, in any form."""
    data = text.encode() if isinstance(text, str) else text
    return [secret for secret in secrets if any(form in data for form in forms(secret))]


def holders(folder: Path, secrets: Iterable[str]) -> list[Path]:
    """The files below `folder` that hold one of the secrets, in any form."""
    wanted = list(secrets)
    return [path for path in folder.rglob("*") if path.is_file() and leaked(path.read_bytes(), wanted)]
