"""The origin under which a client sees this proxy, which goes into links that it follows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from proxy.errors import InvalidRequest

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")


class Origins:
    """The configured origins, and else what the request's `Host` says."""

    def __init__(self, public: Iterable[str]) -> None:
        self._by_host = {origin.split("://", 1)[1]: origin for origin in public}

    def of(self, host: str) -> str:
        """Such as `https://proxy.example.com`. Raises InvalidRequest where `host` is none (RFC 9112 3.2)."""
        if not _HOST.fullmatch(host):
            raise InvalidRequest("malformed Host header", should_retry=False)
        return self._by_host.get(host) or f"http://{host}"
