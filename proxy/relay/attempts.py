"""The attempt loop of one request: choose an account, send, judge the answer, hand it over or try again.

Longer than other files: everything that an upstream's answer may lead to comes together in this loop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from random import Random

from proxy.accounts.account import Account, Status
from proxy.accounts.affinity import Affinity, Asking, Placement
from proxy.accounts.exhausted import TOKEN_RETRY_S, name_of, none_left, unreached
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
    UpstreamUnreachable,
    without_frames,
)
from proxy.feed import Feed, Happened
from proxy.http.decoding import TooLarge
from proxy.http.headers import NO_HEADERS, AnswerHeaders
from proxy.http.peek import Peek
from proxy.relay.answer import Answer, answer_of
from proxy.relay.inbound import Inbound
from proxy.relay.judging import SERVED, judged, start_of
from proxy.relay.learning import learn, may_teach
from proxy.upstream import echo, first_event
from proxy.upstream.driver import CurlClient
from proxy.upstream.exchange import Exchange, Head
from proxy.upstream.retry_budget import RetryBudget
from proxy.upstream.unclassified import Unclassified
from proxy.upstream.verdict import OWN_PROXY, Action, Asked, Verdict, by_any_way
from proxy.usage.request import LONGEST_ID, Attempt, RequestRecord

SHORT_WAIT_S = 5.0
"""A request waits itself for its only account to come back, up to this long."""

TELL_EVERY_S = 60.0
"""How often admins are told that the upstream echoes credentials."""

TRIES_AT_HOME = 2
"""A conversation is tried so often with its own account when the upstream fails, before it goes to another."""

ALL = slice(None)
"""All tries of a request that are open."""

log = logging.getLogger(__name__)


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


class Means:
    """What the tries of all requests share."""

    def __init__(
        self,
        pool: Pool,
        client: CurlClient,
        teacher: Teacher,
        refresher: Refresher,
        affinity: Affinity,
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
        self.affinity = affinity
        self.retry = retry
        self.budget = RetryBudget(retry.budget)
        self.unclassified = unclassified
        self.clock = clock
        self.rng = rng
        self._feed = feed
        self._told_of_echo_at = -math.inf

    async def judge(
        self,
        account: Account,
        exchange: Exchange,
        status: int,
        headers: AnswerHeaders,
        asked_for: Callable[[], Awaitable[Asked]],
    ) -> Verdict:
        """Say what an answer means. Raises UpstreamError."""
        if status == 200 and exchange.begins_with(first_event.GOOD_STARTS):
            return SERVED
        now, unclassified = self.clock.now(), self.unclassified
        return await judged(
            exchange,
            status,
            headers,
            kind=account.type,
            asked_for=asked_for,
            unclassified=unclassified,
            now=now,
        )

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


class Patience:
    """How often a request has been tried in vain for a reason that passes, and whether it is tried again."""

    __slots__ = ("_means", "_request_id", "backs_off", "failures", "is_over")

    def __init__(self, means: Means, request_id: str) -> None:
        self._means = means
        self._request_id = request_id
        self.backs_off = False
        self.failures = 0
        self.is_over = False

    def failed(self) -> None:
        """Count a try; the last one is the last word."""
        self.failures += 1
        self.backs_off = True
        if self.failures >= self._means.retry.max_attempts:
            self.is_over = True
        elif not self._means.budget.spend():
            self.is_over = True
            log.info("no further try, retry.budget is spent request=%s", self._request_id)

    def allows_wait(self) -> bool:
        """Whether the request may wait for an account to come back, which counts as a try."""
        if self.failures + 1 >= self._means.retry.max_attempts:
            return False
        self.failures += 1
        return True

    async def rest(self) -> None:
        """Wait before the next try."""
        self.backs_off = False
        await self._means.clock.sleep(self._means.retry.delay_s(self.failures, self._means.rng))


class Attempts:
    """All tries of one request, over all accounts, before the first byte reaches the client.

    Refusals that are about an account are no tries: the request meets each account at most once that way.
    """

    def __init__(
        self,
        means: Means,
        inbound: Inbound,
        record: RequestRecord,
        asking: Asking | None,
        placement: Placement,
    ) -> None:
        means.budget.earn()
        self._means = means
        self._inbound = inbound
        self._record = record
        self._asking = asking
        self._placement = placement
        self._tags = () if record.key is None else record.key.tags
        self._lessons = Lessons()
        self._tried: set[str] = set()
        self._patience = Patience(means, record.id)
        self._open: list[tuple[Exchange, InFlight]] = []
        self._last: tuple[Account, Exchange, Head, AnswerHeaders, Verdict] | None = None
        self._error: UpstreamError | None = None
        self._may_resend = means.retry.resend_posts or inbound.method in ("GET", "HEAD")

    async def __aenter__(self) -> Answer:
        try:
            return await self._answer()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self, tries: slice = ALL) -> None:
        """Free the accounts and the connections of these tries, all if none are named."""
        closing, self._open[tries] = self._open[tries], []
        for exchange, in_flight in closing:
            exchange.close()
            in_flight.close()

    async def _answer(self) -> Answer:
        while not self._patience.is_over and (account := await self._next_account()) is not None:
            live = await self._with_live_token(account)
            answer = None if live is None else await self._try(live)
            if answer is not None:
                return answer
        return await self._last_word()

    async def _next_account(self) -> Account | None:
        pool, lessons = self._means.pool, self._lessons
        if self._patience.backs_off:
            await self._patience.rest()
        matters = await self._matters()
        again, lessons.again = lessons.again, None
        if again is not None and again in pool and pool[again].status is Status.ACTIVE:
            return pool[again]
        account = self._choose(matters)
        while account is None and await pool.probation_ended():
            account = self._choose(matters)
        if account is None and (self._last is None or not _may_pass(self._last[-1])):  # no other can be asked
            account = self._choose(by_any_way(matters))
        if account is not None:
            return pool.take(account.id, new=account.id != self._placement.account_id)
        return await self._recovered(matters) if self._record.attempts else None

    def _choose(self, matters: tuple[str, ...]) -> Account | None:
        """The account that the request belongs to, if there is one, for as long as it can be asked; else the next."""
        pool, affinity, placement = self._means.pool, self._means.affinity, self._placement
        belongs_to, refused = affinity.account_of(placement), self._lessons.refused
        tries = sum(each.account_id == belongs_to for each in self._record.attempts) if self._tried else 0
        may = placement.strict or tries < (TRIES_AT_HOME if placement.is_long else 1)
        chosen = None
        if belongs_to and may and belongs_to not in refused and pool.is_usable(belongs_to, matters):
            chosen = pool[belongs_to]
        elif not placement.strict:
            chosen = pool.choose(matters, refused=refused, later=self._tried, tags=self._tags)
        if chosen is not None and (placement.makes or chosen.id != belongs_to):
            affinity.begun(placement, chosen.id)
        return chosen

    async def _recovered(self, matters: tuple[str, ...]) -> Account | None:
        """Wait for the only account to come back from a limit, if that is soon; such a wait counts as a try."""
        pool, lessons = self._means.pool, self._lessons
        wait_s = pool.recovers_in(matters, but=lessons.refused_for_good | self._barred)
        if self._working != 1 or wait_s is None or wait_s > SHORT_WAIT_S or not self._patience.allows_wait():
            return None
        lessons.refused = lessons.refused_for_good
        await self._means.clock.sleep(wait_s)
        account = self._choose(matters)
        return None if account is None else pool.take(account.id)

    @property
    def _barred(self) -> Set[str]:
        """The ids of the accounts that may not be asked, whatever they would say."""
        if self._placement.only is not None:
            return {account.id for account in self._means.pool} - {self._placement.only}
        return {a.id for a in self._means.pool if not a.serves(self._tags)} if self._tags else frozenset()

    @property
    def _working(self) -> int:
        """The number of accounts that may be asked, now or after a limit."""
        barred = self._barred
        return sum(a.works and a.id not in barred for a in self._means.pool)

    async def _matters(self) -> tuple[str, ...]:
        """What an account may be passed over for; empty as long as no account is for anything."""
        return (await self._asked()).matters if self._means.pool.cooldowns.any_matter else ()

    async def _asked(self) -> Asked:
        """What the request asks for. Its body is looked at, if it was not yet."""
        inbound, record = self._inbound, self._record
        if record.model is None:
            wanted = inbound.peek()
            record.model = (wanted if isinstance(wanted, Peek) else await wanted).model
        return Asked(record.model, inbound.route, inbound.betas)

    async def _with_live_token(self, account: Account) -> Account | None:
        try:
            return await self._means.refresher.usable(account)
        except (TokenRefused, TokenTrouble, NotFound) as error:
            log.warning("passed over without a live token account=%s reason=%s", account.id, error)
            self._means.pool.answered(account.id)
            self._lessons.refused |= {account.id}
            self._lessons.lacks_token(error)
            return None
        except BaseException:  # nobody else would end the probation that its choice began
            self._means.pool.answered(account.id)
            raise

    async def _try(self, account: Account) -> Answer | None:
        means = self._means
        if account.proxy is None:  # else the answer before is the last word, if the proxy leads nowhere
            self.close()
            self._last = None
        self._error = None
        attempt = Attempt(account.id, account.name, means.clock.monotonic())
        self._record.attempts.append(attempt)
        self._tried.add(account.id)
        sent = account.sent
        request = self._inbound.request(sent, may_resend=self._may_resend, proxy=account.proxy)
        exchange = means.client.open(request)
        self._open.append((exchange, means.pool.begin(account.id)))
        try:
            head = await exchange.head()
            self.close(slice(-1))  # of the answer before, whose place this one takes
            self._last = None
            if sent.secret in head.text:
                means.pool.failed(account.id)
                raise means.echoed(account, head.status)
            headers = AnswerHeaders(head.lines)
            attempt.request_id = headers.get("request-id")[:LONGEST_ID]
            means.pool.saw(account, headers)
            verdict = await means.judge(account, exchange, head.status, headers, self._asked)
        except UpstreamError as error:
            attempt.end(0, type(error).__name__, str(error), means.clock.monotonic())
            await self._upstream_failed(account, error)
            return None
        attempt.end(head.status, verdict.action.value, verdict.evidence, means.clock.monotonic())
        if verdict.action is Action.HAND_ON:
            means.pool.answered(account.id)
            if verdict is SERVED and (self._lessons.held or means.pool.has_refusals):
                means.teacher.served(self._lessons, account.id, await self._matters())
            return await self._hand_over(account, exchange, head, headers)
        means.pool.failed(account.id)
        self._last = (account, exchange, head, headers, verdict)
        await self._learn(account, verdict)
        means.pool.answered(account.id)
        return None

    async def _learn(self, account: Account, verdict: Verdict) -> None:
        """Tell the pool what the answer means for the account, and this request where not to go again."""
        if verdict.action is Action.RETRY:
            self._patience.failed()
        else:
            await self._means.teacher.teach(self._lessons, account, verdict)
        told, count = "attempt failed account=%s attempt=%d action=%s evidence=%s", len(self._record.attempts)
        log.info(told, account.id, count, verdict.action.value, verdict.evidence)

    async def _upstream_failed(self, account: Account, error: UpstreamError) -> None:
        self._means.pool.answered(account.id)
        self._means.pool.failed(account.id)
        told, count = "attempt failed account=%s attempt=%d error=%s", len(self._record.attempts)
        log.warning(told, account.id, count, error)
        if (final := _final(error, may_resend=self._may_resend)) is not None:
            raise final from error
        self.close(slice(-1, None))
        verdict = _of_its_own_proxy(account, error)
        if verdict is None:  # the answer before is not the last word: this account was reached
            self.close()
            self._last = None
        if verdict is None or not await self._goes_on_without(account):
            self._error = without_frames(error)
            self._patience.failed()
        elif self._placement.is_long and self._may_be_a_blip(account):
            self._patience.backs_off = True  # nothing of the budget is taken: another account could be asked
        else:
            await self._means.teacher.teach(self._lessons, account, verdict)

    async def _goes_on_without(self, account: Account) -> bool:
        """Whether another account can be asked, or one that may later and this one's own proxy is known to be down."""
        if self._working < 2:
            return False
        pool, refused = self._means.pool, self._lessons.refused | {account.id}
        other = pool.choose(await self._matters(), refused=refused, tags=self._tags)
        return other is not None or pool.cooldowns.is_lost(account.id)

    def _may_be_a_blip(self, account: Account) -> bool:
        """Whether the account's own proxy has failed this request once, at once, and others not again and again."""
        tries = [each.began_at for each in self._record.attempts if each.account_id == account.id]
        hung = self._means.clock.monotonic() - tries[-1] > SHORT_WAIT_S
        return len(tries) < TRIES_AT_HOME and not hung and not self._means.pool.cooldowns.is_lost(account.id)

    async def _hand_over(
        self, account: Account, exchange: Exchange, head: Head, answered: AnswerHeaders
    ) -> Answer:
        if head.status >= 400:
            await _look_through(self._means, account, exchange, head.status, answered.get("content-encoding"))
        headers = answered.for_client(account.name, len(self._record.attempts))
        answer = await answer_of(self._inbound, exchange, head, answered, headers)
        if head.status < 300:
            failed = self._patience.failures > 0
            moved = self._means.affinity.answered(self._placement, account.id, failed=failed)
            self._record.moved, self._record.stayed = moved, self._placement.is_later and moved is None
            if self._asking is not None and may_teach(self._asking):
                await learn(self._means.affinity, self._asking, account.id, answer)
        self._inbound.headers = NO_HEADERS  # nothing is sent again from here, and a stream may last for hours
        return answer

    async def _last_word(self) -> Answer:
        """What is left when every try failed: the upstream's own answer, or why there is none."""
        pool, lessons, matters = self._means.pool, self._lessons, await self._matters()
        if self._last is None and self._error is not None:
            what = "answer was cut" if isinstance(self._error, UpstreamLost) else "server cannot be reached"
            raise BadGateway(f"the upstream's {what}: {self._error}") from self._error
        but = self._barred if self._last is None else self._barred | lessons.refused_for_good
        waits = pool.recovers_in(matters, but=but) is not None
        if self._last is None or self._working == 0 or (waits and not _passes(self._last[-1])):
            # An account that rests has not refused this request for good: the client is told when to come back.
            now, tags, only = self._means.clock.now(), self._tags, self._placement.only
            raise none_left(pool, now, matters, lessons, but=but, tags=tags, only=only)
        account, exchange, head, headers, verdict = self._last
        if (withheld := _withheld(head.status, verdict, pool, lessons, self._placement.only)) is not None:
            raise withheld
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


