"""What a start has found damaged: an admin is told until they say that they have seen it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service import CLIENT_KEY, serve


@pytest.mark.files
async def test_a_start_on_a_backup_is_degraded_until_an_admin_has_seen_it(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        assert (await service.admin("GET", "/health")).json()["status"] == "healthy"
        assert (await service.admin("GET", "/api/admin/findings")).json() == {"findings": []}
    tokens = tmp_path / "tokens.json"
    tokens.write_bytes(tokens.read_bytes().replace(b"active", b"bctive"))
    for _ in range(2):  # also after one more start
        async with serve(tmp_path, accounts=[]) as service:
            assert (await service.admin("GET", "/health")).json()["status"] == "degraded"
            found = (await service.admin("GET", "/api/admin/findings")).json()["findings"]
            assert sorted(each["text"].partition(" (")[0] for each in found) == [
                "tokens.json was damaged",
                "tokens.json: its backup serves; it may lack the last change",
            ]
            reasons = (await service.admin("GET", "/api/admin/statistics")).json()["reasons"]
            assert [each["text"] for each in found] == reasons
            assert service.parts.keys.accept([CLIENT_KEY]) is not None
    async with serve(tmp_path, accounts=[]) as service:
        assert (await service.admin("DELETE", "/api/admin/findings", key=CLIENT_KEY)).status == 403
        assert (await service.admin("DELETE", "/api/admin/findings")).json() == {"findings": found}
        assert (await service.admin("GET", "/health")).json()["status"] == "healthy"
    async with serve(tmp_path, accounts=[]) as service:
        assert (await service.admin("GET", "/health")).json()["status"] == "healthy"
