"""One line a record, as text or JSON: nothing in it can end it, steer a terminal or show a credential."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TextIO

from proxy.clock import rfc3339

# What the formats of credentials give away, wherever a library may have put one.
_SECRET = re.compile(r"sk-ant-[A-Za-z0-9_-]+|\bcp-[A-Za-z0-9_-]{40,}|(?i:\bbearer\s+)[^\s\"']+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def set_up(level: str, form: str) -> None:
    """Log to stderr; `level` and `form` are those of the configuration."""
    handler = _Lines(sys.stderr)
    handler.setFormatter(JsonLine() if form == "json" else TextLine())
    # What no line of ours shows, and each record would look up (docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # named there too: no search for the caller
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Tornado's own access lines and its curl trace (which holds headers) are replaced by ours.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    logging.getLogger("tornado.curl_httpclient").setLevel(logging.INFO)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes to a stream that is flushed with each line, as standard error is."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


def redact(text: str) -> str:
    """`text` without anything that has the form of a credential."""
    # Most lines have nothing of the kind, which a plain search tells sooner.
    if "sk-ant-" not in text and "cp-" not in text and "bearer" not in text.lower():
        return text
    return _SECRET.sub("[redacted]", text)


class TextLine(logging.Formatter):
    """`2026-11-22T10:41:07.123Z INFO proxy.accounts.pool message`, with a traceback indented on the lines after it."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{rfc3339(record.created)} {record.levelname} {record.name} {_one_line(record.getMessage())}"
        if record.exc_info:
            traceback = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n  {_one_line(each)}" for each in traceback)
        return line


class JsonLine(logging.Formatter):
    """One JSON object: `time, level, logger, message`; arguments given as a mapping become its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if isinstance(record.args, dict):
            fields |= {k: redact(v) if isinstance(v, str) else v for k, v in record.args.items()}
        if record.exc_info:
            fields["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=True)


def _one_line(message: str) -> str:
    message = redact(message)
    if message.isprintable():
        return message
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", message)
