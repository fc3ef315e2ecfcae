"""One line a record, as text or JSON: nothing in it can end it, steer a terminal or show a credential.

Each record is formatted where it is made, before its arguments change, and written by a thread (`line_writer`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import TracebackType

from proxy.clock import SystemClock, rfc3339
from proxy.floods import Floods, Sum
from proxy.line_writer import LineWriter, write_in_time
from proxy.redaction import UNPRINTABLE, Redaction, redact

__all__ = [
    "LOOKED_AT",
    "JsonLine",
    "Lines",
    "ReadyRecord",
    "TextLine",
    "redact",
    "say",
    "say_last",
    "set_up",
    "write_as",
    "write_from",
]

OURS = ("proxy", "handlers")
"""Loggers that know themselves what comes in floods. A library's records are all counted."""

MOST_CHARACTERS = 16_384
"""Of a message, and of a traceback; the rest is cut."""

MOST_CLEANED = 4096
"""Different texts of ready records whose clean form is kept."""

MOST_OF_A_TEXT = 256
"""Characters of each of these texts that are shown."""

LOOKED_AT = 2 * MOST_OF_A_TEXT
"""No such text is longer. More than is shown, so that of a key at its end no half is left."""

FLUSH_S = 1.0
"""How long the end of the process waits for who reads the log, and a start for who reads what it prints."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def set_up(level: str, form: str, secrets: Iterable[str] = ()) -> Iterator[None]:
    """Log to stderr inside `with`; `level` and `form` are those of the configuration, `secrets` are never shown."""
    # What no line of ours shows, and each record would look up (docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # named there too: no search for the caller
    handler = _handler(_lines(form, secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Tornado's own access lines and its curl trace (which holds headers) are replaced by ours.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    logging.getLogger("tornado.curl_httpclient").setLevel(logging.INFO)
    logging.captureWarnings(True)  # to py.warnings
    # For as long as the process lives: what nobody caught would be printed as it is, secrets and all.
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: log.critical("a thread failed", exc_info=args.exc_value)
    sys.unraisablehook = lambda what: log.error("an error that nobody can catch", exc_info=what.exc_value)
    try:
        yield
    finally:
        handler.close()


def write_as(form: str, secrets: Iterable[str]) -> None:
    """Have other lines from now on: their form, and the secrets that none shows."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Lines):
            handler.write_as(_lines(form, secrets))


def write_from(level: str) -> None:
    """Write what has this level or a higher one from now on."""
    logging.getLogger().setLevel(level.upper())


