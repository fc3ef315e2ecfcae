"""The access log: one line per request, with what an operator needs first and without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable

from proxy.clock import SystemClock
from proxy.http.addresses import address_group
from proxy.logs import LOOKED_AT, ReadyRecord
from proxy.usage.request import RequestRecord

log = logging.getLogger("proxy.access")

_now = SystemClock().now


def logged_path(target: str) -> str:
    """The target for the log, without its query, which may contain secrets."""
    return target.partition("?")[0][:LOOKED_AT]


def write(record: RequestRecord, level: int = logging.INFO) -> None:
    """Log an ended request."""
    if log.isEnabledFor(level):
        log.handle(AccessLine(record, level))


class AccessLine(ReadyRecord):
    """The line of one request. Those that were refused without a key may come in floods."""

    # Here, since to set them for each one takes longer.
    name = log.name
    levelno = logging.INFO
    levelname = "INFO"
    exc_info = None

    def __init__(self, request: RequestRecord, level: int) -> None:
        self.created = _now()
        self.request = request
        if level != logging.INFO:
            self.levelno, self.levelname = level, logging.getLevelName(level)
        if request.key is None and 400 <= request.status < 500:
            self.flood = (f"requests refused status={request.status}", address_group(request.address))

    def text(self, clean: Callable[[str], str]) -> str:
        request = self.request
        attempts, key, first_byte_at = request.attempts, request.key, request.first_byte_at
        return (
            f"{clean(request.method[:LOOKED_AT])} {clean(request.path)} {request.status} request={request.id}"
            f" client={clean(request.address[:LOOKED_AT])} key={key.id if key else '-'}"
            f" account={clean(attempts[-1].account_name) if attempts else '-'} attempts={len(attempts)}"
            f" ttfb_ms={'-' if first_byte_at is None else round((first_byte_at - request.began_at) * 1000)}"
            f" duration_ms={round(request.duration_s * 1000)} bytes={request.answer_bytes}"
            f" cost_usd={request.cost_told} error={clean(request.error) if request.error else '-'}"
        )

    def members(self, clean: Callable[[str], str]) -> str:
        request = self.request
        attempts, key, ttfb_s = request.attempts, request.key, request.ttfb_s
        ttfb_ms = '"-"' if ttfb_s is None else round(ttfb_s * 1000)
        cost = request.cost_told if isinstance(request.cost_told, float) else f'"{request.cost_told}"'
        return (
            f'"method": "{clean(request.method[:LOOKED_AT])}", "path": "{clean(request.path)}", '
            f'"status": {request.status}, "request": "{request.id}", '
            f'"client": "{clean(request.address[:LOOKED_AT])}", "key": "{key.id if key else "-"}", '
            f'"account": "{clean(attempts[-1].account_name) if attempts else "-"}", '
            f'"attempts": {len(attempts)}, "ttfb_ms": {ttfb_ms}, '
            f'"duration_ms": {round(request.duration_s * 1000)}, "bytes": {request.answer_bytes}, "cost_usd": {cost}, '
            f'"error": "{clean(request.error) if request.error else "-"}"'
        )
