"""Answers requests: finds out where each belongs, and has it tried there."""

from __future__ import annotations

import contextlib
from functools import partial
from http.client import responses
from urllib.parse import quote

from proxy.accounts.account import Account
from proxy.accounts.affinity import Affinity, Asking, Placement, Unlocated, missing
from proxy.errors import BadGateway, InvalidRequest, NotFound, RequestError, StorageError, Unavailable
from proxy.http.beginnings import Beginnings
from proxy.http.body import Body
from proxy.http.headers import ClientHeaders
from proxy.http.target import Target, parse
from proxy.relay.answer import Answer, Whole
from proxy.relay.attempts import Attempts, Means, Retry
from proxy.relay.inbound import Inbound
from proxy.relay.learning import learn_listed, whole
from proxy.relay.lists import Lists
from proxy.relay.merge import Fetched
from proxy.upstream.error_body import read_error
from proxy.usage.request import RequestRecord

PATHS = {"batches": "messages/batches"}
"""Where the resources of a collection are, if that is not its name."""

MOST_LOCATED = 1000
"""The most unknown ids of one request that are looked up: each costs a request to every account."""

SAYS_NO = (400, 404, 410)
"""Statuses by which an account says that it does not have what an id names; 400 if no id of its looks like that."""


class Relay:
    """Answers requests from the pool."""

    def __init__(self, means: Means, affinity: Affinity) -> None:
        self.means = means
        self.affinity = affinity
        self._lists = Lists()
        self._beginnings = Beginnings()

    def inbound(
        self, method: str, target: Target, headers: ClientHeaders, body: Body | None, origin: str
    ) -> Inbound:
        """A client's request; `origin` is as the client sees this proxy."""
        return Inbound(method, target, headers, body, origin, self.affinity.on, self._beginnings)

    def retry_as(self, retry: Retry) -> None:
        """Try again so often and so soon from now on, requests that run included."""
        self.means.retry = retry
        self.means.budget.share = retry.budget

    def open(self, inbound: Inbound, record: RequestRecord) -> Opening:
        """`async with relay.open(…) as answer`: leaving the block frees the account and the upstream connection.

        Entering it raises RequestError if there is no answer to hand over. `record` is told of each attempt.
        """
        return Opening(self, inbound, record)

    async def place(self, inbound: Inbound, record: RequestRecord) -> tuple[Asking, Placement]:
        """Say where a request belongs. Raises RequestError."""
        asking = await inbound.asking(record.key)
        resources = self.affinity.resources
        if resources.is_shared:
            with contextlib.suppress(Unlocated, NotFound):
                return asking, self.affinity.place(asking)
            with contextlib.suppress(StorageError):  # another instance may have learnt of it just now
                await resources.catch_up()
        for located in range(MOST_LOCATED + 1):
            try:
                return asking, self.affinity.place(asking)
            except Unlocated as unknown:
                where = unknown
            if located < MOST_LOCATED:
                await self._locate(where, asking, inbound)
        raise InvalidRequest("it names more files and the like than are looked up", should_retry=False)

    async def _locate(self, unknown: Unlocated, asking: Asking, inbound: Inbound) -> None:
        """Find the account that has an id, by asking each of them.

        Raises NotFound if each says that it has not, else what kept one from saying so.
        """
        refusals: list[RequestError] = []
        path = f"/v1/{PATHS.get(unknown.collection, unknown.collection)}/{quote(unknown.id, safe='')}"
        for account in [each for each in self.means.pool if each.serves(asking.tags)]:
            try:
                is_there = await self._has(account, unknown.id, path, inbound)
            except RequestError as error:
                refusals.append(error)  # another one may have it
                continue
            if is_there:
                self.affinity.resources.forget(unknown.id)  # what is known of it is not true any more
                self.affinity.resources.learn([unknown.id], account.id, asking.group, unknown.collection)
                return
        if not refusals:
            raise missing(unknown.id, unknown.collection)
        # What passes goes before what does not: then another try may find it.
        raise min(refusals, key=lambda each: each.should_retry is False)

    async def _has(self, account: Account, id: str, path: str, inbound: Inbound) -> bool:
        """Whether an account has what is at `path`. Raises RequestError if it cannot be asked, or does not say."""
        who = f"account {account.name!r}, which may have {id},"
        if not account.works:
            raise Unavailable(f"{who} is {account.status.value}", should_retry=False)
        found = await self.fetch(inbound, path, Placement("resource", account.id, strict=True))
        if not read_error(found.body, found.header("content-encoding"), found.header("content-type")).is_json:
            raise Unavailable(f"{who} answered {found.status}, and not as the API does")
        if found.status != 200 and found.status not in SAYS_NO:
            # Who may not ask for such a thing will be told so again.
            retry = False if found.status in (402, 403) else None
            raise Unavailable(f"{who} answered {found.status}", should_retry=retry)
        return found.status == 200

    async def listed(
        self, inbound: Inbound, record: RequestRecord, asking: Asking, placement: Placement
    ) -> Fetched:
        """What the client's group owns of a collection, in whichever accounts. Raises RequestError."""
        target, affinity = inbound.target, self.affinity
        accounts = affinity.accounts_of(asking, placement)

        async def fetch(account_id: str, page: str) -> Fetched:
            # If the group has none of it, every account has an empty list for it.
            there = Placement("resource", account_id, strict=True) if accounts else Placement("new")
            fetched = await self.fetch(inbound, page, there, record)
            if placement.why == "resource":
                await learn_listed(affinity, asking, account_id, fetched)
            return fetched

        owns = None if affinity.shared else partial(affinity.owns, asking.group)
        return await self._lists.merged(target, accounts=accounts or [""], fetch=fetch, owns=owns)

    async def fetch(
        self, inbound: Inbound, target: str, there: Placement, for_: RequestRecord | None = None
    ) -> Fetched:
        """GET `target` from an account for the client of `inbound`, with the headers of its request.

        They ask for the whole, whatever the client has of its own. `for_` is told of the attempts. Raises RequestError,
        which names the account, if that cannot be asked, or its answer is too large.
        """
        means, headers = self.means, inbound.headers.unconditional()
        asked = Inbound("GET", parse(target, allow_admin_paths=False), headers, None, inbound.origin)
        record = RequestRecord(means.clock.monotonic(), key=None if for_ is None else for_.key)
        try:
            async with Attempts(means, asked, record, None, there) as answer:
                body = await whole(answer.source)
                if body is None:
                    raise BadGateway("the upstream's answer is too large")
                return Fetched(answer.status, answer.headers, body)
        except RequestError as error:
            if there.account_id is None or there.account_id not in means.pool:
                raise
            raise error.of_account(means.pool[there.account_id].name) from error
        finally:
            if for_ is not None:
                for_.attempts += record.attempts


class Opening:
    """A request that is being answered."""

    def __init__(self, relay: Relay, inbound: Inbound, record: RequestRecord) -> None:
        self._relay = relay
        self._inbound = inbound
        self._record = record
        self._attempts: Attempts | None = None

    async def __aenter__(self) -> Answer:
        relay, inbound, record = self._relay, self._inbound, self._record
        asking, placement = await relay.place(inbound, record)
        record.why = placement.why
        if relay.affinity.merges(asking, placement):
            listed = await relay.listed(inbound, record, asking, placement)
            return _page(listed, bodiless=inbound.method == "HEAD")
        self._attempts = Attempts(relay.means, inbound, record, asking, placement)
        return await self._attempts.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        if self._attempts is not None:
            self._attempts.close()


def _page(fetched: Fetched, *, bodiless: bool) -> Answer:
    """A list as the client gets it."""
    headers, body = fetched.headers, fetched.body
    kind, encoding = fetched.header("content-type"), fetched.header("content-encoding")
    reason = responses.get(fetched.status, "")
    return Answer(
        fetched.status, reason, headers, len(body), kind, encoding, True, Whole(b"" if bodiless else body)
    )
