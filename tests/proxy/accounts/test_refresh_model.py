"""Whatever admins, the token server, the disk and time do: nobody's change and no refresh token is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from proxy.accounts.account import Status
from proxy.errors import Conflict, NotFound, StorageError, TokenRefused, TokenTrouble
from proxy.simulator import Amend, Answer, Error, Fault, Grant, Lost, Real, Reset, Simulator, Slow
from tests.logins import HOUR, TOKEN, World, as_json, pair, tokens_of
from tests.service import SteppedClock, until

REFUSED = as_json({"error": "invalid_grant"}, 400)
TRANSIENT = [Error(500), Error(429), Error(403, html=True), Answer(200), as_json({"error": "x"})]
HELD_S = 5

refused_or_not = st.sampled_from([*[Real()] * 4, REFUSED, *TRANSIENT])
answers = st.sampled_from(
    [
        *[(Real(),)] * 4,
        *[(fault,) for fault in TRANSIENT],
        (REFUSED,),
        (Lost(reset=True), Real()),
        (Lost(reset=True), Lost(reset=True)),
        (Reset(), Real()),
        (Amend(remove=("refresh_token",)),),
        (Amend(set={"access_token": ""}),),
        (Amend(set={"expires_in": True, "refresh_token": 7}),),
    ]
)


@dataclass
class Expected:
    """What an account has to be; `refresh_token` is the newest that the proxy was given."""

    name: str
    status: Status
    grant: Grant
    refresh_token: str
    asked: asyncio.Task[Any] | None = None
    answer: Fault | None = None


class NothingIsLost(RuleBasedStateMachine):
    """The simulator accepts the previous refresh token until the new one is used."""

    accounts = Bundle("accounts")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.get_loop()
        self.clock = SteppedClock()
        self.simulator = Simulator(clock=self.clock, rng=random.Random(1), refresh_rotation="grace")
        self.runner.run(self.simulator.start(port=0))
        self.expected: dict[str, Expected] = {}
        self.deleted: set[str] = set()
        self.numbers = itertools.count(1)
        self.runner.run(self.start())

    async def start(self) -> None:
        self.world = World(self.simulator, self.clock)

    # an admin

    @initialize(target=accounts)
    def add_first(self) -> str:
        return self.add()

    @precondition(lambda self: len(self.expected) < 2 and not self.world.disk.full)
    @rule(target=accounts)
    def add_another(self) -> str:
        return self.add()

    def add(self) -> str:
        async def add() -> str:
            account_id, grant = await self.world.add(f"team {next(self.numbers)}")
            name = self.world.pool[account_id].name
            self.expected[account_id] = Expected(name, Status.ACTIVE, grant, grant.refresh_token)
            return account_id

        return self.runner.run(add())

    @rule(a=consumes(accounts))
    def delete(self, a: str) -> None:
        expected = self.expected.pop(a)
        self.deleted.add(a)
        self.change(self.world.pool.remove, a)
        self.pass_time()
        assert expected.asked is None or expected.asked.done()

    @rule(a=accounts, name=st.sampled_from("xyz"))
    def rename(self, a: str, name: str) -> None:
        with contextlib.suppress(Conflict):
            self.change(self.world.pool.update, a, name=name)
            self.expected[a].name = name

    @rule(a=accounts)
    def deactivate(self, a: str) -> None:
        self.change(self.world.pool.update, a, status=Status.INACTIVE)
        self.expected[a].status = Status.INACTIVE

    @rule(a=accounts)
    def activate(self, a: str) -> None:
        if self.expected[a].status is not Status.INVALID:
            self.change(self.world.pool.update, a, status=Status.ACTIVE)
            self.expected[a].status = Status.ACTIVE

    @rule(a=accounts)
    def reauthorize(self, a: str) -> None:
        async def reauthorize() -> None:
            grant = self.simulator.add_oauth(organization=expected.name)
            tokens = tokens_of(grant, self.clock.now() + 8 * HOUR)
            work = asyncio.create_task(self.world.refresher.reauthorize(a, tokens))
            await self.finish()
            with contextlib.suppress(StorageError):
                await work
                expected.status = Status.ACTIVE if expected.status is Status.INVALID else expected.status
            expected.grant, expected.refresh_token = grant, grant.refresh_token

        expected = self.expected[a]
        self.runner.run(reauthorize())

    def change(self, verb: Any, *args: Any, **changes: Any) -> None:
        """A change holds even where it cannot be saved."""

        async def change() -> None:
            with contextlib.suppress(StorageError):
                await verb(*args, **changes)

        self.runner.run(change())

    # the token server

    @rule(a=accounts, answers=answers)
    def refresh_by_hand(self, a: str, answers: tuple[Fault, ...]) -> None:
        self.refresh(a, answers)

    @rule(a=accounts, answers=st.lists(answers, min_size=2, max_size=5))
    def refresh_often(self, a: str, answers: list[tuple[Fault, ...]]) -> None:
        for each in answers:
            self.refresh(a, each)

    def refresh(self, a: str, answers: tuple[Fault, ...]) -> None:
        """One that is over before anything else happens."""
        expected = self.expected[a]
        if expected.asked is None:
            self.simulator.script(None, *answers, path=TOKEN)
            calls = self.world.calls
            self.runner.run(self.outcome(self.world.refresher.refresh(a, forced=True)))
            if self.world.calls > calls:
                self.learn(expected, answers[-1])
            self.simulator.calm()

    @rule(a=accounts, answer=refused_or_not)
    def begin_refresh(self, a: str, answer: Any) -> None:
        """One that runs while other things happen."""

        async def begin() -> None:
            self.simulator.script(None, Slow(HELD_S, answer), path=TOKEN)
            calls = self.world.calls
            asked = asyncio.create_task(self.outcome(self.world.refresher.refresh(a, forced=True)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self.world.disk.full or self.world.pool.unsaved:
                await asked
                assert self.world.calls == calls
            else:
                running = sum(e.asked is not None for e in self.expected.values())
                await self.clock.asleep(HELD_S, count=running + 1)
                expected.asked, expected.answer = asked, answer
            self.simulator.calm()

        expected = self.expected[a]
        if expected.asked is None:
            self.runner.run(begin())

    @rule()
    def pass_time(self) -> None:
        """What runs comes to its end."""
        self.runner.run(self.finish())

    @rule(a=accounts, seconds=st.sampled_from([30, 600, 8 * HOUR]))
    def use(self, a: str, seconds: float) -> None:
        async def use() -> None:
            await self.finish()
            self.clock.advance(seconds)
            calls = self.world.calls
            before = {a: e.grant.refresh_token for a, e in self.expected.items()}
            await self.outcome(self.world.refresher.usable(self.world.pool[a]))
            if self.world.calls > calls:
                assert expected.grant.refresh_token != before[a]
                self.learn(expected, Real())

        expected = self.expected[a]
        if expected.status is Status.ACTIVE:
            self.runner.run(use())

    @rule()
    def upkeep(self) -> None:
        """The hourly job; the server tells the truth to it."""

        async def upkeep() -> None:
            await self.finish()
            before = {a: e.grant.refresh_token for a, e in self.expected.items()}
            job = asyncio.create_task(self.world.upkeep.look())
            while not job.done():
                self.clock.advance(0.5)
                await asyncio.sleep(0)
            for a, e in self.expected.items():
                if e.grant.refresh_token != before[a]:
                    assert e.status is Status.ACTIVE
                    self.learn(e, Real())

        self.runner.run(upkeep())

    async def finish(self) -> None:
        """What runs comes to its end."""
        self.clock.advance(HELD_S)
        for expected in self.expected.values():
            if expected.asked is not None:
                await asyncio.wait([expected.asked])
                assert expected.answer is not None
                self.learn(expected, expected.answer)
                expected.asked = expected.answer = None
        await until(lambda: not any(map(self.world.refresher.is_running, self.deleted)))

    async def outcome(self, work: Any) -> None:
        with contextlib.suppress(TokenTrouble, TokenRefused, NotFound):
            await work

    def learn(self, expected: Expected, answer: Fault) -> None:
        """What the last answer of a token call gives or takes."""
        if answer is REFUSED:
            if expected.status is Status.ACTIVE:
                expected.status = Status.INVALID
        elif isinstance(answer, Real) or (isinstance(answer, Amend) and "access_token" in answer.set):
            expected.refresh_token = expected.grant.refresh_token

    # the disk, and the end of the process

    @rule(full=st.sampled_from([True, False, False]))
    def fill_or_free_the_disk(self, full: bool) -> None:
        self.world.disk.full = full
        if not full:
            self.runner.run(self.world.pool.save_again())

    @precondition(lambda self: not self.world.disk.full)
    @rule()
    def restart(self) -> None:
        async def restart() -> None:
            await self.finish()
            await self.world.pool.save_again()
            await self.world.stop()
            self.world.start()

        self.runner.run(restart())

    @precondition(lambda self: not self.world.disk.full and not self.world.pool.unsaved)
    @rule()
    def kill(self) -> None:
        """Before the held calls took effect; what is changed is on disk by now."""

        async def kill() -> None:
            for expected in self.expected.values():
                if expected.asked is not None:
                    expected.asked.cancel()
                    expected.asked = expected.answer = None
            await self.world.crash()
            self.world.start()

        self.runner.run(kill())

    # what has to hold

    @invariant()
    def memory_is_as_expected(self) -> None:
        pool = self.world.pool
        assert {a.id for a in pool} == set(self.expected)
        for a, expected in self.expected.items():
            found = pool[a]
            assert (found.name, found.status) == (expected.name, expected.status)
            assert pair(found.received or found)[1] == expected.refresh_token

    @invariant()
    def the_disk_is_as_expected(self) -> None:
        stored, unsaved = self.world.disk["accounts"], self.world.pool.unsaved
        for a, expected in self.expected.items():
            if a not in unsaved:
                assert (stored[a]["name"], stored[a]["status"]) == (expected.name, expected.status.value)
                assert pair(stored[a])[1] == expected.refresh_token
        assert {a for a in stored if a not in unsaved} <= set(self.expected)

    @invariant()
    def the_simulator_accepts_what_is_kept(self) -> None:
        for expected in self.expected.values():
            known = self.simulator.keyring.find(expected.refresh_token)
            assert known is not None and not known.revoked and known.owner == expected.grant.id

    def teardown(self) -> None:
        async def stop() -> None:
            self.clock.free()
            self.world.disk.full = False
            await self.finish()
            await self.world.pool.save_again()
            await self.world.stop()
            await self.simulator.stop()

        self.runner.run(stop())
        self.the_disk_is_as_expected()
        self.runner.close()


TestNothingIsLost = NothingIsLost.TestCase
TestNothingIsLost.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, database=None)
