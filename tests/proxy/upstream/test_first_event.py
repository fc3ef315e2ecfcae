"""The first event of a stream: an error is found however it is written, cut or encoded, and nothing else is one."""

from __future__ import annotations

import asyncio
import gzip
import json

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamLost
from proxy.upstream.exchange import Exchange, Request
from proxy.upstream.first_event import GOOD_STARTS, early_error, status_of
from tests.proxy.upstream.test_exchange import Transfer

OVERLOADED = json.dumps(
    {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Overloaded"}}
).encode()
EVENT = b"event: error\ndata: " + OVERLOADED + b"\n\n"
ENCODE = {"": bytes, "gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress}


def exchange_of(*pieces: bytes, cut: bool = False) -> Exchange:
    """An exchange whose body has come, in these pieces."""
    exchange = Exchange(Transfer(), Request("POST", "/v1/messages", []))
    for piece in pieces:
        exchange.on_body(piece)
    exchange.end(UpstreamLost("cut") if cut else None)
    return exchange


async def found(body: bytes, encoding: str = "") -> str | None:
    """The type of the error that a body begins with; all of it is there to be read afterwards."""
    exchange = exchange_of(body)
    error = await early_error(exchange, encoding)
    assert exchange.start() == body
    return None if error is None else error.type


@pytest.mark.parametrize(
    "body",
    [
        EVENT,
        EVENT.replace(b"\n", b"\r\n"),
        EVENT.replace(b"\n", b"\r"),
        EVENT.replace(b": ", b":"),
        EVENT.rstrip(b"\n"),
        b"\xef\xbb\xbf" + EVENT,
        b": a comment\n\n" + EVENT,
        b"\n\n" + EVENT,
        b"data: " + OVERLOADED + b"\nevent: error\n\n",
        b"data: " + OVERLOADED + b"\n\n",
        EVENT + b"event: ping\ndata: {}\n\n",
        b'event: error\ndata: {"error":\ndata: {"type": "overloaded_error"}}\n\n',
    ],
)
async def test_an_error_is_found_however_it_is_written(body: bytes) -> None:
    assert not body.startswith(GOOD_STARTS)
    assert await found(body) == "overloaded_error"


@pytest.mark.parametrize("encoding", ENCODE)
async def test_an_error_is_found_in_every_encoding(encoding: str) -> None:
    assert await found(ENCODE[encoding](EVENT), encoding.upper()) == "overloaded_error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"event: message_start\ndata: {}\n\n",
        b"event: new_event\ndata: " + OVERLOADED + b"\n\n",
        b"event: ping\ndata: {}\n\n" + EVENT,
        b"data: {}\n\n" + EVENT,
        b"data: event: error\n\n",
        b": event: error\n",
        b"x" * 100_000,
        b"event: errors\ndata: {}\n\n",
        b"\x1f\x8b nonsense",
    ],
)
async def test_nothing_else_is_one(body: bytes) -> None:
    assert await found(body) is None
    assert await found(body, "gzip") is None


async def test_an_error_event_without_words_is_one() -> None:
    assert await found(b"event: error\ndata: x\n\n") == ""


async def test_an_error_that_comes_byte_by_byte_is_found() -> None:
    pieces = [EVENT[at : at + 1] for at in range(len(EVENT))]

    class Drip(Exchange):
        """Hands one byte on at a time."""

        async def read(self) -> bytes:
            return pieces.pop(0) if pieces else b""

    drip = Drip(Transfer(), Request("POST", "/v1/messages", []))
    error = await early_error(drip, "")
    assert error is not None and error.type == "overloaded_error"
    assert drip.start() == EVENT


async def test_a_cut_within_the_first_event_is_raised() -> None:
    with pytest.raises(UpstreamLost):
        await early_error(exchange_of(EVENT[:30], cut=True), "")


@pytest.mark.parametrize(
    ("type_", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("api_error", 500), ("", 500)]
)
async def test_an_error_has_the_status_of_its_type(type_: str, status: int) -> None:
    error = await early_error(exchange_of(EVENT.replace(b"overloaded_error", type_.encode())), "")
    assert error is not None
    assert status_of(error) == status


lines = st.sampled_from(
    [b"event: error", b"event:", b"data: {}", b"data", b": x", b"", b"\xff", b"data: " + OVERLOADED]
)
bodies = st.lists(lines, max_size=8).map(b"\n".join) | st.binary(max_size=300)


@given(st.lists(bodies, min_size=1, max_size=3), st.sampled_from([*ENCODE, "deflate", "gzip, br", "x"]))
def test_no_stream_whatever_raises_or_loses_a_byte(pieces: list[bytes], encoding: str) -> None:
    async def check() -> None:
        exchange = exchange_of(*filter(None, pieces))
        await early_error(exchange, encoding)
        assert exchange.start() == b"".join(pieces)

    asyncio.run(check())
