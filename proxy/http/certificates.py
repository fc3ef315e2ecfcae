"""Looks whether a file of certificates can be used."""

from __future__ import annotations

import ssl
from pathlib import Path


def unusable(path: Path) -> str | None:
    """Why a PEM file cannot be used, to follow its name; None if it can."""
    try:
        with path.open("rb") as file:
            file.read(1)  # a folder opens too
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "holds no certificate in PEM form, or a broken one"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None
