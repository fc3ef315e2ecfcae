"""The last requests, in memory, for admins: facts about each, never what was asked, answered or sent in a query."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from proxy.clients.keys import ClientKey
from proxy.clock import Clock, rfc3339
from proxy.feed import Feed
from proxy.redaction import Redaction, redact
from proxy.usage.counts import FIELDS, OUTCOMES
from proxy.usage.meter import Usage
from proxy.usage.request import Attempt, CutBy, RequestRecord

MOST = 5000
"""Requests that are kept: 1 kB each with one try, which takes 1.2 µs."""

MOST_AT_ONCE = 200
"""Requests that a dashboard gets in one frame: they may come faster than anyone reads."""

SHOWN = 256
"""Characters of a text that a client or the upstream chose."""

OUTCOME_NAMES = FIELDS[:OUTCOMES]
FAILED = "failed"
"""In place of an outcome: any but `ok`."""

ANY = "any"
"""In place of a failure."""

NO_TOKENS = (0, 0, 0, 0)


class Kept(NamedTuple):
    """One ended request. `number` counts from 1 since the start, or since the first of an earlier run that is kept.

    `at`, when it began, is in seconds since the epoch; the other times are of the monotonic clock. `tokens` are
    input, output, cache creation and cache read, None if nothing was used.
    """

    number: int
    request_id: str
    at: float
    began_at: float
    first_byte_at: float | None
    ended_at: float
    key_id: str
    key_name: str
    session_id: str | None
    model: str | None
    method: str
    path: str
    is_stream: bool
    tries: tuple[Attempt, ...]
    status: int
    outcome: str
    cut_by: CutBy | None
    error: str | None
    reason: str | None
    why: str | None
    moved: str | None
    answer_bytes: int
    tokens: tuple[int, int, int, int] | None
    estimated: bool
    cost_usd: float | None
    clean: Callable[[str], str]
    """What makes of a text one that may be shown."""

    is_inference: bool = False
    instance: str | None = None
    """Which one of several it was sent to."""

    @property
    def ttfb_ms(self) -> int | None:
        return None if self.first_byte_at is None else _ms(self.first_byte_at - self.began_at)

    @property
    def duration_ms(self) -> int:
        return _ms(self.ended_at - self.began_at)

    @property
    def end(self) -> float:
        """When it ended, in seconds since the epoch."""
        return self.at + self.ended_at - self.began_at

    @property
    def waited_ms(self) -> int:
        """Until the first byte, or the end if none came."""
        return self.duration_ms if self.ttfb_ms is None else self.ttfb_ms

    def view(self) -> dict[str, Any]:
        """As an admin sees it."""
        last = self.tries[-1] if self.tries else None
        tokens = self.tokens or (None,) * len(NO_TOKENS)
        return {
            "id": self.number,
            "request_id": self.request_id,
            "upstream_request_id": None if last is None else self.clean(last.request_id) or None,
            "at": rfc3339(self.at),
            "key_id": self.key_id,
            "key_name": self.key_name,
            "session_id": self.session_id,
            "account_id": None if last is None else last.account_id,
            "account_name": None if last is None else last.account_name,
            "model": self.model and self.clean(self.model),
            "method": self.clean(self.method),
            "path": self.clean(self.path),
            "stream": self.is_stream,
            "tries": [self._try(each) for each in self.tries],
            "why": self.why,
            "moved": self.moved,
            "status": self.status,
            "outcome": self.outcome,
            "cut_by": self.cut_by,
            "error": self.error,
            "reason": self.reason and self.clean(self.reason),
            "ttfb_ms": self.ttfb_ms,
            "duration_ms": self.duration_ms,
            "answer_bytes": self.answer_bytes,
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cache_creation_input_tokens": tokens[2],
            "cache_read_input_tokens": tokens[3],
            "estimated": self.estimated,
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 6),
            **({} if self.instance is None else {"instance": self.instance}),
        }

    def _try(self, tried: Attempt) -> dict[str, Any]:
        """`at_ms` counts from the request's beginning; an exchange that was cut lasted until the request's end."""
        ended_at = self.ended_at if tried.ended_at is None else tried.ended_at
        return {
            "account_id": tried.account_id,
            "account_name": tried.account_name,
            "status": tried.status,
            "verdict": tried.verdict,
            "failure": tried.failure,
            "evidence": self.clean(tried.evidence),
            "request_id": self.clean(tried.request_id) or None,
            "at_ms": _ms(tried.began_at - self.began_at),
            "ms": _ms(ended_at - tried.began_at),
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an admin asks for; what is None or empty leaves nothing out.

    `account` is one of those that were tried. `status` is a number, a class as `4xx`, an outcome, or FAILED. `slow_ms`
    is the least time to the first byte, or to the end if none came. `failure` is what a try failed at, one of
    `account` if that is named; or ANY. `search` is a part of an id of the request's or of the upstream's. `start` and
    `end`, in seconds since the epoch, are the span in which it ended, as charts count it.
    """

    key: str = ""
    account: str = ""
    session: str = ""
    model: str = ""
    status: str = ""
    slow_ms: int = 0
    retried: bool = False
    failure: str = ""
    search: str = ""
    start: float | None = None
    end: float | None = None

    def fits(self, kept: Kept) -> bool:
        return (
            (not self.key or kept.key_id == self.key)
            and (not self.session or kept.session_id == self.session)
            and (not self.model or kept.model == self.model)
            and (not self.account or any(tried.account_id == self.account for tried in kept.tries))
            and (not self.failure or any(map(self._has_failed, kept.tries)))
            and (not self.status or self._has_status(kept))
            and (not self.retried or len(kept.tries) > 1)
            and (not self.slow_ms or kept.waited_ms >= self.slow_ms)
            and (self.start is None or kept.end >= self.start)
            and (self.end is None or kept.end < self.end)
            and (not self.search or any(self.search in id for id in _ids(kept)))
        )

    def _has_failed(self, tried: Attempt) -> bool:
        failure = tried.failure
        return (
            failure is not None
            and self.failure in (failure, ANY)
            and (not self.account or tried.account_id == self.account)
        )

    def _has_status(self, kept: Kept) -> bool:
        wanted = self.status
        if wanted == FAILED:
            return kept.outcome != "ok"
        if wanted.endswith("xx"):
            return str(kept.status)[0] == wanted[0]
        return wanted in (kept.outcome, str(kept.status))


