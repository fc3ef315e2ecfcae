"""Lists in pages: by `after_id` and `before_id`, or by a cursor that only the API can read."""

from __future__ import annotations

import base64
import binascii

from .replies import ApiError, Json
from .requests import Request

_MOST = 1000


def limit_of(request: Request, default: int) -> int:
    text = request.argument("limit") or str(default)
    if not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise ApiError(400, f"limit: Input should be between 1 and {_MOST}")
    return int(text)


def after_before(items: list[Json], request: Request, default: int) -> Json:
    """One page of `items`, which are in the order of the list."""
    limit = limit_of(request, default)
    ids = [item["id"] for item in items]
    start, end = 0, len(items)
    after, before = request.argument("after_id"), request.argument("before_id")
    for cursor in filter(None, (after, before)):
        if cursor not in ids:
            raise ApiError(400, f"{cursor!r} is not in the list")
    if after:
        start = ids.index(after) + 1
    if before:
        end = ids.index(before)
        start = max(start, end - limit)
    page = items[start:end][:limit]
    more = start > 0 if before else start + len(page) < end
    return {
        "data": page,
        "has_more": more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def by_cursor(
    items: list[Json],
    request: Request,
    *,
    default: int = 20,
    both_ways: bool = False,
    invalid: str = "invalid page cursor",
) -> Json:
    """One page of `items`, which are in the order of the list, from the cursor in `page` on.

    A cursor names the item beside it, so a page stays what it is while items are added before it. `both_ways` adds
    `prev_page`; `invalid` is the message of the 400 for a cursor that this list did not give.
    """
    limit = limit_of(request, default)
    start, end = 0, len(items)
    if cursor := request.argument("page"):
        ids = [item["id"] for item in items]
        side, beside = _read(cursor)
        if beside not in ids:
            raise ApiError(400, invalid)
        if side == "after":
            start = ids.index(beside) + 1
        else:
            end = ids.index(beside)
            start = max(0, end - limit)
    page = items[start:end][:limit]
    more = bool(page) and start + len(page) < len(items)
    answer: Json = {"data": page, "next_page": _cursor("after", page[-1]) if more else None}
    if both_ways:
        answer["prev_page"] = _cursor("before", page[0]) if page and start > 0 else None
    return answer


def _cursor(side: str, item: Json) -> str:
    return "page_" + base64.urlsafe_b64encode(f"{side}:{item['id']}".encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[str, str]:
    """The side and the id that a cursor names; empty for one that is none."""
    text = cursor.removeprefix("page_")
    try:
        side, _, beside = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return side, beside
