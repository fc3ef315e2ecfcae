"""Who may call the admin API: the admin key, or a client key with role `admin`."""

from __future__ import annotations

import hashlib
import hmac
import math

from tornado.httputil import HTTPHeaders

from proxy.addresses import address_group
from proxy.errors import Forbidden, RateLimited, Unauthenticated
from proxy.headers import client_keys
from proxy.throttle import Throttle
from proxy.tokens import Role, Tokens


class AdminGate:
    """Lets admins in. The right key is always let in: only who has shown wrong ones is throttled."""

    def __init__(self, admin_key: str, tokens: Tokens, throttle: Throttle) -> None:
        self._digest = _digest(admin_key)
        self._tokens = tokens
        self._throttle = throttle

    def check(self, headers: HTTPHeaders, address: str) -> None:
        """Raises Unauthenticated, Forbidden or RateLimited."""
        keys = client_keys(list(headers.get_all()))
        for key in keys:
            if hmac.compare_digest(_digest(key), self._digest):
                return
        token = self._tokens.accept(keys)
        if token is not None:
            if token.role is Role.ADMIN:
                return
            raise Forbidden("this client key has no access to the admin API: role `admin` is needed")
        group = address_group(address)
        for _ in keys:
            self._throttle.failed(group)
        wait_s = self._throttle.wait_s(group)
        if wait_s > 0:
            raise RateLimited("too many wrong admin keys from this address", retry_after_s=math.ceil(wait_s))
        raise Unauthenticated("send the admin key as X-API-Key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
