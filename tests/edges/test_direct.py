"""The cases of `make edges` that need no edge: each odd request alone, with a neighbour's behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edges.cases import direct
from tests.edges.odd import ODD
from tests.edges.route import DIRECT, route
from tests.edges.strict import End, StrictReader

LENGTH_AND_CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)
CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nab\r\n0\r\nX: y\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "bodies", "end"),
    [
        (LENGTH_AND_CHUNKED + LAST, [], End.MALFORMED),
        (CHUNKS + LAST + LAST, [b"ab", b""], End.CLOSED),
        (LAST[:-1], [], End.WITHIN),
        (CHUNKS, [b"ab"], End.BETWEEN),
    ],
)
def test_the_strict_reader_reads_the_same_in_pieces(data: bytes, bodies: list[bytes], end: End) -> None:
    for size in (1, len(data)):
        reader = StrictReader()
        found = [each for at in range(0, len(data), size) for each in reader.feed(data[at : at + size])]
        assert ([request.body for request in found], reader.end) == (bodies, end)


async def test_an_odd_request_takes_no_neighbours_answer(tmp_path: Path) -> None:
    async with route(DIRECT, tmp_path) as way:
        faults = {
            name: await direct(way, str(number), name, "GET with a body") for number, name in enumerate(ODD)
        }
    assert {name: fault for name, fault in faults.items() if fault} == {}
