"""Under which origin a client sees this proxy: what `results_url` and the way back from a login begin with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.echo import Script, echo
from tests.service import ADMIN_KEY, serve
from tests.wire import fetch

BODY = b'{"results_url":"https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"}'
BATCH = Script(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
TRUSTED = {"server__trusted_proxies": "127.0.0.1"}
HTTPS = ("X-Forwarded-Proto", "https")
HOST = ("Host", "proxy.example.com")

SEEN = [
    (TRUSTED, [HOST, HTTPS], "https://proxy.example.com"),
    (TRUSTED, [HOST, ("X-Forwarded-Proto", "http, HTTPS")], "https://proxy.example.com"),
    (TRUSTED, [("X-Forwarded-Host", "p.example:8443"), HTTPS], "https://p.example:8443"),
    (TRUSTED, [HOST, ("X-Forwarded-Host", "evil.example, p.example"), HTTPS], "https://p.example"),
    (TRUSTED, [("X-Forwarded-Host", "p.example")], "http://p.example"),
    (TRUSTED, [HOST, ("X-Forwarded-Proto", "http")], "http://proxy.example.com"),
    (TRUSTED, [HOST, ("X-Forwarded-Proto", "javascript")], "http://proxy.example.com"),
    (TRUSTED, [HOST, ("X-Forwarded-Host", 'x"/y'), HTTPS], "https://proxy.example.com"),
    (TRUSTED | {"server__public_origins": "https://p.example:8443"}, [("Host", "p.example:8443")], "https://p.example:8443"),
    (TRUSTED | {"server__public_origins": "https://p.example"}, [("X-Forwarded-Host", "p.example")], "https://p.example"),
    ({}, [HOST, HTTPS, ("X-Forwarded-Host", "evil.example")], "http://proxy.example.com"),
    ({"server__trusted_proxies": "10.0.0.0/8"}, [HOST, HTTPS], "http://proxy.example.com"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "headers", "origin"), SEEN)
async def test_a_results_url_is_on_the_origin_that_the_client_came_to(
    tmp_path: Path, settings: dict[str, str], headers: list[tuple[str, str]], origin: str
) -> None:
    async with echo() as upstream, serve(tmp_path, upstream=upstream.url, **settings) as service:
        upstream.script = BATCH
        answer = await service.send("GET", "/v1/messages/batches/msgbatch_1", headers)
        assert answer.json() == {"results_url": f"{origin}/v1/messages/batches/msgbatch_1/results"}


@pytest.mark.parametrize(("settings", "headers", "origin"), SEEN)
async def test_a_login_comes_back_to_it(
    tmp_path: Path, settings: dict[str, str], headers: list[tuple[str, str]], origin: str
) -> None:
    async with serve(tmp_path, **settings) as service:
        answer = await fetch(service.port, "GET", "/oauth/authorize", [("X-API-Key", ADMIN_KEY), *headers])
        link = parse_qs(urlsplit(answer.json()["authorization_url"]).query)
        assert link["redirect_uri"] == [f"{origin}/oauth/callback"]
