"""Which headers cross the proxy, in both directions, and whose credential goes upstream."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

from proxy.errors import InvalidRequest
from proxy.http.names import kind_of

CredentialKind = Literal["api_key", "oauth"]
# Lines in the order received, repeats kept; values are latin-1 text, as on the wire.
Headers = Sequence[tuple[str, str]]

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5, field-value
_LENGTH = re.compile(r"[0-9]{1,18}")

_OAUTH_BETA = "oauth-2025-04-20"
_ACCOUNT_SAFE = (string.punctuation + " ").replace("%", "")

# SDKs send one key, Claude Code sends up to two; more than this is someone trying keys.
_MAX_CLIENT_KEYS = 8
_MAX_CLIENT_KEY_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Credential:
    """What one account shows the Claude API; `secret` is an API key or an OAuth access token."""

    kind: CredentialKind
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.secret or " " in self.secret or not _is_plain(self.secret):
            raise ValueError("a credential is visible ASCII characters without a space")


def client_keys(headers: Headers) -> list[str]:
    """The keys that a client presents as `Authorization: Bearer` or `x-api-key`, in order, each once."""
    keys: dict[str, None] = {}
    for name, value in headers:
        lower = kind_of(name).lower
        key = ""
        if lower == "x-api-key":
            key = value.strip()
        elif lower == "authorization":
            scheme, _, rest = value.strip().partition(" ")
            key = rest.strip() if scheme.lower() == "bearer" else ""
        if key and len(key) <= _MAX_CLIENT_KEY_CHARS:
            keys[key] = None
    return list(keys)[:_MAX_CLIENT_KEYS]


def to_upstream(headers: Headers, credential: Credential) -> list[tuple[str, str]]:
    """The client's headers as they go to the Claude API, with `credential` as the only one.

    Raises InvalidRequest if a line could not be sent as one line.
    """
    passed: list[tuple[str, str]] = []
    refused: list[str] = []
    options: list[str] = []
    for line in headers:
        kind = kind_of(line[0])
        if kind.goes_up:
            passed.append(line)
        elif kind.refused:
            refused.append(kind.lower)
        elif kind.lower == "connection":
            options.append(line[1])
    if named := _named_by(options):
        passed = [line for line in passed if kind_of(line[0]).lower not in named]
        refused = [lower for lower in refused if lower not in named]
    if refused or not _are_sendable([value for _, value in passed]):
        raise InvalidRequest("a header holds a character that may not be sent", should_retry=False)
    # Added last, so that nothing the client sent can take it away.
    if credential.kind == "api_key":
        passed.append(("x-api-key", credential.secret))
    else:
        _add_oauth_beta(passed)
        passed.append(("authorization", f"Bearer {credential.secret}"))
    return passed


class AnswerHeaders:
    """The headers of an upstream's answer, read once for all who look at them.

    `limits` are those of the rate-limit family by lower-case name, without blanks around the value. Of repeated lines,
    the first counts.
    """

    __slots__ = ("_first", "_options", "limits", "lines")

    def __init__(self, lines: Headers) -> None:
        self.lines = lines
        self.limits: dict[str, str] = {}
        self._first: dict[str, str] = {}
        self._options: list[str] = []
        first = self._first
        for name, value in lines:
            kind = kind_of(name)
            lower = kind.lower
            if lower == "connection":
                self._options.append(value)
            if lower not in first:
                first[lower] = value
                if kind.limit:
                    self.limits[lower] = value.strip()

    def get(self, lower_name: str) -> str:
        """The value of a header, without blanks around it; "" if there is none."""
        return self._first.get(lower_name, "").strip()

    def for_client(self, account: str, attempts: int) -> list[tuple[str, str]]:
        """The headers as they go to the client; a line that cannot be sent is left out.

        In `x-proxy-account`, `%` and all but printable ASCII is percent-encoded as UTF-8.
        """
        all_sendable = _is_plain("".join([value for _, value in self.lines]))
        named = _named_by(self._options)
        length = self._length()
        passed: list[tuple[str, str]] = []
        for name, value in self.lines:
            kind = kind_of(name)
            if not kind.goes_down or kind.lower in named:
                continue
            if not (all_sendable or _VALUE.fullmatch(value)):
                continue
            value = value.strip(" \t")  # RFC 9110 §5.5: not a part of the value; Tornado refuses to send it
            if kind.lower == "content-length":
                if value != length:
                    continue
                length = None  # once
            passed.append((name, value))
        passed.append(("x-proxy-account", _account_value(account)))
        passed.append(("x-proxy-attempts", str(attempts)))
        return passed

    def _length(self) -> str | None:
        """The one Content-Length, a number (RFC 9110 §8.6), and not beside Transfer-Encoding (RFC 9112 §6.3)."""
        if "content-length" not in self._first or "transfer-encoding" in self._first:
            return None
        lengths = {
            value.strip(" \t")
            for name, value in self.lines
            if kind_of(name).lower == "content-length" and _VALUE.fullmatch(value)
        }
        length = lengths.pop() if len(lengths) == 1 else ""
        return length if _LENGTH.fullmatch(length) else None


def to_client(headers: Headers, *, account: str, attempts: int) -> list[tuple[str, str]]:
    """`headers` as `AnswerHeaders.for_client` gives them, for an answer that nothing else looks at."""
    return AnswerHeaders(headers).for_client(account, attempts)


@lru_cache(maxsize=1024)
def _account_value(name: str) -> str:
    return quote(name.strip(), safe=_ACCOUNT_SAFE, errors="replace")


def _named_by(options: Sequence[str]) -> Set[str]:
    """The lower-case names that `Connection` takes out of a message."""
    return {name for name in _tokens(options) if kind_of(name).nameable} if options else frozenset()


def _tokens(values: Iterable[str]) -> set[str]:
    """The elements of a comma list in lower case; repeated lines are one list (RFC 9110 §5.3)."""
    return {token.strip() for value in values for token in value.lower().split(",")}


def _are_sendable(values: list[str]) -> bool:
    return _is_plain("".join(values)) or all(_VALUE.fullmatch(value) for value in values)


def _is_plain(text: str) -> bool:
    """Whether it is printable ASCII, as almost every value is; two calls into C instead of a regex for each."""
    return text.isascii() and text.isprintable()


def _add_oauth_beta(headers: list[tuple[str, str]]) -> None:
    at = [index for index, (name, _) in enumerate(headers) if kind_of(name).lower == "anthropic-beta"]
    if not at:
        headers.append(("anthropic-beta", _OAUTH_BETA))
        return
    if any(token.strip() == _OAUTH_BETA for index in at for token in headers[index][1].split(",")):
        return
    name, value = headers[at[-1]]
    headers[at[-1]] = (name, f"{value},{_OAUTH_BETA}" if value.strip() else _OAUTH_BETA)
