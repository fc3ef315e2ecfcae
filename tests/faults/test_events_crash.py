"""The audit log outlives a kill: what an admin was answered for is in it, and it is a whole chain.

`EVENTS_CRASH_ROUNDS=50 pytest tests/faults/test_events_crash.py` kills more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from pathlib import Path

from tests.process import Running, forking, run_fork, write_config
from tests.service import until
from tests.wire import Cut

ROUNDS = int(os.environ.get("EVENTS_CRASH_ROUNDS", "3"))
SEED = int(os.environ.get("EVENTS_CRASH_SEED", "1"))


async def make_keys(process: Running, answered: list[str]) -> None:
    """Make client keys until the process dies; collects the ids of those that were answered for."""
    with contextlib.suppress(Cut, ConnectionError):
        while True:
            answer = await process.admin("POST", "/api/tokens", {"name": "a key"})
            answered.append(answer.json()["token"]["id"])


def told(home: Path) -> list[str]:
    """The ids of the keys of which the audit log says that they were made."""
    lines = [
        line for path in sorted((home / "data/events").iterdir()) for line in path.read_bytes().split(b"\n")
    ]
    events = [json.loads(line) for line in lines if line.endswith(b"}")]
    return [event["subject"]["id"] for event in events if event["kind"] == "token.added"]


async def test_what_an_admin_was_answered_for_is_in_the_audit_log_after_a_kill(tmp_path: Path) -> None:
    rng, config = random.Random(SEED), str(write_config(tmp_path))
    answered: list[str] = []
    async with forking(tmp_path, "--config", config) as life:
        for _ in range(ROUNDS):
            wanted = len(answered) + rng.randrange(5, 30)
            async with life() as process:
                working = [asyncio.ensure_future(make_keys(process, answered)) for _ in range(3)]
                await until(lambda: len(answered) >= wanted, 30)  # noqa: B023
                process.signal(signal.SIGKILL)
                await asyncio.gather(*working)
            assert set(answered) <= set(told(tmp_path))
            done = run_fork(tmp_path, "--config", config, "--verify-audit")
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            assert done.stdout.startswith("ok, ")


async def test_the_command_says_which_line_does_not_fit(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    answered: list[str] = []
    async with forking(tmp_path, "--config", config) as life, life() as process:
        working = asyncio.ensure_future(make_keys(process, answered))
        await until(lambda: len(answered) >= 3, 30)
        done = run_fork(tmp_path, "--config", config, "--verify-audit")  # while it serves
        assert done.returncode == 0, done.stderr
        process.signal(signal.SIGKILL)
        await working
    path = sorted((tmp_path / "data/events").iterdir())[0]
    path.write_bytes(path.read_bytes().replace(answered[0].encode(), b"tok_0000000000000000"))
    done = run_fork(tmp_path, "--config", config, "--verify-audit")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"events/{path.name}, line 3: it does not follow the line before it" in done.stderr
