"""Strict reading of a record's members: what is read has its type and is within reason, whoever has edited the file."""

from __future__ import annotations

from typing import Final

LAST_TIME: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can tell."""

MOST: Final = 2**53
"""The largest count: JSON numbers are exact up to it for every reader (RFC 8259 §6)."""


class Fields:
    """The members of a stored record. An error names the member, and never repeats its value."""

    def __init__(self, record: object, where: str = "") -> None:
        if not isinstance(record, dict):
            raise ValueError(f"{where.rstrip('.') or 'it'} is no object")
        self._record = record
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._record

    def inside(self, name: str) -> Fields:
        return Fields(self._member(name), f"{self._where}{name}.")

    def text(self, name: str) -> str:
        value = self._member(name)
        if not isinstance(value, str):
            raise ValueError(f"{self._where}{name} is no text")
        return value

    def time(self, name: str) -> float:
        """Seconds since the epoch."""
        return self._number(name, LAST_TIME, "no time from 1970 to 9999 in seconds")

    def amount(self, name: str) -> float:
        return self._number(name, MOST, "no number from 0 to 2^53")

    def count(self, name: str) -> int:
        value = self._number(name, MOST, "no whole number from 0 to 2^53")
        if not isinstance(value, int):
            raise ValueError(f"{self._where}{name} is no whole number from 0 to 2^53")
        return value

    def integer(self, name: str) -> int:
        """A whole number, which may be negative."""
        value = self._member(name)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST:
            raise ValueError(f"{self._where}{name} is no whole number from -2^53 to 2^53")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._member(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"{self._where}{name} is no list of texts")
        return value

    def flag(self, name: str) -> bool:
        value = self._member(name)
        if not isinstance(value, bool):
            raise ValueError(f"{self._where}{name} is neither true nor false")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self._member(name) is None else self.text(name)

    def time_or_none(self, name: str) -> float | None:
        return None if self._member(name) is None else self.time(name)

    def _member(self, name: str) -> object:
        if name not in self._record:
            raise ValueError(f"{self._where}{name} is missing")
        value: object = self._record[name]
        return value

    def _number(self, name: str, most: float, otherwise: str) -> float:
        value = self._member(name)
        # The comparison is false for NaN.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{self._where}{name} is {otherwise}")
        return value
