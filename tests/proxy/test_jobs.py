"""Background work: nothing is forgotten, nothing fails in silence, all of it stops."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import StorageError
from proxy.jobs import Jobs

SOON_S = 0.001


class Rounds:
    """A job that counts its rounds, fails in those of `failing`, and can be waited for."""

    def __init__(self, *failing: int) -> None:
        self.done = 0
        self.at_once = self.most_at_once = 0
        self.begin = asyncio.get_running_loop().create_future()
        self._failing = failing
        self._wanted: list[tuple[int, asyncio.Future[None]]] = []

    async def __call__(self) -> None:
        self.done += 1
        if not self.begin.done():
            self.begin.set_result(None)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(3 * SOON_S)
            if self.done in self._failing:
                raise ValueError(f"round {self.done}")
        finally:
            self.at_once -= 1
            for number, future in self._wanted:
                if number <= self.done and not future.done():
                    future.set_result(None)

    async def reach(self, number: int) -> None:
        future = asyncio.get_running_loop().create_future()
        self._wanted.append((number, future))
        async with asyncio.timeout(10):
            await future


async def test_what_was_started_gives_its_result(jobs: Jobs) -> None:
    async def work() -> int:
        return 7

    assert await jobs.start("seven", work()) == 7


async def test_closing_waits_for_what_runs_and_for_what_that_starts(jobs: Jobs) -> None:
    finished = []

    async def work(depth: int) -> None:
        await asyncio.sleep(0)
        if depth:
            jobs.start("deeper", work(depth - 1))
        finished.append(depth)

    jobs.start("work", work(2))
    await jobs.close()
    assert finished == [2, 1, 0]


async def test_work_that_fails_unexpectedly_is_logged_by_name(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        raise ValueError("a bug")

    jobs.start("refresh acc_1", work())
    await jobs.close()
    assert caplog.messages == ["job failed job=refresh acc_1"]
    assert caplog.records[0].exc_info is not None and "a bug" in str(caplog.records[0].exc_info[1])


async def test_an_error_raised_on_purpose_is_for_whoever_awaits(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        raise StorageError("the disk is full")

    task = jobs.start("save", work())
    with pytest.raises(StorageError):
        await task
    assert caplog.messages == []


async def test_cancelled_work_is_no_failure(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    jobs.start("forever", asyncio.Event().wait()).cancel()
    await jobs.close()
    assert caplog.messages == []


async def test_a_periodic_job_goes_on_after_a_failure_which_is_logged(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = Rounds(1, 2)
    jobs.every("count", SOON_S, rounds)
    await rounds.reach(4)
    await jobs.close()
    assert caplog.messages == ["job failed job=count"] * 2


async def test_a_periodic_job_never_runs_twice_at_once(jobs: Jobs) -> None:
    rounds = Rounds()
    jobs.every("count", SOON_S, rounds)
    await rounds.reach(4)
    await jobs.close()
    assert rounds.most_at_once == 1


async def test_a_periodic_job_starts_no_round_after_closing(jobs: Jobs) -> None:
    rounds, others, other_jobs = Rounds(), Rounds(), Jobs()
    jobs.every("count", SOON_S, rounds)
    await rounds.reach(1)
    await jobs.close()
    done = rounds.done
    other_jobs.every("count", SOON_S, others)
    await others.reach(3)
    await other_jobs.close()
    assert rounds.done == done


async def test_closing_waits_for_a_round_that_runs(jobs: Jobs) -> None:
    rounds = Rounds()
    jobs.every("count", SOON_S, rounds)
    await rounds.begin
    await jobs.close()
    assert (rounds.done, rounds.at_once) == (1, 0)


async def test_closing_cancels_a_round_that_it_need_not_wait_for(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    begun, others = asyncio.Event(), Rounds()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    jobs.every("wait for ever", SOON_S, work, wait=False)
    jobs.every("count", SOON_S, others)
    await begun.wait()
    await others.begin
    async with asyncio.timeout(10):
        await jobs.close()
    assert (others.done, others.at_once, caplog.messages) == (1, 0, [])
