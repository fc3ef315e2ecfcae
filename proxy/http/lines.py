"""The header lines of answers. Most recur from one to the next, so that each is read once."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from proxy.http.known import Known
from proxy.http.names import kind_of

# An answer has some twenty-five, of which three or four are its own.
MOST_LINES = 1024
LONGEST_LINE = 256

RECUR = frozenset(
    {
        *("anthropic-organization-id", "cache-control", "cf-cache-status", "connection", "content-encoding"),
        *("content-length", "content-security-policy", "content-type", "date", "server"),
        *("strict-transport-security", "transfer-encoding", "vary", "via", "x-envoy-upstream-service-time"),
        "x-robots-tag",
    }
)
"""Names, beside rate limits, of lines that recur. One of any other may hold a credential: it is not kept."""

VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5, field-value


class Line(Struct, frozen=True):
    """One header line, as received but for the blanks around its value (RFC 9110 §5.5).

    `down` is what a client gets of it, None if nothing. `is_limit`: it is of the rate-limit family.
    """

    name: str
    value: str
    lower: str
    down: tuple[str, str] | None
    is_limit: bool

    def __repr__(self) -> str:
        return f"Line({self.name!r})"  # a value may be a secret


class Lines(Known[Line | None]):
    """The lines met so far, of names that recur."""

    most, longest = MOST_LINES, LONGEST_LINE

    def keeps(self, found: Line | None) -> bool:
        return found is not None and (found.is_limit or found.lower in RECUR)

    def read(self, text: str) -> Line | None:
        name, colon, value = text.partition(":")
        if not colon:
            return None
        value = value.strip(" \t\r")
        kind = kind_of(name)
        down = (name, value) if kind.goes_down and VALUE.fullmatch(value) else None
        return Line(name, value, kind.lower, down, kind.limit)


line_of: Callable[[str], Line | None] = Lines().__getitem__
"""The header line of a text, without or with its end; None if it has no colon. What is before a colon is the name, a
blank at its end too: for libcurl that is another name, also where it would be a length."""
