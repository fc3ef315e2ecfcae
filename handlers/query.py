"""The arguments in the query of an admin request, each checked as it is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from tornado.web import RequestHandler

from proxy.errors import Unprocessable

S = TypeVar("S", bound=str)


class Query:
    """Reads arguments by name. An argument that is absent or empty has its default.

    Raises Unprocessable if an argument is not what is asked for, Tornado's 400 if it is not UTF-8.
    """

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def text(self, name: str, *, strip: bool = True) -> str:
        """The argument as it is, without space around it unless `strip` is False; "" by default."""
        given = self._handler.get_query_arguments(name, strip)
        if len(given) > 1:
            raise Unprocessable(
                f"{name}: it is given {len(given)} times, and which one counts cannot be told"
            )
        return given[0] if given else ""

    def one_of(self, name: str, values: Iterable[S]) -> S | None:
        """The one of `values` that the argument names; None by default."""
        text = self.text(name)
        if not text:
            return None
        for value in values:
            if value == text:
                return value
        raise Unprocessable(f"{name}: one of {', '.join(values)} is needed")

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        text = self.text(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 15 or not 1 <= int(text) <= most:
            raise Unprocessable(f"{name}: a whole number from 1 to {most} is needed")
        return int(text)

    def time(self, name: str, default: float) -> float:
        """A time of RFC 3339 or a date, in seconds since the epoch; UTC if it names no zone."""
        text = self.text(name).upper()
        if not text:
            return default
        wrong = Unprocessable(f"{name}: a time such as 2026-11-22T10:00:00Z is needed")
        # `fromisoformat` would read a count of seconds or milliseconds as a date of long ago.
        if not re.match(r"\d{4}-\d\d-\d\d(?:[T ]|$)", text):
            raise wrong
        try:
            # The `+` of a zone that was not percent-encoded has become a space.
            time = datetime.fromisoformat(text[:11] + text[11:].replace(" ", "+"))
        except ValueError:
            raise wrong from None
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
