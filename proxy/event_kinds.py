"""The kinds of events, for those who choose among them in the configuration."""

from __future__ import annotations

from typing import Final

KINDS: Final = (
    "account.active",
    "account.added",
    "account.changed",
    "account.deleted",
    "account.exported",
    "account.inactive",
    "account.invalid",
    "account.quota_high",
    "account.rate_limited",
    "account.refresh_failed",
    "account.refreshed",
    "account.refusing",
    "account.rekeyed",
    "account.renamed",
    "admin.login",
    "admin.logout",
    "audit.damaged",
    "audit.left_out",
    "audit.removed",
    "health.changed",
    "pool.exhausted",
    "server.reloaded",
    "server.restored",
    "server.started",
    "session.ended",
    "session.started",
    "storage.acknowledged",
    "token.added",
    "token.changed",
    "token.deleted",
    "token.former_ended",
    "token.rotated",
    "upstream.echoed",
)
