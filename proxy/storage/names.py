"""The rule for names of accounts and client keys."""

from __future__ import annotations

from proxy.errors import Unprocessable

MAX_NAME = 64


def clean_name(name: str) -> str:
    """`name` without surrounding space. Raises Unprocessable."""
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Unprocessable(f"name: 1 to {MAX_NAME} printable characters are needed")
    return name
