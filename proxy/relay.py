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
from typing import TypeVar

from proxy.accounts.account import Account, OAuthTokens, Status
from proxy.accounts.pool import InFlight, Pool
from proxy.accounts.probe import Probe
from proxy.accounts.refresh import Refresher
from proxy.clock import Clock
from proxy.errors import (
    BadGateway,
    GatewayTimeout,
    NotFound,
    ProxyError,
    RateLimited,
    TokenRefused,
    TokenTrouble,
    Unavailable,
    UpstreamError,
    UpstreamGarbled,
    UpstreamLost,
    UpstreamSilent,
)
from proxy.feed import Feed, Happened
from proxy.http import results_url
from proxy.http.body import Body
from proxy.http.decoding import TooLarge
from proxy.http.headers import NO_HEADERS, AnswerHeaders, ClientHeaders, Credential, without
from proxy.http.peek import Peek, peek
from proxy.http.target import Target
from proxy.upstream import echo
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Exchange, Head, Header, Request
from proxy.upstream.verdict import Action, Verdict, judge
from proxy.usage.request import Attempt, RequestRecord

SHORT_WAIT_S = 5.0
"""A request waits itself for its only account to come back, up to this long."""

JUDGED_BYTES = 64 * 1024

OFF_THE_LOOP_BYTES = 16 * 1024
"""An answer above this is rewritten in a thread."""

TELL_EVERY_S = 60.0
"""How often admins are told that the upstream echoes credentials."""

JUDGED_BY_BODY = (400, 401, 402, 403, 429)

TOKEN_RETRY_S = 5.0
"""When a client may try again where no account has a live token, and none is limited."""

