"""One case: an attacker's two odd requests in a row, and the neighbours whose answers they are after."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from tests.echo import LIMIT, Caller, Message, read_body, read_head
from tests.edges.odd import KEY, attack
from tests.edges.route import Route, goes_up, is_last
from tests.edges.strict import End, Request, StrictReader

QUIET_S = 0.015
"""How long an attacker who has heard enough still listens."""

UNANSWERED_S = 0.1
"""How long an attacker waits for an edge, which says nothing to a request that does not end."""

SETTLE_S = 5.0
"""How long it may take until the upstream is asked and the attacker answered all that should be."""

ANSWER_WITHIN_S = 5.0


def neighbour(mark: str, *, body: bytes = b"") -> bytes:
    """A neighbour's request, which no other has the mark of."""
    start = f"POST /v1/neighbour/{mark} HTTP/1.1" if body else f"GET /v1/neighbour/{mark} HTTP/1.1"
    lines = f"{start}\r\nHost: a\r\n{KEY}" + (f"Content-Length: {len(body)}\r\n" if body else "")
    return f"{lines}\r\n".encode() + body


async def send(route: Route, data: bytes, enough: Callable[[bytes], Awaitable[bool]]) -> bytes:
    """All that is answered to `data` on one connection, which is closed if no more comes and that is `enough`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", route.port, limit=LIMIT)
    loop, answered = asyncio.get_running_loop(), b""
    until = loop.time() + SETTLE_S
    try:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            while loop.time() < until:
                try:
                    async with asyncio.timeout(QUIET_S):
                        more = await reader.read(LIMIT)
                except TimeoutError:
                    if await enough(answered) and not route.difference():
                        break
                else:
                    answered += more
                    if not more:
                        break
    finally:
        writer.close()
    return answered


class Neighbours:
    """Three clients of one edge."""

    def __init__(self, port: int) -> None:
        self._callers = [Caller(port) for _ in range(3)]

    async def ask(self, which: int, mark: str, *, body: bytes = b"") -> str | None:
        """What is wrong with the answer that this neighbour gets, None if it is its own."""
        target = f"/v1/neighbour/{mark}".encode()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await self._callers[which].ask(neighbour(mark, body=body))
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            return f"neighbour {mark} is not answered: {error!r}"
        if (answer.status, answer.values("x-answers"), answer.body) == (200, [target], target):
            return None
        return f"neighbour {mark} gets {answer.start!r} {answer.values('x-answers')} {answer.body!r}"

    async def close(self) -> None:
        for caller in self._callers:
            await caller.close()


async def behind_edge(route: Route, neighbours: Neighbours, mark: str, first: str, second: str) -> list[str]:
    """What goes wrong for neighbours before, during and after an attack through an edge."""
    route.begin()
    before = await neighbours.ask(0, f"{mark}-0")
    began = time.monotonic()

    async def enough(answered: bytes) -> bool:
        return bool(answered) or time.monotonic() > began + UNANSWERED_S

    during, _ = await asyncio.gather(
        neighbours.ask(0, f"{mark}-1", body=b"body"), send(route, attack(mark, first, second), enough)
    )
    # At the same time, so that they take all connections that the edge has kept to the proxy.
    after = await asyncio.gather(
        *(neighbours.ask(n, f"{mark}-{n + 2}", body=b"body" if n == 1 else b"") for n in range(3))
    )
    await _settled(route)
    return [fault for fault in (before, during, *after) if fault] + route.difference()


async def direct(route: Route, mark: str, first: str, second: str) -> list[str]:
    """What goes wrong with a neighbour's request behind an attack on the same connection, without an edge."""
    route.begin()
    data = attack(mark, first, second) + neighbour(mark)
    reader = StrictReader(is_last)
    requests = reader.feed(data)

    async def enough(answered: bytes) -> bool:
        return not await _wrong_answers(requests, reader.end, answered)

    answered = await send(route, data, enough)
    await _settled(route)
    return route.difference() + await _wrong_answers(requests, reader.end, answered)


async def _settled(route: Route) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while route.difference():  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(QUIET_S)


async def _wrong_answers(requests: list[Request], end: End, answered: bytes) -> list[str]:
    """How `answered` differs from one answer to each request in order, and a refusal for a malformed one."""
    stream = asyncio.StreamReader(limit=LIMIT)
    stream.feed_data(answered)
    stream.feed_eof()
    for request in requests:
        try:
            answer = await _next_answer(stream, bodiless=request.method == b"HEAD")
        except (EOFError, ValueError) as error:
            return [f"no answer to {request.target!r}: {error!r}"]
        own = (answer.status == 200) == goes_up(request) or request.target == b"/health"
        if not own or (goes_up(request) and answer.values("x-answers") != [request.target]):
            return [f"{request.method!r} {request.target!r} gets {answer.start!r}"]
    rest = (await stream.read()).removeprefix(b"HTTP/1.1 100 (Continue)\r\n\r\n")
    refused = rest.startswith(b"HTTP/1.1 4") and rest.count(b"HTTP/1.1 ") == 1
    # What is within a request may be refused before its end: it cannot become one, or its sender has no key.
    allowed = {End.MALFORMED: [True], End.WITHIN: [True, False]}.get(end, [False])
    return [] if refused in allowed and (refused or not rest) else [f"{end.value}, then {rest!r}"]


async def _next_answer(stream: asyncio.StreamReader, *, bodiless: bool = False) -> Message:
    head = Message(*await read_head(stream))
    while head.status < 200:
        head = Message(*await read_head(stream))
    return head if bodiless else Message(head.start, head.lines, await read_body(stream, head, to_end=True))
