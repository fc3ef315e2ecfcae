"""What must hold whatever is sent: looked at again and again while an attack runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from proxy.lag import BEAT_S
from tests.attacks.victim import ACCOUNT_KEYS, Victim
from tests.attacks.words import SECRETS
from tests.canaries import leaked
from tests.echo import Caller
from tests.service import ADMIN_KEY, CLIENT_KEY

LONGEST_HOLD_MS = 100
MOST_GROWTH_MB = 40
"""Of the process's memory, between the first looks and the last."""

WARM_LOOKS = 3
"""After so many looks each table and pool has been used, and memory should not grow any more."""

SAMPLE_S = 0.02
GOOD_EVERY_S = 0.01

_LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+ ([ -~\xa0-\U0010ffff]*)"
)
_HELD = re.compile(r"event loop held lag_ms=(\d+) in=(.*)")


class Record(NamedTuple):
    """A line of the log."""

    time: str
    level: str
    message: str


class Watch:
    """`faults` is what was seen so far that must not be; `note` sums up what was measured.

    Only if it is `timed` do a hold of the loop and a growth of memory count.
    """

    def __init__(self, victim: Victim, *, timed: bool) -> None:
        self.faults: list[str] = []
        self.good = 0
        self._victim = victim
        self._timed = timed
        self._log = victim.home / "stderr.log"
        self._told: set[str] = set()
        self._doing = ""
        self._read = 0
        self._memory: list[float] = []
        self._waits: list[tuple[float, float]] = []  # when, and how long it has waited for a core so far
        self._longest_ms = 0.0

    @property
    def secrets(self) -> tuple[str, ...]:
        return (*SECRETS, *ACCOUNT_KEYS)

    @property
    def note(self) -> str:
        memory = self._memory or [0.0]
        return (
            f"{self.good:,} good requests meanwhile, longest hold of the loop {self._longest_ms:.0f} ms, "
            f"memory {memory[0]:.0f} → {memory[-1]:.0f} MB"
        )

    def look(self, doing: str = "") -> None:
        """Look at the log since the last time, at the memory, and at what reached the upstream.

        `doing`: what has been done meanwhile, which a fault is said with.
        """
        self._doing = doing
        self._sample()
        with self._log.open("rb") as log:
            log.seek(self._read)
            read = log.read()
        text = read[: read.rfind(b"\n") + 1]  # the last line may be only half written
        self._read += len(text)
        self._look_at(text)
        self._memory.append(memory_mb(self._victim.process.pid))
        grown = self._memory[-1] - self._memory[min(WARM_LOOKS, len(self._memory) - 1)]
        if self._timed and grown > MOST_GROWTH_MB:
            self._fault(f"memory grew by more than {MOST_GROWTH_MB} MB")
        for fault in self._victim.mirror.faults:
            self._fault(fault)
        self._victim.mirror.faults.clear()

    def _look_at(self, text: bytes) -> None:
        for secret in leaked(text, self.secrets):
            self._fault(f"the log holds a secret that begins with {secret[:14]!r}")
        for line in text.decode("utf-8", "replace").splitlines():
            record = _record(line)
            if record is None or record.level in ("ERROR", "CRITICAL"):
                self._fault(f"the log: {line[:300]!r}")
            elif held := _HELD.match(record.message):
                self._held(datetime.fromisoformat(record.time).timestamp(), int(held[1]), held[2])

    def _held(self, at: float, lag_ms: float, where: str) -> None:
        """Note a hold of the loop, without the time in which others had the core."""
        first = bisect_left(self._waits, (at - lag_ms / 1000 - BEAT_S,)) - 1
        last = min(bisect_left(self._waits, (at,)), len(self._waits) - 1)
        own_ms = lag_ms - (self._waits[last][1] - self._waits[max(first, 0)][1]) * 1000
        self._longest_ms = max(self._longest_ms, own_ms)
        if self._timed and own_ms > LONGEST_HOLD_MS:
            self._fault(f"the loop was held for {own_ms:.0f} ms in {where}")

    def _fault(self, fault: str) -> None:
        if fault not in self._told:
            self._told.add(fault)
            self.faults.append(f"{fault} {self._doing}".rstrip())

    @contextlib.asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        """Good clients go on meanwhile, and the process is sampled."""
        tasks = [asyncio.create_task(work()) for work in (self._go_on_sampling, self._be_good, self._be_well)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.look()

    def _sample(self) -> None:
        self._waits.append((time.time(), waited_s(self._victim.process.pid)))

    async def _go_on_sampling(self) -> None:
        while True:
            self._sample()
            await asyncio.sleep(SAMPLE_S)

    async def _be_good(self) -> None:
        """Ask for what is answered with the request's own target."""
        async with self._caller() as caller:
            while True:
                target = f"/v1/good/{self.good}"
                request = f"GET {target} HTTP/1.1\r\nHost: a\r\nx-api-key: {CLIENT_KEY}\r\n\r\n"
                await self._good(caller, request, target.encode())

    async def _be_well(self) -> None:
        async with self._caller() as caller:
            while True:
                await self._good(caller, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n", None)
                request = f"GET /api/accounts HTTP/1.1\r\nHost: a\r\nX-API-Key: {ADMIN_KEY}\r\n\r\n"
                await self._good(caller, request, None)

    @contextlib.asynccontextmanager
    async def _caller(self) -> AsyncIterator[Caller]:
        caller = Caller(self._victim.port)
        try:
            yield caller
        finally:
            await caller.close()

    async def _good(self, caller: Caller, request: str, target: bytes | None) -> None:
        try:
            answer = await caller.ask(request.encode())
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self._fault(f"a good client is not answered: {error!r}")
        else:
            own = target is None or answer.values("x-answers") == [target]
            if answer.status != 200 or not own:
                self._fault(f"a good client gets {answer.start!r} {answer.values('x-answers')}")
        self.good += 1
        await asyncio.sleep(GOOD_EVERY_S)


def _record(line: str) -> Record | None:
    """What a line of the log says, as text or JSON. None if it is no such line, as those of a traceback."""
    if not line.startswith("{"):
        match = _LINE.fullmatch(line)
        return Record(*match.groups()) if match else None
    fields = json.loads(line)
    if "exception" in fields:
        return None
    return Record(fields["time"], fields["level"].upper(), fields["message"])


def memory_mb(pid: int) -> float:
    """What the process holds in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def waited_s(pid: int) -> float:
    """How long the process has waited for a core in its life."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
