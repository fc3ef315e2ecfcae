"""The attempt loop of one request: choose an account, send, judge the answer, hand it over or try again.

Longer than other files: everything that an upstream's answer may lead to comes together in this loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from proxy.accounts.account import Account, Status
from proxy.accounts.lessons import Lessons, Teacher
from proxy.accounts.pool import InFlight, Pool
from proxy.accounts.refresh import Refresher
from proxy.clock import Clock
from proxy.errors import (
    BadGateway,
    GatewayTimeout,
    NotFound,
    RequestError,
    TokenRefused,
    TokenTrouble,
    Unavailable,
    UpstreamError,
    UpstreamGarbled,
    UpstreamLost,
    UpstreamSilent,
    without_frames,
)
from proxy.feed import Feed, Happened
from proxy.http import results_url
from proxy.http.body import Body
from proxy.http.decoding import TooLarge
from proxy.http.headers import NO_HEADERS, AnswerHeaders, ClientHeaders, Credential, without
from proxy.http.peek import Peek, peek
from proxy.http.target import Target
from proxy.upstream import echo, first_event
from proxy.upstream.driver import CurlClient
from proxy.upstream.error_body import MOST_BYTES as JUDGED_BYTES
from proxy.upstream.error_body import ApiError, read_error
from proxy.upstream.exchange import Exchange, Head, Header, Request
from proxy.upstream.retry_budget import RetryBudget
from proxy.upstream.unclassified import Unclassified
from proxy.upstream.verdict import JUDGED_BY_BODY, MESSAGES, Action, Asked, Verdict, judge, judge_early
from proxy.usage.request import LONGEST_ID, Attempt, RequestRecord

SHORT_WAIT_S = 5.0
"""A request waits itself for its only account to come back, up to this long."""

OFF_THE_LOOP_BYTES = 16 * 1024
"""An answer above this is rewritten in a thread."""

TELL_EVERY_S = 60.0
"""How often admins are told that the upstream echoes credentials."""

TOKEN_RETRY_S = 5.0
"""When a client may try again where no account has a live token, and none is limited."""

MOST_BETAS = 32
"""Of the betas that a client names, so many are remembered with what refuses them."""

SERVED = Verdict(Action.HAND_ON, "200")
NO_ERROR = ApiError()
NOT_ASKED = Asked()

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inbound:
    """A client's request; `origin` is as the client sees this proxy."""

    method: str
    target: Target
    headers: ClientHeaders
    body: Body | None
    origin: str
    _peeked: Peek | None = None

    def peek(self) -> Peek | Awaitable[Peek]:
        """What the proxy has to know of the body; to be awaited if it is not known at once."""
        if self._peeked is not None:
            return self._peeked
        found = peek(self.body, self.content_encoding)
        if not isinstance(found, Peek):
            return self._keep(found)
        self._peeked = found
        return found

    async def _keep(self, found: Awaitable[Peek]) -> Peek:
        self._peeked = await found
        return self._peeked

    def request(self, credential: Credential, *, may_resend: bool, proxy: str | None) -> Request:
        """The request as it goes upstream. Raises InvalidRequest if a header could not be sent."""
        headers = self.headers.to_upstream(credential)
        if self.target.holds_results_url:
            headers = [
                (n, results_url.readable_encodings(v) if n.lower() == "accept-encoding" else v)
                for n, v in headers
            ]
        body, size = (None, 0) if self.body is None else (self.body.open(), self.body.size)
        return Request(self.method, self.target.raw, headers, body, size, may_resend, proxy)

    @property
    def route(self) -> str:
        """MESSAGES, or the family of the path, such as `files`, `batches` or `count_tokens`."""
        segments = self.target.segments
        if segments == ("v1", "messages"):
            return MESSAGES if self.method == "POST" else "messages"
        return (segments[2] if segments[1] == "messages" else segments[1])[:64]

    @property
    def betas(self) -> tuple[str, ...]:
        """What `anthropic-beta` names, in lower case."""
        named = ",".join(self.headers.values("anthropic-beta")).lower().split(",", MOST_BETAS)
        return tuple(beta for part in named[:MOST_BETAS] if (beta := part.strip()))

    @property
    def content_encoding(self) -> str:
        """Of the body, as the client names it."""
        return ", ".join(self.headers.values("content-encoding"))


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how soon a request is tried again; times in seconds, `budget` as RetryBudget's share."""

    max_attempts: int
    base_delay_s: float
    max_delay_s: float
    jitter_max_s: float
    resend_posts: bool
    budget: float

    def delay_s(self, failures: int, rng: Random) -> float:
        """The wait after the `failures`-th failure: 1, 2, 4 … times the base up to the maximum, and jitter."""
        growing: float = self.base_delay_s * 2 ** (failures - 1)
        return min(self.max_delay_s, growing) + rng.uniform(0, self.jitter_max_s)


