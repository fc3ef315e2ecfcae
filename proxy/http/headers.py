"""Which headers cross the proxy, in both directions, and whose credential goes upstream."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from proxy.errors import InvalidRequest

CredentialKind = Literal["api_key", "oauth"]
# Lines in the order received, repeats kept; values are latin-1 text, as on the wire.
Headers = Sequence[tuple[str, str]]

# RFC 9110 §7.6.1, with Trailer from RFC 2616 §13.5.1; the fields of `Proxy-*` are caught by their prefix.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
_STOP_HERE = _HOP_BY_HOP | {"host", "cookie"}
_STOP_HERE_PREFIXES = ("proxy-", "x-forwarded-")
# The body is collected before it is sent on: its length is set, and `100-continue` answered, by who sends it.
_STOP_UPWARD = frozenset({"authorization", "x-api-key", "x-proxy-account", "content-length", "expect"})
# RFC 9110 §7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for
# all recipients of the content". One that does must not be able to take these out of someone's request.
_NEVER_NAMED = frozenset({"cache-control", "retry-after", "x-should-retry", "request-id"})
_NEVER_NAMED_PREFIXES = ("anthropic-", "content-")

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2, token
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5, field-value
_SECRET = re.compile(r"[!-~]+")

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
        if not _SECRET.fullmatch(self.secret):
            raise ValueError("a credential is visible ASCII characters without a space")


def client_keys(headers: Headers) -> list[str]:
    """The keys that a client presents as `Authorization: Bearer` or `x-api-key`, in order, each once."""
    keys: dict[str, None] = {}
    for name, value in headers:
        key = ""
        if name.lower() == "x-api-key":
            key = value.strip()
        elif name.lower() == "authorization":
            scheme, _, rest = value.strip().partition(" ")
            key = rest.strip() if scheme.lower() == "bearer" else ""
        if key and len(key) <= _MAX_CLIENT_KEY_CHARS:
            keys[key] = None
    return list(keys)[:_MAX_CLIENT_KEYS]


def to_upstream(headers: Headers, credential: Credential) -> list[tuple[str, str]]:
    """The client's headers as they go to the Claude API, with `credential` as the only one.

    Raises InvalidRequest where a line could not be sent as one line.
    """
    stopped = _STOP_UPWARD | _named_by_connection(headers)
    passed = [(name, value) for name, value in headers if not _stops_here(name, stopped)]
    if not all(_is_sendable(name, value) for name, value in passed):
        raise InvalidRequest("a header holds a character that may not be sent", should_retry=False)
    # Added last, so that nothing the client sent can take it away.
    if credential.kind == "api_key":
        return [*passed, ("x-api-key", credential.secret)]
    return [*_with_oauth_beta(passed), ("authorization", f"Bearer {credential.secret}")]


def to_client(headers: Headers, *, account: str, attempts: int) -> list[tuple[str, str]]:
    """The Claude API's headers as they go to the client; a line that cannot be sent is left out.

    In `x-proxy-account`, `%` and all but printable ASCII is percent-encoded as UTF-8.
    """
    stopped = {"set-cookie"} | _named_by_connection(headers)
    passed = [
        (name, value.strip(" \t"))  # RFC 9110 §5.5: not a part of the value; Tornado refuses to send it
        for name, value in headers
        if not _stops_here(name, stopped)
        and not name.lower().startswith("x-proxy-")
        and _is_sendable(name, value)
    ]
    chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
    return [
        *_with_one_length(passed, chunked=chunked),
        ("x-proxy-account", quote(account.strip(), safe=_ACCOUNT_SAFE, errors="replace")),
        ("x-proxy-attempts", str(attempts)),
    ]


def _stops_here(name: str, stopped: Set[str]) -> bool:
    lower = name.lower()
    return lower in _STOP_HERE or lower in stopped or lower.startswith(_STOP_HERE_PREFIXES)


def _named_by_connection(headers: Headers) -> set[str]:
    named = _tokens(value.lower() for name, value in headers if name.lower() == "connection")
    return {name for name in named if name not in _NEVER_NAMED and not name.startswith(_NEVER_NAMED_PREFIXES)}


def _tokens(values: Iterable[str]) -> set[str]:
    """The elements of a comma list; repeated lines are one list (RFC 9110 §5.3)."""
    return {token.strip() for value in values for token in value.split(",")}


def _is_sendable(name: str, value: str) -> bool:
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))


def _with_oauth_beta(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    at = [index for index, (name, _) in enumerate(headers) if name.lower() == "anthropic-beta"]
    if _OAUTH_BETA in _tokens(headers[index][1] for index in at):
        return headers
    if not at:
        return [*headers, ("anthropic-beta", _OAUTH_BETA)]
    name, value = headers[at[-1]]
    extended = f"{value},{_OAUTH_BETA}" if value.strip() else _OAUTH_BETA
    return [*headers[: at[-1]], (name, extended), *headers[at[-1] + 1 :]]


def _with_one_length(headers: list[tuple[str, str]], *, chunked: bool) -> list[tuple[str, str]]:
    """Content-Length once, as a number (RFC 9110 §8.6), and not beside Transfer-Encoding (RFC 9112 §6.3)."""
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    length = None if chunked or len(lengths) != 1 else lengths.pop()
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        if name.lower() == "content-length":
            if length is None or not re.fullmatch(r"[0-9]{1,18}", length):
                continue
            length = None
        kept.append((name, value))
    return kept