def _of_its_own_proxy(account: Account, error: UpstreamError) -> Verdict | None:
    """What it says of the account that its own outbound proxy leads nowhere; None if the way is that of others too."""
    if account.proxy is None or not isinstance(error, UpstreamUnreachable):
        return None
    return Verdict(Action.SKIP_THEN_NEXT, f"its own outbound proxy: {error}", matter=OWN_PROXY)


def _passes(verdict: Verdict) -> bool:
    """Whether what the upstream said may be otherwise in a moment."""
    return verdict.action is Action.RETRY or verdict.is_throttle


def _may_pass(verdict: Verdict) -> bool:
    """Whether the account may answer this request some time."""
    return _passes(verdict) or verdict.by_quota


def _withheld(
    status: int, verdict: Verdict, pool: Pool, lessons: Lessons, only: str | None
) -> RequestError | None:
    """What the client is told in place of an account's 401, or of its refusal of what is another's that could not be
    reached; None if the answer may be handed on.

    The client's own key is fine: a 401 would say otherwise, and clients would ask for another. `only` is the account
    that alone may be asked: unless its token is yet to come, its credential is good, and this is refused all the same.
    """
    if verdict.is_foreign:
        return unreached(pool, lessons)
    if verdict.action in (Action.REFRESH_THEN_NEXT, Action.CONFIRM_KEY_THEN_NEXT):
        who = name_of(pool, only)
        whose = "no account's credential is" if who is None else f"the credential of account {who!r} is not"
        told = f"{whose} accepted: {verdict.evidence}"
        if who is not None and not isinstance(lessons.token_error, TokenTrouble):
            return Unavailable(told, should_retry=False)
        return Unavailable(told, retry_after_s=TOKEN_RETRY_S)
    if status == 401 and verdict.action is Action.RETRY:
        return BadGateway(f"the upstream refuses: {verdict.evidence}")
    return None


async def _look_through(
    means: Means, account: Account, exchange: Exchange, status: int, encoding: str
) -> None:
    """Raise BadGateway if an error's body holds the credential, or may: there is too much of it."""
    body = await start_of(exchange, echo.MOST_BYTES)
    try:
        if len(body) >= echo.MOST_BYTES:
            raise TooLarge
        if echo.holds(account.sent.secret, body, encoding):
            raise means.echoed(account, status)
    except TooLarge:
        raise BadGateway(f"the body of the upstream's error {status} is too large") from None
    exchange.put_back(body)
