"""A page of another origin that calls `/v1` by itself, as SDKs do in browsers: see `server.cors_origins`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from tests.service import CLIENT_KEY, MESSAGE, Service, serve
from tests.serving import serving

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!doctype html>"
# What a page can read of an answer. The headers are some of those that the TypeScript SDK sends from browsers.
ASK = """async ([url, key, body]) => {
  const headers = {
    "content-type": "application/json", "authorization": `Bearer ${key}`, "anthropic-version": "2023-06-01",
    "anthropic-dangerous-direct-browser-access": "true", "x-stainless-lang": "js", "x-stainless-retry-count": "0",
  };
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const read = ["request-id", "x-proxy-account"].map((name) => answer.headers.get(name));
    return { status: answer.status, read, text: await answer.text() };
  } catch (error) {
    return { raised: error.name };
  }
}"""


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[str]:
    """The origin of a server that answers everything with an empty page."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(PAGE)

    async with serving(answer) as port:
        yield f"http://127.0.0.1:{port}"


async def asked(
    browser: Browser, origin: str, service: Service, *, key: str = CLIENT_KEY, **more: Any
) -> Any:
    """What a page of `origin` makes of `POST /v1/messages`."""
    url = f"http://127.0.0.1:{service.port}/v1/messages"
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(origin)
        return await page.evaluate(ASK, [url, key, MESSAGE | more])


async def test_a_page_of_a_listed_origin_reads_answers_streams_and_errors(
    tmp_path: Path, browser: Browser
) -> None:
    async with site() as origin, serve(tmp_path, server__cors_origins=origin) as service:
        own = (await service.message()).json()
        answer = await asked(browser, origin, service)
        assert (answer["status"], json.loads(answer["text"])["content"]) == (200, own["content"])
        stream = await asked(browser, origin, service, stream=True)
        refused = await asked(browser, origin, service, max_tokens=0)
        entries = list(service.simulator.ledger.inference())[1:]
        assert [reply["read"] for reply in (answer, stream, refused)] == [
            [entry.request_id, "a"] for entry in entries
        ]
        assert not any(entry.header("origin") or entry.header("referer") for entry in entries)
        wrong = await asked(browser, origin, service, key="not-a-key-of-this-proxy")
    assert stream["status"] == 200 and stream["text"].rstrip().endswith('data: {"type":"message_stop"}')
    assert (refused["status"], json.loads(refused["text"])["error"]["type"]) == (400, "invalid_request_error")
    assert (wrong["status"], json.loads(wrong["text"])["error"]["type"]) == (401, "authentication_error")


async def test_a_page_of_any_other_origin_reads_nothing(tmp_path: Path, browser: Browser) -> None:
    listed = "https://app.example.com"
    async with site() as origin, serve(tmp_path, server__cors_origins=listed) as service:
        assert await asked(browser, origin, service) == {"raised": "TypeError"}
        assert len(service.simulator.ledger) == 0
