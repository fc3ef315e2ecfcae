"""The access log: one line per request, with what an operator needs first and without secrets."""

from __future__ import annotations

import logging

from proxy.usage.request import RequestRecord

MAX_PATH = 256

log = logging.getLogger("proxy.access")

_LINE = (
    "%(method)s %(path)s %(status)s request=%(request)s client=%(client)s key=%(key)s account=%(account)s"
    " attempts=%(attempts)d ttfb_ms=%(ttfb_ms)s duration_ms=%(duration_ms)d bytes=%(bytes)d"
    " cost_usd=%(cost_usd)s error=%(error)s"
)


def logged_path(target: str) -> str:
    """The target for the log, without its query, which may contain secrets."""
    return target.partition("?")[0][:MAX_PATH]


def write(record: RequestRecord, level: int = logging.INFO) -> None:
    """Log an ended request."""
    if not log.isEnabledFor(level):
        return
    ttfb_s = record.ttfb_s
    log.log(
        level,
        _LINE,
        {
            "method": record.method,
            "path": record.path,
            "status": record.status,
            "request": record.id,
            "client": record.address,
            "key": record.key.id if record.key else "-",
            "account": record.account_name or "-",
            "attempts": len(record.attempts),
            "ttfb_ms": "-" if ttfb_s is None else round(ttfb_s * 1000),
            "duration_ms": round(record.duration_s * 1000),
            "bytes": record.answer_bytes,
            "cost_usd": record.cost_told,
            "error": record.error or "-",
        },
    )
