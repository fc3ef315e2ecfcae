"""An error of the proxy's own in the shape of the Claude API's."""

from __future__ import annotations

import json
import math
import secrets
from http.client import responses
from typing import Final

from tornado.httputil import HTTPHeaders

from proxy.errors import MethodNotAllowed, RequestError
from proxy.http.headers import AnswerHeaders

_COMPACT: Final = json.JSONEncoder(separators=(",", ":")).encode
"""As the API writes JSON: without spaces."""


def refusal(
    error: RequestError, request_id: str, attempts: int = 0, account: str | None = None
) -> tuple[HTTPHeaders, bytes]:
    """Headers and body of an error; `attempts` is how often the upstream was asked, the last time as `account`."""
    shown = {
        "type": "error",
        "error": {"type": error.type, "message": error.message, **error.details},
        "request_id": request_id,
    }
    body = _COMPACT(shown).encode()
    headers = HTTPHeaders(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Request-Id": request_id,
        }
    )
    if account is not None:
        for name, value in AnswerHeaders([]).for_client(account, attempts):
            headers[name] = value
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"  # RFC 9110 §15.5.6
    if error.should_retry is not None:
        headers["X-Should-Retry"] = str(error.should_retry).lower()
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return headers, body


def last_answer(error: RequestError, method: str = "") -> bytes:
    """An error as a whole answer to a request of this method, the last one of its connection."""
    headers, body = refusal(error, f"req_{secrets.token_hex(12)}")
    headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.get_all())
    head = f"HTTP/1.1 {error.status} {responses[error.status]}\r\n{lines}\r\n".encode()
    return head if method == "HEAD" else head + body


def error_event(message: str) -> bytes:
    """What ends a stream that was cut.

    The line break before it ends a line that was cut; where an event was cut, its name becomes `error`.
    """
    error = {"type": "error", "error": {"type": "api_error", "message": message}}
    return f"\nevent: error\ndata: {_COMPACT(error)}\n\n".encode()
