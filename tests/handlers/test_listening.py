"""Where it listens: an address of one kind, or with `::` of both, and who a client of either is then."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.service import CLIENT_KEY, serve, until
from tests.wire import Wire


async def models(host: str, port: int, *headers: tuple[str, str]) -> int:
    """The status of one request to this address."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        answer = await Wire(reader, writer).request(
            "GET", "/v1/models", [("x-api-key", CLIENT_KEY), *headers]
        )
        await answer.read()
        return answer.status
    finally:
        writer.close()
        await writer.wait_closed()


async def test_both_kinds_of_addresses_are_served_at_two_colons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(tmp_path, server__trusted_proxies="127.0.0.1") as service:
        port = await service.parts.server.listen("::", 0)
        assert [await models(host, port) for host in ("::1", "127.0.0.1")] == [200, 200]
        # One of them that comes by IPv4 is known by its address there, and so is a trusted front.
        assert await models("127.0.0.1", port, ("X-Forwarded-For", "::ffff:192.0.2.7")) == 200
        await until(lambda: sum("GET /v1/models 200" in line for line in caplog.messages) == 3)
    seen = [line.partition("client=")[2].split()[0] for line in caplog.messages if "client=" in line]
    assert seen == ["::1", "127.0.0.1", "192.0.2.7"]
