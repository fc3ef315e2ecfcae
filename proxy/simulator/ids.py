"""Ids and credentials in the shapes of the real ones; they open nothing."""

from __future__ import annotations

import random

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Ids:
    """Made from random numbers that are handed over, so that a test can repeat them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new(self, prefix: str) -> str:
        """`msg_01…`, `req_01…` and so on."""
        return f"{prefix}_01{self._letters(22)}"

    def code(self) -> str:
        """An authorization code."""
        return self._letters(43)

    def token(self, prefix: str) -> str:
        """`sk-ant-oat01-…` and the like."""
        return f"{prefix}-{self._letters(86)}AA"

    def _letters(self, length: int) -> str:
        return "".join(self._rng.choices(_ALPHABET, k=length))
