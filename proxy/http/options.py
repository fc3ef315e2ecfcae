"""What the configuration says of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.http.addresses import Network


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Sizes in bytes, times in seconds."""

    max_body_bytes: int
    spool_folder: Path
    allow_admin_paths: bool
    drain_timeout_s: float
    trusted_proxies: list[Network]
    public_origins: Sequence[str]
    cors_origins: Sequence[str]
    redirect_uri: str | None
