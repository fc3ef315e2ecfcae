"""What tests of OAuth logins share: the browser's part, the disk, and answers that are no tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.simulator import Answer, Entry, Error, Fault, Raw, Reset, ResetEarly, Simulator

TOKEN = "/v1/oauth/token"  # noqa: S105 - a path


def arguments(url: str) -> dict[str, str]:
    """The query of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def sent_tokens(simulator: Simulator) -> list[str | None]:
    """The refresh token or code of each token call."""
    return [entry.credential for entry in simulator.ledger.token_calls()]


def refreshes(simulator: Simulator) -> list[Entry]:
    """The token calls that are refreshes."""
    return [e for e in simulator.ledger.token_calls() if e.json()["grant_type"] == "refresh_token"]


def stored(folder: Path, account_id: str) -> dict[str, Any]:
    """The account's record on disk."""
    document = json.loads((folder / "accounts" / f"{account_id}.json").read_text())
    return dict(document["records"][account_id])


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No write of the storage succeeds until the monkeypatch is undone."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.storage.files.replace", fail)
    monkeypatch.setattr("proxy.storage.journal.Journal.write", fail)


def as_json(value: object, status: int = 200) -> Answer:
    """An answer as it is, whatever the request was."""
    return Answer(status, (("content-type", "application/json"),), json.dumps(value).encode())


def with_access(access_token: object) -> Answer:
    """An answer with this in the place of the access token, and without a refresh token."""
    return as_json({"access_token": access_token, "token_type": "Bearer", "expires_in": 28800})


PAGE = b"<!doctype html><title>Just a moment...</title>"
HTML = (("content-type", "text/html; charset=UTF-8"),)

TROUBLES: dict[str, tuple[tuple[Fault, ...], str]] = {
    "500": ((Error(500),), "answered 500 api_error"),
    "502": ((Error(502),), "answered 502 api_error"),
    "502 of an edge": ((Error(502, html=True),), "answered 502"),
    "503": ((Error(503),), "answered 503"),
    "529": ((Error(529),), "answered 529 overloaded_error"),
    "429": ((Error(429),), "answered 429 rate_limit_error"),
    "429 with retry-after": ((Error(429, headers=(("retry-after", "7"),)),), "answered 429"),
    "429 with a date": (
        (Error(429, headers=(("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),)),),
        "answered 429",
    ),
    "200 with HTML": ((Answer(200, HTML, PAGE),), "no JSON object"),
    "403 with HTML": ((Answer(403, HTML, PAGE),), "answered 403"),
    "401 with HTML": ((Answer(401, HTML, PAGE),), "answered 401"),
    "400 with HTML": ((Answer(400, HTML, PAGE),), "answered 400"),
    "redirect": ((Answer(302, (("location", "/v1/models"),)),), "answered 302"),
    "permanent redirect": ((Answer(308, (("location", TOKEN),)),), "answered 308"),
    "201": ((as_json({"access_token": "sk-ant-oat01-new"}, 201),), "answered 201"),
    "204": ((Answer(204),), "answered 204"),
    "empty": ((Answer(200),), "no JSON object"),
    "truncated JSON": ((Answer(200, (), b'{"access_token":"sk-ant-oat01-n'),), "no JSON object"),
    "list": ((as_json([{"access_token": "x"}]),), "no JSON object"),
    "null": ((as_json(None),), "no JSON object"),
    "text": ((as_json("sk-ant-oat01-new"),), "no JSON object"),
    "another encoding": ((Answer(200, (), b"\xff\xfe\x00\xd8{}"),), "no JSON object"),
    "deep nesting": ((Answer(200, (), b"[" * 60_000),), "no JSON object"),
    "10 MB": ((Answer(200, (), b"x" * 10_000_000),), "larger than 65536 bytes"),
    "10 MB of an error": ((Answer(400, (), b"x" * 10_000_000),), "larger than 65536 bytes"),
    "no access_token": ((as_json({"token_type": "Bearer"}),), "no access_token"),
    "empty access_token": ((with_access(""),), "no access_token"),
    "numeric access_token": ((with_access(12345678),), "no access_token"),
    "list as access_token": ((with_access(["sk-ant-oat01-new"]),), "no access_token"),
    "overlong access_token": ((with_access("x" * 20_000),), "no access_token"),
    "control character": ((with_access("sk-ant\r\nx-evil: 1"),), "no access_token"),
    "blank in access_token": ((with_access("sk-ant oat01"),), "no access_token"),
    "umlaut in access_token": ((with_access("sk-änt"),), "no access_token"),
    "200 with an error": ((as_json({"error": "invalid_grant"}),), "no access_token"),
    "404": ((Error(404),), "answered 404 not_found_error"),
    "400 invalid_request": ((as_json({"error": "invalid_request"}, 400),), "answered 400 invalid_request"),
    "400 invalid_client": ((as_json({"error": "invalid_client"}, 400),), "answered 400 invalid_client"),
    "401 invalid_client": ((as_json({"error": "invalid_client"}, 401),), "answered 401 invalid_client"),
    "403 with other JSON": ((as_json({"detail": "blocked"}, 403),), "answered 403"),
    "403 with a sentence": ((as_json({"error": "Request not allowed"}, 403),), "answered 403"),
    "403 of one who is busy": (
        (as_json({"error": "temporarily_unavailable"}, 403),),
        "answered 403 temporarily_unavailable",
    ),
    # A connection that is lost may hide new tokens: the same question is asked once more.
    "two resets": ((Reset(), Reset()), "cannot be reached"),
    "two early resets": ((ResetEarly(), ResetEarly()), "cannot be reached"),
    "closed twice without an answer": ((Raw(b""), Raw(b"")), "cannot be reached"),
    "no HTTP, twice": ((Raw(b"\x16\x03\x01 hello\r\n\r\n"),) * 2, "cannot be reached"),
    "a cut head, twice": ((Raw(b"HTTP/1.1 200 OK\r\ncontent-le"),) * 2, "cannot be reached"),
    "a cut body, twice": ((Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),) * 2, "cannot be reached"),
    "a head of 1 MB": (
        (Raw(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 1_000_000 + b"\r\n\r\n"),),
        "cannot be reached",
    ),
}
"""What changes no state, and what is told of it."""

REFUSALS: dict[str, tuple[Answer | Error, str]] = {
    "400 invalid_grant": (as_json({"error": "invalid_grant"}, 400), "answered 400 invalid_grant"),
    "401": (Error(401), "answered 401 authentication_error"),
    "401 invalid_grant": (as_json({"error": "invalid_grant"}, 401), "answered 401 invalid_grant"),
    "403": (Error(403), "answered 403 permission_error"),
    "403 access_denied": (as_json({"error": "access_denied"}, 403), "answered 403 access_denied"),
}
"""What ends a grant, and what is told of it."""


def cases(table: dict[str, tuple[Any, str]]) -> Iterable[Any]:
    """A table's rows as parameters of a test."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


@asynccontextmanager
async def simulating(simulator: Simulator) -> AsyncIterator[Simulator]:
    """The simulator, started; stopped at the end."""
    await simulator.start(port=0)
    try:
        yield simulator
    finally:
        await simulator.stop()
