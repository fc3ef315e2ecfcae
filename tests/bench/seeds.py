"""Data folders with accounts and client keys in the proxy's own format, so that 100,000 of them take a second."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

KEY = "cp-bench-0123456789abcdef"
"""Each client key is this with six digits after it."""
MADE_AT = 1_795_000_000.0
"""When all were made: seconds since the epoch."""
PLENTY = 10**12


def seed(folder: Path, *, accounts: int, keys: int) -> None:
    """Make `folder` a data folder with so many API key accounts, and client keys with budgets that never end."""
    (folder / "accounts").mkdir(parents=True)
    for number in range(accounts):
        id = f"acc_{number:016x}"
        _write(folder / "accounts" / f"{id}.json", {id: _account(id, number)})
    _write(folder / "tokens.json", {f"tok_{number:016x}": _client_key(number) for number in range(keys)})


def _write(file: Path, records: Mapping[str, object]) -> None:
    """Without its `crc32` a file is taken as edited by hand."""
    file.write_text(json.dumps({"version": 1, "generation": 1, "records": records}))


def _account(id: str, number: int) -> dict[str, object]:
    return {
        "id": id,
        "name": f"a{number}",
        "type": "api_key",
        "credential": {"api_key": f"sk-ant-api03-bench-{number:06d}-{'x' * 40}"},
        "organization_uuid": None,
        "organization_name": None,
        "status": "active",
        "status_reason": None,
        "status_since": None,
        "rate_limited_until": None,
        "last_refresh_at": None,
        "last_refresh_error": None,
        "refresh_began_at": None,
        "active_since": None,
        "created_at": MADE_AT,
        "updated_at": MADE_AT,
    }


def _client_key(number: int) -> dict[str, object]:
    key = f"{KEY}{number:06d}"
    return {
        "id": f"tok_{number:016x}",
        "name": f"k{number}",
        "key_sha256": hashlib.sha256(key.encode()).hexdigest(),
        "masked": f"cp-…{key[-4:]}",
        "role": "user",
        "status": "active",
        "created_at": MADE_AT,
        "updated_at": MADE_AT,
        "expires_at": None,
        "limits": {
            "requests_per_minute": PLENTY,
            "concurrent_requests": PLENTY,
            "tokens_per_day": PLENTY,
            "tokens_per_month": PLENTY,
            "cost_usd_per_day": PLENTY,
            "cost_usd_per_month": PLENTY,
        },
        "models": [],
        "declared": False,
    }
