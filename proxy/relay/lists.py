"""Lists merged over accounts: one page as a single account would give it, of what a group of client keys owns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from proxy.errors import BadGateway, InvalidRequest, Unavailable
from proxy.http.headers import without
from proxy.http.listing import Cursor, Item, ListQuery, cursor_of, list_query, write_page, written
from proxy.http.target import Target
from proxy.relay.merge import ENOUGH_ITEMS, FEWEST_ITEMS, LARGE_AT_ONCE, Fetch, Fetched, Merge, Owns, Refused

MOST_REMEMBERED = 256
"""Places in lists that are paged by ids. Without its place, a page is found by reading the lists from their start."""

_OF_THE_BODY = frozenset({"content-length", "content-encoding", "transfer-encoding", "etag"})


class Lists:
    """Answers `GET` on a collection, and remembers where its pages by ids ended."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], Cursor] = {}
        self._gate = asyncio.Semaphore(LARGE_AT_ONCE)

    async def merged(
        self, target: Target, *, accounts: Sequence[str], fetch: Fetch, owns: Owns | None
    ) -> Fetched:
        """A page of the accounts' lists as one; there is at least one account. `owns` None: everything may be seen.

        An error of any account is the answer. What is no list is handed on as the first account gave it.
        Raises InvalidRequest for an `after_id` or `before_id` that is not in the list, Unavailable if the list is too
        long to be merged, BadGateway if a page cannot be read, and what `fetch` raises.
        """
        query = list_query(target)
        cursor = cursor_of(query.page) if query.page else None
        if owns is None and len(accounts) == 1 and cursor is None:
            return await fetch(accounts[0], target.raw)
        if query.page and (cursor is None or query.named):
            return await _refused(accounts[0], target, fetch, "page: Invalid page cursor")
        if query.limit is None:
            return await _refused(accounts[0], target, fetch, "limit: Input should be between 1 and 1000")
        for item_id in filter(None, (query.after_id, query.before_id)):
            # One that is another group's and one that never was get the same answer, at the same cost.
            if owns is not None and not any(owns(account_id, item_id) for account_id in accounts):
                raise _not_in_list(item_id)
        try:
            return await self._page(query, cursor, accounts, fetch, owns)
        except Refused as refused:
            if 200 < refused.answer.status < 300:  # a part of a page, whoever's items are in it
                raise BadGateway(f"{refused.answer.unreadable}: it is no whole page") from refused
            return refused.answer

    async def _page(
        self,
        query: ListQuery,
        cursor: Cursor | None,
        accounts: Sequence[str],
        fetch: Fetch,
        owns: Owns | None,
    ) -> Fetched:
        def merge(start: Cursor | None, size: int) -> Merge:
            return Merge(query, accounts, fetch=fetch, owns=owns, start=start, size=size, gate=self._gate)

        size = _size(query)
        if query.before_id or (cursor is not None and cursor.before):
            end = cursor or Cursor(True, query.before_id or "", math.inf)
            return await self._before(query, merge(None, max(size, query.most)), end)
        remembered = self._remembered.get((query.base, query.after_id)) if query.after_id else None
        place = cursor or remembered
        if place is not None:
            try:
                return await self._after(query, merge(place, size), is_start=False)
            except Refused as refused:
                if refused.answer.status != 400:
                    raise
            # An item beside a page's start may be gone, with which the upstream knows the page.
            return await self._after(query, merge(place.bare(), max(size, query.most)), is_start=False)
        start = merge(None, max(size, query.most) if query.after_id else size)
        if query.after_id:
            await _pass(start, query.after_id)
        return await self._after(query, start, is_start=not query.after_id)

    async def _after(self, query: ListQuery, merge: Merge, *, is_start: bool) -> Fetched:
        items = await merge.take(math.inf if query.named else query.limit or 0)
        return await self._answer(query, merge, items, has_previous=not is_start)

    async def _before(self, query: ListQuery, merge: Merge, end: Cursor) -> Fetched:
        if query.after_id:
            await _pass(merge, query.after_id)
        items, has_previous = await merge.before(end, query.limit or 0)
        if query.before_id and await merge.head() is None:
            raise _not_in_list(query.before_id)
        return await self._answer(query, merge, items, has_previous=has_previous)

    async def _answer(
        self, query: ListQuery, merge: Merge, items: list[Item], *, has_previous: bool
    ) -> Fetched:
        has_next = await merge.head() is not None
        following = merge.cursor(items[-1]) if items and has_next else None
        preceding = Cursor(True, items[0].id, items[0].key) if items and has_previous else None
        page, answer = merge.shape()
        next_page = prev_page = None
        if page.argument == "page":
            next_page, prev_page = _written(following), _written(preceding)
        elif following is not None:
            self._remember((query.base, following.beside), following)
        more = has_previous if query.before_id else has_next
        body = write_page(page, items, more=more, next_page=next_page, prev_page=prev_page)
        headers = [*without(answer.headers, _OF_THE_BODY), ("content-length", str(len(body)))]
        return Fetched(200, headers, body)

    def _remember(self, place: tuple[str, str], cursor: Cursor) -> None:
        self._remembered[place] = cursor
        if len(self._remembered) > MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]


def _size(query: ListQuery) -> int:
    """How many items of an account to ask for: one more than the client wants tells whether there are more."""
    limit = query.limit or 0
    return limit if limit >= ENOUGH_ITEMS else min(max(limit + 1, FEWEST_ITEMS), ENOUGH_ITEMS)


async def _pass(merge: Merge, item_id: str) -> None:
    if not await merge.passes(item_id):
        raise _not_in_list(item_id)


async def _refused(account_id: str, target: Target, fetch: Fetch, why: str) -> Fetched:
    """The upstream's own refusal. What it may give instead is not the group's alone, and is not handed on."""
    answer = await fetch(account_id, target.raw)
    if answer.status < 400:
        raise InvalidRequest(why)
    return answer


def _not_in_list(item_id: str) -> InvalidRequest:
    return InvalidRequest(f"{item_id!r} is not in the list")


def _written(cursor: Cursor | None) -> str | None:
    if cursor is None:
        return None
    text = written(cursor)
    if text is None:
        raise Unavailable("too many accounts for a list in pages", should_retry=False)
    return text