E = TypeVar("E", bound=ProxyError)

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

    def request(self, credential: Credential, *, may_resend: bool) -> Request:
        """The request as it goes upstream. Raises InvalidRequest if a header could not be sent."""
        headers = self.headers.to_upstream(credential)
        if self.target.holds_results_url:
            headers = [
                (n, results_url.readable_encodings(v) if n.lower() == "accept-encoding" else v)
                for n, v in headers
            ]
        body, size = (None, 0) if self.body is None else (self.body.open(), self.body.size)
        return Request(self.method, self.target.raw, headers, body, size, may_resend=may_resend)

    @property
    def content_encoding(self) -> str:
        """Of the body, as the client names it."""
        return ", ".join(self.headers.values("content-encoding"))


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how soon a request is tried again; times in seconds."""

    max_attempts: int
    base_delay_s: float
    max_delay_s: float
    jitter_max_s: float
    resend_posts: bool

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
        probe: Probe,
        refresher: Refresher,
        *,
        retry: Retry,
        rate_limit_default_s: float,
        feed: Feed,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.pool = pool
        self.client = client
        self.probe = probe
        self.refresher = refresher
        self.retry = retry
        self.rate_limit_default_s = rate_limit_default_s
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
    """All tries of one request, over all accounts, before the first byte reaches the client."""

    def __init__(self, relay: Relay, inbound: Inbound, record: RequestRecord) -> None:
        self._relay = relay
        self._inbound = inbound
        self._record = record
        self._refused: set[str] = set()
        self._tried: set[str] = set()
        self._failures = 0
        self._backs_off = False
        self._again: str | None = None
        self._replayed: set[str] = set()
        self._token_error: ProxyError | None = None
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
        while len(self._record.attempts) < self._relay.retry.max_attempts:
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
        pool = self._relay.pool
        if self._backs_off:
            self._backs_off = False
            await self._relay.clock.sleep(self._relay.retry.delay_s(self._failures, self._relay.rng))
        if pool.has_model_limits():
            await self._learn_model()
        again, self._again = self._again, None
        if again is not None and again in pool and pool[again].status is Status.ACTIVE:
            return pool[again]
        account = pool.choose(self._record.model, refused=self._refused, later=self._tried)
        while account is None and await pool.probation_ended():
            account = pool.choose(self._record.model, refused=self._refused, later=self._tried)
        if account is not None:
            return pool.take(account.id)
        if not self._record.attempts:
            return None
        wait_s = pool.recovers_in(self._record.model)
        usable = [a for a in pool if a.works]
        if wait_s is None or wait_s > SHORT_WAIT_S or len(usable) != 1 or usable[0].id in self._refused:
            return None
        await self._relay.clock.sleep(wait_s)
        account = pool.choose(self._record.model, refused=self._refused)
        return None if account is None else pool.take(account.id)

    async def _with_live_token(self, account: Account) -> Account | None:
        try:
            return await self._relay.refresher.usable(account)
        except (TokenRefused, TokenTrouble, NotFound) as error:
            log.warning("passed over without a live token account=%s reason=%s", account.id, error)
            self._relay.pool.answered(account.id)
            self._refused.add(account.id)
            self._token_error = _without_frames(error)
            return None
        except BaseException:  # nobody else would end the probation that its choice began
            self._relay.pool.answered(account.id)
            raise

    async def _try(self, account: Account) -> Answer | None:
        relay = self._relay
        self._let_go()
        self._last = self._error = None
        attempt = Attempt(account.id, account.name)
        self._record.attempts.append(attempt)
        self._tried.add(account.id)
        self._in_flight = relay.pool.begin(account.id)
        sent = account.sent
        exchange = relay.client.open(self._inbound.request(sent, may_resend=self._may_resend))
        self._exchange = exchange
        try:
            head = await exchange.head()
            start = b""
            if head.status in JUDGED_BY_BODY:
                start = await _start_of(exchange, JUDGED_BYTES)
        except UpstreamError as error:
            attempt.verdict = type(error).__name__
            self._upstream_failed(account, error)
            return None
        if sent.secret in head.text:
            relay.pool.failed(account.id)
            raise relay.echoed(account, head.status)
        headers = AnswerHeaders(head.headers)
        relay.pool.saw(account.id, headers)
        verdict = await self._judge(account, head.status, headers, start)
        attempt.status, attempt.verdict = head.status, verdict.action.value
        exchange.put_back(start)
        if verdict.action is Action.HAND_ON:
            relay.pool.answered(account.id)
            return await self._hand_over(account, exchange, head, headers)
        relay.pool.failed(account.id)
        self._last = (account, exchange, head, headers, verdict)
        await self._learn(account, verdict)
        relay.pool.answered(account.id)
        return None

    async def _judge(self, account: Account, status: int, headers: AnswerHeaders, start: bytes) -> Verdict:
        if status == 429:
            await self._learn_model()
        now, model = self._relay.clock.now(), self._record.model
        return judge(status, headers, start, account_kind=account.type, model=model, now=now)

    async def _learn_model(self) -> None:
        """Look which model is asked for, if that is not known yet."""
        if self._record.model is None:
            wanted = self._inbound.peek()
            self._record.model = (wanted if isinstance(wanted, Peek) else await wanted).model

    async def _learn(self, account: Account, verdict: Verdict) -> None:
        """Tell the pool what the answer means for the account, and this request where not to go again."""
        pool, now = self._relay.pool, self._relay.clock.now()
        match verdict.action:
            case Action.BENCH_THEN_NEXT:
                until = verdict.limited_until or now + self._relay.rate_limit_default_s
                pool.limit(account.id, until, verdict.evidence)
            case Action.SKIP_MODEL_THEN_NEXT:
                self._refused.add(account.id)
                # Without a time it is this request that is refused (long context needs credit), not the model.
                if verdict.model is not None and verdict.limited_until is not None:
                    pool.limit_model(account.id, verdict.model, verdict.limited_until, verdict.evidence)
            case Action.CONFIRM_KEY_THEN_NEXT:
                self._refused.add(account.id)
                known = any(a.id == account.id and a.status is Status.INVALID for a in pool)
                refused = not known and await self._relay.probe.works(account) is False
                if refused and pool.is_current(account):  # a new key may have come meanwhile
                    pool.invalidate(account.id, f"{verdict.evidence}, confirmed by GET /v1/models")
            case Action.REFRESH_THEN_NEXT:
                await self._renew(account, verdict)
            case Action.NEXT_ACCOUNT:
                self._refused.add(account.id)
                if verdict.invalid_reason is not None and pool.is_current(account):
                    pool.invalidate(account.id, verdict.invalid_reason)
            case Action.RETRY:
                self._failed_for_now()
        log.info(
            "attempt failed account=%s attempt=%d action=%s evidence=%s",
            account.id,
            len(self._record.attempts),
            verdict.action.value,
            verdict.evidence,
        )

    async def _renew(self, account: Account, verdict: Verdict) -> None:
        """The API refuses an access token: one forced refresh and one replay; a fresh one refused is the end."""
        pool, refresher = self._relay.pool, self._relay.refresher
        assert isinstance(account.credential, OAuthTokens)
        used = account.credential.access_token
        renewed = account.id in pool and not pool.is_current(account)
        if account.id not in self._replayed and (renewed or not refresher.is_fresh(account)):
            self._replayed.add(account.id)
            try:
                await refresher.refresh(account.id, failed=used)
            except (TokenRefused, TokenTrouble, NotFound) as error:
                self._token_error = _without_frames(error)
            else:
                self._again = account.id
                return
        elif await self._relay.probe.works(account) is False and pool.is_current(account):
            pool.invalidate(
                account.id, f"a fresh token is refused: {verdict.evidence}, confirmed by GET /v1/models"
            )
        self._refused.add(account.id)

    def _upstream_failed(self, account: Account, error: UpstreamError) -> None:
        self._relay.pool.answered(account.id)
        self._relay.pool.failed(account.id)
        log.warning(
            "attempt failed account=%s attempt=%d error=%s", account.id, len(self._record.attempts), error
        )
        if isinstance(error, UpstreamSilent):
            raise GatewayTimeout(f"the upstream is silent: {error}", should_retry=False) from error
        if isinstance(error, UpstreamGarbled):
            raise BadGateway(f"the upstream's answer cannot be read: {error}") from error
        if isinstance(error, UpstreamLost) and not self._may_resend:
            raise BadGateway(
                f"the connection to the upstream was lost after the request was sent: {error}"
            ) from error
        self._error = _without_frames(error)
        self._failed_for_now()

    def _failed_for_now(self) -> None:
        self._failures += 1
        self._backs_off = True

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
        pool = self._relay.pool
        if self._error is not None:
            raise BadGateway(f"the upstream cannot be reached: {self._error}") from self._error
        if self._last is None:
            if isinstance(self._token_error, TokenTrouble) and pool.recovers_in(self._record.model) is None:
                raise Unavailable(
                    f"no account has a live token: {self._token_error}", retry_after_s=TOKEN_RETRY_S
                )
            raise pool.exhausted(self._record.model)
        account, exchange, head, headers, verdict = self._last
        # A model passed over without a time is a matter of the request itself: the upstream's words say which.
        if verdict.action is Action.BENCH_THEN_NEXT or verdict.limited_until is not None:
            if not pool.has_usable(self._record.model):
                raise pool.exhausted(self._record.model)
            raise RateLimited(
                f"{len(self._record.attempts)} accounts in a row are rate limited", retry_after_s=1
            )
        if not any(a.works for a in pool):
            raise pool.exhausted(self._record.model)
        if verdict.action in (Action.REFRESH_THEN_NEXT, Action.CONFIRM_KEY_THEN_NEXT):
            # The client's own key is fine: a 401 would say otherwise, and clients would ask for another.
            raise Unavailable(
                f"no account's credential is accepted: {verdict.evidence}", retry_after_s=TOKEN_RETRY_S
            )
        return await self._hand_over(account, exchange, head, headers)


def _without_frames(error: E) -> E:
    """An error to be kept by what raised it: its frames refer back, and with a cycle memory would wait."""
    return error.with_traceback(None)


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
    framed = length is not None or "chunked" in answered.get("transfer-encoding").lower()
    return Answer(head.status, head.reason, headers, length, kind, encoding, framed, source)


async def _rewritten(exchange: Exchange, headers: AnswerHeaders, origin: str) -> bytes:
    body = bytearray()
    while len(body) <= results_url.MOST_BYTES and (data := await exchange.read()):
        body += data
    encoding = headers.get("content-encoding").lower()
    if len(body) <= OFF_THE_LOOP_BYTES:
        return results_url.rewrite(bytes(body), encoding, origin)
    return await asyncio.to_thread(results_url.rewrite, bytes(body), encoding, origin)
