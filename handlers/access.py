"""The access log: one line for each request, with everything an operator asks first and no secret."""

from __future__ import annotations

import logging
import secrets

from proxy.accounts.account import Account
from proxy.clock import Clock

MAX_PATH = 256
CLIENT_GONE = 499
"""Instead of a status where the client left before it had one, as nginx has it."""

log = logging.getLogger("proxy.access")


class AccessLine:
    """Collects what is known of one request; `log` writes it, once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._first_byte: float | None = None
        self.request_id = f"req_{secrets.token_hex(12)}"
        self.method = "-"
        self.path = "-"
        self.address = "-"
        self.key_id: str | None = None
        self.account: Account | None = None
        self.attempts = 0
        self.status = 0
        self.bytes = 0
        self.error: str | None = None

    def begin(self, method: str, target: str, address: str) -> None:
        """The request line; the query is left out, as it may hold anything."""
        self.method, self.path, self.address = method, target.partition("?")[0][:MAX_PATH], address

    def answered(self, status: int) -> None:
        """The head of the answer was written."""
        self.status = status
        self._first_byte = self._clock.monotonic()

    def gone(self, why: str = "client gone") -> None:
        """The client left before the end."""
        self.error = why
        self.status = self.status or CLIENT_GONE

    @property
    def ttfb_s(self) -> float | None:
        """Seconds until the head of the answer was written; None where it was not."""
        return None if self._first_byte is None else self._first_byte - self._began

    @property
    def duration_s(self) -> float:
        """Seconds since the request line."""
        return self._clock.monotonic() - self._began

    def log(self, level: int = logging.INFO) -> None:
        """Write the line."""
        log.log(
            level,
            "%(method)s %(path)s %(status)s request=%(request)s client=%(client)s key=%(key)s account=%(account)s"
            " attempts=%(attempts)d ttfb_ms=%(ttfb_ms)s duration_ms=%(duration_ms)d bytes=%(bytes)d error=%(error)s",
            {
                "method": self.method,
                "path": self.path,
                "status": self.status,
                "request": self.request_id,
                "client": self.address,
                "key": self.key_id or "-",
                "account": self.account.name if self.account else "-",
                "attempts": self.attempts,
                "ttfb_ms": "-" if self.ttfb_s is None else round(self.ttfb_s * 1000),
                "duration_ms": round(self.duration_s * 1000),
                "bytes": self.bytes,
                "error": self.error or "-",
            },
        )