@dataclass(slots=True)
class Answer:
    """What the client gets: status and headers, then the body. `length` is the body's, None if it is not said.

    `framed`: HTTP says where the body ends. Otherwise its connection's end is its own, whether it was cut or not.
    """

    status: int
    reason: str
    headers: list[Header]
    length: int | None
    content_type: str
    content_encoding: str
    framed: bool
    source: Exchange | _Whole

    def start(self) -> bytes:
        """As much of the body as is there already."""
        return self.source.start()

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        """Hand the rest of the body to `take` as it comes; see `Exchange.pipe`. Raises UpstreamError if it was cut."""
        await self.source.pipe(take)

    def resume(self) -> None:
        """Go on after `take` returned False."""
        self.source.resume()


class _Whole:
    """A body that was read whole."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def start(self) -> bytes:
        return self._body

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        pass

    def resume(self) -> None:
        pass


class Relay:
    """Answers requests from the pool."""

    def __init__(
        self,
        pool: Pool,
        client: CurlClient,
        teacher: Teacher,
        refresher: Refresher,
        *,
        retry: Retry,
        unclassified: Unclassified,
        feed: Feed,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.pool = pool
        self.client = client
        self.teacher = teacher
        self.refresher = refresher
        self.retry = retry
        self.budget = RetryBudget(retry.budget)
        self.unclassified = unclassified
        self.clock = clock
        self.rng = rng
        self._feed = feed
        self._told_of_echo_at = -math.inf

    def open(self, inbound: Inbound, record: RequestRecord) -> Attempts:
        """`async with relay.open(…) as answer`: leaving the block frees the account and the upstream connection.

        Entering it raises RequestError if there is no answer to hand over. `record` is told of each attempt.
        """
        return Attempts(self, inbound, record)

    def echoed(self, account: Account, status: int) -> BadGateway:
        """Tell admins that the upstream sent an account's credential back; the error for the client."""
        log.error("upstream sent the credential back account=%s status=%d", account.id, status)
        now = self.clock.monotonic()
        if now - self._told_of_echo_at >= TELL_EVERY_S:
            self._told_of_echo_at = now
            text = (
                f"the upstream sent the credential of {account.name} back: an answer ({status}) was withheld"
            )
            self._feed.tell(Happened("upstream.echoed", text, "error"))
        return BadGateway("the upstream's answer was withheld: it held a credential", should_retry=False)


