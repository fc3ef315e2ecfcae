"""The origin that a client sees this proxy under, and the origins that the dashboard is served under."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from tornado.httputil import HTTPServerRequest

from proxy.errors import Forbidden, InvalidRequest
from proxy.http.addresses import Network, within

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """The configured origins; for any other host the origin that the request's `Host` names."""

    def __init__(self, public: Iterable[str], trusted_proxies: Sequence[Network]) -> None:
        self._trusted_proxies = trusted_proxies
        self.serve(public)

    def serve(self, public: Iterable[str]) -> None:
        """Have these origins from now on."""
        self._public = {origin.lower() for origin in public}
        self._by_host: dict[str, str] = {}
        for origin in self._public:
            scheme, host = origin.split("://", 1)
            self._by_host |= {host: origin, f"{host}:{_DEFAULT_PORTS[scheme]}": origin}

    def of(self, host: str) -> str:
        """The origin of a `Host`, such as `https://proxy.example.com`.

        Raises InvalidRequest if `host` is malformed (RFC 9112 §3.2).
        """
        if not _HOST.fullmatch(host):
            raise InvalidRequest("malformed Host header", should_retry=False)
        return self._by_host.get(host.lower()) or f"http://{host}"

    def told(self, peer: str, headers: Mapping[str, str]) -> str | None:
        """The origin that the client came to, as a trusted proxy in front tells it; None if `peer` tells none.

        Of a list the last item counts, since the nearest proxy wrote it.
        """
        scheme = _last(headers.get("x-forwarded-proto")).lower()
        forwarded = _last(headers.get("x-forwarded-host"))
        if not (scheme or forwarded) or not within(peer, self._trusted_proxies):
            return None
        host = forwarded if _HOST.fullmatch(forwarded) else headers.get("host", "")
        if not _HOST.fullmatch(host):
            return None
        return self._by_host.get(host.lower()) or f"{'https' if scheme == 'https' else 'http'}://{host}"

    def check_host(self, host: str) -> None:
        """Raise Forbidden if the dashboard is not served under this name.

        Any site can point its own name at this server, and would then share an origin with the dashboard (DNS
        rebinding). It cannot do so with `localhost` or with an address.
        """
        match = _HOST.fullmatch(host)
        if host.lower() not in self._by_host and not (match and _is_local(match[1] or match[2])):
            example = f"https://{match[2]}" if match and match[2] else "https://proxy.example.com"
            raise Forbidden(
                "the dashboard is not served under this name: open it at localhost or an address, or add its origin, "
                f"such as {example[:120]}, to server.public_origins"
            )

    def secure(self, request: HTTPServerRequest) -> bool:
        """Whether the browser came by https, as far as this proxy can know."""
        if within(request.remote_ip or "", self._trusted_proxies):
            scheme = request.headers.get("X-Forwarded-Proto")
            if scheme is not None:
                return _last(scheme).lower() == "https"
        return self._by_host.get(request.host.lower(), "").startswith("https:")

    def own(self, origin: str, host: str) -> bool:
        """Whether `origin` is the dashboard's own, for a request with this `Host`.

        If a proxy in front rewrites `Host`, only the configuration knows.
        """
        origin, host = origin.lower(), host.lower()
        return origin in self._public or origin in (f"http://{host}", f"https://{host}")


def _last(listed: str | None) -> str:
    return (listed or "").rpartition(",")[2].strip()


def _is_local(name: str) -> bool:
    try:
        return name.lower() == "localhost" or bool(ip_address(name))
    except ValueError:
        return False
