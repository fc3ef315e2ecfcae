"""Something for each view to show: accounts in every state, client keys, clients, usage, events."""

from __future__ import annotations

from proxy.accounts.account import Status
from proxy.accounts.quota import Window
from proxy.clients.budgets import KeyLimits
from proxy.clients.keys import KeyStatus, Role
from tests.service import Service

HOUR = 3600.0
LONGEST_NAME = "the-team-that-has-the-longest-name-that-an-account-may-ever-have"
LIMITS = KeyLimits(requests_per_minute=60, tokens_per_day=10_000, cost_usd_per_month=50.0)
AGENTS = (
    "claude-cli/2.1.0 (external, cli)",
    "anthropic-python/2.12.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
)


async def furnish(service: Service) -> None:
    """To be called on a service without accounts of its own."""
    pool, now = service.parts.pool, service.clock.now()
    await service.add_login("team-login", expires_in=7.5 * HOUR)
    failing, _ = await service.add_login("team-failing", expires_in=6.5 * HOUR)
    pool.change(failing.id, lambda a: a.refresh_failed("the token endpoint answered 502 api_error", now))
    await service.add_account(LONGEST_NAME)
    limited, _ = await service.add_account("team-limited")
    pool.limit(limited.id, now + 3.5 * HOUR, "the 5h window is used up")
    invalid, _ = await service.add_login("team-invalid", expires_in=5.5 * HOUR)
    pool.invalidate(invalid.id, "the token endpoint answered 400 invalid_grant")
    inactive, _ = await service.add_account("team-inactive")
    await pool.update(inactive.id, status=Status.INACTIVE)

    tokens = service.parts.keys
    ada, _ = await tokens.add("laptop-of-ada", limits=LIMITS, models=("claude-haiku-*", "claude-sonnet-*"))
    service.parts.budgets.spend(ada.id, tokens=8_600, cost_usd=48.25)
    await service.parts.rotation.rotate(ada.id, 2.5 * HOUR)
    await tokens.add("operations", role=Role.ADMIN)
    await tokens.add("paused", status=KeyStatus.INACTIVE)
    revoked, _ = await tokens.add("lost-laptop")
    await tokens.update(revoked.id, status=KeyStatus.REVOKED)

    for agent in AGENTS:
        for _ in range(3):
            answer = await service.message(headers=[("user-agent", agent)])
            assert answer.status == 200, answer.body
    use_quota(service, "team-login", {"5h": 0.87, "7d": 0.31, "7d_opus": 1.02})
    use_quota(service, "team-failing", {"5h": 0.96, "7d": 0.5})
    service.parts.quota.look()


def use_quota(service: Service, name: str, used: dict[str, float]) -> None:
    """Let the account have used these parts of its windows; they are reset in an hour, in two, and so on."""
    pool, now = service.parts.pool, service.clock.now()
    account = next(account for account in pool if account.name == name)
    windows = {
        window: Window(part, resets_at=now + hours * HOUR)
        for hours, (window, part) in enumerate(used.items(), 1)
    }
    assert (
        pool.quotas[account.id] is not None
    )  # what an answer has told is read now, or it would come after this
    pool.quotas.set(account.id, windows)
    pool.touch(account.id)
