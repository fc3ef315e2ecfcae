"""The lists of several accounts read as one, page by page and no further than they are needed.

Each account's own order stays. Between accounts it is that of `created_at`, and of the accounts if times are equal.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from urllib.parse import unquote

import msgspec

from proxy.errors import BadGateway, Unavailable
from proxy.http.decoding import Undecodable
from proxy.http.listing import FIRST, Cursor, Item, ListPage, ListQuery, Position, read_page

MOST_PAGES = 50
"""The most pages that are read of one account for one answer."""

FEWEST_ITEMS = 20
ENOUGH_ITEMS = 100
"""How many items are asked for: at least the former, a few more being as cheap; at most the latter, unless the client
wants more."""

SPARSE = 4
"""If fewer than one in so many items of a page may be seen, the next page is as large as the route allows."""

LARGE_AT_ONCE = 8
"""So many pages of more than `ENOUGH_ITEMS` are read at once by all who share a gate: each may hold some MB."""

OFF_THE_LOOP_BYTES = 16 * 1024
"""A page above this is read in a thread: 100 KB of items take 1 ms, more if they are compressed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer, its body in the content encoding that `headers` name."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def header(self, lower_name: str) -> str:
        """The value of a header, empty if there is none."""
        return next((value for name, value in self.headers if name.lower() == lower_name), "")

    @property
    def unreadable(self) -> str:
        """The beginning of what a client is told of a list that is none."""
        return f"the list of account {unquote(self.header('x-proxy-account'))!r} cannot be read"


Fetch = Callable[[str, str], Awaitable[Fetched]]
"""Sends a GET with the client's headers: account id and target. Raises RequestError if the account cannot answer."""

Owns = Callable[[str, str], bool]
"""Whether an item of an account may be seen: account id and the item's."""


class Refused(Exception):
    """An account's answer is no page: it is an error, or no list."""

    def __init__(self, answer: Fetched) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Reader:
    """One account's list from `start` on; `shows` says whether an item may be seen."""

    def __init__(
        self,
        account_id: str,
        query: ListQuery,
        start: Position,
        *,
        fetch: Fetch,
        shows: Callable[[Item], bool],
    ) -> None:
        self.account_id = account_id
        self.ready: deque[Item] = deque()
        self.read: tuple[ListPage, Fetched] | None = None  # the last page
        # An ascending list goes on at its end, where new items come.
        self.ended = start.ended and not query.ascending
        self._query = query
        self._fetch = fetch
        self._shows = shows
        self._argument = "page" if query.page else "after_id"
        self._next = start.token
        self._size = start.size
        self._at = start  # the place after the last item taken
        self._searches = start.passed is not None  # for the item after which the list goes on
        self._key = start.key  # of the last item read
        self._pages = 0

    @property
    def bound(self) -> float:
        """What comes next has no smaller key; infinite if nothing does."""
        if self.ready:
            return self.ready[0].key
        return math.inf if self.ended else self._key

    def take(self) -> Item:
        """Go on by one item of those that are ready."""
        item = self.ready.popleft()
        self._at = msgspec.structs.replace(self._at, passed=item.id, key=item.key)
        return item

    def position(self) -> Position:
        """The place after the last item taken."""
        at = self._at
        if self.read is None:
            return at
        if not self.ready and not self.ended:
            return Position(self._next, self._size, None, self._key)
        if self._argument == "after_id" and at.passed:
            return Position(at.passed, 0, None, at.key, not self.ready)
        return msgspec.structs.replace(at, ended=not self.ready)

    async def load(self, size: int, gate: asyncio.Semaphore) -> None:
        """Read the next page, of at least `size` items; `gate` lets large ones in. Raises as `Merge.head`."""
        if self._pages == MOST_PAGES:
            raise Unavailable(
                "this list is too long to be merged over the accounts of the pool", should_retry=False
            )
        self._pages += 1
        token, size = self._next, max(size, self._size)
        async with gate if size > ENOUGH_ITEMS else contextlib.nullcontext():
            answer = await self._fetch(self.account_id, self._query.target(self._argument, token, size))
            page = await page_of(answer)
        if page is None:
            raise Refused(answer)
        self.read = page, answer
        self._argument, self._next, self.ended = page.argument, page.next_token, page.next_token is None
        self._at = Position(token, size, self._at.passed if self._searches else None, self._key)
        for item in self._after_passed(page.items):
            # Whatever the times say, a later item has no smaller key: what was read bounds what comes.
            item.key = self._key = max(self._key, self._key_of(item))
            if self._shows(item):
                item.raw = item.raw.copy()  # lets go of its page
                self.ready.append(item)
        self._size = self._query.most if len(self.ready) * SPARSE < len(page.items) else 0

    def _key_of(self, item: Item) -> float:
        if item.created_at is None or not self._query.by_time:
            return FIRST
        return item.created_at if self._query.ascending else -item.created_at

    def _after_passed(self, items: list[Item]) -> list[Item]:
        """What follows the item after which the list goes on. If that is not here: what is not before it by time."""
        if not self._searches:
            return items
        for index, item in enumerate(items):
            if item.id and item.id == self._at.passed:
                self._searches = False
                return items[index + 1 :]
        start = self._key
        rest = list(itertools.dropwhile(lambda item: FIRST < self._key_of(item) < start, items))
        self._searches = not rest
        return rest


