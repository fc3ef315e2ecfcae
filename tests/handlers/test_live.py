"""The feed: who may open it, what comes and in which order, and what becomes of those who cannot follow."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError
from tornado.iostream import IOStream, StreamClosedError

from handlers import dashboards as module
from handlers.client_socket import ClientSocket
from handlers.feeder import News
from handlers.live import MOST_MESSAGE_BYTES, SUBPROTOCOL
from proxy.accounts.account import Status
from proxy.dashboard.revisions import Revisions
from proxy.simulator import quota_429
from tests.canaries import leaked
from tests.dashboards import dashboard
from tests.service import (
    ADMIN_KEY,
    CLIENT_KEY,
    MESSAGE_HEADERS,
    Service,
    message,
    serve,
    until,
    upstream_key,
)
from tests.wire import connect, fetch, request_bytes

TOPICS = (
    "accounts",
    "tokens",
    "sessions",
    "stats",
    "flows",
    "events",
    "usage:1h",
    "usage:24h",
    "usage:7d",
    "usage:30d",
)


def only(items: dict[str, Any]) -> dict[str, Any]:
    (item,) = items.values()
    return item


async def poll(service: Service, query: str, key: str = ADMIN_KEY) -> list[dict[str, Any]]:
    answer = await service.admin("GET", f"/api/live?{query}", key=key)
    assert answer.status == 200, answer
    frames: list[dict[str, Any]] = answer.json()["frames"]
    return frames


def too_much(live: Revisions, topic: str, since: int) -> tuple[int, list[str]]:
    """As `Revisions.frames`: more than the client of a test and the buffers of its connection hold.

    One frame stays below 10 MiB, since Tornado's client would leave by itself.
    """
    frame = f'"t":"snap","topic":"{topic}","rev":{since},"items":{{"x":{{"text":"{"x" * 8_000_000}"}}}}}}'
    return since + 1, [frame] * 5


# ---- what comes


async def test_it_begins_with_who_speaks_and_everything_asked_for(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        hello = await page.hello(*TOPICS)
        assert (hello["t"], hello["v"], hello["now"]) == ("hello", 1, service.clock.now())
        assert {"epoch", "started_at", "server_version", "assets", "heartbeat_s"} < hello.keys()
        assert {frame["t"] for frame in page.frames[1:]} == {"snap", "ev"}
        assert page.items.keys() == set(TOPICS) - {"events"}
        account = only(page.items["accounts"])
        assert account == account | (await service.admin("GET", "/api/accounts")).json()["accounts"][0]
        assert (account["refreshing"], account["spark"]) == (False, [0] * 60)
        assert account["day"] == {
            "requests": 0, "errors": 0, "input_tokens": 0, "output_tokens": 0,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "cost_usd": 0.0,
            "unpriced_requests": 0,
        }  # fmt: skip
        token = only(page.items["tokens"])
        assert token == token | (await service.admin("GET", "/api/tokens")).json()["tokens"][0]
        assert page.items["stats"].keys() == {"health", "accounts", "capacity", "traffic", "affinity"}
        assert [len(page.items[f"usage:{ring}"]) for ring in ("1h", "24h", "7d", "30d")] == [60, 96, 84, 30]


async def test_a_change_of_an_account_comes_by_itself(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service, dashboard(service) as page:
        await page.hello("accounts", "stats", "events")
        service.simulator.always(upstream_key("a"), quota_429(reset_in=60))
        await service.message()
        await service.message()
        accounts = page.items["accounts"]
        await page.until(lambda: {a["status"] for a in accounts.values()} == {"rate_limited", "active"})
        await page.until(lambda: page.items["stats"]["accounts"]["rate_limited"] == 1)
        await page.until(lambda: page.items["stats"]["health"]["status"] == "degraded")
        await page.until(
            lambda: any(f["t"] == "ev" and "is rate limited" in json.dumps(f) for f in page.frames)
        )
        service.clock.advance(61)
        await page.until(lambda: {a["status"] for a in accounts.values()} == {"active"})


async def test_only_the_fields_that_changed_come(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("accounts")
        id = only(page.items["accounts"])["id"]
        await service.admin("PUT", f"/api/accounts/{id}", {"name": "renamed"})
        delta = await page.read()
        assert delta["t"] == "delta" and delta["set"].keys() == {id}
        assert delta["set"][id].keys() == {"name", "etag"}  # the clock stands still


async def test_accounts_keys_and_sessions_come_and_go(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=()) as service, dashboard(service) as page:
        await page.hello("accounts", "tokens", "sessions")
        account, _ = await service.add_account("new")
        await page.until(lambda: account.id in page.items["accounts"])
        await service.admin("DELETE", f"/api/accounts/{account.id}")
        await page.until(lambda: account.id not in page.items["accounts"])
        made = (await service.admin("POST", "/api/tokens", {"name": "k"})).json()["token"]
        await page.until(lambda: made["id"] in page.items["tokens"])
        await service.send("GET", "/v1/models", key=made["key"])
        await page.until(lambda: page.items["sessions"])
        assert only(page.items["sessions"])["token_id"] == made["id"]
        await page.until(lambda: page.items["tokens"][made["id"]]["requests"] == 1)
        await service.admin("DELETE", f"/api/tokens/{made['id']}")
        await page.until(lambda: made["id"] not in page.items["tokens"] and not page.items["sessions"])


async def test_usage_moves_the_last_bucket_and_the_sums_of_a_day(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("accounts", "tokens", "usage:1h", "usage:30d")
        await service.message()
        for ring in ("1h", "30d"):
            buckets = page.items[f"usage:{ring}"]
            await page.until(
                lambda buckets=buckets: max(buckets.values(), key=lambda b: b["start"])["ok"] == 1
            )
        for topic in ("accounts", "tokens"):
            await page.until(lambda topic=topic: only(page.items[topic])["day"]["requests"] == 1)
        service.clock.advance(60)
        await page.until(lambda: only(page.items["accounts"])["spark"][-1] == 1)
        await page.until(lambda: len(page.items["usage:1h"]) == 60)
        service.clock.advance(3600)
        await page.until(lambda: not any(bucket["ok"] for bucket in page.items["usage:1h"].values()))


async def test_a_new_day_is_shown_of_each_key_though_nobody_asks(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.clock.advance(86_399 - service.clock.now() % 86_400)
        limits = {"tokens_per_day": 1_000_000}
        made = (await service.admin("POST", "/api/tokens", {"name": "b", "limits": limits})).json()
        id, key = made["token"]["id"], made["token"]["key"]
        await service.send("POST", "/v1/messages", MESSAGE_HEADERS, message(), key=key)
        async with dashboard(service) as page:
            await page.hello("tokens")
            assert page.items["tokens"][id]["meters"][0]["used"] > 0
            service.tick()  # the request is told of before
            service.clock.advance(1)
            await page.until(lambda: page.items["tokens"][id]["meters"][0]["used"] == 0)


async def test_a_session_that_is_over_goes_without_anybody_asking(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await service.message()
        await page.hello("sessions")
        assert only(page.items["sessions"])["account_id"] == next(iter(service.parts.pool)).id
        service.clock.advance(301)
        await page.until(lambda: not page.items["sessions"])


async def test_a_login_on_its_way_is_shown_without_its_state(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("flows")
        begun = (await service.admin("GET", "/oauth/authorize?name=login")).json()
        await page.until(lambda: page.items["flows"])
        flow = page.items["flows"][begun["flow_id"]]
        assert (flow["status"], flow["expires_at"]) == ("waiting", begun["expires_at"])
        answer = await service.admin(
            "POST", "/oauth/exchange", {"code": "a-wrong-code", "state": begun["state"]}
        )
        await page.until(lambda: flow["status"] == "failed")
        assert flow["error_message"] == answer.json()["error"]["message"]
        assert begun["state"] not in json.dumps(page.frames)
        service.clock.advance(601)
        await page.until(lambda: not page.items["flows"])


# ---- coming back


async def test_who_was_away_gets_what_changed_meanwhile(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        async with dashboard(service) as page:
            epoch = (await page.hello("accounts"))["epoch"]
        id = next(iter(page.items["accounts"]))
        await service.admin("PUT", f"/api/accounts/{id}", {"name": "renamed"})
        async with dashboard(service) as again:
            again.items = page.items
            await again.hello(epoch=epoch, **page.revs)
            assert again.frames[1]["t"] == "delta" and again.frames[1]["set"].keys() == {id}
            assert again.items["accounts"][id]["name"] == "renamed"


async def test_revisions_of_another_start_are_worth_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello(epoch="another", accounts=5)
        assert page.frames[1]["t"] == "snap"


async def test_a_topic_may_be_asked_for_later_and_given_up(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("accounts")
        await page.send(t="sub", topic="tokens", rev=0)
        assert (await page.read())["topic"] == "tokens"
        await page.send(t="unsub", topic="accounts")
        await page.send(t="ping", c=1.5)
        pong = await page.read()
        assert (pong["t"], pong["c"], pong["now"]) == ("pong", 1.5, service.clock.now())
        await service.add_account("new")
        await service.parts.keys.add("new")
        assert (await page.read())["topic"] == "tokens"


async def test_frames_that_are_due_at_once_come_as_one_message_if_that_is_asked_for(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("team-a",)) as service, dashboard(service) as page:
        await page.send(
            t="hello", epoch=None, topics=dict.fromkeys(("accounts", "tokens", "events"), 0), lists=True
        )
        hello, frames = [json.loads(await page.connection.read_message() or "") for _ in range(2)]
        assert (hello["t"], hello["n"]) == ("hello", 1)
        assert [(frame["n"], frame["topic"]) for frame in frames] == [
            (2, "accounts"),
            (3, "tokens"),
            (4, "events"),
        ]


async def test_a_message_of_many_frames_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIST_CHARACTERS", 1)
    async with serve(tmp_path, accounts=("team-a",)) as service, dashboard(service) as page:
        await page.send(t="hello", epoch=None, topics=dict.fromkeys(("accounts", "tokens"), 0), lists=True)
        assert [(await page.read())["n"] for _ in range(3)] == [1, 2, 3]


def test_dashboards_of_one_pace_are_due_in_the_same_turn() -> None:
    """So they share their frames, whenever they were opened and however long a send took."""
    assert {round(module.due(sent_at, 0.05), 9) for sent_at in (7.0, 7.012, 7.049)} == {7.05}
    assert module.due(7.05, 0.05) == pytest.approx(7.1)


async def test_the_same_frames_come_by_polling(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a", "b"]) as service:
        hello, accounts = await poll(service, "topics=accounts:0")
        assert (hello["t"], hello["n"], accounts["t"], accounts["n"]) == ("hello", 1, "snap", 2)
        id = next(iter(accounts["items"]))
        await service.admin("PUT", f"/api/accounts/{id}", {"name": "renamed"})
        query = f"epoch={hello['epoch']}&topics=accounts:{accounts['rev']},events:0"
        _, delta, events = await poll(service, query)
        assert (delta["t"], delta["set"].keys()) == ("delta", {id})
        assert events["items"][-1]["kind"] == "account.renamed"
        (_, again) = await poll(service, f"epoch=another&topics=accounts:{delta['rev']}")
        assert again["t"] == "snap"


@pytest.mark.parametrize("topics", ["nothing:0", "accounts", "accounts:x", "accounts:-1", "accounts:1,,x:1"])
async def test_a_poll_for_what_is_no_topic_is_told_so(tmp_path: Path, topics: str) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", f"/api/live?topics={topics}")
        assert answer.status == 400 and "topics: no such topic" in answer.json()["error"]["message"]


async def test_a_poll_that_names_a_topic_twice_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("GET", "/api/live?topics=accounts:0,stats:0,accounts:7")
        assert (answer.status, answer.json()["error"]["message"]) == (400, "topics: accounts stands twice")


async def test_polling_notices_what_time_has_changed(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service:
        service.simulator.script(upstream_key("a"), quota_429(reset_in=60))
        await service.message()
        _, accounts = await poll(service, "topics=accounts:0")
        assert only(accounts["items"])["status"] == "rate_limited"
        service.clock.advance(61)
        service.tick()
        _, accounts = await poll(service, "topics=accounts:0")
        assert only(accounts["items"])["status"] == "active"


# ---- who may


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Cookie": ""}, 401),
        ({"Cookie": "claude-proxy=made-up"}, 401),
        ({"Origin": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Cookie": "", "X_API_Key": "wrong"}, 401),
        ({"Cookie": "", "X_API_Key": CLIENT_KEY}, 403),
    ],
    ids=str,
)
async def test_nobody_else_opens_it(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async with serve(tmp_path) as service:
        cookie = await service.login()
        with pytest.raises(HTTPClientError) as refused:
            async with dashboard(service, **({"cookie": cookie, "Cookie": cookie} | headers)):
                pass
        assert refused.value.code == status


async def test_a_program_opens_it_with_the_admin_key(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as service,
        dashboard(service, Cookie="", Origin="", X_API_Key=ADMIN_KEY) as page,
    ):
        assert (await page.hello("stats"))["t"] == "hello"


async def test_signing_out_closes_its_dashboards_and_no_others(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        cookie, other = await service.login(), await service.login()
        async with dashboard(service, cookie=cookie) as page, dashboard(service, cookie=other) as stays:
            await page.hello("stats")
            await stays.hello("stats")
            headers = [("Cookie", cookie), ("Sec-Fetch-Site", "same-origin")]
            answer = await fetch(service.port, "POST", "/api/auth/logout", headers, b"")
            assert answer.status == 200
            assert await page.closed() == 4401
            await service.add_account("b")
            await stays.until(lambda: stays.items["stats"]["accounts"]["total"] == 2)


async def test_another_version_of_the_protocol_is_told_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service, subprotocol="cproxy.admin.v2") as page:
        assert await page.closed() == 4409


async def test_there_is_room_for_so_many_dashboards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DASHBOARDS", 2)
    async with serve(tmp_path) as service:
        cookie = await service.login()
        async with dashboard(service, cookie=cookie) as first:
            async with dashboard(service, cookie=cookie), dashboard(service, cookie=cookie) as third:
                assert await third.closed() == 4408
            async with dashboard(service, cookie=cookie) as third:
                await third.hello("stats")
            await first.hello("stats")


async def test_a_dashboard_that_leaves_during_its_handshake_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def is_gone(socket: ClientSocket, read: bytes) -> IOStream:
        socket.abort()
        raise StreamClosedError

    monkeypatch.setattr(ClientSocket, "give_away", is_gone)
    async with serve(tmp_path) as service, connect(service.port) as wire:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "X-API-Key": ADMIN_KEY}
        headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        await wire.send(request_bytes("GET", "/api/live", headers.items()))
        async with asyncio.timeout(5):
            await wire.reader.read()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "{}", '"hello"', '{"t":"hello"}', '{"t":"hello","topics":[]}'),
        *('{"t":"ping","c":1e999}', '{"t":"ping","c":NaN}', '{"t":"ping","c":%s}' % ("9" * 400)),
        *('{"t":"rate","hz":"x"}', '{"t":"ping","c":{}}', '{"t":"sub","topic":[]}'),
        *(
            '{"t":"ping","c":"nan"}',
            '{"t":"ping","c":NaN}',
            '{"t":"ping","c":1e999}',
            '{"t":"ping","c":true}',
        ),
        *('{"t":"ping","c":"Infinity"}', '{"t":"ping","c":1%s}' % ("0" * 400), '{"t":"rate","hz":NaN}'),
        *(r'{"t":"ping","c":"\ud800"}', '{"t":"ping"}', '{"t":"rate","hz":1%s}' % ("0" * 400)),
    ],
)
async def test_what_cannot_be_understood_ends_it(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.connection.write_message(text)
        assert await page.closed() == 1008
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


def masked(first: int, payload: bytes, *, mask: bool = True) -> bytes:
    """A frame of a client (RFC 6455 §5.2), with a mask of zeros."""
    size = len(payload)
    length = bytes([size | mask << 7]) if size < 126 else bytes([126 | mask << 7]) + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4 * mask) + payload


@pytest.mark.parametrize(
    "frame",
    [
        masked(0x89, b"\xff\x00\xfe" * 40),
        masked(0x89, b"x" * 125) * 50,
        masked(0x89, b"x" * 126),  # a control frame is shorter
        masked(0x09, b"junk"),  # and whole
        masked(0x89, b"junk", mask=False),
        masked(0x8A, b"a pong for nothing \xff"),
        masked(0x8B, b"junk"),
        masked(0xF9, b"junk"),
        masked(0x81, b"\xff\xfe"),
        masked(0x82, b"\xff\xfe"),
        masked(0x80, b"junk"),
        masked(0x01, b"{") + masked(0x01, b"}"),
        masked(0x88, b"\x03"),
        masked(0x88, b"\x03\xe8\xff\xfe"),
        masked(0x88, b"\xff\xff"),
        masked(0x88, b"") + masked(0x89, b"after the end") * 3,
        b"\x89\xff" + b"\xff" * 8,
        b"\x16\x03\x01",
    ],
    ids=lambda frame: frame[:6].hex(),
)
@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
async def test_no_frame_is_a_defect(
    tmp_path: Path, frame: bytes, caplog: pytest.LogCaptureFixture, leaves: bool
) -> None:
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    upgrade += [("Sec-WebSocket-Key", "A" * 22 + "=="), ("Sec-WebSocket-Protocol", SUBPROTOCOL)]
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("GET", "/api/live", [("X-API-Key", ADMIN_KEY), *upgrade]))
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await wire.send(frame)
        if leaves:
            wire.reset()
        for _ in range(50):
            await asyncio.sleep(0)
        assert (await service.admin("GET", "/health")).status == 200
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "message", [{"t": "later"}, {"t": "sub", "topic": "unknown"}, {"t": "unsub", "topic": "unknown"}], ids=str
)
async def test_what_is_unknown_is_passed_over(tmp_path: Path, message: dict[str, Any]) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.send(**message)
        assert (await page.hello("accounts"))["t"] == "hello"


@pytest.mark.parametrize(
    "early", [{"t": "ping", "c": 1}, {"t": "sub", "topic": "accounts"}, {"t": "rate", "hz": 1}], ids=str
)
async def test_whoever_speaks_before_its_hello_is_greeted_first(
    tmp_path: Path, early: dict[str, Any]
) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.send(**early)
        await service.add_account("b")
        assert (
            await service.admin("GET", "/api/live?topics=stats:0")
        ).status == 200  # so the server has had its turns
        await page.send(t="hello", epoch=None, topics={"accounts": 0}, hz=20)
        await page.send(t="hello", epoch=None, topics={"accounts": 0}, hz=20)
        assert (await page.read())["t"] == "hello"
        frames = [await page.read(), await page.read()] if early["t"] == "ping" else [await page.read()]
        assert "hello" not in [frame["t"] for frame in frames]
        assert len(page.items["accounts"]) == 2


async def test_a_flood_of_messages_ends_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        for _ in range(module.MOST_MESSAGES_S + 1):
            await page.send(t="ping", c=1)
        assert await page.closed() == 1008


async def test_a_message_that_is_too_long_ends_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.connection.write_message("x" * (MOST_MESSAGE_BYTES + 1))
        assert await page.closed() in (1009, None)


# ---- who cannot follow, and the end


async def test_a_dashboard_that_takes_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STALLED_S", 0.2)
    monkeypatch.setattr(module, "MOST_DASHBOARDS", 1)
    caplog.set_level("INFO", module.__name__)
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("accounts")
        with monkeypatch.context() as patch:
            patch.setattr(Revisions, "frames", too_much)  # this client reads nothing by itself
            await service.add_account("b")
            await until(lambda: "it takes nothing any more" in caplog.text)
        async with dashboard(service) as another:
            await another.hello("accounts")  # there is room again


async def change(service: Service, status: Status) -> None:
    """Change an account, and give everything some turns."""
    await service.parts.pool.update(next(iter(service.parts.pool)).id, status=status)
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_dashboard_that_takes_nothing_is_not_looked_at_for_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[module.Socket] = []
    look = module.Socket.bring_up_to_date

    def noted(socket: module.Socket, news: News) -> Iterator[None]:
        looks.append(socket)
        yield from look(socket, news)

    monkeypatch.setattr(module.Socket, "bring_up_to_date", noted)
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("accounts")
        with monkeypatch.context() as patch:
            patch.setattr(Revisions, "frames", too_much)  # this client reads nothing by itself
            states = itertools.cycle((Status.INACTIVE, Status.ACTIVE))
            while looks[-1].topics:
                await change(service, next(states))
            before = len(looks)
            for _ in range(50):
                await change(service, next(states))
            assert len(looks) - before < 10  # those of the messages that its buffers still held


async def test_stopping_says_goodbye(tmp_path: Path) -> None:
    async with serve(tmp_path) as service, dashboard(service) as page:
        await page.hello("stats")
        await service.parts.server.drain()
        assert await page.closed() == 1001


async def test_a_dashboard_that_has_gone_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_DASHBOARDS", 1)
    followed: list[Revisions] = []
    follow = Revisions.follow

    def spy(live: Revisions, news: asyncio.Event) -> None:
        followed.append(live)
        follow(live, news)

    monkeypatch.setattr(Revisions, "follow", spy)
    async with serve(tmp_path) as service:
        async with dashboard(service) as page:
            await page.hello("stats")
            (live,) = followed
            assert live.watched
        await until(lambda: not live.watched)
        async with dashboard(service) as another:
            await another.hello("stats")


async def test_no_frame_holds_a_secret(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=["a"]) as service, dashboard(service) as page:
        _, grant = await service.add_login("login")
        cookie = await service.login()
        await service.message()
        await page.hello(*TOPICS)
        secrets = [
            ADMIN_KEY,
            CLIENT_KEY,
            upstream_key("a"),
            grant.access_token,
            str(grant.refresh_token),
            cookie.partition("=")[2],
        ]
        assert not leaked(json.dumps(page.frames), secrets)