class Attempts:
    """All tries of one request, over all accounts, before the first byte reaches the client.

    Refusals that are about an account are no tries: the request meets each account at most once that way.
    """

    def __init__(self, relay: Relay, inbound: Inbound, record: RequestRecord) -> None:
        relay.budget.earn()
        self._relay = relay
        self._inbound = inbound
        self._record = record
        self._lessons = Lessons()
        self._tried: set[str] = set()
        self._tries = 0  # that failed for a reason that passes
        self._gives_up = False
        self._backs_off = False
        self._in_flight: InFlight | None = None
        self._exchange: Exchange | None = None
        self._last: tuple[Account, Exchange, Head, AnswerHeaders, Verdict] | None = None
        self._error: UpstreamError | None = None
        self._may_resend = relay.retry.resend_posts or inbound.method in ("GET", "HEAD")

    async def __aenter__(self) -> Answer:
        try:
            return await self._answer()
        except BaseException:
            self._let_go()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Free the account and the connection of the last try."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        if self._in_flight is not None:
            self._in_flight.close()
            self._in_flight = None

    async def _answer(self) -> Answer:
        while not self._gives_up:
            account = await self._next_account()
            if account is None:
                break
            account = await self._with_live_token(account)
            if account is None:
                continue
            answer = await self._try(account)
            if answer is not None:
                return answer
        return await self._last_word()

    async def _next_account(self) -> Account | None:
        pool, lessons = self._relay.pool, self._lessons
        if self._backs_off:
            self._backs_off = False
            await self._relay.clock.sleep(self._relay.retry.delay_s(self._tries, self._relay.rng))
        matters = await self._matters()
        again, lessons.again = lessons.again, None
        if again is not None and again in pool and pool[again].status is Status.ACTIVE:
            return pool[again]
        account = pool.choose(matters, refused=lessons.refused, later=self._tried)
        while account is None and await pool.probation_ended():
            account = pool.choose(matters, refused=lessons.refused, later=self._tried)
        if account is not None:
            return pool.take(account.id)
        return await self._recovered(matters) if self._record.attempts else None

    async def _recovered(self, matters: tuple[str, ...]) -> Account | None:
        """Wait for the only account to come back from a limit, if that is soon; such a wait counts as a try."""
        pool, lessons = self._relay.pool, self._lessons
        usable = [a for a in pool if a.works]
        wait_s = pool.recovers_in(matters, but=lessons.refused_for_good)
        if len(usable) != 1 or wait_s is None or wait_s > SHORT_WAIT_S:
            return None
        if self._tries + 1 >= self._relay.retry.max_attempts:
            return None
        self._tries += 1
        lessons.refused = lessons.refused_for_good
        await self._relay.clock.sleep(wait_s)
        account = pool.choose(matters, refused=lessons.refused)
        return None if account is None else pool.take(account.id)

    async def _matters(self) -> tuple[str, ...]:
        """What an account may be passed over for; empty as long as no account is for anything."""
        return (await self._asked()).matters if self._relay.pool.has_matters else ()

    async def _asked(self) -> Asked:
        """What the request asks for. Its body is looked at, if it was not yet."""
        inbound, record = self._inbound, self._record
        if record.model is None:
            wanted = inbound.peek()
            record.model = (wanted if isinstance(wanted, Peek) else await wanted).model
        return Asked(record.model, inbound.route, inbound.betas)

    async def _with_live_token(self, account: Account) -> Account | None:
        try:
            return await self._relay.refresher.usable(account)
        except (TokenRefused, TokenTrouble, NotFound) as error:
            log.warning("passed over without a live token account=%s reason=%s", account.id, error)
            self._relay.pool.answered(account.id)
            self._lessons.refused |= {account.id}
            self._lessons.token_error = without_frames(error)
            return None
        except BaseException:  # nobody else would end the probation that its choice began
            self._relay.pool.answered(account.id)
            raise

    async def _try(self, account: Account) -> Answer | None:
        relay = self._relay
        self._let_go()
        self._last = self._error = None
        attempt = Attempt(account.id, account.name, relay.clock.monotonic())
        self._record.attempts.append(attempt)
        self._tried.add(account.id)
        self._in_flight = relay.pool.begin(account.id)
        sent = account.sent
        exchange = relay.client.open(
            self._inbound.request(sent, may_resend=self._may_resend, proxy=account.proxy)
        )
        self._exchange = exchange
        try:
            head = await exchange.head()
            if sent.secret in head.text:
                relay.pool.failed(account.id)
                raise relay.echoed(account, head.status)
            headers = AnswerHeaders(head.headers)
            attempt.request_id = headers.get("request-id")[:LONGEST_ID]
            relay.pool.saw(account.id, headers)
            if head.status == 200 and exchange.begins_with(first_event.GOOD_STARTS):
                verdict = SERVED
            else:
                verdict = await self._judge(account, exchange, head.status, headers)
        except UpstreamError as error:
            attempt.end(0, type(error).__name__, str(error), relay.clock.monotonic())
            self._upstream_failed(account, error)
            return None
        attempt.end(head.status, verdict.action.value, verdict.evidence, relay.clock.monotonic())
        if verdict.action is Action.HAND_ON:
            relay.pool.answered(account.id)
            if verdict is SERVED and (self._lessons.held or relay.pool.has_refusals):
                relay.teacher.served(self._lessons, account.id, await self._matters())
            return await self._hand_over(account, exchange, head, headers)
        relay.pool.failed(account.id)
        self._last = (account, exchange, head, headers, verdict)
        await self._learn(account, verdict)
        relay.pool.answered(account.id)
        return None

    async def _judge(
        self, account: Account, exchange: Exchange, status: int, headers: AnswerHeaders
    ) -> Verdict:
        """Say what an answer means, by its first bytes if there are to be any. Raises UpstreamError."""
        error, found = NO_ERROR, status
        encoding = headers.get("content-encoding")
        if status in JUDGED_BY_BODY:
            start = await _start_of(exchange, JUDGED_BYTES)
            exchange.put_back(start)
            error = read_error(start, encoding, headers.get("content-type"))
        elif 200 <= status <= 299 and status != 204:
            early = await _early_error(exchange, headers, self._inbound.route)
            if early is None:
                return SERVED
            error, found = early, first_event.status_of(early)
        if 400 <= found <= 499:
            self._relay.unclassified.note(found, error)
        asked = await self._asked() if found in JUDGED_BY_BODY else NOT_ASKED
        now = self._relay.clock.now()
        verdict = judge(found, headers, error, account_kind=account.type, asked=asked, now=now)
        return verdict if found == status else judge_early(error, verdict)

    async def _learn(self, account: Account, verdict: Verdict) -> None:
        """Tell the pool what the answer means for the account, and this request where not to go again."""
        if verdict.action is Action.RETRY:
            self._failed_for_now()
        else:
            await self._relay.teacher.teach(self._lessons, account, verdict)
        log.info(
            "attempt failed account=%s attempt=%d action=%s evidence=%s",
            account.id,
            len(self._record.attempts),
            verdict.action.value,
            verdict.evidence,
        )

    def _upstream_failed(self, account: Account, error: UpstreamError) -> None:
        self._relay.pool.answered(account.id)
        self._relay.pool.failed(account.id)
        log.warning(
            "attempt failed account=%s attempt=%d error=%s", account.id, len(self._record.attempts), error
        )
        if (final := _final(error, may_resend=self._may_resend)) is not None:
            raise final from error
        self._error = without_frames(error)
        self._failed_for_now()

    def _failed_for_now(self) -> None:
        """Count a try that failed for a reason that passes; the last one is the last word."""
        self._tries += 1
        self._backs_off = True
        if self._tries >= self._relay.retry.max_attempts:
            self._gives_up = True
        elif not self._relay.budget.spend():
            self._gives_up = True
            log.info("no further try, retry.budget is spent request=%s", self._record.id)

    async def _hand_over(
        self, account: Account, exchange: Exchange, head: Head, answered: AnswerHeaders
    ) -> Answer:
        if head.status >= 400:
            await _look_through(self._relay, account, exchange, head.status, answered.get("content-encoding"))
        headers = answered.for_client(account.name, len(self._record.attempts))
        answer = await _answer(self._inbound, exchange, head, answered, headers)
        self._inbound.headers = NO_HEADERS  # nothing is sent again from here, and a stream may last for hours
        return answer

    async def _last_word(self) -> Answer:
        """What is left when every try failed: the upstream's own answer, or why there is none."""
        pool, lessons, matters = self._relay.pool, self._lessons, await self._matters()
        if self._error is not None:
            what = "answer was cut" if isinstance(self._error, UpstreamLost) else "server cannot be reached"
            raise BadGateway(f"the upstream's {what}: {self._error}") from self._error
        if self._last is None:
            if isinstance(lessons.token_error, TokenTrouble) and pool.recovers_in(matters) is None:
                raise Unavailable(
                    f"no account has a live token: {lessons.token_error}", retry_after_s=TOKEN_RETRY_S
                )
            raise pool.exhausted(matters)
        account, exchange, head, headers, verdict = self._last
        if not any(a.works for a in pool):
            raise pool.exhausted(matters)
        passes = verdict.action is Action.RETRY or verdict.is_throttle
        if not passes and pool.recovers_in(matters, but=lessons.refused_for_good) is not None:
            # An account that rests has not refused this request for good: the client is told when to come back.
            raise pool.exhausted(matters, but=lessons.refused_for_good)
        if verdict.action in (Action.REFRESH_THEN_NEXT, Action.CONFIRM_KEY_THEN_NEXT):
            # The client's own key is fine: a 401 would say otherwise, and clients would ask for another.
            raise Unavailable(
                f"no account's credential is accepted: {verdict.evidence}", retry_after_s=TOKEN_RETRY_S
            )
        return await self._hand_over(account, exchange, head, headers)


