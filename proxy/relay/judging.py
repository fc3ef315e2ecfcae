"""Reads what an answer means, by as much of its body as that takes."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from proxy.errors import UpstreamError, UpstreamLost
from proxy.http.headers import AnswerHeaders, CredentialKind, is_event_stream
from proxy.upstream import first_event
from proxy.upstream.error_body import MOST_BYTES as JUDGED_BYTES
from proxy.upstream.error_body import ApiError, read_error
from proxy.upstream.exchange import Exchange
from proxy.upstream.unclassified import Unclassified
from proxy.upstream.verdict import JUDGED_BY_BODY, MESSAGES, Action, Asked, Verdict, judge, judge_early

SERVED = Verdict(Action.HAND_ON, "200")
NO_ERROR = ApiError()
NOT_ASKED = Asked()


async def judged(
    exchange: Exchange,
    status: int,
    headers: AnswerHeaders,
    *,
    kind: CredentialKind,
    asked_for: Callable[[], Awaitable[Asked]],
    unclassified: Unclassified,
    now: float,
) -> Verdict:
    """Say what an answer means, by its first bytes if there are to be any. Raises UpstreamError."""
    error, found = NO_ERROR, status
    if status in JUDGED_BY_BODY:
        start = await start_of(exchange, JUDGED_BYTES)
        exchange.put_back(start)
        error = read_error(start, headers.get("content-encoding"), headers.get("content-type"))
    elif 200 <= status <= 299 and status != 204:
        early = await _early_error(exchange, headers, asked_for)
        if early is None:
            return SERVED
        error, found = early, first_event.status_of(early)
    if 400 <= found <= 499:
        unclassified.note(found, error)
    asked = await asked_for() if found in JUDGED_BY_BODY else NOT_ASKED
    verdict = judge(found, headers, error, account_kind=kind, asked=asked, now=now)
    return verdict if found == status else judge_early(error, verdict)


async def _early_error(
    exchange: Exchange, headers: AnswerHeaders, asked_for: Callable[[], Awaitable[Asked]]
) -> ApiError | None:
    """Wait for the first byte of a good answer, and for the first event of a streamed message.

    The head is sent with it: until then, another account may answer. Any other stream may be silent for long.
    """
    is_stream = is_event_stream(headers.get("content-type"))
    route = (await asked_for()).route
    if is_stream and route != MESSAGES:
        return None
    if not await exchange.begun():
        if route == MESSAGES and headers.length is None and not headers.is_chunked:
            raise UpstreamLost("its connection ended before the first byte of the message")
        return None
    return await first_event.early_error(exchange, headers.get("content-encoding")) if is_stream else None


async def start_of(exchange: Exchange, enough_bytes: int) -> bytes:
    """The start of a body, or what came before it was cut: whoever reads on is told of the cut."""
    start = bytearray()
    with contextlib.suppress(UpstreamError):
        while len(start) < enough_bytes and (data := await exchange.read()):
            start += data
    return bytes(start)
