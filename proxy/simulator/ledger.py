"""The simulator's record of what it was asked and what it answered."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

BODY_KEPT_BYTES = 1 << 20


@dataclass(slots=True)
class Entry:
    """One request; the fields below `organization` are filled while it goes on.

    Times are `Clock.monotonic()`. Header names come as Tornado writes them (`X-Api-Key`), repeated ones in
    order. `bytes_sent` counts body bytes that the socket has taken, without chunk framing.
    """

    number: int
    received_at: float
    connection: int
    request_id: str
    method: str
    target: str
    headers: list[tuple[str, str]] = field(repr=False)
    credential: str | None = field(repr=False, default=None)
    credential_headers: tuple[str, ...] = ()
    organization: str | None = None
    body_length: int = 0
    body_sha256: str = ""
    body: bytes | None = field(repr=False, default=None)
    body_read: bool = False
    status: int | None = None
    bytes_sent: int = 0
    events_sent: int = 0
    finished: bool = False
    closed_by_peer_at: float | None = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """All values of `name`, joined by a comma; None where there is none."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ",".join(values) if values else None

    def json(self) -> Any:
        """The body parsed; ValueError where it was not kept or is no JSON."""
        if self.body is None:
            raise ValueError("body not kept")
        return json.loads(self.body)


class Ledger:
    """Entries in the order of arrival, the newest `limit` of them (None: all)."""

    def __init__(self, limit: int | None = None) -> None:
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Entry:
        return self._entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def for_credential(self, credential: str) -> list[Entry]:
        return [entry for entry in self if entry.credential == credential]

    def for_organization(self, name: str) -> list[Entry]:
        """Whatever its tokens were at the time."""
        return [entry for entry in self if entry.organization == name]

    def inference(self) -> list[Entry]:
        """`POST /v1/messages` only."""
        return [entry for entry in self if entry.method == "POST" and entry.path == "/v1/messages"]

    def token_calls(self) -> list[Entry]:
        return [entry for entry in self if entry.path == "/v1/oauth/token"]

    def clear(self) -> None:
        self._entries.clear()

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.changed()

    def changed(self) -> None:
        """Wake those who wait for something in the ledger."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait(self, condition: Callable[[Ledger], object], timeout_s: float = 5) -> None:
        """Return once `condition` holds, looked at after each change.

        Raises TimeoutError after `timeout_s` of real time.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                future = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                await future
