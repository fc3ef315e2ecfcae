"""Every error that the proxy raises on purpose.

ProxyError
├── StartError                the process cannot start: one line on stderr, exit status 2
│   ├── SettingsError         the configuration
│   └── StorageError          the data folder or the shared store (also raised at run time, when a write fails)
│       └── StoreAway         the shared store does not answer
├── NotDone                   a command ran and has not done all that was asked: exit status 1
├── UnsavedError              the process ends and something could not be saved: exit status 1
├── UpstreamError             one exchange with the upstream failed (the relay judges what follows)
│   ├── UpstreamUnreachable   nothing was sent: DNS, refused, TLS, reset before the request
│   ├── UpstreamLost          the connection was lost after the request was sent
│   ├── UpstreamGarbled       an answer began that cannot be read
│   └── UpstreamSilent        nothing came for too long
├── TokenRefused              the OAuth server refuses the grant: only a new login helps
├── TokenTrouble              no tokens this time, for a reason that passes
└── RequestError              what a caller is told; `status` and `type` are the HTTP status and `error.type`
    ├── InvalidRequest            400 invalid_request_error
    ├── Unauthenticated           401 authentication_error
    ├── Forbidden                 403 permission_error
    ├── NotFound                  404 not_found_error
    ├── MethodNotAllowed          405 invalid_request_error
    ├── RequestTimeout            408 timeout_error
    ├── Conflict                  409 conflict_error
    ├── BodyTooLarge              413 request_too_large
    ├── TargetTooLong             414 invalid_request_error
    ├── Unprocessable             422 invalid_request_error
    ├── RateLimited               429 rate_limit_error
    ├── HeadTooLarge              431 invalid_request_error
    ├── BadGateway                502 api_error
    ├── Unavailable               503 api_error
    ├── GatewayTimeout            504 timeout_error
    └── InsufficientStorage       507 api_error
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

E = TypeVar("E", bound="ProxyError")


class ProxyError(Exception):
    """Base of all errors raised on purpose; its text is for people and holds no secret."""


def without_frames(error: E) -> E:
    """An error to be kept by what raised it: its frames refer back, and with a cycle memory would wait."""
    return error.with_traceback(None)


class StartError(ProxyError):
    """The process cannot start; the text names the file, the key and the fix."""

    exit_status = 2


class SettingsError(StartError):
    """The configuration is missing or wrong."""


class StorageError(StartError):
    """The data folder or the shared store cannot be read, locked or written."""


class StoreAway(StorageError):
    """The shared store does not answer: whether the last call took effect is not known. It is tried again."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the shared store is away: {why}")
        self.why = why.removesuffix(".")


class NotDone(ProxyError):
    """A command has not done all that was asked; `told`: the lines that it has to say nevertheless."""

    exit_status = 1

    def __init__(self, message: str, told: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.told = told


class UnsavedError(ProxyError):
    """The process ends, and the disk did not take everything; the text says what is lost."""

    exit_status = 1


class UpstreamError(ProxyError):
    """An exchange with the upstream failed."""


class UpstreamUnreachable(UpstreamError):
    """The request was not sent, so sending it again cannot do anything twice."""


class UpstreamLost(UpstreamError):
    """The connection was lost after the request was sent: the upstream may have acted on it."""


class UpstreamGarbled(UpstreamError):
    """The upstream has acted on the request, and its answer cannot be read or broke off within its head."""


class UpstreamSilent(UpstreamError):
    """The upstream sent nothing for the longest silence allowed."""


class TokenRefused(ProxyError):
    """The OAuth server refuses the refresh token or the code."""


class TokenTrouble(ProxyError):
    """The OAuth server gave no tokens, which says nothing about the grant.

    `passes`: another try may succeed, without an admin's doing.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, passes: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.passes = passes


class RequestError(ProxyError):
    """An answer to the caller.

    `should_retry` False becomes `x-should-retry: false`; `retry_after_s` becomes `retry-after`, rounded up.
    `type` may be a narrower one than the class's; `details` are further members of `error`.
    """

    status = 500
    type = "api_error"

    def __init__(
        self,
        message: str,
        *,
        should_retry: bool | None = None,
        retry_after_s: float | None = None,
        type: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type or self.type
        self.details = details or {}
        self.should_retry = should_retry
        self.retry_after_s = retry_after_s

    def of_account(self, name: str) -> RequestError:
        """The same error, whose message names the account that it is about."""
        return type(self)(
            self.message if repr(name) in self.message else f"account {name!r}: {self.message}",
            should_retry=self.should_retry,
            retry_after_s=self.retry_after_s,
            type=self.type,
            details=self.details,
        )


class InvalidRequest(RequestError):
    status = 400
    type = "invalid_request_error"


class Unauthenticated(RequestError):
    status = 401
    type = "authentication_error"


class Forbidden(RequestError):
    status = 403
    type = "permission_error"


class NotFound(RequestError):
    status = 404
    type = "not_found_error"


class MethodNotAllowed(RequestError):
    status = 405
    type = "invalid_request_error"


class RequestTimeout(RequestError):
    status = 408
    type = "timeout_error"


class Conflict(RequestError):
    status = 409
    type = "conflict_error"


class BodyTooLarge(RequestError):
    status = 413
    type = "request_too_large"


class TargetTooLong(RequestError):
    status = 414
    type = "invalid_request_error"


class Unprocessable(RequestError):
    status = 422
    type = "invalid_request_error"


class RateLimited(RequestError):
    status = 429
    type = "rate_limit_error"


class HeadTooLarge(RequestError):
    status = 431
    type = "invalid_request_error"


class BadGateway(RequestError):
    status = 502
    type = "api_error"


class Unavailable(RequestError):
    status = 503
    type = "api_error"


class GatewayTimeout(RequestError):
    status = 504
    type = "timeout_error"


class InsufficientStorage(RequestError):
    status = 507
    type = "api_error"
