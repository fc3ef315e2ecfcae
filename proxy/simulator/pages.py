"""Lists in pages, by `limit`, `after_id` and `before_id`."""

from __future__ import annotations

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