def set_up_plain(level: str, form: str, secrets: Iterable[str] = ()) -> None:
    """Log to stderr without a thread: for a process that forks, and logs next to nothing."""
    handler = _AtOnce()
    handler.setFormatter(JsonLine(secrets) if form == "json" else TextLine(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _AtOnce(logging.Handler):
    """Writes each line where it is logged, within FLUSH_S."""

    def emit(self, record: logging.LogRecord) -> None:
        say_last(self.format(record))


def say(text: str) -> None:
    """Print to stdout what a server works without, within FLUSH_S for each part of it: nobody may read it."""
    if sys.stdout is not None:
        write_in_time(sys.stdout.fileno(), f"{text}\n", FLUSH_S)


def say_last(text: str) -> None:
    """Print a line to stderr as a process ends, within FLUSH_S for each part of it: nobody may read it."""
    if sys.stderr is not None:
        write_in_time(sys.stderr.fileno(), f"{text}\n", FLUSH_S)


def _lines(form: str, secrets: Iterable[str]) -> logging.Formatter:
    return JsonLine(secrets) if form == "json" else TextLine(secrets)


def _handler(form: logging.Formatter) -> logging.Handler:
    # None if the process was started without stderr: then 2 is the number of some other file.
    return logging.NullHandler() if sys.stderr is None else Lines(sys.stderr.fileno(), form)


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    log.critical("the process failed", exc_info=(kind, error, traceback))


class ReadyRecord(logging.LogRecord):
    """A record that makes its own text and JSON, for what is logged with each request.

    It passes each text that others may have chosen through `clean`, up to LOOKED_AT characters of it, so that nobody
    needs to look at the whole. Its `__init__` sets what `Lines` asks for; the rest, which takes longer, is added if
    another handler wants it.
    """

    def text(self, clean: Callable[[str], str]) -> str:
        """The message."""
        raise NotImplementedError

    def members(self, clean: Callable[[str], str]) -> str:
        """The fields as members of a JSON object; `clean` escapes a text, without adding quotes."""
        raise NotImplementedError

    def getMessage(self) -> str:
        """The message as it is. Every handler but `Lines` asks for it before any other field."""
        blank = logging.LogRecord(self.name, self.levelno, __file__, 0, "", None, None)
        self.__dict__ = vars(blank) | self.__dict__
        return self.text(str)


class Lines(logging.Handler):
    """Leaves each record's line to a writer. It sums up floods: records with `extra={"flood": (kind, address)}`."""

    def __init__(self, descriptor: int, form: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(form)
        self._form = form
        self._ending = False
        self._floods = Floods(SystemClock())
        self._writer = LineWriter(descriptor, self._remarks)

    def write_as(self, form: logging.Formatter) -> None:
        """Format what comes from now on with this."""
        self.setFormatter(form)
        self._form = form

    def handle(self, record: logging.LogRecord) -> bool:
        """Format and hand over a record. It takes no lock, unlike other handlers: the writer has its own."""
        flood = _flood(record)
        if flood is not None and not self._floods.passes(*flood, record.levelno):
            return False
        self._writer.put(self._line(record))
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.handle(record)

    def close(self) -> None:
        """Write what waits, within FLUSH_S. The interpreter's end calls it once more."""
        if not self._ending:
            self._ending = True
            self._writer.close(FLUSH_S)
            super().close()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return f"{self._form.format(record)}\n"
        except Exception as error:  # whatever an argument's `repr` raises: a record must not end what logs it
            told = _record(
                "a record could not be formatted logger=%s error=%s", record.name, type(error).__name__
            )
            return f"{self._form.format(told)}\n"

    def _remarks(self, lost: int) -> str:
        told = [_summed(each) for each in self._floods.sums(now=self._ending)]
        if lost:
            told.append(_record("%d records were dropped, since nobody read the log in time", lost))
        return "".join(self._line(each) for each in told)


def _flood(record: logging.LogRecord) -> tuple[str, str] | None:
    """Kind and address of a record that may come in floods."""
    flood: tuple[str, str] | None = record.__dict__.get("flood")
    if flood is None and (record.exc_info or not record.name.startswith(OURS)):
        return f"{record.name} {str(record.msg).partition(chr(10))[0][:80]}", "-"
    return flood


def _record(message: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, __file__, 0, message, args, None)


def _summed(flood: Sum) -> logging.LogRecord:
    """`request refused status=400 address=192.0.2.1 more=1380: too many to tell each`"""
    return _record(
        "%s address=%s more=%d: too many to tell each",
        flood.kind,
        flood.address,
        flood.left_out,
        level=flood.level,
    )


class TextLine(logging.Formatter):
    """`2026-11-22T10:41:07.123Z INFO proxy.accounts.pool message`, with a traceback indented on the lines after it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._redact = Redaction(secrets)
        self._clean = lru_cache(MOST_CLEANED)(lambda text: self._one_line(text)[:MOST_OF_A_TEXT])

    def format(self, record: logging.LogRecord) -> str:
        line = f"{rfc3339(record.created)} {record.levelname} {record.name} {self._message(record)}"
        if record.exc_info:
            # Redacted as a whole: a key may be on more than one line.
            traceback = _shortened(self._redact, self.formatException(record.exc_info)).split("\n")
            line += "".join(f"\n  {_printable(each)}" for each in traceback)
        return line

    def _message(self, record: logging.LogRecord) -> str:
        if isinstance(record, ReadyRecord):
            return record.text(self._clean)
        return self._one_line(record.getMessage())

    def _one_line(self, message: str) -> str:
        return _printable(_shortened(self._redact, message))


class JsonLine(logging.Formatter):
    """One JSON object: `time, level, logger, message`; arguments given as a mapping become its fields."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._redact = Redaction(secrets)
        self._clean = lru_cache(MOST_CLEANED)(
            lambda text: json.dumps(self._short(text)[:MOST_OF_A_TEXT])[1:-1]
        )

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record, ReadyRecord):
            return (
                f'{{"time": "{rfc3339(record.created)}", "level": "{record.levelname.lower()}", '
                f'"logger": "{record.name}", "message": "{record.text(self._clean)}", '
                f"{record.members(self._clean)}}}"
            )
        fields: dict[str, object] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._short(record.getMessage()),
        }
        if isinstance(record.args, dict):
            fields |= {name: self._member(value) for name, value in record.args.items()}
        if record.exc_info:
            fields["exception"] = self._short(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=True)

    def _member(self, value: object) -> object:
        return value if value is None or isinstance(value, int | float) else self._short(str(value))

    def _short(self, text: str) -> str:
        return _shortened(self._redact, text)


def _shortened(clean: Callable[[str], str], text: str) -> str:
    """The start of `text`, cleaned. More than is shown is looked at, so that no half of a key is left at the end."""
    cleaned = clean(text[: 2 * MOST_CHARACTERS])
    return cleaned if len(cleaned) <= MOST_CHARACTERS else f"{cleaned[:MOST_CHARACTERS]}… (cut)"


def _printable(message: str) -> str:
    if message.isprintable():
        return message
    return UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", message)
