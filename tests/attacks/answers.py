"""Reads the answers on one connection as a client does that knows what it asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.edges.strict import End, Request

_START = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*")
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)")


@dataclass(frozen=True)
class Said:
    """One answer. `answers` is the target that the upstream says it was asked for, None if it is the proxy's own."""

    start: bytes
    head: bytes
    status: int
    answers: bytes | None
    closes: bool
    is_json: bool
    body: bytes


class Reader:
    """`answers` are those read whole, `faults` what is no answer; `closed` once no more can come."""

    def __init__(self, requests: list[Request]) -> None:
        self.answers: list[Said] = []
        self.faults: list[str] = []
        self.closed = False
        self._requests = requests
        self._rest = b""

    def has_all(self, end: End) -> bool:
        """Whether all that could be answered is; of what is malformed that is the refusal."""
        due = len(self._requests) + (end is End.MALFORMED)
        return len(self.answers) >= due and not self._rest

    @property
    def _is_known(self) -> bool:
        """Whether the last answer is to a whole request. Another may be to a HEAD, or to what is almost one."""
        return len(self.answers) <= len(self._requests)

    def feed(self, data: bytes) -> None:
        """Read on; no bytes are the end."""
        self._rest += data
        while self._rest and not self.closed:
            try:
                found = self._read(self._rest, ended=not data)
            except ValueError as error:
                self.faults.append(f"no answer: {error}")
                self.closed = True
                return
            if found is None:
                break
            said, self._rest = found
            if said is not None:
                self.answers.append(said)
                self.closed = said.closes or said.status == 101
        if not data:
            if self._rest and not self.closed and len(self.answers) < len(self._requests):
                self.faults.append(f"an answer was cut: {self._rest[:100]!r}")
            self.closed = True
        elif self.closed and self._rest and self.answers[-1].status != 101 and self._is_known:
            self.faults.append(f"bytes after the last answer: {self._rest[:100]!r}")

    def _read(self, data: bytes, *, ended: bool) -> tuple[Said | None, bytes] | None:
        """The answer that `data` begins with, None for a 1xx one, and what follows it; None if it is not whole."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return None
        start, *lines = head.split(b"\r\n")
        match = _START.fullmatch(start)
        fields = [_LINE.fullmatch(line) for line in lines]
        if match is None or not all(fields):
            raise ValueError(f"{head[:300]!r}")
        found: dict[bytes, list[bytes]] = {}
        for field in filter(None, fields):
            found.setdefault(field[1].lower(), []).append(field[2])
        status = int(match[1])
        if status < 200 and status != 101:
            return None, rest
        body = self._body(status, found, rest, ended=ended)
        if body is None:
            return None
        closes = found.get(b"connection", [b""])[0].lower() == b"close"
        answers = found.get(b"x-answers", [None])[0]
        is_json = found.get(b"content-type") == [b"application/json"]
        return Said(start, head, status, answers, closes, is_json, body[0]), body[1]

    def _body(
        self, status: int, found: dict[bytes, list[bytes]], rest: bytes, *, ended: bool
    ) -> tuple[bytes, bytes] | None:
        number = len(self.answers)
        asked = self._requests[number].method if number < len(self._requests) else b""
        if status in (101, 204, 304) or asked == b"HEAD":
            return b"", rest
        lengths, codings = found.get(b"content-length", []), found.get(b"transfer-encoding", [])
        if len(lengths) + len(codings) > 1:
            raise ValueError("framed twice")
        if codings:
            return _chunks(rest)
        if lengths:
            length = int(lengths[0])
            return (rest[:length], rest[length:]) if len(rest) >= length else None
        return (rest, b"") if ended else None


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return None
        size = int(line, 16)
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise ValueError("a chunk does not end where it says")
        body, data = body + rest[:size], rest[size + 2 :]
        if not size:
            return body, data
