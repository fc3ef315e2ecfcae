"""The short forms of what `make attacks` tries for a quarter of an hour."""

from __future__ import annotations

import pytest

from tests.attacks import abrupt, fuzz, live
from tests.attacks.__main__ import Part
from tests.attacks.answers import Reader
from tests.attacks.fuzz import judged
from tests.attacks.grammar import Conversation, Grammar, Known
from tests.attacks.row import Row, table
from tests.edges.strict import StrictReader
from tests.service import CLIENT_KEY

PARTS: list[Part] = [fuzz, live, abrupt]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.NAME)
async def test_what_is_hostile_hurts_nobody(part: Part) -> None:
    row = await part.run(False)
    assert row.faults == []
    assert row.tried >= 100


def test_the_table_says_what_fell_short() -> None:
    rows = [
        Row("a", tried=1234),
        Row("b", tried=5, faults=["seed 1: x", "seed 2: y"], note="n", seconds=61.2),
    ]
    assert table(rows).splitlines()[2:] == ["| a | 1,234 | none | 0 |  |", "| b | 5 | 2 | 61 | n |"]


GET = b"GET /v1/%b HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD /v1/%b HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nx-answers: /v1/%b\r\nContent-Length: 2\r\n\r\n"
LAST = b'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{"'
BAD = b"GET /v1/a HTTP/1.1\r\nX : y\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "said", "fault"),
    [
        (GET % b"a" + GET % b"b", OK % b"a" + b"ok" + OK % b"b" + b"ok", ""),
        (GET % b"a" + BAD, OK % b"a" + b"ok" + LAST, ""),
        (HEAD % b"a" + GET % b"b", OK % b"a" + OK % b"b" + b"ok", ""),
        (GET % b"a" + GET % b"b", OK % b"b" + b"ok" + OK % b"a" + b"ok", "got the answer to"),
        (GET % b"a", OK % b"a" + b"ok" + OK % b"b" + b"ok", "an answer to no request"),
        (BAD, OK % b"a" + b"ok", "was answered"),
        (GET % b"a", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502"),
        (GET % b"a", OK % b"a" + b"o", "was cut"),
        (GET % b"a", LAST + b"x", "bytes after the last answer"),
        (GET % b"a", b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n", "no answer"),
        (GET % b"a", OK % b"a" + CLIENT_KEY.encode()[:2], ""),
        (
            GET % b"a",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 29\r\n\r\n" + CLIENT_KEY.encode(),
            "holds a secret",
        ),
    ],
)
def test_what_is_wrong_with_answers_is_found(sent: bytes, said: bytes, fault: str) -> None:
    strict = StrictReader()
    requests = strict.feed(sent)
    reader = Reader(requests)
    reader.feed(said)
    if not reader.closed:
        reader.feed(b"")
    found = judged(reader, requests, strict.end, Conversation(1, sent, (), 1, ends=True))
    assert any(fault in each for each in found) if fault else found == []


def test_a_seed_is_always_the_same_conversation() -> None:
    known = Known("cookie", "id")
    for seed in range(50):
        assert Grammar(seed, known).conversation() == Grammar(seed, known).conversation()
