"""Filters the headers that cross the proxy in either direction, and sets the account's credential."""

from __future__ import annotations

import contextlib
import copy
import re
import string
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote

from msgspec import Struct

from proxy.errors import InvalidRequest
from proxy.http.lines import VALUE, Line
from proxy.http.names import kind_of

CredentialKind = Literal["api_key", "oauth"]
# Lines in the order received, repeats kept; values are latin-1 text, as on the wire.
Headers = Sequence[tuple[str, str]]

_LENGTH = re.compile(r"[0-9]{1,18}")

_KEEP_ALIVE = ["keep-alive"]  # what most say, and no header

_OAUTH_BETA = "oauth-2025-04-20"
# RFC 9110 §13.1, §14.2
_CONDITIONS = frozenset(
    {"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"}
)
_ACCOUNT_SAFE = (string.punctuation + " ").replace("%", "")

# SDKs send one key, Claude Code sends up to two; more than this is someone trying keys.
_MAX_CLIENT_KEYS = 8
_MAX_CLIENT_KEY_CHARS = 1024

LONGEST_TRACE_HEADER = 512
"""Characters of `traceparent`, which has 55, or of `tracestate`: more need not be kept (Trace Context §3.3.1.5)."""


class Credential(Struct, frozen=True, gc=False):
    """What an account authenticates with at the Claude API; `secret` is an API key or an OAuth access token."""

    kind: CredentialKind
    secret: str

    def __repr__(self) -> str:
        return f"Credential({self.kind!r})"

    def __post_init__(self) -> None:
        if not self.secret or " " in self.secret or not _is_plain(self.secret):
            raise ValueError("a credential is visible ASCII characters without a space")


class ClientHeaders:
    """The headers of a client's request, read once for all who look at them.

    `first` has the first value of each by lower-case name. `keys` are those that the client presents as
    `Authorization: Bearer` or `x-api-key`, in order, each once. `framing` has all values of those that are about the
    message or the connection, by lower-case name.
    """

    __slots__ = ("_passing", "_refused", "first", "framing", "keys")

    def __init__(self, lines: Headers) -> None:
        first: dict[str, str] = {}
        keys: dict[str, None] = {}
        passing: list[tuple[str, str]] = []
        refused: list[str] = []
        framing: dict[str, list[str]] = {}
        for line in lines:
            name, value = line
            kind = kind_of(name)
            lower = kind.lower
            if lower not in first:
                first[lower] = value
            if kind.goes_up:
                passing.append(line)
            elif kind.framing:
                framing.setdefault(lower, []).append(value)
            elif kind.refused:
                refused.append(lower)
            elif lower in ("x-api-key", "authorization") and (key := _presented(lower, value)):
                keys[key] = None
        self.first = first
        self.framing = framing
        self.keys = list(keys)[:_MAX_CLIENT_KEYS]
        self._passing = passing
        self._refused = refused

    def values(self, lower_name: str) -> list[str]:
        """All values of a header that goes upstream, in order."""
        if lower_name not in self.first:
            return []
        return [value for name, value in self._passing if kind_of(name).lower == lower_name]

    def unconditional(self) -> ClientHeaders:
        """The same headers without those that ask for a part of an answer, or for none that the client has already."""
        headers = copy.copy(self)
        headers._passing = without(self._passing, _CONDITIONS)
        return headers

    def trace_parent(self) -> dict[str, str] | None:
        """`traceparent` and `tracestate`, by which the request belongs to a trace of its client's (W3C Trace Context).

        None if there is no trace, or its name is longer than any can be. A state may be left out (§3.3.1.5).
        """
        parent = self.first.get("traceparent")
        if parent is None or len(parent) > LONGEST_TRACE_HEADER:
            return None
        state = ",".join(self.values("tracestate"))
        if not state or len(state) > LONGEST_TRACE_HEADER:
            return {"traceparent": parent}
        return {"traceparent": parent, "tracestate": state}

    def to_upstream(self, credential: Credential) -> list[tuple[str, str]]:
        """The headers as they go to the Claude API, with `credential` as the only one.

        Raises InvalidRequest if a line could not be sent as one line.
        """
        passed, refused = self._passing.copy(), self._refused
        if named := _named_by(self.framing.get("connection", ())):
            passed = without(passed, named)
            refused = [lower for lower in refused if lower not in named]
        values = [value for _, value in passed]
        if refused or not (_is_plain("".join(values)) or all(map(VALUE.fullmatch, values))):
            raise InvalidRequest("a header holds a character that may not be sent", should_retry=False)
        # Added last, so that nothing the client sent can take it away.
        if credential.kind == "api_key":
            passed.append(("x-api-key", credential.secret))
        else:
            _add_oauth_beta(passed)
            passed.append(("authorization", f"Bearer {credential.secret}"))
        return passed