class Merge:
    """The lists of `accounts` as one, from `start` on. Pages have at least `size` items.

    Of what every account has, the first account's is shown. If accounts are of one organization they list the same:
    an item then stands where it is found first.
    """

    def __init__(
        self,
        query: ListQuery,
        accounts: Sequence[str],
        *,
        fetch: Fetch,
        owns: Owns | None,
        start: Cursor | None,
        size: int,
        gate: asyncio.Semaphore,
    ) -> None:
        def reader(account_id: str) -> Reader:
            def shows(item: Item) -> bool:
                if item.shared and account_id != accounts[0]:
                    return False
                return owns is None or (item.id != "" and owns(account_id, item.id))

            position = Position() if start is None else start.position(account_id)
            return Reader(account_id, query, position, fetch=fetch, shows=shows)

        self._readers = [reader(account_id) for account_id in accounts]
        self._query = query
        self._begun = False
        self._first = self._readers[0]  # whose item was the last head
        self._size = size
        self._gate = gate
        self._seen = set() if start is None else {start.beside}  # ids of items with one key
        self._seen_key = FIRST if start is None else start.key

    async def _begin(self) -> None:
        """Read at once a page of each account that may be next. If several fail, the first one's failure is raised.

        Of a route that may be none only one account is asked before it has given a page.
        """
        self._begun = True
        if all(reader.ended for reader in self._readers):
            self._readers[0].ended = False  # the answer needs the shape of a page
        first = [reader for reader in self._readers if reader.bound <= self._seen_key]
        if first and not self._query.known:
            await self._load(first.pop(0))
        for failure in await asyncio.gather(*map(self._load, first), return_exceptions=True):
            if failure is not None:
                raise failure

    async def _load(self, reader: Reader) -> None:
        try:
            await reader.load(self._size, self._gate)
        except Refused as refused:
            is_first = reader is self._readers[0] and reader.read is None
            if refused.answer.status == 200 and not is_first:
                raise BadGateway(f"{refused.answer.unreadable}: it is no list") from refused
            raise

    async def head(self) -> Item | None:
        """What comes next; None if nothing does.

        Raises Refused, Unavailable if it takes too many pages, BadGateway if a page cannot be read, and as `fetch`.
        """
        if not self._begun:
            await self._begin()
        while True:
            first = min(self._readers, key=attrgetter("bound"))
            if first.bound == math.inf:
                return None
            if not first.ready:
                await self._load(first)
            elif first.ready[0].id in self._seen:
                first.take()
            else:
                self._first = first
                return first.ready[0]

    def _take(self) -> Item:
        """Go on by the item that `head` gave."""
        item = self._first.take()
        if item.key != self._seen_key:
            self._seen.clear()
            self._seen_key = item.key
        if item.id:
            self._seen.add(item.id)
        return item

    async def take(self, most: float) -> list[Item]:
        """The next items, `most` of them or as many as there are."""
        items: list[Item] = []
        while len(items) < most and await self.head() is not None:
            items.append(self._take())
        return items

    async def passes(self, item_id: str) -> bool:
        """Go on to what follows that item; False if it does not come."""
        while await self.head() is not None:
            if self._take().id == item_id:
                return True
        return False

    async def before(self, end: Cursor, most: int) -> tuple[list[Item], bool]:
        """The last items before `end`, `most` of them or as many as there are, and whether there are others before."""
        items: deque[Item] = deque(maxlen=most + 1)
        while (head := await self.head()) is not None and head.id != end.beside and head.key <= end.key:
            items.append(self._take())
        return list(items)[-most:], len(items) > most

    def cursor(self, last: Item) -> Cursor:
        """The place after the last item taken."""
        places = {reader.account_id: reader.position() for reader in self._readers}
        begun = {account_id: at for account_id, at in places.items() if at.token or at.passed is not None}
        return Cursor(False, last.id, last.key, begun)

    def shape(self) -> tuple[ListPage, Fetched]:
        """A page of the first account that was read, and the answer that it came in."""
        return next(reader.read for reader in self._readers if reader.read)


async def page_of(answer: Fetched) -> ListPage | None:
    """The page that an answer holds; None if it is an error or no list. Raises BadGateway."""
    if answer.status != 200:
        return None
    encoding = answer.header("content-encoding").lower()
    try:
        if len(answer.body) <= OFF_THE_LOOP_BYTES:
            return read_page(answer.body, encoding)
        return await asyncio.to_thread(read_page, answer.body, encoding)
    except Undecodable as error:
        raise BadGateway(f"{answer.unreadable}: {error}") from error
