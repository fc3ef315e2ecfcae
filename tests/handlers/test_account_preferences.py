"""What admins set for an account beside its name: priority, weight, reserve, tags and a note."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StorageError
from tests.service import Service, serve
from tests.wire import fetch

USUAL = {"priority": 0, "weight": 1.0, "reserve": 0.0, "tags": [], "note": ""}
SET = {"priority": -2, "weight": 2.5, "reserve": 0.2, "tags": ["eu", "team a"], "note": "paid by\nteam a"}


def path(service: Service) -> str:
    return f"/api/accounts/{next(iter(service.parts.pool)).id}"


def of(account: dict[str, Any]) -> dict[str, Any]:
    return {name: account[name] for name in USUAL}


async def put(service: Service, **change: Any) -> dict[str, Any]:
    answer = await service.admin("PUT", path(service), change)
    assert answer.status == 200, answer.body
    return dict(answer.json()["account"])


def stored(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The only account's file, and its document."""
    [file] = (folder / "accounts").glob("acc_*.json")
    return file, json.loads(file.read_text())


async def test_they_are_answered_shown_and_there_after_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert of((await service.admin("GET", path(service))).json()["account"]) == USUAL
        assert of(await put(service, **SET)) == SET
        assert of((await service.admin("GET", "/api/accounts")).json()["accounts"][0]) == SET
    async with serve(tmp_path, accounts=[]) as service:
        assert of((await service.admin("GET", path(service))).json()["account"]) == SET


async def test_what_is_not_named_stays_and_what_is_empty_goes(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await put(service, **SET)
        assert of(await put(service, name="b", weight=1, note=None)) == SET | {"weight": 1}
        assert of(await put(service, tags=[], note=" ")) == SET | {"weight": 1, "tags": [], "note": ""}


async def test_tags_lose_space_around_them_and_repetitions(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await put(service, tags=[" eu ", "us", "eu"]))["tags"] == ["eu", "us"]


@pytest.mark.parametrize("name", USUAL)
async def test_each_is_covered_by_the_etag(tmp_path: Path, name: str) -> None:
    async with serve(tmp_path) as service:
        before = (await service.admin("GET", path(service))).json()["account"]["etag"]
        assert (await put(service, **{name: SET[name]}))["etag"] != before
        headers = [("X-API-Key", "an-Admin-key-of-tests-7Qd2"), ("If-Match", f'"{before}"')]
        late = await fetch(service.port, "PUT", path(service), headers, json.dumps({"note": "x"}).encode())
        error = late.json()["error"]
        assert (late.status, error["type"]) == (409, "edit_conflict")
        assert error["current"][name] == SET[name]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *[("priority", wrong) for wrong in (1.5, "1", True, 1001, -1001, 2**64)],
        *[("weight", wrong) for wrong in (0, -1, 1e-9, 1001, "1", True)],
        *[("reserve", wrong) for wrong in (-0.1, 1.01, "half", True)],
        *[("tags", wrong) for wrong in ("eu", ["a,b"], [""], ["x" * 65], ["a\nb"], [1])],
        ("tags", [str(number) for number in range(33)]),
        *[("note", wrong) for wrong in ("x" * 1001, "a\x1b[31m", "a\u202eb", 1)],
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_wrong_one_is_refused_by_name_and_changes_nothing(
    tmp_path: Path, name: str, wrong: Any
) -> None:
    async with serve(tmp_path) as service:
        answer = await service.admin("PUT", path(service), {"name": "b", name: wrong})
        assert (answer.status, answer.json()["error"]["message"].startswith(name)) == (422, True), answer.body
        [account] = service.parts.pool
        assert (account.name, account.preferences.view()) == ("a", USUAL)


async def test_nan_is_no_number(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        for name in ("weight", "reserve"):
            answer = await service.admin("PUT", path(service), {name: float("nan")})
            assert answer.status in (400, 422)
        assert next(iter(service.parts.pool)).preferences.view() == USUAL


@pytest.mark.files
async def test_a_file_of_before_is_read_and_written_without_loss(tmp_path: Path) -> None:
    async with serve(tmp_path):
        pass
    file, document = stored(tmp_path)
    [record] = document["records"].values()
    for name in USUAL:
        del record[name]
    before = dict(record)
    del document["crc32"]
    file.write_text(json.dumps(document))
    async with serve(tmp_path, accounts=[]) as service:
        assert of((await service.admin("GET", path(service))).json()["account"]) == USUAL
        service.clock.advance(60)
        await put(service, priority=1)
    [after] = stored(tmp_path)[1]["records"].values()
    changed = {"priority": 1, "updated_at": after["updated_at"]}
    assert after == before | USUAL | changed and after["updated_at"] != before["updated_at"]


@pytest.mark.files
@pytest.mark.parametrize(
    ("name", "wrong"),
    [("priority", 0.5), ("weight", 0), ("reserve", 2), ("tags", "eu"), ("tags", ["a,b"]), ("note", ["x"])],
)
async def test_an_edited_file_with_a_wrong_one_is_named_at_the_start(
    tmp_path: Path, name: str, wrong: Any
) -> None:
    async with serve(tmp_path):
        pass
    file, document = stored(tmp_path)
    next(iter(document["records"].values()))[name] = wrong
    del document["crc32"]
    file.write_text(json.dumps(document))
    with pytest.raises(StorageError, match=rf"cannot be used .*: {name}"):
        async with serve(tmp_path, accounts=[]):
            pass


async def test_the_log_tells_before_and_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve(tmp_path) as service:
        await put(service, **SET)
        told = (
            "priority 0 → -2, weight 1 → 2.5, reserve 0 → 0.2, tags – → eu, team a, note – → paid by team a"
        )
        assert f"name=a what={told}" in caplog.text
