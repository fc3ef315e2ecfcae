"""What a client gets of an upstream's answer: its head, then the body as it comes or as it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.errors import BadGateway, UpstreamError
from proxy.http import results_url
from proxy.http.decoding import TooLarge
from proxy.http.headers import AnswerHeaders, without
from proxy.relay.inbound import Inbound
from proxy.upstream.exchange import Exchange, Head, Header

OFF_THE_LOOP_BYTES = 16 * 1024
"""An answer above this is rewritten in a thread."""


class Source(Protocol):
    """Where a body comes from."""

    def start(self) -> bytes:
        """As much of it as is there already."""
        ...

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        """Hand the rest to `take` as it comes; see `Exchange.pipe`. Raises UpstreamError if it was cut."""

    def resume(self) -> None:
        """Go on after `take` returned False."""


@dataclass(slots=True)
class Answer:
    """What the client gets: status and headers, then the body. `length` is the body's, None if it is not said.

    `framed`: HTTP says where the body ends. Otherwise its connection's end is its own, whether it was cut or not.
    """

    status: int
    reason: str
    headers: list[Header]
    length: int | None
    content_type: str
    content_encoding: str
    framed: bool
    source: Source

    def start(self) -> bytes:
        """As much of the body as is there already."""
        return self.source.start()

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        """Hand the rest of the body to `take` as it comes; see `Exchange.pipe`. Raises UpstreamError if it was cut."""
        await self.source.pipe(take)

    def resume(self) -> None:
        """Go on after `take` returned False."""
        self.source.resume()


class Whole:
    """A body that was read whole."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def start(self) -> bytes:
        return self._body

    async def pipe(self, take: Callable[[bytes], bool]) -> None:
        pass

    def resume(self) -> None:
        pass


async def answer_of(
    inbound: Inbound, exchange: Exchange, head: Head, answered: AnswerHeaders, headers: list[Header]
) -> Answer:
    """What the client gets of an upstream's answer. Raises BadGateway if one that is read whole was cut."""
    length = answered.length
    source: Source = exchange
    if inbound.target.holds_results_url and inbound.method != "HEAD" and head.status == 200:
        try:
            body = await _rewritten(exchange, answered, inbound.origin)
        except UpstreamError as error:
            raise BadGateway(f"the upstream's answer was cut: {error}") from error
        except TooLarge as error:
            raise BadGateway(f"the upstream's list of batches is too large: {error}") from error
        length, source = len(body), Whole(body)
        headers = without(headers, {"content-length"})
        headers.append(("content-length", str(length)))
    elif head.status == 204 and length:  # false (RFC 9110 §8.6), and its bytes would be missed
        headers = without(headers, {"content-length"})
    kind, encoding = answered.get("content-type"), answered.get("content-encoding")
    framed = length is not None or answered.is_chunked
    return Answer(head.status, head.reason, headers, length, kind, encoding, framed, source)


async def _rewritten(exchange: Exchange, headers: AnswerHeaders, origin: str) -> bytes:
    body = bytearray()
    while len(body) <= results_url.MOST_BYTES and (data := await exchange.read()):
        body += data
    encoding = headers.get("content-encoding").lower()
    if len(body) <= OFF_THE_LOOP_BYTES:
        return results_url.rewrite(bytes(body), encoding, origin)
    return await asyncio.to_thread(results_url.rewrite, bytes(body), encoding, origin)
