"""What a route of the simulator gives back, and the Claude API's error shape."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

Json = dict[str, Any]
Headers = tuple[tuple[str, str], ...]

# status → (error.type, a message in the API's own words)
DEFAULT_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Claude API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    408: ("timeout_error", "Request timed out"),
    409: ("conflict_error", "The resource was modified by another request."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "Unprocessable request"),
    429: ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    502: ("api_error", "Bad gateway"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}


class ApiError(Exception):
    """A refusal in the Claude API's shape; `type` and `message` default by status."""

    def __init__(
        self, status: int, message: str | None = None, *, type: str | None = None, details: Json | None = None
    ) -> None:
        default_type, default_message = DEFAULT_ERRORS.get(status, ("api_error", f"HTTP {status}"))
        self.status = status
        self.type = type or default_type
        self.message = default_message if message is None else message
        self.details = details
        super().__init__(self.message)

    def body(self, request_id: str) -> Json:
        error: Json = {"type": self.type, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return {"type": "error", "error": error, "request_id": request_id}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, sent with a Content-Length unless `headers` say otherwise."""

    status: int = 200
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class EventStream:
    """Server-sent events, one frame (with its blank line) each."""

    frames: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Download:
    """`length` bytes of `file` from `offset`."""

    file: IO[bytes] = field(repr=False)
    offset: int
    length: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class LiveStream:
    """Server-sent events that come as they happen."""

    frames: AsyncGenerator[bytes, None] = field(repr=False)


Reply = Answer | EventStream | Download | LiveStream


def dumps(value: object) -> bytes:
    """Compact JSON in UTF-8, as the API writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def json_answer(value: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    return Answer(status, (("content-type", "application/json"), *headers), dumps(value))