NO_HEADERS = ClientHeaders([])


def to_upstream(headers: Headers, credential: Credential) -> list[tuple[str, str]]:
    """`headers` as `ClientHeaders.to_upstream` gives them, for a request of the proxy's own."""
    return ClientHeaders(headers).to_upstream(credential)


def _presented(lower_name: str, value: str) -> str:
    """The key in a credential's value; "" if it holds none."""
    key = value.strip()
    if lower_name == "authorization":
        scheme, _, rest = key.partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else ""
    return key if len(key) <= _MAX_CLIENT_KEY_CHARS else ""


class AnswerHeaders:
    """The headers of an upstream's answer, looked through once.

    `limits` are those of the rate-limit family by lower-case name, without blanks around the value. Of repeated lines,
    the first counts. `length` is the body's, None unless it is one number (RFC 9110 §8.6) and the body is not chunked
    (RFC 9112 §6.3).
    """

    __slots__ = ("_first", "_lines", "length", "limits")

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._first = first = {line.lower: line for line in reversed(lines)}
        self.limits = {line.lower: first[line.lower].value.strip() for line in lines if line.is_limit}
        self.length = self._length()

    def _length(self) -> int | None:
        said = self.get("content-length")
        if not _LENGTH.fullmatch(said) or "transfer-encoding" in self._first:
            return None
        return None if any(other.strip() != said for other in self._values("content-length")) else int(said)

    def _values(self, lower_name: str) -> list[str]:
        """The values of all lines of that name."""
        if len(self._first) == len(self._lines):  # each has a name of its own
            return [self._first[lower_name].value] if lower_name in self._first else []
        return [line.value for line in self._lines if line.lower == lower_name]

    @property
    def is_chunked(self) -> bool:
        """Whether HTTP says where the body ends though no length is given."""
        return "chunked" in self.get("transfer-encoding").lower()

    def get(self, lower_name: str) -> str:
        """The value of a header, without blanks around it; "" if there is none."""
        line = self._first.get(lower_name)
        return "" if line is None else line.value.strip()

    def for_client(self, account: str, attempts: int) -> list[tuple[str, str]]:
        """The headers as they go to the client; a line that cannot be sent is left out.

        In `x-proxy-account`, `%` and all but printable ASCII is percent-encoded as UTF-8.
        """
        passed = [line.down for line in self._lines if line.down is not None]
        if named := _named_by(self._values("connection")):
            passed = without(passed, named)
        lengths = self._values("content-length")
        if lengths and (len(lengths) > 1 or self.length is None):
            passed = _with_one_length(passed, believed=self.length is not None)
        passed.append(("x-proxy-account", _account_value(account)))
        passed.append(("x-proxy-attempts", str(attempts)))
        return passed


@lru_cache(maxsize=1024)
def _account_value(name: str) -> str:
    return quote(name.strip(), safe=_ACCOUNT_SAFE, errors="replace")


def is_event_stream(content_type: str) -> bool:
    """Whether a body of this type is server-sent events."""
    return content_type.lower().startswith("text/event-stream")


def account_names(value: str) -> Iterator[str]:
    """What a client may mean by this value: the text, or what was percent-encoded, as in answers, or sent as UTF-8."""
    yield value
    yield unquote(value)
    with contextlib.suppress(UnicodeError):
        yield value.encode("latin-1").decode()


def _with_one_length(lines: list[tuple[str, str]], *, believed: bool) -> list[tuple[str, str]]:
    """Keep the first Content-Length if it is believed, and no other."""
    at = [index for index, (name, _) in enumerate(lines) if kind_of(name).lower == "content-length"]
    drop = set(at[1:] if believed else at)
    return [line for index, line in enumerate(lines) if index not in drop]


def without(lines: list[tuple[str, str]], lower_names: Set[str]) -> list[tuple[str, str]]:
    """The lines whose names are others."""
    return [line for line in lines if kind_of(line[0]).lower not in lower_names]


def _named_by(options: Sequence[str]) -> Set[str]:
    """Lower-case names of the headers that `Connection` removes; its repeated lines are one list (RFC 9110 §5.3)."""
    if not options or options == _KEEP_ALIVE:
        return frozenset()
    names = {token.strip() for value in options for token in value.lower().split(",")}
    return {name for name in names if kind_of(name).nameable}


def _is_plain(text: str) -> bool:
    """Whether the text is printable ASCII, as almost all values are. Two calls into C are faster than a regex."""
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
