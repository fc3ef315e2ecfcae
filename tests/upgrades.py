"""What an upgrade under load needs: a parent that holds the listening socket, and clients that never stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.process import RUN, Running, environ
from tests.service import MESSAGE_HEADERS, message, until
from tests.wire import Answer, Cut, Wire, connect

HANDED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], os.environ | {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
"""
"""As systemd does it: the socket becomes descriptor 3, and the process that the variables name runs the program."""

STREAM = ("x-simulate", "steady; events=30; interval=0.06")
"""It goes on for 2 s, which is longer than a restart takes."""


@contextlib.asynccontextmanager
async def started(
    home: Path, number: int, listening: socket.socket, *arguments: str, **variables: str
) -> AsyncIterator[Running]:
    """A process that is handed the socket; it may not serve yet. Killed at the end."""
    fd, stderr = listening.fileno(), home / f"stderr-{number}.log"
    with stderr.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", HANDED, str(fd), *RUN, *arguments),
            env=environ(home, {"PYTHONWARNINGS": "error"} | variables),
            stdout=subprocess.PIPE,
            stderr=file,
            pass_fds=[fd],
        )
    running = Running(process, stderr)
    running.port = listening.getsockname()[1]
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await running.ended()


class Load:
    """Clients that send one request after the other until `stop`. What went wrong is in `failures`."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._headers = [*MESSAGE_HEADERS, ("x-api-key", key)]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self._begun = 0
        self.streams: set[int] = set()
        """Those that have begun and not ended, by their numbers."""
        self.failures: list[str] = []
        self.answered = 0
        self.done: Counter[str] = Counter()
        self.again = 0
        """Requests on a connection that was closed at the same moment, sent once more on a new one."""
        self.tokens: Counter[str] = Counter()

    def start(self) -> None:
        """Two clients of each kind."""
        kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("plain", self._plain),
            ("kept", self._kept),
            ("stream", self._stream),
        ]
        for kind, work in kinds * 2:
            self._tasks.append(asyncio.create_task(self._repeat(kind, work)))

    async def busy(self, requests: int) -> None:
        """Return once so many more are answered, and two streams run that have begun since."""
        enough, first = self.answered + requests, self._begun + 1
        await until(
            lambda: self.answered >= enough and sum(each >= first for each in self.streams) == 2, within_s=30
        )

    async def stop(self) -> None:
        """Return once each has its last answer."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def _repeat(self, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        while not self._stopped:
            try:
                await work()
            except (Cut, OSError, AssertionError) as error:
                self.failures.append(f"{kind}: {error!r}")
            self.done[kind] += 1

    async def _plain(self) -> None:
        async with connect(self._port) as wire:
            await self._read(await wire.request("POST", "/v1/messages", self._headers, message()))

    async def _kept(self) -> None:
        """One connection until the other side closes it."""
        async with connect(self._port) as wire:
            before = 0
            while not self._stopped:
                answer = await self._next(wire, before)
                if answer is None:
                    return
                await self._read(answer)
                before += 1
                self.done["on a kept connection"] += 1
                if answer.header("connection") == "close" or wire.reader.at_eof():
                    return

    async def _next(self, wire: Wire, before: int) -> Answer | None:
        try:
            return await wire.request("POST", "/v1/messages", self._headers, message())
        except (Cut, OSError):
            if not before:
                raise
            self.again += 1  # as HTTP clients do (RFC 9112 §9.3.1)
            return None

    async def _stream(self) -> None:
        async with connect(self._port) as wire:
            headers = [*self._headers, STREAM]
            answer = await wire.request("POST", "/v1/messages", headers, message(stream=True))
            number = self._begun = self._begun + 1
            self.streams.add(number)
            try:
                await self._read(answer)
            finally:
                self.streams.remove(number)
            assert b"event: message_stop" in answer.body, answer.body[-300:]

    async def _read(self, answer: Answer) -> None:
        await answer.read()
        assert answer.status == 200, (answer.status, answer.body)
        self.tokens.update(_usage(answer))
        self.answered += 1


def _usage(answer: Answer) -> dict[str, int]:
    """The tokens that an answer reports; of a stream, the last number of each kind."""
    events = [answer.json()] if answer.header("content-type") == "application/json" else _events(answer.body)
    found: dict[str, Any] = {}
    for event in events:
        found |= event.get("usage") or event.get("message", {}).get("usage") or {}
    return {name: found[name] for name in ("input_tokens", "output_tokens")}


def _events(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
