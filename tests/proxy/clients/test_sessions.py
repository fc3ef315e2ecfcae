"""Sessions: places in flight, the queue for them, their end, and bounds whatever clients call themselves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.clients import sessions as module
from proxy.clients.sessions import Client, Place, Session, Sessions
from proxy.clients.throttle import MAX_ADDRESSES, Throttle
from proxy.errors import NotFound, RateLimited
from proxy.feed import Feed
from proxy.storage.protocols import Record
from tests.disk import Disk, new_ids
from tests.memory import traced
from tests.service import TestClock

CLIENT = Client("tok_1", "1.2.3.4", "curl/8")
TTL_S = 300.0


def make(
    clock: TestClock, stored: dict[str, Record] | None = None, *, queue_timeout_s: float = 0.0, **options: Any
) -> Sessions:
    return Sessions(
        stored or {},
        **{"enabled": True, "max_concurrent": 3, "ttl_s": TTL_S, "feed": Feed()} | options,
        queue_timeout_s=queue_timeout_s,
        clock=clock,
        new_id=new_ids(),
    )


@pytest.fixture
def sessions(clock: TestClock) -> Sessions:
    return make(clock)


async def stored(sessions: Sessions) -> dict[str, Record]:
    """What is on disk once they are saved."""
    disk = Disk()
    await sessions.save(disk)
    return disk["sessions"]


def nothing() -> None:
    """What ends a request that does not run."""


def enter(sessions: Sessions, client: Client = CLIENT, *, cut: Callable[[], None] = nothing) -> Place:
    return sessions.enter(client, limited=True, cut=cut)


def visit(sessions: Sessions, client: Client) -> None:
    """A whole request."""
    place = enter(sessions, client)
    place.take_now()
    place.leave()


def called(user_agent: str) -> Client:
    return Client(CLIENT.key_id, CLIENT.address, user_agent)


def only(sessions: Sessions) -> Session:
    (session,) = sessions
    return session


# ---- places


def test_so_many_may_run_and_no_more(sessions: Sessions) -> None:
    assert [enter(sessions).take_now() for _ in range(4)] == [True, True, True, False]


async def test_one_more_is_told_to_come_back(sessions: Sessions) -> None:
    for _ in range(3):
        enter(sessions).take_now()
    late = enter(sessions)
    assert not late.take_now()
    with pytest.raises(RateLimited) as caught:
        await late.take()
    assert (caught.value.type, caught.value.retry_after_s) == ("rate_limit_error", 1)
    assert "3 requests in flight" in caught.value.message


def test_a_place_is_free_again_when_its_request_leaves(sessions: Sessions) -> None:
    places = [enter(sessions) for _ in range(3)]
    assert all(place.take_now() for place in places)
    places[1].leave()
    assert [enter(sessions).take_now() for _ in range(2)] == [True, False]


def test_to_leave_twice_frees_one_place(sessions: Sessions) -> None:
    places = [enter(sessions) for _ in range(3)]
    assert all(place.take_now() for place in places)
    places[0].leave()
    places[0].leave()
    assert [enter(sessions).take_now() for _ in range(2)] == [True, False]
    assert only(sessions).in_flight == 4


async def test_who_was_refused_leaves_without_a_place(sessions: Sessions) -> None:
    held = [enter(sessions) for _ in range(3)]
    assert all(place.take_now() for place in held)
    late = enter(sessions)
    with pytest.raises(RateLimited):
        await late.take()
    late.leave()
    assert not enter(sessions).take_now()


@pytest.mark.parametrize(
    "other",
    [
        Client("tok_2", "1.2.3.4", "curl/8"),
        Client("tok_1", "1.2.3.5", "curl/8"),
        Client("tok_1", "1.2.3.4", "curl/9"),
    ],
)
def test_another_key_address_or_user_agent_is_another_client(sessions: Sessions, other: Client) -> None:
    for _ in range(3):
        assert enter(sessions).take_now()
    assert enter(sessions, other).take_now()


def test_a_user_agent_counts_by_its_beginning(sessions: Sessions) -> None:
    """Else its end could hold as much memory as a client likes."""
    for end in "abcd":
        visit(sessions, Client("tok_1", "1.2.3.4", "x" * 256 + end))
    assert len(only(sessions).client.user_agent) == 256


def test_what_is_not_limited_needs_no_place(sessions: Sessions) -> None:
    places = [sessions.enter(CLIENT, limited=False, cut=nothing) for _ in range(100)]
    assert all(place.take_now() for place in places)
    assert (only(sessions).in_flight, only(sessions).limited) == (100, 0)
    assert enter(sessions).take_now()


def test_where_the_limit_is_off_nothing_is_limited(clock: TestClock) -> None:
    sessions = make(clock, enabled=False)
    assert all(enter(sessions).take_now() for _ in range(100))
    assert only(sessions).in_flight == 100


# ---- the queue


async def test_who_waits_gets_the_place_that_becomes_free(clock: TestClock) -> None:
    sessions = make(clock, max_concurrent=1, queue_timeout_s=60)
    first, second = enter(sessions), enter(sessions)
    assert first.take_now() and not second.take_now()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.leave()
    await waiting
    assert only(sessions).limited == 1


async def test_nobody_overtakes_who_waits(clock: TestClock) -> None:
    sessions = make(clock, max_concurrent=1, queue_timeout_s=60)
    first, second, third = (enter(sessions) for _ in range(3))
    first.take_now()
    waiting = asyncio.create_task(second.take())
    await asyncio.sleep(0)
    first.leave()
    assert not third.take_now()
    await waiting


async def test_the_longest_wait_ends_first(clock: TestClock) -> None:
    sessions = make(clock, max_concurrent=1, queue_timeout_s=60)
    served: list[int] = []

    async def request(number: int) -> None:
        place = enter(sessions)
        if not place.take_now():
            await place.take()
        served.append(number)
        await asyncio.sleep(0)
        place.leave()

    await asyncio.gather(*(request(number) for number in range(20)))
    assert served == list(range(20))


async def test_after_the_queue_timeout_it_is_refused_and_the_queue_is_empty(clock: TestClock) -> None:
    sessions = make(clock, max_concurrent=1, queue_timeout_s=0.01)
    enter(sessions).take_now()
    with pytest.raises(RateLimited):
        await enter(sessions).take()
    assert not only(sessions).waiting


async def test_who_gives_up_waiting_leaves_its_turn_to_the_next(clock: TestClock) -> None:
    sessions = make(clock, max_concurrent=1, queue_timeout_s=60)
    first, second, third = (enter(sessions) for _ in range(3))
    first.take_now()
    giving_up, waiting = asyncio.create_task(second.take()), asyncio.create_task(third.take())
    await asyncio.sleep(0)
    first.leave()
    giving_up.cancel()  # in the moment in which it has the place already
    second.leave()
    await waiting
    with pytest.raises(asyncio.CancelledError):
        await giving_up
    assert only(sessions).limited == 1
    third.leave()
    assert only(sessions).limited == 0


async def test_who_left_while_it_waited_hands_its_place_on(clock: TestClock) -> None:
    sessions = make(clock, max_concurrent=1, queue_timeout_s=60)
    first, second, third = (enter(sessions) for _ in range(3))
    first.take_now()
    gone, waiting = asyncio.create_task(second.take()), asyncio.create_task(third.take())
    await asyncio.sleep(0)
    second.leave()
    first.leave()
    await asyncio.gather(gone, waiting)
    third.leave()
    assert (only(sessions).limited, only(sessions).in_flight) == (0, 0)


# ---- its life


def test_a_session_lives_for_its_ttl_past_its_last_request(sessions: Sessions, clock: TestClock) -> None:
    visit(sessions, CLIENT)
    clock.advance(TTL_S - 1)
    sessions.clean()
    assert sessions.view(only(sessions))["expires_at"] == "2027-01-15T08:05:00.000Z"
    clock.advance(1)
    sessions.clean()
    assert len(sessions) == 0


def test_it_lives_as_long_as_a_request_of_it_runs(sessions: Sessions, clock: TestClock) -> None:
    place = enter(sessions)
    place.take_now()
    clock.advance(10 * TTL_S)
    sessions.clean()
    assert sessions.view(only(sessions))["expires_at"] is None
    place.leave()
    clock.advance(TTL_S - 1)
    sessions.clean()
    assert len(sessions) == 1
    clock.advance(1)
    sessions.clean()
    assert len(sessions) == 0


def test_neither_a_running_one_nor_a_clock_that_was_set_back_keeps_others_from_ending(
    sessions: Sessions, clock: TestClock
) -> None:
    visit(sessions, called("from the future"))
    clock.jump(-3600)
    place = enter(sessions, called("runs"))
    for name in ("old", "older"):
        visit(sessions, called(name))
    clock.advance(TTL_S)
    visit(sessions, called("new"))
    sessions.clean()
    assert [each.client.user_agent for each in sessions] == ["from the future", "runs", "new"]
    place.leave()
    clock.advance(TTL_S)
    sessions.clean()
    assert [each.client.user_agent for each in sessions] == ["from the future"]


def test_after_its_end_the_same_client_has_a_new_one(sessions: Sessions, clock: TestClock) -> None:
    visit(sessions, CLIENT)
    old = only(sessions).id
    clock.advance(TTL_S)
    visit(sessions, CLIENT)
    assert only(sessions).id != old
    assert (only(sessions).requests, only(sessions).created_at) == (1, clock.now())


def test_a_session_counts_its_requests(sessions: Sessions) -> None:
    for _ in range(5):
        visit(sessions, CLIENT)
    assert (only(sessions).requests, only(sessions).in_flight) == (5, 0)


def test_what_an_admin_sees_of_a_session(sessions: Sessions, clock: TestClock) -> None:
    visit(sessions, CLIENT)
    clock.advance(10)
    enter(sessions).take_now()
    assert sessions.view(only(sessions)) == {
        "id": "ses_1",
        "token_id": "tok_1",
        "account_id": None,
        "ip": "1.2.3.4",
        "user_agent": "curl/8",
        "requests": 2,
        "in_flight": 1,
        "created_at": "2027-01-15T08:00:00.000Z",
        "last_seen_at": "2027-01-15T08:00:10.000Z",
        "expires_at": None,
    }


def test_to_end_a_session_ends_its_requests_and_no_others(sessions: Sessions) -> None:
    ended: list[str] = []
    for name in ("a", "b"):
        enter(sessions, cut=lambda name=name: ended.append(name)).take_now()
    enter(sessions, Client("tok_1", "5.6.7.8", "x"), cut=lambda: ended.append("other")).take_now()
    over = enter(sessions, cut=lambda: ended.append("over"))
    over.leave()
    sessions.end(next(session.id for session in sessions if session.client == CLIENT))
    assert sorted(ended) == ["a", "b"]
    assert [session.client.address for session in sessions] == ["5.6.7.8"]


def test_a_request_may_leave_while_its_session_ends(sessions: Sessions) -> None:
    places: list[Place] = []
    for number in range(3):
        places.append(enter(sessions, cut=lambda number=number: places[number].leave()))
    sessions.end(only(sessions).id)
    assert len(sessions) == 0


def test_what_still_ends_of_an_ended_session_does_not_count_in_the_next(sessions: Sessions) -> None:
    old = [enter(sessions) for _ in range(3)]
    assert all(place.take_now() for place in old)
    sessions.end(only(sessions).id)
    assert [enter(sessions).take_now() for _ in range(3)] == [True, True, True]
    for place in old:
        place.leave()
    assert (only(sessions).limited, only(sessions).in_flight) == (3, 3)


def test_an_unknown_session_is_not_found(sessions: Sessions) -> None:
    with pytest.raises(NotFound):
        sessions.end("ses_7")


def test_all_sessions_of_a_key_end_together(sessions: Sessions) -> None:
    for number in range(100):
        visit(sessions, Client(f"tok_{number % 2}", str(number), ""))
    sessions.end_of("tok_1")
    assert {session.client.key_id for session in sessions} == {"tok_0"}
    assert len(sessions) == 50


# ---- stored


async def test_sessions_survive_a_restart_without_their_requests_in_flight(
    sessions: Sessions, clock: TestClock
) -> None:
    visit(sessions, CLIENT)
    clock.advance(5)
    assert all(enter(sessions).take_now() for _ in range(3))
    before = sessions.view(only(sessions))
    again = make(clock, await stored(sessions))
    assert again.view(only(again)) == before | {"in_flight": 0, "expires_at": "2027-01-15T08:05:05.000Z"}
    assert [enter(again).take_now() for _ in range(4)] == [True, True, True, False]


async def test_a_session_that_ended_while_it_was_down_does_not_come_back(
    sessions: Sessions, clock: TestClock
) -> None:
    visit(sessions, CLIENT)
    clock.advance(TTL_S)
    assert len(make(clock, await stored(sessions))) == 0


async def test_a_session_from_a_future_that_was_taken_back_lives_no_longer(
    sessions: Sessions, clock: TestClock
) -> None:
    visit(sessions, CLIENT)
    clock.jump(-365 * 86_400)
    again = make(clock, await stored(sessions))
    clock.advance(TTL_S)
    again.clean()
    assert len(again) == 0


GOOD = {
    "token_id": "t",
    "ip": "i",
    "user_agent": "u",
    "created_at": 1.8e9,
    "last_seen_at": 1.8e9,
    "requests": 1,
}


@pytest.mark.parametrize("name", GOOD)
def test_a_record_that_lacks_something_is_no_session(clock: TestClock, name: str) -> None:
    lacking = {key: value for key, value in GOOD.items() if key != name}
    assert [s.id for s in make(clock, {"ses_1": GOOD, "ses_2": lacking})] == ["ses_1"]


@pytest.mark.parametrize("name", ["created_at", "last_seen_at", "requests"])
@pytest.mark.parametrize("value", [None, "x", [], float("nan"), float("inf")])
def test_a_record_with_nonsense_is_no_session(clock: TestClock, name: str, value: object) -> None:
    sessions = make(clock, {"ses_1": GOOD | {name: value}})
    assert [sessions.view(session) for session in sessions] == []


# ---- bounds


def test_the_longest_unused_session_goes_first(clock: TestClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 4)
    sessions = make(clock)
    running = enter(sessions, Client("t", "running", ""))
    ended = enter(sessions, Client("t", "ended last", ""))
    for name in ("a", "b", "c"):
        visit(sessions, Client("t", name, ""))
        if name == "b":
            ended.leave()
    visit(sessions, Client("t", "d", ""))
    assert [session.client.address for session in sessions] == ["running", "ended last", "c", "d"]
    running.leave()


def test_of_more_clients_than_are_kept_no_event_tells_and_the_log_says_so_once_a_minute(
    clock: TestClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 4)
    feed, told = Feed(), list[str]()
    feed.on_event(lambda event: told.append(event.kind))
    sessions = make(clock, feed=feed)
    for number in range(20):
        visit(sessions, Client("t", str(number), ""))
    assert told == 4 * ["session.started"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    clock.advance(60)
    visit(sessions, Client("t", "after a minute", ""))
    assert (len(told), len(caplog.records)) == (4, 2)
    clock.advance(10_000)
    sessions.tick()
    visit(sessions, Client("t", "later", ""))
    assert told[4:] == [*4 * ["session.ended"], "session.started"]


def test_where_every_session_has_requests_one_more_client_is_served(
    clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 4)
    sessions = make(clock)
    places = [enter(sessions, Client("t", str(number), "")) for number in range(6)]
    assert all(place.take_now() for place in places)
    assert len(sessions) == 6
    for place in places:
        place.leave()
    visit(sessions, Client("t", "next", ""))
    assert [enter(sessions, Client("t", "5", "")).take_now() for _ in range(4)].count(True) == 3


def test_more_clients_than_are_kept_leave_the_memory_where_it_was(sessions: Sessions) -> None:
    numbers = itertools.count()

    def come(count: int) -> None:
        for number in itertools.islice(numbers, count):
            agent = f"agent/{number} " if number % 2 else "curl/8"
            visit(
                sessions, Client("tok_1", f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", agent * 40)
            )

    with traced() as memory:
        come(2 * module.MAX_SESSIONS)
        full = memory()
        come(2 * module.MAX_SESSIONS)
        assert memory() - full < 100_000  # a client that is kept has taken a thousand bytes
    assert len(sessions) == module.MAX_SESSIONS


def test_more_addresses_than_are_kept_leave_the_memory_of_failures_where_it_was(clock: TestClock) -> None:
    throttle = Throttle(limit=10, window_s=60, clock=clock)

    def come(first: int, count: int) -> None:
        for number in range(first, first + count):
            throttle.failed(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64")

    with traced() as memory:
        come(0, 2 * MAX_ADDRESSES)
        full = memory()
        come(2 * MAX_ADDRESSES, 2 * MAX_ADDRESSES)
        assert memory() - full < 100_000


# ---- any order


class Loop(asyncio.SelectorEventLoop):
    """Its time is what the test says."""

    at = 0.0

    def time(self) -> float:
        return self.at


class AnyOrder(RuleBasedStateMachine):
    """Requests that come, wait, give up, time out and leave, several things in one turn of the loop."""

    MOST = 2
    WAIT_S = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.sessions = make(TestClock(), max_concurrent=self.MOST, queue_timeout_s=self.WAIT_S)
        self.holding: list[Place] = []
        self.waiting: dict[asyncio.Task[None], Place] = {}  # in the order in which they came
        self.left: set[Place] = set()
        self.first = self.sessions.enter(CLIENT, limited=False, cut=nothing)  # so that the session stays
        self.session = only(self.sessions)

    def teardown(self) -> None:
        try:
            while self.holding:
                self.leave(self.holding.pop())
            for task, place in self.waiting.items():
                task.cancel()
                self.leave(place)
            self.turn()
            assert (self.session.limited, len(self.session.waiting)) == (0, 0)
        finally:
            self.loop.close()

    @rule()
    def come(self) -> None:
        place = enter(self.sessions)
        if place.take_now():
            assert not [task for task in self.session.waiting if not task.done()]
            self.holding.append(place)
        else:
            self.waiting[self.loop.create_task(place.take())] = place

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.leave(self.holding.pop(data.draw(st.integers(0, len(self.holding) - 1))))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "leave", "both"]))
    def give_up(self, data: st.DataObject, how: str) -> None:
        task = data.draw(st.sampled_from(list(self.waiting)))
        if how != "leave":
            task.cancel()
        if how != "cancel":
            self.leave(self.waiting[task])

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.loop.at += seconds

    @rule()
    def turn(self) -> None:
        """Let everything that can go on go on, and look who has what."""
        for _ in range(8):
            self.loop.run_until_complete(asyncio.sleep(0))
        served = [task for task in self.waiting if task.done()]
        got: list[Place] = []
        for task in served:
            place = self.waiting.pop(task)
            if task.cancelled() or task.exception() is not None:
                assert task.cancelled() or isinstance(task.exception(), RateLimited)
                self.leave(place)
            elif place not in self.left:
                got.append(place)
        self.holding += got
        assert self.session.limited == len(self.holding) <= self.MOST
        assert not self.waiting or len(self.holding) == self.MOST
        assert len(self.session.waiting) == len(self.waiting)

    @invariant()
    def never_more_than_allowed(self) -> None:
        assert 0 <= self.session.limited <= self.MOST

    def leave(self, place: Place) -> None:
        self.left.add(place)
        place.leave()


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
