"""A refresh that is killed at any step loses no token, but one at a strict server whose answer never arrived.

A strict server voids a refresh token when it is used; a grace server accepts it until the new one is used.
`REFRESH_KILLS=200 REFRESH_SEED=7 pytest tests/faults/test_refresh_crash.py` kills more often, at other moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.logins import CLIENT_KEY, UNTOUCHED, Home, Left, ask, at_home
from tests.process import Running
from tests.wire import Cut

KILLS = int(os.environ.get("REFRESH_KILLS", "10"))
SEED = int(os.environ.get("REFRESH_SEED", "1"))
ACCOUNTS = 10
CLIENTS = 2
LONGEST_STORM_S = 0.4
NEVER_KILLED_S = 60
"""A storm that lasts as long waits for a failpoint that it does not pass."""

MOST_TIMES = 40
"""A failpoint acts at the latest when it is passed this often; in a storm that takes about as long."""

# What is left after a kill before and after each step. A rotation writes the account twice, its intent and the new
# tokens, and each of the two to its file and then to the backup: the nth step of a kind is in FILE or BACKUP of one.
BEGUN = Left(intent=True, answer_lost=False)
ANSWER_LOST = Left(intent=True, answer_lost=True)
INTENT, TOKENS = 1, 2
WRITE_STEPS = ("tmp", "fsync", "rename", "dirsync")


def in_file(write: int) -> list[str]:
    """The steps of the nth write that replace the file, in their order."""
    return [f"storage.{step}.{when}@{2 * write - 1}" for step in WRITE_STEPS for when in ("before", "after")]


def in_backup(write: int) -> list[str]:
    """Those that replace the backup then."""
    steps = [f"storage.{step}.{when}@{2 * write}" for step in WRITE_STEPS for when in ("before", "after")]
    return [f"storage.backup.before@{write}", *steps, f"storage.backup.after@{write}"]


def killed_in(write: int, before: Left, after: Left) -> dict[str, Left]:
    """What is left by a kill in the nth write: it counts as soon as the file has its name."""
    renamed = in_file(write).index(f"storage.rename.after@{2 * write - 1}")
    return {
        **dict.fromkeys(in_file(write)[:renamed], before),
        **dict.fromkeys([*in_file(write)[renamed:], *in_backup(write)], after),
    }


def failing_in(write: int) -> list[str]:
    """Where the nth write may fail, in each of its two files."""
    return [place for place in (*in_file(write), *in_backup(write)) if ".before@" in place]


KILLED_AT: dict[str, Left] = {
    "refresh.intent.before": UNTOUCHED,
    **killed_in(INTENT, UNTOUCHED, BEGUN),
    "refresh.intent.after": BEGUN,
    "refresh.call.before": BEGUN,
    "refresh.call.after": ANSWER_LOST,
    "refresh.save.before": ANSWER_LOST,
    **killed_in(TOKENS, ANSWER_LOST, UNTOUCHED),
    "refresh.save.after": UNTOUCHED,
    "refresh.publish.before": UNTOUCHED,
    "refresh.publish.after": UNTOUCHED,
}
PLACES = list(KILLED_AT)
ASKED = PLACES.index("refresh.call.before")
"""Before this the server has no part in it, so that it does not matter which one it is."""
STEPS = sorted({place.partition("@")[0] for place in KILLED_AT})


def lost(left: dict[str, Left], rotation: str) -> set[str]:
    """The accounts that only a new login brings back."""
    return {id for id, each in left.items() if each.answer_lost and rotation == "strict"}


async def begin(home: Home, names: list[str]) -> dict[str, Left]:
    """The first life: the accounts are added, and a client key."""
    async with home.life() as process:
        await ask(process, "POST", "/api/tokens", {"name": "tests", "key": CLIENT_KEY})
        for name in names:
            await home.log_in(process, name)
        await home.check(process, {}, set())
    return await home.left()


async def until_killed(process: Running, method: str, path: str) -> None:
    """One request that the process does not live to answer."""
    with contextlib.suppress(Cut, ConnectionError):
        answer = await process.admin(method, path)
        raise AssertionError(f"it lives, and answered {answer.status} {answer.body!r}")
    assert await process.ended() == -signal.SIGKILL


@pytest.mark.parametrize(("rotation", "places"), [("strict", PLACES), ("grace", PLACES[ASKED:])])
async def test_a_kill_before_and_after_each_step_leaves_exactly_what_the_table_says(
    tmp_path: Path, rotation: str, places: list[str]
) -> None:
    found: dict[str, Left] = {}
    async with at_home(tmp_path, rotation, expires_in=28_800) as home:
        left = await begin(home, ["a"])
        (id,) = home.names
        for place in places:
            async with home.life() as process:
                await home.check(process, left, lost(left, rotation))
                home.arm(f"{place}:kill")
                await until_killed(process, "POST", f"/api/accounts/{id}/refresh")
            left = await home.left()
            found[place] = left[id]
        async with home.life() as process:
            await home.check(process, left, lost(left, rotation))
    assert found == {place: KILLED_AT[place] for place in places}


async def storm(home: Home, process: Running) -> None:
    """Refresh every account without a pause, and use what that gives, until the process dies."""

    async def refresh(id: str) -> None:
        with contextlib.suppress(Cut, ConnectionError):
            while True:
                await home.refresh(process, id)

    async def use() -> None:
        with contextlib.suppress(Cut, ConnectionError):
            while True:
                answer = await process.send("GET", "/v1/models", [("x-api-key", CLIENT_KEY)])
                assert answer.status == 200, answer.body

    async with asyncio.timeout(NEVER_KILLED_S):
        await asyncio.gather(*map(refresh, home.names), *(use() for _ in range(CLIENTS)))
    assert await process.ended() == -signal.SIGKILL


def moments(rng: random.Random) -> Iterator[str | float]:
    """When to kill: at a failpoint, each of them in turn, or after so many seconds."""
    while True:
        for step in rng.sample(STEPS, len(STEPS)):
            yield f"{step}@{rng.randint(1, MOST_TIMES)}:kill"
            yield rng.uniform(0, LONGEST_STORM_S)


@pytest.mark.timeout(120 + 20 * KILLS)
@pytest.mark.parametrize("rotation", ["strict", "grace"])
async def test_refresh_storms_under_kills_lose_only_answers_that_never_arrived(
    tmp_path: Path, rotation: str
) -> None:
    rng, count = random.Random(f"{SEED} {rotation}"), Counter[str]()
    async with at_home(tmp_path, rotation, expires_in=70, seed=SEED) as home:
        left = await begin(home, [f"org-{number}" for number in range(ACCOUNTS)])
        for _, moment in zip(range(KILLS), moments(rng), strict=False):
            async with home.life() as process:
                await home.check(process, left, lost(left, rotation))
                if isinstance(moment, str):
                    home.arm(moment)
                else:
                    asyncio.get_running_loop().call_later(moment, process.signal, signal.SIGKILL)
                await storm(home, process)
            left = await home.left()
            count["intents found"] += sum(each.intent for each in left.values())
            count["answers lost"] += sum(each.answer_lost for each in left.values())
            count["accounts lost"] += len(lost(left, rotation))
        async with home.life() as process:
            await home.check(process, left, lost(left, rotation))
    print(f"{rotation}: {KILLS} kills, {dict(count)}, seed {SEED}")
    assert count["intents found"]  # so they were storms


async def test_what_was_interrupted_is_tried_again_at_the_start_and_a_kill_of_that_loses_nothing_either(
    tmp_path: Path,
) -> None:
    async with at_home(tmp_path, "grace", expires_in=28_800) as home:
        await begin(home, ["a"])
        (id,) = home.names
        async with home.life() as process:
            home.arm("refresh.call.after:kill")
            await until_killed(process, "POST", f"/api/accounts/{id}/refresh")
        assert await home.left() == {id: ANSWER_LOST}
        async with home.life(failpoints="refresh.call.after:kill") as process:
            assert await process.ended() == -signal.SIGKILL  # nobody asked for anything
        assert await home.left() == {id: ANSWER_LOST}
        async with home.life() as process:
            await home.check(process, {id: ANSWER_LOST}, set())


@pytest.mark.parametrize("place", failing_in(TOKENS))
async def test_tokens_that_reach_no_more_than_the_journal_are_safe_and_hold_further_rotations_back(
    tmp_path: Path, place: str
) -> None:
    async with at_home(tmp_path, "strict", expires_in=28_800) as home:
        await begin(home, ["a", "b"])
        a, b = home.names
        async with home.life() as process:
            home.arm(f"{place}:{errno.ENOSPC}")
            await home.refresh(process, a)
            await refused(home, process, b)
        async with home.life() as process:
            assert "its last change comes from journal.bin" in process.stderr
            await home.refresh(process, a)
            await home.refresh(process, b)
            await home.use(process)


@pytest.mark.parametrize("place", failing_in(INTENT))
async def test_no_rotation_goes_on_whose_intent_reaches_no_more_than_the_journal(
    tmp_path: Path, place: str
) -> None:
    async with at_home(tmp_path, "strict", expires_in=28_800) as home:
        await begin(home, ["a"])
        (id,) = home.names
        async with home.life() as process:
            home.arm(f"{place}:{errno.ENOSPC}")
            await refused(home, process, id)
            home.arm("")
            await home.refresh(process, id)  # its intent is the write that finds the disk well again
        assert await home.left() == {id: UNTOUCHED}


UNSAVED = [place for place in failing_in(TOKENS) if place.startswith(("storage.fsync", "storage.dirsync"))]
"""The journal passes these steps too if it is made anew, so that it takes nothing either."""


@pytest.mark.parametrize("place", UNSAVED)
async def test_tokens_that_cannot_be_saved_stay_in_memory_and_are_saved_later(
    tmp_path: Path, place: str
) -> None:
    async with at_home(tmp_path, "strict", expires_in=28_800) as home:
        await begin(home, ["a", "b"])
        a, b = home.names
        async with home.life() as process:
            await refuse_tokens(home, process, a, place)
            for id in (a, b):
                await refused(home, process, id)
            await home.use(process)  # with the old token, which lives on
            home.arm("")
            await saved(process)
            await home.refresh(process, a)
            assert [call["status"] for call in home.server.refreshes()] == [200]
        assert await home.left() == {a: UNTOUCHED, b: UNTOUCHED}
        async with home.life() as process:
            await home.check(process, {}, set())


async def test_tokens_that_reached_the_file_alone_outlive_a_kill(tmp_path: Path) -> None:
    async with at_home(tmp_path, "strict", expires_in=28_800) as home:
        await begin(home, ["a"])
        (id,) = home.names
        async with home.life() as process:
            await refuse_tokens(home, process, id, f"storage.fsync.before@{2 * TOKENS}")
            process.signal(signal.SIGKILL)
            await process.ended()
        assert await home.left() == {id: UNTOUCHED}
        async with home.life() as process:
            await home.check(process, {}, set())


@pytest.mark.parametrize("place", UNSAVED)
async def test_a_shutdown_saves_what_could_not_be_saved_before(tmp_path: Path, place: str) -> None:
    async with at_home(tmp_path, "strict", expires_in=28_800) as home:
        await begin(home, ["a"])
        (id,) = home.names
        async with home.life() as process:
            await refuse_tokens(home, process, id, place)
            home.arm("")
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
        assert await home.left() == {id: UNTOUCHED}


async def refuse_tokens(home: Home, process: Running, id: str, place: str) -> None:
    """A rotation whose intent can be written and whose tokens cannot, not even to the journal."""
    home.arm(f"{place}:{errno.EIO},storage.journal.before:{errno.EIO}")
    answer = await process.admin("POST", f"/api/accounts/{id}/refresh")
    assert (answer.status, b"could not be saved yet" in answer.body) == (502, True)
    assert await health(process) == "degraded"


async def refused(home: Home, process: Running, id: str) -> None:
    """A refresh that is not begun while the disk is not well."""
    home.server.refreshes()  # those before
    answer = await process.admin("POST", f"/api/accounts/{id}/refresh")
    assert (answer.status, b"no token is rotated" in answer.body) == (502, True)
    assert home.server.refreshes() == []


async def health(process: Running) -> str:
    return str((await process.send("GET", "/health")).json()["status"])


async def saved(process: Running) -> None:
    """Return once all is on disk: it tries again every second, and announces nothing."""
    async with asyncio.timeout(20):
        while await health(process) != "healthy":
            pass