def _final(error: UpstreamError, *, may_resend: bool) -> RequestError | None:
    """What the client is told of an error after which no other try follows; None if one may."""
    if isinstance(error, UpstreamSilent):
        return GatewayTimeout(f"the upstream is silent: {error}", should_retry=False)
    if isinstance(error, UpstreamGarbled):
        return BadGateway(f"the upstream's answer cannot be read: {error}")
    if isinstance(error, UpstreamLost) and not may_resend:
        return BadGateway(f"the connection to the upstream was lost after the request was sent: {error}")
    return None


async def _early_error(exchange: Exchange, headers: AnswerHeaders, route: str) -> ApiError | None:
    """Wait for the first byte of a good answer, and for the first event of a streamed message.

    The head is sent with it: until then, another account may answer. Any other stream may be silent for long.
    """
    is_stream = headers.get("content-type").lower().startswith("text/event-stream")
    if is_stream and route != MESSAGES:
        return None
    if not await exchange.begun():
        if route == MESSAGES and headers.length is None and not headers.is_chunked:
            raise UpstreamLost("its connection ended before the first byte of the message")
        return None
    return await first_event.early_error(exchange, headers.get("content-encoding")) if is_stream else None


async def _start_of(exchange: Exchange, enough_bytes: int) -> bytes:
    """The start of a body, or what came before it was cut: whoever reads on is told of the cut."""
    start = bytearray()
    with contextlib.suppress(UpstreamError):
        while len(start) < enough_bytes and (data := await exchange.read()):
            start += data
    return bytes(start)


