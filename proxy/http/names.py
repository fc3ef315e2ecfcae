"""Classifies headers by name. Results are cached, since every request brings the same names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from proxy.http.known import Known

# RFC 9110 §7.6.1, with Trailer from RFC 2616 §13.5.1; the fields of `Proxy-*` are caught by their prefix.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
_STOP_HERE = _HOP_BY_HOP | {"host", "cookie"}
_STOP_HERE_PREFIXES = ("proxy-", "x-forwarded-")
# The body is collected before it is sent on: its length is set, and `100-continue` answered, by who sends it.
_OURS_UPWARD = frozenset({"authorization", "x-api-key", "content-length", "expect"})
# Where a browser's user comes from is nobody else's business, and the API refuses a key that comes with an Origin.
_OF_BROWSERS = frozenset({"origin", "referer"})
# What a front or a CDN before this proxy adds: it tells clients' addresses, and a second CDN answers 403 to its own.
_OF_FRONTS = frozenset(
    {
        "forwarded", "via", "x-forwarded", "x-real-ip", "true-client-ip", "client-ip", "x-client-ip",
        "x-cluster-client-ip", "cdn-loop", "x-scheme", "x-cloud-trace-context",
    }
)  # fmt: skip
_OF_FRONTS_PREFIXES = (
    "cf-", "x-envoy-", "x-amzn-", "x-amz-cf-", "x-original-", "x-azure-", "x-arr-", "x-appengine-", "x-akamai-",
    "x-vercel-", "x-nf-", "fastly-", "fly-", "akamai-",
)  # fmt: skip
_STOP_UPWARD = _OURS_UPWARD | _OF_BROWSERS | _OF_FRONTS
_STOP_UPWARD_PREFIXES = ("x-proxy-", *_OF_FRONTS_PREFIXES)
# They speak of the origin they come from, which to the client is this proxy's.
_STOP_DOWNWARD = frozenset({"set-cookie", "strict-transport-security", "alt-svc"})
_STOP_DOWNWARD_PREFIX = "x-proxy-"
# RFC 9110 §7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for
# all recipients of the content". A sender that does it all the same must not be able to remove these.
_NEVER_NAMED = frozenset({"cache-control", "retry-after", "x-should-retry", "request-id"})
_NEVER_NAMED_PREFIXES = ("anthropic-", "content-")
# What says who is asked, where the message ends and whether the connection does (RFC 9112).
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect"})
_LIMIT_PREFIXES = ("anthropic-ratelimit-", "retry-after")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2

# Names come from clients, so the cache is bounded. Real traffic has some hundred names, the longest has 53 characters.
MOST_NAMES = 2048
LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Kind:
    """How the headers of one name are treated.

    `goes_up`: passed to the upstream. `goes_down`: passed to the client. `refused`: would be passed to the upstream,
    but the name is not a token. `framing`: it is about the message or the connection, and never goes up. `nameable`:
    `Connection` may remove it. `limit`: a rate-limit header.
    """

    lower: str
    goes_up: bool
    goes_down: bool
    refused: bool
    framing: bool
    nameable: bool
    limit: bool


class Kinds(Known[Kind]):
    """The kinds of the names met so far."""

    most, longest = MOST_NAMES, LONGEST_NAME

    def read(self, text: str) -> Kind:
        return _kind_of(text)


def _kind_of(name: str) -> Kind:
    lower = name.lower()
    is_token = _TOKEN.fullmatch(name) is not None
    stops = lower in _STOP_HERE or lower.startswith(_STOP_HERE_PREFIXES)
    stops_up = stops or lower in _STOP_UPWARD or lower.startswith(_STOP_UPWARD_PREFIXES)
    stops_down = stops or lower in _STOP_DOWNWARD or lower.startswith(_STOP_DOWNWARD_PREFIX)
    return Kind(
        lower=lower,
        goes_up=is_token and not stops_up,
        goes_down=is_token and not stops_down,
        refused=not is_token and not stops_up,
        framing=lower in _FRAMING,
        nameable=not (stops or lower in _NEVER_NAMED or lower.startswith(_NEVER_NAMED_PREFIXES)),
        limit=lower.startswith(_LIMIT_PREFIXES),
    )


kind_of: Callable[[str], Kind] = Kinds().__getitem__
"""The kind of a header by its name, in any case."""
