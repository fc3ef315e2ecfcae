"""Lists on the wire: what a client asks for, what an account's page says, and how such a page is written."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_plus

import msgspec

from proxy.http.decoding import Undecodable, decoded
from proxy.http.target import Target

MOST_BYTES = 4 << 20
"""The largest page that is read, after decoding."""

DEFAULT_LIMIT = 20
"""Items of a page if the client names no number: so it is on every route."""

_BATCHES = ("v1", "messages", "batches")

_MOST_ITEMS = {("v1", "files"): 1000, _BATCHES: 1000}
_NEWEST_FIRST = frozenset({("v1", "files"), _BATCHES, ("v1", "skills")})
"""Routes that know no `order`."""

_MOST_ITEMS_ELSEWHERE = 100
"""The largest `limit` that each version of a route takes; some take 1000 today, and took 100."""

FIRST = -1e300
"""A sort key before all others: infinity is no JSON."""

_PAGING = ("limit", "after_id", "before_id", "page")


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The query of a list, taken apart.

    `raw` is the target as it came, `base` the path with those arguments that are no paging. `limit` is None if it is no
    number from 1 to 1000. `named`: the client names the items, in `ids[]`, which bears no paging. `by_time`: the list
    is sorted by `created_at`. `known`: the route is known to be a list. `most`: the largest limit that it takes.
    """

    raw: str
    base: str
    limit: int | None
    after_id: str | None
    before_id: str | None
    page: str | None
    named: bool
    ascending: bool
    by_time: bool
    known: bool
    most: int

    def target(self, argument: str, token: str | None, limit: int) -> str:
        """The target of one page: `argument` says by `token` where it begins; None: with the list.

        What may be no list, and bear no `limit`, is asked for as the client does.
        """
        is_plain = not (self.known or self.page or self.after_id or self.before_id)
        if self.named or (token is None and is_plain):
            return self.raw
        target = f"{self.base}{'&' if '?' in self.base else '?'}limit={limit}"
        return target if token is None else f"{target}&{argument}={quote(token, safe='')}"


def list_query(target: Target) -> ListQuery:
    """What a list's target asks for. Of an argument that is repeated, the last value counts; an empty one does not."""
    kept: list[str] = []
    values: dict[str, str] = {}
    for part in filter(None, target.raw.partition("?")[2].split("&")):
        name, _, value = (unquote_plus(text) for text in part.partition("="))
        values[name] = value
        if name not in _PAGING:
            kept.append(part)
    return ListQuery(
        raw=target.raw,
        base=target.path + ("?" + "&".join(kept) if kept else ""),
        limit=_limit(values.get("limit") or str(DEFAULT_LIMIT)),
        after_id=values.get("after_id") or None,
        before_id=values.get("before_id") or None,
        page=values.get("page") or None,
        named="ids" in values or "ids[]" in values,
        ascending=values.get("order") == "asc" and target.segments not in _NEWEST_FIRST,
        by_time=values.get("order_by", "created_at") == "created_at",
        known=target.is_known,
        most=_MOST_ITEMS.get(target.segments, _MOST_ITEMS_ELSEWHERE),
    )


