"""Who may call the admin API: the admin key, a client key with role `admin`, or the dashboard's cookie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from tornado.httputil import HTTPServerRequest, parse_cookie, split_host_and_port

from handlers.origin import Origins
from proxy.clients.actor import Actor
from proxy.clients.admin_key import AdminKey
from proxy.clients.keys import ClientKey, ClientKeys, Role
from proxy.clients.secret import sha256
from proxy.clients.signins import ADMIN_KEY, SignIn, Signins
from proxy.clients.throttle import Throttle
from proxy.errors import Forbidden, InvalidRequest, RateLimited, Unauthenticated
from proxy.http.addresses import address_group
from proxy.http.headers import ClientHeaders

COOKIE = "claude-proxy"
MOST_COOKIES = 16
"""Cookies of a request that are looked at: a browser has one for each port of this host at which somebody signed in."""

ADMINS = (Role.ADMIN,)
SCRAPERS = (Role.ADMIN, Role.METRICS)
"""Roles of client keys that open a route."""


class AdminGate:
    """Lets admins in. A right key always opens; an address that showed too many wrong ones is told to wait."""

    def __init__(
        self,
        admin_key: AdminKey,
        keys: ClientKeys,
        signins: Signins,
        origins: Origins,
        *,
        throttle: Throttle,
        login_throttle: Throttle,
    ) -> None:
        self._admin_key = admin_key
        self._keys = keys
        self.signins = signins
        self._origins = origins
        self._throttle = throttle
        self._login_throttle = login_throttle

    def check(self, request: HTTPServerRequest, address: str, roles: Sequence[Role] = ADMINS) -> Actor:
        """The admin who sends this request, by key or by cookie; or who has a client key of one of the roles.

        A cookie has to come from the dashboard's own page. A key may come from anywhere: a browser adds none by itself.
        Raises Unauthenticated, Forbidden, RateLimited or InvalidRequest.
        """
        keys = ClientHeaders(list(request.headers.get_all())).keys
        if keys:
            client_key, shown = self._admin(keys, address, self._throttle, roles)
            if client_key is None:
                return Actor("admin_key", None, address, ADMIN_KEY)
            return Actor("key", client_key.id, address, client_key.name, key_sha256=sha256(shown))
        if self._cookies(request):
            self.same_origin(request)
            sign_in = next(self.sign_ins(request), None)
            if sign_in is not None:
                name = ADMIN_KEY if sign_in.key_id is None else self._keys[sign_in.key_id].name
                return Actor("sign_in", sign_in.id, address, name, sign_in)
        raise Unauthenticated("sign in, or send the admin key as X-API-Key")

    def is_admin_key(self, key: str) -> bool:
        """Whether this is the admin key itself."""
        return self._admin_key.opens(key)

    def admits(self, actor: Actor) -> bool:
        """Whether the client key that an admin has shown opens still. True for who came otherwise."""
        if actor.kind != "key":
            return True
        client_key = self._keys.opened(actor.key_sha256)
        return client_key is not None and client_key.role is Role.ADMIN

    async def login(self, key: str, address: str) -> tuple[str, SignIn]:
        """Exchange an admin's key for a cookie. Raises Unauthenticated, Forbidden, RateLimited, StorageError."""
        client_key, shown = self._admin([key], address, self._login_throttle)
        return await self.signins.begin(client_key, address, shown=shown)

    def same_origin(self, request: HTTPServerRequest, *, by_cookie: bool = True) -> None:
        """Raise Forbidden if the request is not of the dashboard's own page, InvalidRequest if its body is not JSON.

        A request that only reads needs no proof, since the browser shows the answer to no other site. A WebSocket
        needs it: any site can open one and read from it. Who signs in needs none beside the key if it is no browser,
        which would tell its site or origin.
        """
        self._origins.check_host(request.host)
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        reads = request.method in ("GET", "HEAD") and "Upgrade" not in request.headers
        if site is not None:
            own = site == "same-origin" or (site == "none" and reads)
        elif origin is not None:
            own = self._origins.own(origin, request.host)
        else:
            own = reads or not by_cookie
        if not own:
            raise Forbidden(
                "this does not come from the dashboard's own page; where a proxy in front changes the Host header, add "
                "the origin that the browser sees to server.public_origins"
            )
        headers = request.headers
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        empty = headers.get("Content-Length", "0").strip("0") == "" and "Transfer-Encoding" not in headers
        if not empty and kind != "application/json":
            raise InvalidRequest("the body has to be application/json")

    def cookie_name(self, request: HTTPServerRequest) -> str:
        """The cookie's name. A browser takes `__Host-` from this very host and by https only (RFC 6265bis §4.1.3).

        It does not keep the cookies of a host's ports apart (§8.5), so that the name does: a second proxy there, such
        as the demo, would sign out of the first one.
        """
        _, port = split_host_and_port(request.host)
        stem = self._stem(request)
        return stem if port is None else f"{stem}-{port}"

    def sign_ins(self, request: HTTPServerRequest) -> Iterator[SignIn]:
        """The sign-ins whose cookies a request shows: one, if it was not sent to several instances' ports."""
        return filter(None, map(self.signins.find, self._cookies(request)))

    def _stem(self, request: HTTPServerRequest) -> str:
        return f"__Host-{COOKIE}" if self._origins.secure(request) else COOKIE

    def _cookies(self, request: HTTPServerRequest) -> list[str]:
        """The values of the cookie, the one of the request's own port first; one of another instance's opens too."""
        own, stem = self.cookie_name(request), self._stem(request)
        found = {
            name: value
            for name, value in parse_cookie(request.headers.get("Cookie", "")).items()
            if value and (name == stem or name.startswith(f"{stem}-"))
        }
        return sorted(found.values(), key=lambda value: value != found.get(own))[:MOST_COOKIES]

    def _admin(
        self, keys: Iterable[str], address: str, throttle: Throttle, roles: Sequence[Role] = ADMINS
    ) -> tuple[ClientKey | None, str]:
        """The client key of one of the roles that is among `keys`, None if the admin key is; and which of `keys` it is.

        Raises Unauthenticated, Forbidden or RateLimited.
        """
        keys = list(keys)
        for key in keys:
            if self._admin_key.opens(key):
                return None, key
        for key in keys:
            client_key = self._keys.accept([key])
            if client_key is None:
                continue
            if client_key.role in roles:
                if client_key.role is Role.METRICS:
                    self._keys.used(client_key)  # it is used for nothing else, and must not look forgotten
                return client_key, key
            needed = " or ".join(f"`{role.value}`" for role in roles)
            raise Forbidden(f"this client key has no access to the admin API: role {needed} is needed")
        group = address_group(address)
        for _ in keys:
            throttle.failed(group)
        wait_s = throttle.wait_s(group)
        if wait_s > 0:
            raise RateLimited("too many wrong admin keys from this address", retry_after_s=math.ceil(wait_s))
        raise Unauthenticated("that key is not valid")
