"""One request to the simulator as its routes see it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, unquote

from tornado.httputil import HTTPHeaders

from proxy.http.decoding import TooLarge, Undecodable, decoded

from .replies import ApiError, Json

MEMORY_BYTES = 1 << 20


class Body:
    """A request's body as it came: in memory while small, else in a temporary file, and hashed."""

    def __init__(self, folder: Path | None = None) -> None:
        self.length = 0
        self._hash = hashlib.sha256()
        self._spool: IO[bytes] | None = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close()
            max_size=MEMORY_BYTES, dir=None if folder is None else str(folder)
        )

    def add(self, chunk: bytes) -> None:
        if self._spool is not None:
            self._spool.write(chunk)
            self.length += len(chunk)
            self._hash.update(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self) -> bytes:
        if self._spool is None:
            raise ValueError("body closed or taken")
        self._spool.seek(0)
        return self._spool.read()

    def take(self) -> IO[bytes]:
        """The file itself; the taker closes it."""
        if self._spool is None:
            raise ValueError("body closed or taken")
        taken, self._spool = self._spool, None
        return taken

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: HTTPHeaders = field(repr=False)
    body: Body = field(repr=False)

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    def argument(self, name: str) -> str | None:
        """The last value of a query argument."""
        values = self.query.get(name)
        return values[-1] if values else None

    def arguments(self, name: str) -> list[str]:
        """All values of a query argument, written `name` or, as the SDKs write a list, `name[]`."""
        query = self.query
        return query.get(name, []) + query.get(f"{name}[]", [])

    def betas(self) -> list[str]:
        return [name.strip() for name in self.headers.get("anthropic-beta", "").split(",")]

    def json(self, max_bytes: int) -> Json:
        """The body as a JSON object, decoded; ApiError where it is too large or none."""
        if self.body.length > max_bytes:
            raise ApiError(413, "Request exceeds the maximum allowed number of bytes.")
        try:
            parsed = json.loads(self._decoded(max_bytes))
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"The request body is not valid JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise ApiError(400, "Input should be a valid dictionary or object")
        return parsed

    def _decoded(self, max_bytes: int) -> bytes:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding == "identity":
            return self.body.read()
        if encoding not in ("gzip", "deflate"):
            raise ApiError(
                400,
                f"content-encoding {encoding!r} is not supported",
                details={"error_code": "request_body_encoding_unsupported"},
            )
        try:
            return decoded(self.body.read(), encoding, max_bytes)
        except TooLarge as error:
            raise ApiError(
                413,
                "Request exceeds the maximum allowed number of bytes after decoding.",
                details={"error_code": "request_body_too_large_after_decoding"},
            ) from error
        except Undecodable as error:
            raise ApiError(
                400,
                "The request body could not be decoded",
                details={"error_code": "request_body_encoding_invalid"},
            ) from error
