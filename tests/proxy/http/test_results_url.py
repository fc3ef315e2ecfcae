"""`results_url` leads to this proxy, and nothing else of any body is touched."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.results_url import MOST_BYTES, readable_encodings, rewrite
from proxy.simulator import Answer, Cut
from tests import wire
from tests.service import CLIENT_KEY, MESSAGE, MESSAGE_HEADERS, Service, serve, upstream_key

ORIGIN = "http://proxy.example:4000"
UPSTREAM = "https://api.anthropic.com"
PATH = "/v1/messages/batches/msgbatch_01A/results"
# Spaces, escapes and a last line without its end: whatever is not the URL stays as it is.
BATCH = (
    f'{{ "id":"msgbatch_01A" ,\n "results_url" : "{UPSTREAM}{PATH}","n":1.0e0,"t":"\\u00e9\xe9" }}\n'.encode()
)
EXPECTED = BATCH.replace(UPSTREAM.encode(), ORIGIN.encode())
CALLS = [
    ("POST", "/v1/messages/batches"),
    ("GET", "/v1/messages/batches?limit=2"),
    ("GET", "/v1/messages/batches/msgbatch_01A"),
    ("POST", "/v1/messages/batches/msgbatch_01A/cancel"),
]
OTHERS = [
    ("GET", "/v1/messages/batches/msgbatch_01A/results"),
    ("POST", "/v1/messages"),
    ("GET", "/v1/files/file_1"),
    ("GET", "/v1/files/file_1/content"),
    ("GET", "/v1/models"),
]
ENCODERS = {"identity": bytes, "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
DECODERS = {"identity": bytes, "gzip": gzip.decompress, "x-gzip": gzip.decompress, "deflate": zlib.decompress}


# --- the function ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODERS)
def test_only_the_origin_changes_in_every_encoding_that_can_be_read(encoding: str) -> None:
    body = ENCODERS[encoding](BATCH)
    assert DECODERS[encoding](rewrite(body, encoding, ORIGIN)) == EXPECTED


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_what_cannot_be_read_stays(encoding: str) -> None:
    assert rewrite(b"\x8b\x00\x80 no text", encoding, ORIGIN) == b"\x8b\x00\x80 no text"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_what_its_encoding_says_stays(encoding: str) -> None:
    assert rewrite(BATCH, encoding, ORIGIN) == BATCH
    cut = ENCODERS[encoding](BATCH)[:-5]
    assert rewrite(cut, encoding, ORIGIN) == cut


def test_a_compressed_body_without_the_url_keeps_its_very_bytes() -> None:
    body = gzip.compress(b'{"results_url": null}', compresslevel=1)
    assert rewrite(body, "gzip", ORIGIN) == body


@pytest.mark.parametrize(
    "url",
    [
        f"{UPSTREAM}{PATH}",
        f"{UPSTREAM}:8443{PATH}",
        f"{UPSTREAM}/prefix{PATH}",
        f"{UPSTREAM}{PATH}".replace("/", "\\/"),
        PATH,
    ],
)
def test_the_url_leads_to_the_proxy_in_every_form(url: str) -> None:
    body = json.dumps({"results_url": "URL", "id": 1}).replace("URL", url).encode()
    assert json.loads(rewrite(body, "identity", ORIGIN))["results_url"] == ORIGIN + PATH


def test_every_batch_of_a_list_is_rewritten() -> None:
    batches = [{"id": f"b{n}", "results_url": UPSTREAM + PATH.replace("01A", str(n))} for n in range(20)]
    changed = json.loads(rewrite(json.dumps({"data": batches}).encode(), "identity", ORIGIN))["data"]
    assert {batch["results_url"].removesuffix("/results") for batch in changed} == {
        f"{ORIGIN}/v1/messages/batches/msgbatch_{n}" for n in range(20)
    }


@given(st.binary())
def test_whatever_the_body_is_it_stays_where_there_is_no_url(body: bytes) -> None:
    for encoding in ("identity", "br"):
        assert rewrite(body, encoding, ORIGIN) == body


@pytest.mark.parametrize(
    ("accepted", "sent"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br", "identity"),
        ("", "identity"),
        ("br;q=1.0, GZIP;q=0.5", "GZIP;q=0.5"),
        ("identity", "identity"),
        ("*", "identity"),
    ],
)
def test_only_encodings_that_can_be_read_are_asked_for(accepted: str, sent: str) -> None:
    assert readable_encodings(accepted) == sent


# --- through the proxy -----------------------------------------------------------------------------------


def batch_answer(encoding: str | None = None) -> Answer:
    headers = [("content-type", "application/json")]
    body = BATCH
    if encoding is not None:
        headers.append(("content-encoding", encoding))
        body = ENCODERS[encoding](BATCH)
    return Answer(200, tuple(headers), body)


async def call(service: Service, method: str, target: str, *more: tuple[str, str]) -> wire.Answer:
    headers = [("Host", "proxy.example:4000"), *MESSAGE_HEADERS, *more]
    return await service.send(method, target, headers, b"{}" if method == "POST" else None)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize(("method", "target"), CALLS)
async def test_a_batch_leads_to_the_origin_that_the_client_used(
    tmp_path: Path, method: str, target: str, encoding: str
) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, batch_answer(encoding))
        answer = await call(service, method, target, ("Accept-Encoding", encoding))
        assert DECODERS[encoding](answer.body) == EXPECTED
        assert answer.header("content-length") == str(len(answer.body))
        assert answer.header("content-encoding") == encoding


@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize(("method", "target"), OTHERS)
async def test_other_answers_pass_byte_for_byte(
    tmp_path: Path, method: str, target: str, encoding: str | None
) -> None:
    async with serve(tmp_path) as service:
        fixed = batch_answer(encoding)
        service.simulator.script(None, fixed)
        assert (await call(service, method, target)).body == fixed.body


async def test_an_error_about_a_batch_passes_byte_for_byte(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, Answer(404, (("content-type", "application/json"),), BATCH))
        assert (await call(service, *CALLS[2])).body == BATCH


async def test_a_public_origin_is_kept(tmp_path: Path) -> None:
    async with serve(tmp_path, server__public_origins="https://proxy.example.com") as service:
        service.simulator.script(None, batch_answer())
        answer = await service.send("GET", CALLS[2][1], [("Host", "proxy.example.com")])
        assert answer.json()["results_url"] == "https://proxy.example.com" + PATH


@pytest.mark.parametrize("host", ['a"b', "a/b", "a\\b", "a b", "", "user@evil.example", "a:b:c", "\xe9"])
async def test_a_host_that_is_none_cannot_break_the_body(tmp_path: Path, host: str) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, batch_answer())
        answer = await service.send("GET", CALLS[2][1], [("Host", host)])
        assert answer.status == 400 or urlsplit(json.loads(answer.body)["results_url"]).path == PATH


async def test_the_upstream_is_asked_only_for_what_can_be_read(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for _, target in (CALLS[2], OTHERS[4]):
            await service.send("GET", target, [("Accept-Encoding", "gzip, deflate, br, zstd")])
        sent = [entry.header("accept-encoding") for entry in service.simulator.ledger]
        assert sent == ["gzip, deflate", "gzip, deflate, br, zstd"]


@pytest.mark.parametrize("fault", [Cut(), Cut(after_bytes=9), Cut(reset=True)])
async def test_a_batch_that_is_cut_is_no_batch(tmp_path: Path, fault: Cut) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, fault)
        answer = await call(service, "GET", "/v1/messages/batches")
        assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_a_list_that_is_too_large_to_rewrite_is_a_502(tmp_path: Path, encoding: str) -> None:
    body = b'{"results_url":"https://a/v1/messages/batches/b/results"}' + b" " * 2 * MOST_BYTES
    for raw in (ENCODERS[encoding](body), ENCODERS[encoding](body)[:-20]):
        async with serve(tmp_path / str(len(raw))) as service:
            headers = (("content-type", "application/json"), ("content-encoding", encoding))
            service.simulator.script(None, Answer(200, headers, raw))
            answer = await call(service, "GET", "/v1/messages/batches")
            assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")
            assert service.transfers == 0


async def test_head_of_a_batch_has_the_length_that_the_upstream_says(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        service.simulator.script(None, batch_answer())
        answer = await call(service, "HEAD", CALLS[2][1])
        assert (answer.status, answer.body) == (200, b"")
        assert answer.header("content-length") in (None, str(len(BATCH)))


async def test_the_results_are_there_where_the_url_leads(tmp_path: Path) -> None:
    requests = [{"custom_id": f"r{n}", "params": MESSAGE} for n in range(3)]
    async with serve(tmp_path) as service:
        made = await service.send(
            "POST", "/v1/messages/batches", MESSAGE_HEADERS, json.dumps({"requests": requests}).encode()
        )
        host = ("Host", f"127.0.0.1:{service.port}")
        batch = await service.send(
            "GET", f"/v1/messages/batches/{made.json()['id']}", [*MESSAGE_HEADERS, host]
        )
        url = urlsplit(batch.json()["results_url"])
        assert (url.scheme, url.port) == ("http", service.port)
        keys = [("x-api-key", CLIENT_KEY), *MESSAGE_HEADERS]
        results = await wire.fetch(url.port or 0, "GET", url.path, keys)
        lines = [json.loads(line) for line in results.body.splitlines()]
        assert [line["custom_id"] for line in lines] == ["r0", "r1", "r2"]
        assert {e.credential for e in service.simulator.ledger} == {upstream_key("a")}