class RequestLog:
    """Keeps the last MOST requests, the newest of them numbered `newest`.

    Requests without a valid client key are left out: a flood of them would push out all others. The access log has
    them.
    """

    def __init__(self, feed: Feed, *, clock: Clock, redact: Redaction = redact) -> None:
        self._feed = feed
        self.redact_by(redact)
        self._clock = clock
        self._kept: deque[Kept] = deque(maxlen=MOST)
        self.newest = 0

    def redact_by(self, redact: Redaction) -> None:
        """Take secrets out of texts with this from now on."""
        # Most paths and models repeat.
        self.clean = lru_cache(maxsize=1024)(lambda text: redact(text)[:SHOWN])

    def keep(self, record: RequestRecord) -> None:
        """Keep what is to be known of an ended request: a sink, called after `price`."""
        key, ended_at = record.key, record.ended_at
        if key is not None and ended_at is not None:
            self._keep(self._kept_of(record, key, ended_at))

    def _keep(self, kept: Kept) -> None:
        self.newest = kept.number
        self._kept.append(kept)
        self._feed.touch("requests", "")

    def _kept_of(self, record: RequestRecord, key: ClientKey, ended_at: float) -> Kept:
        usage = record.usage
        return Kept(
            self.newest + 1,
            record.id,
            self._clock.now() + record.began_at - ended_at,
            record.began_at,
            record.first_byte_at,
            ended_at,
            key.id,
            key.name,
            record.session_id,
            record.model,
            record.method,
            record.path,
            record.is_stream,
            tuple(record.attempts),
            record.status,
            record.outcome,
            record.cut_by,
            record.error,
            record.reason,
            record.why,
            record.moved,
            record.answer_bytes,
            None if usage is None else _tokens(usage),
            usage is not None and usage.estimated,
            record.cost_usd,
            self.clean,
            record.is_inference,
        )

    async def told(self) -> None:
        """Return once all that have ended are here: at once, if no other instance has to hear of them."""

    def restore(self, kept: Sequence[Kept]) -> None:
        """Begin with the requests of an earlier run, oldest first, before there is any of this one.

        They are numbered without gaps, up to the number of the last one.
        """
        last = kept[-1].number if kept else 0
        self.newest = max(0, last - len(kept))
        for each in kept:
            self.newest += 1
            self._kept.append(each._replace(number=self.newest))

    def after(self, number: int) -> list[Kept]:
        """The requests after `number`, oldest first."""
        count = min(self.newest - number, len(self._kept))
        return [*islice(reversed(self._kept), count)][::-1]

    def find(self, wanted: Wanted, *, before: int | None = None, most: int = MOST) -> list[Kept]:
        """The newest requests that fit, newest first; only those with a lower number than `before`."""
        newest_first = reversed(self._kept)
        older = newest_first if before is None else (kept for kept in newest_first if kept.number < before)
        return list(islice(filter(wanted.fits, older), most))

    def one(self, id: str) -> Kept | None:
        """The request with this id, the upstream's id of one of its tries, or this number. None if it is not kept."""
        for kept in reversed(self._kept):
            if id in _ids(kept) or id == str(kept.number):
                return kept
        return None

    def since(self, number: int, most: int = MOST_AT_ONCE) -> Iterator[dict[str, Any]]:
        """Views of the newest requests after `number`, oldest first; each is made when it is asked for."""
        return (kept.view() for kept in self.after(max(number, self.newest - most)))


def _ids(kept: Kept) -> Iterator[str]:
    yield kept.request_id
    yield from (tried.request_id for tried in kept.tries)


def _tokens(usage: Usage) -> tuple[int, int, int, int]:
    """Those that are billed."""
    if not usage.iterations:
        return usage.input_tokens, usage.output_tokens, usage.cache_creation_tokens, usage.cache_read_tokens
    parts = [_tokens(each) for each in usage.iterations]
    a, b, c, d = (sum(numbers) for numbers in zip(*parts, strict=True))
    return a, b, c, d


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
