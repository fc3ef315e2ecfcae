"""Merged lists, over accounts that are lists in memory and page as the API does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from proxy.clock import rfc3339
from proxy.errors import BadGateway, InvalidRequest, RateLimited, Unavailable
from proxy.http.listing import MOST_CURSOR_CHARS, Cursor, Position, written
from proxy.http.target import parse
from proxy.relay.lists import MOST_REMEMBERED, Lists
from proxy.relay.merge import LARGE_AT_ONCE, MOST_PAGES, Fetched
from proxy.simulator.pages import after_before, by_cursor
from proxy.simulator.replies import ApiError, dumps
from proxy.simulator.requests import Body, Request

Json = dict[str, Any]
BY_ID, BY_CURSOR, BOTH_WAYS = "messages/batches", "agents", "sessions"
NOW = 1_795_000_000


def item(item_id: str, age: float = 0, **more: Any) -> Json:
    return {"type": "thing", "id": item_id, "created_at": rfc3339(NOW - age), **more}


def page_of(items: list[Json], target: str) -> Fetched:
    """What an account with `items`, the newest first, answers."""
    with contextlib.closing(Body()) as body:
        request = Request("GET", target, HTTPHeaders(), body)
    items = items[::-1] if request.argument("order") == "asc" and BY_ID not in target else items
    try:
        if BY_ID in target:
            page = after_before(items, request, default=20)
        else:
            page = by_cursor(items, request, both_ways=BOTH_WAYS in target)
    except ApiError as error:
        return Fetched(error.status, [], dumps(error.body("req_1")))
    return Fetched(200, [("content-type", "application/json")], dumps(page))


class World:
    """Accounts with their lists, each the newest first, and one group that owns what does not begin with `other`."""

    def __init__(self, **lists: list[Json]) -> None:
        self.items = lists
        self.asked: list[tuple[str, str]] = []
        self.lists = Lists()
        self.sees_all = False
        self.cap = 1000  # of the items of a page: the API may give fewer than are asked for
        self.answer: Callable[[str, str], Fetched | None] = lambda account_id, target: None

    async def fetch(self, account_id: str, target: str) -> Fetched:
        self.asked.append((account_id, target))
        return self.answer(account_id, target) or page_of(
            self.items[account_id],
            re.sub(r"limit=(\d{1,3}|1000)\b", lambda found: f"limit={min(int(found[1]), self.cap)}", target),
        )

    def owns(self, account_id: str, item_id: str) -> bool:
        own = any(each["id"] == item_id for each in self.items[account_id])
        return own and not item_id.startswith("other")

    async def fetched(self, target: str) -> Fetched:
        owns = None if self.sees_all else self.owns
        parsed = parse(f"/v1/{target}", allow_admin_paths=False)
        return await self.lists.merged(parsed, accounts=list(self.items), fetch=self.fetch, owns=owns)

    async def page(self, target: str) -> Json:
        self.asked.clear()
        fetched = await self.fetched(target)
        assert fetched.status == 200, fetched.body
        page: Json = json.loads(fetched.body)
        return page

    async def walked(self, target: str) -> list[list[str]]:
        """The ids of each page from the first to the last."""
        page = await self.page(target)
        pages = [ids(page)]
        while more := onward(page):
            page = await self.page(f"{target}{'&' if '?' in target else '?'}{more}")
            pages.append(ids(page))
        return pages


def ids(page: Json) -> list[str]:
    return [each["id"] for each in page["data"]]


def onward(page: Json) -> str | None:
    """The argument that leads to the next page."""
    if "next_page" in page:
        return page["next_page"] and f"page={quote(page['next_page'])}"
    return f"after_id={page['last_id']}" if page["has_more"] else None


def back(page: Json) -> str | None:
    if "next_page" in page:
        return page.get("prev_page") and f"page={quote(page['prev_page'])}"
    return f"before_id={page['first_id']}" if page["first_id"] else None


# As one list


def without_cursors(page: Json) -> Json:
    """A page with what is ours in its cursors left out: whether they are there."""
    return {
        name: value is not None if name in ("next_page", "prev_page") else value
        for name, value in page.items()
    }


def things(accounts: int, most: int) -> st.SearchStrategy[list[tuple[int, int, bool]]]:
    """Accounts by number, with an age and whether the group owns it."""
    return st.lists(
        st.tuples(st.integers(0, accounts - 1), st.integers(0, 6), st.booleans()),
        min_size=most // 2,
        max_size=most,
    )


THINGS = st.tuples(st.integers(1, 5), st.integers(0, 60)).flatmap(lambda sizes: things(*sizes))


@given(
    things=THINGS,
    limits=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    route=st.sampled_from([BY_ID, BY_CURSOR, BOTH_WAYS]),
    ascending=st.booleans(),
    forgets=st.booleans(),
    cap=st.sampled_from([2, 5, 1000]),
)
@example([(1, 0, True)] * 25, [1], BY_ID, False, False, 1000)
@example([(0, 1, False)] * 30 + [(1, 1, True)] * 30, [7], BY_CURSOR, True, False, 5)
def test_a_merged_list_pages_as_a_single_account_would(
    things: list[tuple[int, int, bool]],
    limits: list[int],
    route: str,
    ascending: bool,
    forgets: bool,
    cap: int,
) -> None:
    lists: dict[str, list[Json]] = defaultdict(list)
    for n, (account, age, own) in enumerate(things):
        lists[f"acc_{account}"].append(item(f"{'own' if own else 'other'}_{n}", age))
    for items in lists.values():
        items.sort(key=lambda each: each["created_at"], reverse=True)
    world = World(**dict(lists) or {"acc_0": []})
    world.cap = cap
    target = f"{route}?order={'asc' if ascending else 'desc'}"
    ascending = ascending and route != BY_ID  # which knows no order
    read = [each[::-1] if ascending else each for each in world.items.values()]
    own = [each for items in read for each in items if each["id"].startswith("own")]
    single = sorted(own, key=lambda each: each["created_at"], reverse=not ascending)
    # `page_of` turns a list around.
    expected = World(only=single[::-1] if ascending else single)

    async def step(query: str, single_query: str) -> tuple[Json, Json]:
        if forgets:
            world.lists = Lists()
        page = await world.page(f"{target}&{query}")
        same = json.loads(page_of(expected.items["only"], f"/v1/{target}&{single_query}").body)
        assert without_cursors(page) == without_cursors(same)
        return page, same

    async def walk() -> None:
        page, same = await step(f"limit={limits[0]}", f"limit={limits[0]}")
        for turn, way in enumerate((onward, back, onward)):
            for n in range(70):
                if (query := way(page)) is None or not page["data"]:
                    break
                limit = limits[(n + turn) % len(limits)]
                single_query = way(same)
                moved, same_moved = await step(f"limit={limit}&{query}", f"limit={limit}&{single_query}")
                if not moved["data"]:
                    break  # before the first item: there the walk turns
                page, same = moved, same_moved

    asyncio.run(walk())


# What it costs


async def test_walking_forward_costs_a_page_of_each_account_that_has_more() -> None:
    for route in (BY_ID, BY_CURSOR):
        world = World(
            a=[item(f"a{n}", 3 * n) for n in range(90)], b=[item(f"b{n}", 3 * n + 1) for n in range(90)]
        )
        walked = await world.page(f"{route}?limit=20")
        fetches = [len(world.asked)]
        while more := onward(walked):
            walked = await world.page(f"{route}?limit=20&{more}")
            fetches.append(len(world.asked))
        assert len(fetches) == 9 and fetches[0] == 2
        # A page by a cursor is read again if a part of it was shown, so in it each second one costs one more.
        assert sum(fetches) <= (18 if route == BY_ID else 30)


async def test_no_more_is_read_of_an_account_than_the_page_needs() -> None:
    world = World(
        new=[item(f"n{n}", n) for n in range(50)], old=[item(f"other{n}", 1000 + n) for n in range(900)]
    )
    assert len(ids(await world.page(f"{BY_ID}?limit=20"))) == 20
    assert [account for account, _ in world.asked] == ["new", "old"]


async def test_what_was_read_for_a_page_is_not_read_for_the_next() -> None:
    for route in (BY_ID, BY_CURSOR):
        theirs = [item(f"other{n}", n if n < 500 else n * 10) for n in range(3000)]
        own = [item(f"a{n}", 600 + n) for n in range(60)]
        world = World(a=own, b=[*theirs, item("last", 99_999)], c=[item("first")])
        page = await world.page(f"{route}?limit=20")
        await world.page(f"{route}?limit=20&{onward(page)}")
        assert {account for account, _ in world.asked} == {"a"} and len(world.asked) <= 2
        assert list(chain(*await world.walked(f"{route}?limit=20"))) == ["first", *ids({"data": own}), "last"]


async def test_what_belongs_to_others_is_passed_in_large_pages() -> None:
    theirs = [item(f"other{n}", n) for n in range(1990)]
    world = World(a=[*theirs, item("mine", 5000)], b=[])
    assert ids(await world.page(BY_ID)) == ["mine"]
    assert [target.split("limit=")[1].split("&")[0] for _, target in world.asked] == [
        "21",
        "21",
        "1000",
        "1000",
    ]


async def test_no_route_is_asked_for_more_than_it_takes() -> None:
    world = World(a=[item(f"other{n}", n) for n in range(300)], b=[])
    for target in ("agents", "agents?limit=99", "agents?limit=100"):
        await world.page(target)
        assert all(int(asked.split("limit=")[1].split("&")[0]) <= 100 for _, asked in world.asked)


async def test_few_large_pages_are_held_at_once() -> None:
    world = World(**{f"acc_{n}": [item(f"own{n}")] for n in range(LARGE_AT_ONCE + 5)})
    held, most = 0, 0

    async def fetch(account_id: str, target: str) -> Fetched:
        nonlocal held, most
        held += 1
        most = max(most, held)
        await asyncio.sleep(0)
        held -= 1
        return page_of(world.items[account_id], target)

    world.fetch = fetch  # type: ignore[method-assign]
    for limit, expected in ((1000, LARGE_AT_ONCE), (100, LARGE_AT_ONCE + 5)):
        most = 0
        await world.page(f"files?limit={limit}")
        assert most == expected


async def test_a_list_that_is_too_long_is_refused_rather_than_cut() -> None:
    world = World(a=[item(f"other{n}", n) for n in range(100 * MOST_PAGES + 1)], b=[])
    with pytest.raises(Unavailable, match="too long"):
        await world.page("agents")
    assert len(world.asked) <= MOST_PAGES + 1


async def test_a_limited_number_of_places_is_remembered() -> None:
    world = World(a=[item(f"a{n}", n) for n in range(MOST_REMEMBERED + 9)], b=[item("b", 5000)])
    first = await world.page(f"{BY_ID}?limit=1")
    await world.page(f"{BY_ID}?limit=1&{onward(first)}")
    assert "after_id=a0" in world.asked[0][1]
    for n in range(2, MOST_REMEMBERED + 2):
        await world.page(f"{BY_ID}?limit={n}")
    page = await world.page(f"{BY_ID}?limit=1&{onward(first)}")
    assert "after_id" not in world.asked[0][1] and ids(page) == ["a1"]


# Its items


@pytest.mark.parametrize("route", [BY_ID, BY_CURSOR])
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_list_that_is_not_by_time_keeps_its_order_in_pages_of_any_size(
    route: str, limit: int
) -> None:
    world = World(
        a=[item("a0", 1), item("other", 9), *(item(f"a{n}", 5 - n) for n in (1, 2, 3, 4))],
        b=[item(f"b{n}", age) for n, age in enumerate((5, 8, 2, 10))],
    )
    whole = ids(await world.page(route))
    world.cap = 2
    assert [each for each in whole if each[0] == "a"] == ["a0", "a1", "a2", "a3", "a4"]
    assert list(chain(*await world.walked(f"{route}?limit={limit}"))) == whole


async def test_items_come_byte_for_byte_and_members_in_the_order_of_the_upstream() -> None:
    thing = b'{"id":"a1" ,"n":1e400,"s":"\\u00e9"}'
    body = b'{"has_more": false, "new": {"x":  1}, "data": [ %b ],"last_id":"a1","first_id":"a1"}' % thing
    world = World(a=[item("a1")], b=[])
    world.answer = lambda account_id, target: Fetched(200, [], body) if account_id == "a" else None
    expected = b'{"has_more":false,"new":{"x":  1},"data":[%b],"last_id":"a1","first_id":"a1"}' % thing
    assert (await world.fetched(BY_ID)).body == expected


async def test_what_every_account_has_is_listed_once() -> None:
    def shared(**source: Any) -> list[Json]:
        return [item(name, 1000, **source) for name in ("xlsx", "pptx", "pdf")]

    for source in ("anthropic", {"type": "anthropic"}):
        world = World(
            a=[item("mine", 5, source="custom"), *shared(source=source)],
            b=[item("too", 9), *shared(source=source)],
        )
        for world.sees_all in (False, True):
            for limit in (1, 2, 3, 20):
                pages = await world.walked(f"skills?limit={limit}")
                assert list(chain(*pages)) == ["mine", "too", "xlsx", "pptx", "pdf"]


async def test_accounts_of_one_organization_list_its_items_once() -> None:
    items = [item(f"a{n}", n // 2) for n in range(9)]
    world = World(a=items, b=items, c=[item("c", 3)])
    world.sees_all = True
    for route in (BY_ID, BY_CURSOR):
        assert sorted(ids(await world.page(route))) == sorted(["c", *(each["id"] for each in items)])
    distinct = [item(f"a{n}", n) for n in range(9)]
    world = World(a=distinct, b=distinct)
    world.sees_all = True
    for route in (BY_ID, BY_CURSOR):
        for limit in (1, 2, 5):
            assert list(chain(*await world.walked(f"{route}?limit={limit}"))) == ids({"data": distinct})


async def test_items_without_a_time_or_an_id_keep_their_places() -> None:
    world = World(
        a=[{"id": "a1"}, {"id": "a2", "created_at": 5}, {"n": 1}], b=[{"id": "b1", "created_at": "x"}]
    )
    world.owns = lambda account_id, item_id: True  # type: ignore[method-assign]
    assert ids(await world.page(BY_CURSOR)) == ["a1", "a2", "b1"]
    world.sees_all = True
    world.answer = lambda account_id, target: Fetched(
        200, [], dumps({"data": world.items[account_id], "next_page": None})
    )
    assert len((await world.page(BY_CURSOR))["data"]) == 4


async def test_a_list_by_name_is_one_account_after_the_other() -> None:
    world = World(a=[item("a1", 9), item("a2", 1)], b=[item("b1", 0)])
    assert await world.walked("user_profiles?order_by=name&limit=1") == [["a1"], ["a2"], ["b1"]]


async def test_times_of_every_form_are_compared() -> None:
    a = [
        {"id": "a1", "created_at": "2026-11-29T12:00:00.5Z"},
        {"id": "a2", "created_at": "2026-11-29T11:59:59+00:00"},
    ]
    b = [
        {"id": "b1", "created_at": "2026-11-29T14:00:00+02:00"},
        {"id": "b2", "created_at": "2026-11-29T11:00:00"},
    ]
    assert ids(await World(a=a, b=b).page(BY_CURSOR)) == ["a1", "b1", "a2", "b2"]


# While it changes


@pytest.mark.parametrize("route", [BY_ID, BY_CURSOR])
async def test_a_walk_loses_nothing_while_items_come_and_go(route: str) -> None:
    world = World(
        a=[item(f"a{n}", 2 * n) for n in range(60)], b=[item(f"b{n}", 2 * n + 1) for n in range(60)]
    )
    page = await world.page(f"{route}?limit=10")
    found = ids(page)
    while more := onward(page):
        world.items["a"].insert(0, item(f"new{len(found)}", -len(found)))
        gone = [each for each in (found[-2], found[-4]) if each != page.get("last_id")]
        for items in world.items.values():
            items[:] = [each for each in items if each["id"] not in gone]
        page = await world.page(f"{route}?limit=10&{more}")
        found += ids(page)
    assert sorted(found) == sorted(f"{account}{n}" for account in "ab" for n in range(60))


@pytest.mark.parametrize("route", [BY_ID, BY_CURSOR])
async def test_an_account_that_comes_or_goes_in_a_walk_is_merged_from_there(route: str) -> None:
    world = World(
        a=[item(f"a{n}", 2 * n) for n in range(20)], b=[item(f"b{n}", 2 * n + 1) for n in range(20)]
    )
    page = await world.page(f"{route}?limit=9")
    del world.items["b"]
    world.items["c"] = [item("c_new", 3), item("c_old", 15)]
    rest = await world.page(f"{route}?limit=100&{onward(page)}")
    assert ids(rest) == ["a5", "a6", "a7", "c_old", *(f"a{n}" for n in range(8, 20))]


async def test_many_new_items_do_not_hide_where_a_walk_goes_on() -> None:
    for gone in (False, True):
        world = World(a=[item(f"a{n}", n) for n in range(9)], b=[])
        page = await world.page(f"{BY_CURSOR}?limit=3")
        world.items["a"][:0] = [item(f"new{n}", n - 60) for n in range(60)]
        if gone:
            world.items["a"].remove(page["data"][-1])
        rest = await world.page(f"{BY_CURSOR}?limit=9&{onward(page)}")
        assert ids(rest) == [f"a{n}" for n in range(3, 9)]


async def test_the_page_before_is_found_though_the_item_beside_it_is_gone() -> None:
    world = World(a=[item(f"a{n}", 2 * n) for n in range(9)], b=[item(f"b{n}", 2 * n + 1) for n in range(9)])
    first = await world.page(f"{BOTH_WAYS}?limit=3")
    second = await world.page(f"{BOTH_WAYS}?limit=3&{onward(first)}")
    world.items["b"].remove(second["data"][0])
    assert ids(await world.page(f"{BOTH_WAYS}?limit=3&{back(second)}")) == ids(first)


async def test_new_items_come_at_the_end_of_an_ascending_list() -> None:
    world = World(a=[item("a1", 9)], b=[item("b3", 1), item("b2", 2), item("b1", 3)])
    page = await world.page(f"{BY_CURSOR}?order=asc&limit=2")
    world.items["a"].insert(0, item("a2", 0))
    rest = await world.page(f"{BY_CURSOR}?order=asc&limit=9&{onward(page)}")
    assert ids(page) + ids(rest) == ["a1", "b1", "b2", "b3", "a2"]


# What is refused


async def test_the_id_of_another_group_and_one_that_never_was_are_refused_alike() -> None:
    world = World(a=[item("other1"), item("a1")], b=[])
    for argument in ("after_id", "before_id"):
        for unknown in ("other1", "never1"):
            with pytest.raises(InvalidRequest, match=rf"^'{unknown}' is not in the list$"):
                await world.page(f"{BY_ID}?{argument}={unknown}")
            assert world.asked == []
    world.sees_all = True
    for argument in ("after_id", "before_id"):
        with pytest.raises(InvalidRequest, match=r"^'never1' is not in the list$"):
            await world.page(f"{BY_ID}?{argument}=never1")


async def test_a_forged_cursor_shows_nothing_of_others() -> None:
    world = World(a=[item("other1", 1), item("a1", 2)], b=[item("other2", 3)])
    for size in (-1, 0, 5000):
        forged = Cursor(
            False, "other0", 0.0, {"a": Position(None, size, "other0", 1e300), "z": Position("x")}
        )
        page = await world.page(f"{BY_CURSOR}?page={written(forged)}")
        assert set(ids(page)) <= {"a1"}
    ended = Cursor(False, "x", 0.0, {"a": Position(ended=True), "b": Position(ended=True)})
    assert set(ids(await world.page(f"{BY_CURSOR}?page={written(ended)}"))) <= {"a1"}


@pytest.mark.parametrize(
    "page", ["x", "page_", "page_eA", "page_W10", "page_!!", "page_" + "A" * 9000, "%ff"]
)
async def test_a_cursor_that_is_none_is_refused_by_the_upstream(page: str) -> None:
    world = World(a=[item("other1")], b=[])
    answer = await world.fetched(f"{BY_CURSOR}?page={page}")
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (400, "invalid page cursor")
    assert world.asked == [("a", f"/v1/{BY_CURSOR}?page={page}")]


async def test_an_upstreams_own_cursor_shows_nothing_of_others() -> None:
    world = World(a=[item(f"other{n}", n) for n in range(30)], b=[])
    own = json.loads(page_of(world.items["a"], f"/v1/{BY_CURSOR}").body)["next_page"]
    with pytest.raises(InvalidRequest, match="Invalid page cursor"):
        await world.page(f"{BY_CURSOR}?page={own}")


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1e2"])
async def test_a_limit_that_is_none_is_refused_by_the_upstream(limit: str) -> None:
    world = World(a=[item("a1")], b=[])
    answer = await world.fetched(f"{BY_CURSOR}?limit={quote(limit)}")
    assert answer.status == 400 and len(world.asked) == 1
    world.answer = lambda account_id, target: page_of([item("other1")], "/v1/agents")
    with pytest.raises(InvalidRequest, match="limit"):
        await world.fetched(f"{BY_CURSOR}?limit={quote(limit)}")


async def test_the_first_accounts_error_is_the_answer() -> None:
    world = World(a=[item("a1")], b=[item("b1")], c=[item("c1")])
    errors = {"b": Fetched(429, [("retry-after", "9")], b"slow"), "c": Fetched(500, [], b"no")}
    world.answer = lambda account_id, target: errors.get(account_id)
    assert await world.fetched(BY_CURSOR) is errors["b"] and len(world.asked) == 3
    errors["a"] = Fetched(404, [], b"no such list")
    assert await world.fetched(BY_CURSOR) is errors["a"]


async def test_an_account_that_cannot_answer_is_told_of() -> None:
    world = World(a=[item("a1")], b=[item("b1")])

    def limited(account_id: str, target: str) -> None:
        if account_id == "b":
            raise RateLimited("limited", retry_after_s=5)

    world.answer = limited
    with pytest.raises(RateLimited):
        await world.fetched(BY_CURSOR)


@pytest.mark.parametrize("body", [b'{"data":{"id":"x"}}', b'{"items":[]}', b"[]", b'"x"', b"null", b"1"])
async def test_what_is_no_list_is_handed_on_of_the_first_account(body: bytes) -> None:
    world = World(a=[], b=[])
    odd = Fetched(200, [], body)
    world.answer = lambda account_id, target: odd if account_id == "a" else None
    assert await world.fetched("strange?x=1") is odd and world.asked == [("a", "/v1/strange?x=1")]
    world.answer = lambda account_id, target: odd if account_id == "b" else None
    with pytest.raises(BadGateway):
        await world.fetched("strange")


async def test_a_list_of_a_route_that_is_not_known_is_merged() -> None:
    world = World(a=[item(f"a{n}", 2 * n) for n in range(50)], b=[item("other"), item("b1", 3)])
    pages = await world.walked("strange?x=1&limit=30")
    assert [len(page) for page in pages] == [30, 21] and pages[0][:4] == ["a0", "a1", "b1", "a2"]


async def test_of_a_route_that_is_none_one_account_is_asked() -> None:
    world = World(a=[], b=[], c=[])
    none = Fetched(404, [], b"{}")
    world.answer = lambda account_id, target: none
    assert await world.fetched("strange") is none and len(world.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"data":[{"id":"other"}',
        b'{"data":[{"id":"other"}],"has_more":"no"}',
        b'{"data":[{]}',
    ],
)
async def test_a_list_that_cannot_be_read_is_never_handed_on(body: bytes) -> None:
    world = World(a=[], b=[])
    world.answer = lambda account_id, target: Fetched(200, [], body)
    with pytest.raises(BadGateway, match="cannot be read"):
        await world.fetched(BY_CURSOR)


async def test_a_list_may_leave_out_whether_there_are_more() -> None:
    for more in (b"", b',"has_more":null', b',"next_page":""'):
        world = World(a=[], b=[item("b1", -9_999_999)])
        body = b'{"data":[{"id":"a1"}]%b}' % more
        world.answer = lambda account_id, target, body=body: Fetched(200, [], body)  # type: ignore[misc]
        world.owns = lambda account_id, item_id: account_id == "a"  # type: ignore[method-assign]
        assert ids(await world.page(BY_CURSOR)) == ["a1"]


# As it came


async def test_one_account_of_which_everything_may_be_seen_answers_itself() -> None:
    world = World(a=[item("a1"), item("other1")])
    world.sees_all = True
    for query in ("", "?limit=0", "?page=x", "?limit=1&beta=true"):
        assert (await world.fetched(BY_CURSOR + query)).body == page_of(
            world.items["a"], f"/v1/agents{query}"
        ).body
    assert world.asked[-1] == ("a", "/v1/agents?limit=1&beta=true")


async def test_filters_are_handed_on_as_they_came() -> None:
    world = World(a=[item("a1")], b=[])
    filters = "statuses%5B%5D=idle&statuses%5B%5D=running&beta=true&q=%C3%A9+x"
    await world.page(f"{BOTH_WAYS}?{filters}&limit=5&page=")
    assert [target for _, target in world.asked] == [f"/v1/{BOTH_WAYS}?{filters}&limit=20"] * 2


async def test_items_that_are_named_are_asked_for_without_paging() -> None:
    world = World(a=[item("a1")], b=[item("b1"), item("other1")])
    target = "files?ids[]=a1&ids[]=b1&ids[]=other1"
    assert ids(await world.page(target)) == ["a1", "b1"]
    assert world.asked == [("a", f"/v1/{target}"), ("b", f"/v1/{target}")]


async def test_every_content_encoding_is_read_and_none_is_written() -> None:
    world = World(a=[item(f"a{n}", n) for n in range(400)], b=[])

    def encoded(account_id: str, target: str) -> Fetched:
        plain = page_of(world.items[account_id], target)
        headers = [
            *plain.headers,
            ("Content-Encoding", "gzip"),
            ("Content-Length", "7"),
            ("request-id", "req_1"),
        ]
        return Fetched(200, headers, gzip.compress(plain.body))

    world.answer = encoded
    answer = await world.fetched(f"{BY_ID}?limit=400")
    assert len(ids(json.loads(answer.body))) == 400
    assert answer.headers == [
        ("content-type", "application/json"),
        ("request-id", "req_1"),
        ("content-length", str(len(answer.body))),
    ]


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", b"{}"), ("zip", b"{}"), ("gzip", gzip.compress(b" " * (5 << 20)))]
)
async def test_a_page_that_cannot_be_read_is_a_bad_gateway(encoding: str, body: bytes) -> None:
    world = World(a=[item("a1")], b=[])
    headers = [("content-encoding", encoding), ("x-proxy-account", "caf%C3%A9")]
    world.answer = lambda account_id, target: Fetched(200, headers, body)
    with pytest.raises(BadGateway, match="the list of account 'café' cannot be read"):
        await world.page(BY_CURSOR)


async def test_a_cursor_of_many_accounts_is_short_and_leads_on_all_the_same() -> None:
    accounts = {
        f"acc_{n:02}": [item(f"file_{n:02}_{m:02}_{'x' * 60}", n + 100 * m) for m in range(25)]
        for n in range(40)
    }
    world = World(**accounts)
    world.cap = 5
    page = await world.page(f"{BY_CURSOR}?limit=500")
    assert len(page["next_page"]) <= MOST_CURSOR_CHARS
    rest = await world.page(f"{BY_CURSOR}?limit=1000&{onward(page)}")
    found = ids(page) + ids(rest)
    assert len(found) == len(set(found)) == 1000


async def test_items_without_an_id_do_not_begin_the_list() -> None:
    world = World(a=[], b=[])
    world.sees_all = True
    bare = {"data": [{"name": "one"}, {"name": "two"}], "has_more": False}
    world.answer = lambda account_id, target: Fetched(200, [], json.dumps(bare).encode())  # type: ignore[misc]
    first, second = [(await world.page("what_comes?limit=1"))["data"] for _ in range(2)]
    assert first == second == [{"name": "one"}]


@pytest.mark.parametrize("status", [203, 206])
async def test_a_part_of_a_page_is_not_handed_on(status: int) -> None:
    world = World(a=[item("a1")], b=[item("b1")])
    world.answer = lambda account_id, target: Fetched(status, [], b'{"data": [{"id": "file_of_others')  # type: ignore[misc]
    with pytest.raises(BadGateway):
        await world.page(BY_CURSOR)
