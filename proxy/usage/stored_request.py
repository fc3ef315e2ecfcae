"""Reads a request back from its line in the request log on disk, which is its view."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from proxy.usage.request import Attempt, CutBy
from proxy.usage.request_log import Kept


class _Try(Struct):
    account_id: str
    account_name: str
    status: int
    verdict: str
    evidence: str
    request_id: str | None
    at_ms: int
    ms: int

    def attempt(self) -> Attempt:
        began_at = self.at_ms / 1000
        return Attempt(
            self.account_id,
            self.account_name,
            began_at,
            began_at + self.ms / 1000,
            self.status,
            self.verdict,
            self.evidence,
            self.request_id or "",
        )


class _Line(Struct):
    id: int
    request_id: str
    at: datetime
    key_id: str
    key_name: str
    session_id: str | None
    model: str | None
    method: str
    path: str
    stream: bool
    tries: tuple[_Try, ...]
    why: str | None
    moved: str | None
    status: int
    outcome: str
    cut_by: CutBy | None
    error: str | None
    reason: str | None
    ttfb_ms: int | None
    duration_ms: int
    answer_bytes: int
    input_tokens: int | None
    output_tokens: int | None
    cache_creation_input_tokens: int | None
    cache_read_input_tokens: int | None
    estimated: bool
    cost_usd: float | None
    is_inference: bool = False
    instance: str | None = None

    def tokens(self) -> tuple[int, int, int, int] | None:
        if self.input_tokens is None:
            return None
        cached = self.cache_creation_input_tokens or 0, self.cache_read_input_tokens or 0
        return self.input_tokens, self.output_tokens or 0, *cached


_DECODER: Final = msgspec.json.Decoder(_Line)


def kept_of(line: bytes, clean: Callable[[str], str]) -> Kept:
    """The request, with times that count from its beginning. Raises ValueError if the line is none."""
    try:
        read = _DECODER.decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no request: {error}") from error
    return Kept(
        number=read.id,
        request_id=read.request_id,
        at=read.at.timestamp(),
        began_at=0.0,
        first_byte_at=None if read.ttfb_ms is None else read.ttfb_ms / 1000,
        ended_at=read.duration_ms / 1000,
        key_id=read.key_id,
        key_name=read.key_name,
        session_id=read.session_id,
        model=read.model,
        method=read.method,
        path=read.path,
        is_stream=read.stream,
        tries=tuple(each.attempt() for each in read.tries),
        status=read.status,
        outcome=read.outcome,
        cut_by=read.cut_by,
        error=read.error,
        reason=read.reason,
        why=read.why,
        moved=read.moved,
        answer_bytes=read.answer_bytes,
        tokens=read.tokens(),
        estimated=read.estimated,
        cost_usd=read.cost_usd,
        clean=clean,
        is_inference=read.is_inference,
        instance=read.instance,
    )