def _limit(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        return None
    return int(text) if 1 <= int(text) <= 1000 else None


@dataclass(slots=True)
class Item:
    """One item of a page. `created_at` is in epoch seconds, None if it is not said; `shared`: every account has it.

    `key` is what a merged list is sorted by, smallest first; who merges sets it.
    """

    id: str
    created_at: float | None
    shared: bool
    raw: msgspec.Raw
    key: float = FIRST


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page as it came: its members in their order, its items, and where the next page begins (None: nowhere)."""

    members: dict[str, msgspec.Raw]
    items: list[Item]
    next_token: str | None

    @property
    def argument(self) -> str:
        """The query argument that takes `next_token`."""
        return "page" if "next_page" in self.members else "after_id"


class _Source(msgspec.Struct):
    type: str = ""


class _Dated(msgspec.Struct):
    id: str
    created_at: str = ""
    source: _Source | str | None = None


class _Named(msgspec.Struct):
    id: str


_read_any = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | list[msgspec.Raw] | str | float | bool | None
).decode
_read_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_dated = msgspec.json.Decoder(_Dated).decode
_read_named = msgspec.json.Decoder(_Named).decode
_read_flag = msgspec.json.Decoder(bool | None).decode
_read_token = msgspec.json.Decoder(str | None).decode


def read_page(body: bytes, encoding: str) -> ListPage | None:
    """The page that an answer's body is; None if it is JSON without a list of `data`.

    Raises TooLarge, or Undecodable if it is no JSON, or if it does not say whether more follows.
    """
    text = decoded(body, encoding, MOST_BYTES, whole=True)
    try:
        members = _read_any(text)
        if not isinstance(members, dict) or not bytes(members.get("data", b"")).startswith(b"["):
            return None
        items = [_item(raw) for raw in _read_items(members["data"])]
        token = _next_token(members, items)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable("it is no page of a list") from error
    return ListPage(members, items, token)


def _next_token(members: dict[str, msgspec.Raw], items: list[Item]) -> str | None:
    if "next_page" in members:
        return _read_token(members["next_page"]) or None
    has_more = "has_more" in members and _read_flag(members["has_more"])
    return items[-1].id if has_more and items else None


def _item(raw: msgspec.Raw) -> Item:
    """An item; one that has no id has an empty one."""
    try:
        found = _read_dated(raw)
    except msgspec.ValidationError:
        try:
            return Item(_read_named(raw).id, None, False, raw)
        except msgspec.ValidationError:
            return Item("", None, False, raw)
    source = found.source.type if isinstance(found.source, _Source) else found.source
    return Item(found.id, _epoch(found.created_at), source == "anthropic", raw)


def _epoch(text: str) -> float | None:
    """Epoch seconds of an RFC 3339 time; None if it is none."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def write_page(
    like: ListPage, items: Sequence[Item], *, more: bool, next_page: str | None, prev_page: str | None
) -> bytes:
    """The body of a page that has the members of `like`, in their order; those about its items are its own."""
    own: dict[str, object] = {
        "data": [item.raw for item in items],
        "has_more": more,
        "first_id": items[0].id if items else None,
        "last_id": items[-1].id if items else None,
        "next_page": next_page,
        "prev_page": prev_page,
    }
    return msgspec.json.encode({name: own.get(name, raw) for name, raw in like.members.items()})


MOST_CURSOR_CHARS = 8192


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place in one account's list: after the item `passed`, on the page of `size` items that begins at `token`.

    `token` None: the list's first page. `passed` None: at the page's start. Its items are passed by time if it is gone.
    `key` is the sort key there. `ended`: nothing follows.
    """

    token: str | None = None
    size: int = 0
    passed: str | None = None
    key: float = FIRST
    ended: bool = False


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """A place in a merged list: before or after `beside`, whose sort key is `key`.

    `positions` has those after `beside` by account id. An account that has none there begins at `key`.
    """

    before: bool
    beside: str
    key: float
    positions: dict[str, Position] = {}

    def position(self, account_id: str) -> Position:
        """Where an account's list goes on."""
        return self.positions.get(account_id) or Position(passed="", key=self.key)

    def bare(self) -> Cursor:
        """The same place without the upstream's tokens: it is found by reading each list from its start."""
        bare = {
            account_id: Position(None, 0, at.passed or "", at.key, at.ended)
            for account_id, at in self.positions.items()
        }
        return msgspec.structs.replace(self, positions=bare)


_write_cursor = msgspec.json.Encoder().encode
_read_cursor = msgspec.json.Decoder(Cursor).decode


def written(cursor: Cursor) -> str | None:
    """A cursor as clients get it; None if there are too many accounts for one.

    One that the upstream's tokens make too long is bare.
    """
    text = _text_of(cursor)
    if len(text) > MOST_CURSOR_CHARS:
        text = _text_of(cursor.bare())
    return text if len(text) <= MOST_CURSOR_CHARS else None


def _text_of(cursor: Cursor) -> str:
    return "page_" + base64.urlsafe_b64encode(_write_cursor(cursor)).decode().rstrip("=")


def cursor_of(page: str) -> Cursor | None:
    """The cursor that `written` made; None for any other text."""
    text = page.removeprefix("page_")
    if len(page) > MOST_CURSOR_CHARS or len(text) == len(page):
        return None
    try:
        return _read_cursor(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return None
