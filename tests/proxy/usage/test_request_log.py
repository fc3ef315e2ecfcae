"""The last requests: what is kept of each, which are found, and that nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.clients.budgets import NO_LIMITS
from proxy.clients.keys import ClientKey, Role, declared_key
from proxy.feed import Feed
from proxy.usage import request_log as module
from proxy.usage.meter import Usage
from proxy.usage.request import Attempt, RequestRecord
from proxy.usage.request_log import RequestLog, Wanted
from tests.service import TestClock

KEY = declared_key("laptop", "cp-a-key-of-this-test", Role.USER, NO_LIMITS, ())
OTHER = declared_key("ci", "cp-another-key-of-this-test", Role.USER, NO_LIMITS, ())
MODEL = "claude-sonnet-5-5"


class World:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.touched: list[tuple[str, str]] = []
        feed = Feed()
        feed.on_touch(lambda topic, id: self.touched.append((topic, id)))
        self.log = RequestLog(feed, clock=self.clock)

    def tried(
        self, account: str, status: int, verdict: str, id: str, *, after_s: float, took_s: float
    ) -> Attempt:
        attempt = Attempt(account, account.upper(), self.clock.monotonic() + after_s, request_id=id)
        attempt.end(status, verdict, f"{status} told", attempt.began_at + took_s)
        return attempt

    def end(self, key: ClientKey | None = KEY, *tries: Attempt, **fields: Any) -> RequestRecord:
        """A request ends now, by itself 1.5 s after it began and with a first byte after 0.25 s."""
        record = RequestRecord(self.clock.monotonic(), method="POST", path="/v1/messages", key=key)
        record.first_byte_at, record.ended_at = record.began_at + 0.25, record.began_at + 1.5
        record.attempts, record.status, record.complete = list(tries), 200, True
        for name, value in fields.items():
            setattr(record, name, value)
        self.clock.advance(1.5)
        self.log.keep(record)
        return record

    def found(self, **wanted: Any) -> list[int]:
        return [kept.number for kept in self.log.find(Wanted(**wanted))]


@pytest.fixture
def world() -> World:
    return World()


def test_a_request_is_told_with_its_tries(world: World) -> None:
    began = world.clock.now()
    first = world.tried("acc_1", 429, "bench_then_next", "req_up1", after_s=0.01, took_s=0.05)
    second = world.tried("acc_2", 200, "hand_on", "req_up2", after_s=0.07, took_s=0.15)
    usage = Usage(MODEL, 12, 34, 3, 4, 5)
    record = world.end(
        KEY,
        first,
        second,
        model=MODEL,
        session_id="ses_1",
        usage=usage,
        cost_usd=0.5,
        answer_bytes=99,
        why="new",
    )
    (kept,) = world.log.find(Wanted())
    assert kept.view() == {
        "id": 1,
        "request_id": record.id,
        "upstream_request_id": "req_up2",
        "at": "2027-01-15T08:00:00.000Z",
        "key_id": KEY.id,
        "key_name": "laptop",
        "session_id": "ses_1",
        "account_id": "acc_2",
        "account_name": "ACC_2",
        "model": MODEL,
        "method": "POST",
        "path": "/v1/messages",
        "stream": False,
        "tries": [
            {
                "account_id": "acc_1", "account_name": "ACC_1", "status": 429, "verdict": "bench_then_next",
                "failure": "limited", "evidence": "429 told", "request_id": "req_up1", "at_ms": 10, "ms": 50,
            },
            {
                "account_id": "acc_2", "account_name": "ACC_2", "status": 200, "verdict": "hand_on",
                "failure": None, "evidence": "200 told", "request_id": "req_up2", "at_ms": 70, "ms": 150,
            },
        ],
        "why": "new",
        "moved": None,
        "status": 200,
        "outcome": "ok",
        "cut_by": None,
        "error": None,
        "reason": None,
        "ttfb_ms": 250,
        "duration_ms": 1500,
        "answer_bytes": 99,
        "input_tokens": 12,
        "output_tokens": 34,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 5,
        "estimated": False,
        "cost_usd": 0.5,
    }  # fmt: skip
    assert kept.at == began
    assert world.touched == [("requests", "")]


def test_tokens_are_those_that_are_billed(world: World) -> None:
    parts = (Usage(MODEL, 1, 2, 0, 0, 3), Usage("claude-haiku-5-5", 10, 20, 30, 40, 50))
    world.end(usage=Usage(MODEL, 1, 2, iterations=parts))
    assert world.log.find(Wanted())[0].tokens == (11, 22, 70, 53)


def test_a_try_that_was_cut_lasted_until_the_end(world: World) -> None:
    cut = Attempt("acc_1", "a", world.clock.monotonic() + 0.5)
    world.end(KEY, cut, status=499, complete=False, first_byte_at=None, cut_by="client")
    view = world.log.find(Wanted())[0].view()
    assert (view["tries"][0]["ms"], view["tries"][0]["verdict"]) == (1000, "")
    assert (view["ttfb_ms"], view["outcome"], view["cut_by"]) == (None, "aborted", "client")


def test_what_came_without_a_key_is_left_out(world: World) -> None:
    world.end(None, status=401)
    assert (world.log.newest, world.log.find(Wanted()), world.touched) == (0, [], [])


def test_so_many_are_kept_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    small = World()
    for _ in range(5):
        small.end()
    assert (small.log.newest, small.found()) == (5, [5, 4, 3])


def test_they_are_found_by_what_they_were(world: World) -> None:
    a = world.tried("acc_1", 529, "retry", "req_up1", after_s=0, took_s=0.1)
    b = world.tried("acc_2", 200, "hand_on", "req_up2", after_s=0.1, took_s=0.1)
    one = world.end(KEY, a, b, model=MODEL, session_id="ses_1")
    world.end(OTHER, b, model="claude-haiku-5-5", status=404)
    world.end(OTHER, a, status=529, first_byte_at=None)
    world.end(KEY, b, complete=False)
    assert world.found() == [4, 3, 2, 1]
    assert world.found(key=OTHER.id) == [3, 2]
    assert world.found(account="acc_1") == [3, 1]
    assert world.found(session="ses_1") == [1]
    assert world.found(model=MODEL) == [1]
    assert world.found(retried=True) == [1]
    assert world.found(status="200") == [4, 1]
    assert world.found(status="4xx") == [2]
    assert world.found(status="upstream_error") == [3]
    assert world.found(status="failed") == [4, 3, 2]
    assert world.found(slow_ms=250) == [4, 3, 2, 1]
    assert world.found(slow_ms=251) == [3]  # no byte of it came before its end
    assert world.found(search="up1") == [3, 1]
    assert world.found(search=one.id[4:]) == [1]
    start = world.clock.now() - 6
    assert world.found(start=start + 1.6) == [4, 3, 2]  # which ended then
    assert world.found(end=start + 3.1) == [2, 1]
    assert world.found(key=OTHER.id, status="404") == [2]


def test_a_cursor_leads_on(world: World) -> None:
    for n in range(6):
        world.end(KEY if n % 2 else OTHER)
    first = world.log.find(Wanted(key=KEY.id), most=2)
    assert [kept.number for kept in first] == [6, 4]
    rest = world.log.find(Wanted(key=KEY.id), before=4, most=2)
    assert [kept.number for kept in rest] == [2]


def test_one_is_found_by_each_of_its_ids(world: World) -> None:
    tries = [
        world.tried("acc_1", s, v, f"req_up{s}", after_s=0, took_s=0) for s, v in ((529, "retry"), (200, "x"))
    ]
    record = world.end(KEY, *tries)
    world.end()
    for id in (record.id, "req_up529", "req_up200", "1"):
        kept = world.log.one(id)
        assert kept is not None and kept.number == 1
    assert world.log.one("req_up") is None


def test_a_reader_gets_what_is_newer_oldest_first(world: World) -> None:
    for _ in range(5):
        world.end()
    assert [view["id"] for view in world.log.since(2)] == [3, 4, 5]
    assert [view["id"] for view in world.log.since(0, 2)] == [4, 5]
    assert list(world.log.since(5)) == []


def test_nothing_of_the_form_of_a_credential_is_told(world: World) -> None:
    secret = "sk-ant-api03-" + "x" * 40
    world.end(KEY, path=f"/v1/{secret}", model=secret, reason=f"no {secret} here", method=secret)
    assert secret not in repr(world.log.find(Wanted())[0].view())


def test_long_texts_are_cut(world: World) -> None:
    world.end(KEY, path="/v1/" + "a" * 500, model="m" * 500)
    view = world.log.find(Wanted())[0].view()
    assert (len(view["path"]), len(view["model"])) == (module.SHOWN, module.SHOWN)
