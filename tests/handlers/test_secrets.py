"""No credential that anyone uses comes out: in no answer of any route, no line of the log, no other file."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.logs import TextLine
from proxy.simulator import Error
from tests.canaries import holders, leaked
from tests.routes import ROUTES
from tests.service import ADMIN_KEY, CLIENT_KEY, Service, serve
from tests.wire import Answer

ACCOUNT_KEY = "sk-ant-api03-canary-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
OTHER_KEY = "sk-ant-api03-canary-Ga3Hs7Jd1Kf9Lg5Zh2Xj8Ck4Vl6Bz0Nq"
USER_KEY = "cp-canary-Ue5Ri8To2Pa7Sd4Fg9Hj1Kl3Zx6Cv0BnQw3"
CANARIES = [ACCOUNT_KEY, OTHER_KEY, USER_KEY, ADMIN_KEY, CLIENT_KEY]


async def calls(service: Service) -> AsyncIterator[Answer]:
    """Answers of every kind, of every route."""
    new = {"name": "canary", "type": "api_key", "api_key": ACCOUNT_KEY}
    ids = ["nobody", *(account.id for account in service.parts.pool), next(iter(service.parts.keys)).id]
    yield await service.admin("POST", "/api/accounts", new)
    for change in ({}, {"name": "other"}, {"api_key": OTHER_KEY}, {"colour": OTHER_KEY}, {"type": "oauth"}):
        yield await service.admin("POST", "/api/accounts", new | change)
    yield await service.admin("POST", "/api/accounts", new | {"api_key": OTHER_KEY + " "})
    await service.admin("POST", "/api/tokens", {"name": "canary", "key": USER_KEY})  # shown once, here
    for change in ({}, {"key": USER_KEY + " "}, {"key": "é" + USER_KEY}, {"role": USER_KEY}, {"status": 3}):
        yield await service.admin("POST", "/api/tokens", {"name": "again", "key": USER_KEY} | change)
    for method, path in ROUTES:
        for id in ids:
            for key in (ADMIN_KEY, USER_KEY, ADMIN_KEY[:-1]):
                if method != "DELETE" or key != ADMIN_KEY:
                    yield await service.admin(method, path.replace("nobody", id), {}, key=key)
    for status in ("inactive", "active"):
        yield await service.admin("PUT", f"/api/accounts/{ids[1]}", {"status": status})
    for fault in (Error(401), Error(403), Error(429), Error(529), Error(400)):
        service.simulator.script(None, fault)
        yield await service.send("GET", "/v1/models", key=USER_KEY)
    # The upstream's own error names the path; the log must not.
    await service.send("GET", f"/v1/{USER_KEY}", [("authorization", f"Bearer {ADMIN_KEY}")], key=USER_KEY)
    yield await service.send("GET", "/v1/models", key=USER_KEY + "x")
    for id in (ids[0], ids[1], ids[-1]):
        yield await service.admin("DELETE", f"/api/accounts/{id}")
        yield await service.admin("DELETE", f"/api/tokens/{id}")


@pytest.mark.files
async def test_no_answer_and_no_line_of_the_log_holds_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caplog.handler, "formatter", TextLine())
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "proxy")
    async with serve(tmp_path, accounts=["a"], retry__max_attempts="2") as service:
        service.simulator.add_api_key(ACCOUNT_KEY, organization="canary")
        service.simulator.add_api_key(OTHER_KEY, organization="other")
        login, grant = await service.add_login("login")
        secrets = [*CANARIES, grant.access_token, grant.refresh_token]
        said = [(answer.status, answer.headers, answer.body) async for answer in calls(service)]
        secrets += credentials(tmp_path, login.id)
    assert len(said) > 60 and len(secrets) > len(CANARIES) + 2
    assert [each for each in said if leaked(repr(each), secrets)] == []
    assert leaked(caplog.text, secrets) == []


def credentials(folder: Path, account_id: str) -> list[str]:
    """The tokens of an account, as they are stored."""
    stored = (folder / "accounts" / f"{account_id}.json").read_text()
    return re.findall(r'_token": "([^"]+)"', stored)


@pytest.mark.files
async def test_no_file_but_the_accounts_own_holds_a_secret(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=[]) as service:
        async for _ in calls_of_a_day(service):
            pass
    assert {path.parent.name for path in holders(tmp_path, CANARIES)} == {"accounts"}


async def calls_of_a_day(service: Service) -> AsyncIterator[Answer]:
    new = {"name": "canary", "type": "api_key", "api_key": ACCOUNT_KEY}
    service.simulator.add_api_key(ACCOUNT_KEY, organization="canary")
    yield await service.admin("POST", "/api/accounts", new)
    yield await service.admin("POST", "/api/tokens", {"name": "canary", "key": USER_KEY})
    yield await service.send("GET", "/v1/models", key=USER_KEY)