async def _look_through(
    relay: Relay, account: Account, exchange: Exchange, status: int, encoding: str
) -> None:
    """Raise BadGateway if an error's body holds the credential, or may: there is too much of it."""
    body = await _start_of(exchange, echo.MOST_BYTES)
    try:
        if len(body) >= echo.MOST_BYTES:
            raise TooLarge
        if echo.holds(account.sent.secret, body, encoding):
            raise relay.echoed(account, status)
    except TooLarge:
        raise BadGateway(f"the body of the upstream's error {status} is too large") from None
    exchange.put_back(body)


async def _answer(
    inbound: Inbound, exchange: Exchange, head: Head, answered: AnswerHeaders, headers: list[Header]
) -> Answer:
    """What the client gets of an upstream's answer. Raises BadGateway if one that is read whole was cut."""
    length = answered.length
    source: Exchange | _Whole = exchange
    if inbound.target.holds_results_url and inbound.method != "HEAD" and head.status == 200:
        try:
            body = await _rewritten(exchange, answered, inbound.origin)
        except UpstreamError as error:
            raise BadGateway(f"the upstream's answer was cut: {error}") from error
        except TooLarge as error:
            raise BadGateway(f"the upstream's list of batches is too large: {error}") from error
        length, source = len(body), _Whole(body)
        headers = without(headers, {"content-length"})
        headers.append(("content-length", str(length)))
    elif head.status == 204 and length:  # false (RFC 9110 §8.6), and its bytes would be missed
        headers = without(headers, {"content-length"})
    kind, encoding = answered.get("content-type"), answered.get("content-encoding")
    framed = length is not None or answered.is_chunked
    return Answer(head.status, head.reason, headers, length, kind, encoding, framed, source)


async def _rewritten(exchange: Exchange, headers: AnswerHeaders, origin: str) -> bytes:
    body = bytearray()
    while len(body) <= results_url.MOST_BYTES and (data := await exchange.read()):
        body += data
    encoding = headers.get("content-encoding").lower()
    if len(body) <= OFF_THE_LOOP_BYTES:
        return results_url.rewrite(bytes(body), encoding, origin)
    return await asyncio.to_thread(results_url.rewrite, bytes(body), encoding, origin)
