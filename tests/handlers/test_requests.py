"""How a whole request to `/v1` is framed, and what is logged of one whose framing is wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.service import CLIENT_KEY, MESSAGE_HEADERS, message, serve, until
from tests.wire import connect, request_bytes

KEY = ("x-api-key", CLIENT_KEY)
CHUNKED = ("Transfer-Encoding", "chunked")


async def test_chunk_extensions_and_trailers_are_taken_and_dropped(tmp_path: Path) -> None:
    body = message()
    coded = b'%x;sig="a;b";q\r\n%b\r\n0;last\r\nX-Api-Key: other\r\nX-Checksum: 1\r\n\r\n' % (len(body), body)
    async with serve(tmp_path) as service, connect(service.port) as wire:
        for _ in range(2):  # the next request begins where the trailers end
            await wire.send(request_bytes("POST", "/v1/messages", [KEY, *MESSAGE_HEADERS, CHUNKED], coded))
            answer = await wire.answer()
            assert answer.status == 200
            await answer.read()
        for sent in service.simulator.ledger:
            assert (sent.body, sent.header("content-length")) == (body, str(len(body)))
            assert sent.header("x-checksum") is None and sent.header("transfer-encoding") is None


async def test_the_longest_heads_of_clients_cross_whole(tmp_path: Path) -> None:
    # Claude Code sends 30 lines, and with ANTHROPIC_CUSTOM_HEADERS whatever an operator puts there, such as a token of
    # an identity provider, which has some kilobytes; a beta list has 1 kB.
    custom = [("X-Identity", "e" * 16_000), *((f"X-Custom-{n}", "c" * 100) for n in range(60))]
    betas = ",".join(f"some-beta-{n}-2026-01-01" for n in range(100))
    async with serve(tmp_path) as service:
        answer = await service.message(headers=[*custom, ("anthropic-beta", betas)])
        assert answer.status == 200
        [sent] = service.simulator.ledger
        assert [sent.header(name) for name, _ in custom] == [value for _, value in custom]
        assert sent.header("anthropic-beta") == betas


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (CHUNKED, b"zz\r\n"),
        (CHUNKED, b"4\r\nbodyX"),
        (CHUNKED, b"1;" + b"a" * 40_000),
        (CHUNKED, b"4\r\nbody\r\n0\r\nContent-Length: 4\r\n\r\n"),
    ],
    ids=["size", "end of a chunk", "extension", "trailer"],
)
async def test_a_malformed_body_is_logged_as_one_and_not_as_a_client_that_left(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    framing: tuple[str, str],
    body: bytes,
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(tmp_path) as service, connect(service.port) as wire:
        await wire.send(request_bytes("POST", "/v1/messages", [KEY, framing], body))
        answer = await wire.answer()
        assert answer.status == 400
        await answer.read()
        await until(lambda: any("POST /v1/messages " in line for line in caplog.messages))
    [line] = [line for line in caplog.messages if "POST /v1/messages " in line]
    assert "POST /v1/messages 400 " in line and "error=invalid_request_error" in line
    assert "malformed request: " in caplog.text
