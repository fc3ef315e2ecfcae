"""Who is in the demo: accounts, client keys, and the programs that use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.clients.budgets import NO_LIMITS, KeyLimits
from proxy.clients.keys import KeyStatus

MINUTE_S: Final = 60
DAY_S: Final = 86_400
OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"


@dataclass(frozen=True, slots=True)
class Seat:
    """An account: an API key, or a login whose access token ends `expires_in_s` after the start.

    `used` and `used_week` are the parts of its five hours and of its week that are used at the start, of a login.
    `unused_s` is how long ago it was last used, `revoked` whether the provider refuses it since then, and `busy`
    whether it runs into its limits.
    """

    name: str
    organization: str
    expires_in_s: float | None = None
    used: float = 0.0
    used_week: float = 0.0
    unused_s: float = 0
    revoked: bool = False
    busy: bool = False


# A token is refreshed one to two minutes before it ends: the first one soon after the start, and then another
# every quarter of an hour. The proxy finds out by itself which seat is invalid, and which one idle.
SEATS: Final = (
    Seat("CI pipeline", "Northwind CI", busy=True),
    Seat(
        "Contractor",
        "Quill & Partners",
        expires_in_s=-5 * MINUTE_S,
        used=0.31,
        used_week=0.2,
        unused_s=65 * MINUTE_S,
        revoked=True,
    ),
    Seat("Data science", "Northwind Data"),
    Seat("Docs search", "Northwind Docs", busy=True),
    Seat("Hackathon", "Northwind Labs", unused_s=9 * DAY_S),
    Seat("Mobile team", "Northwind Mobile", expires_in_s=31 * MINUTE_S, used=0.42, used_week=0.63, busy=True),
    Seat("Nightly evals", "Northwind Evals"),
    Seat("Platform team", "Northwind Platform", expires_in_s=49 * MINUTE_S, used=0.87, used_week=0.71),
    Seat("Research", "Halden Research", expires_in_s=16 * MINUTE_S, used=0.55, used_week=0.96, busy=True),
    Seat("Support desk", "Northwind Support", expires_in_s=3 * MINUTE_S, used=0.18, used_week=0.34),
)
# To sign in to; those above are there too, and are told apart from new ones.
ORGANIZATIONS: Final = ("Fabrikam", "Globex", "Initech")


@dataclass(frozen=True, slots=True)
class ClientKey:
    name: str
    limits: KeyLimits = NO_LIMITS
    models: tuple[str, ...] = ()
    status: KeyStatus = KeyStatus.ACTIVE


DEMO_KEY: Final = "Your own terminal"
KEYS: Final = (
    ClientKey("Developers"),
    ClientKey("Code review", KeyLimits(concurrent_requests=8, cost_usd_per_day=250.0)),
    ClientKey("Support assistant", KeyLimits(requests_per_minute=60), ("claude-haiku-*", "claude-sonnet-*")),
    ClientKey("Notebooks", KeyLimits(tokens_per_month=2_000_000_000)),
    ClientKey("Summer interns", status=KeyStatus.INACTIVE),
    ClientKey(DEMO_KEY),
)


@dataclass(frozen=True, slots=True)
class Program:
    """What sends `per_minute` requests at the busiest time; tokens of a prompt, and words of an answer."""

    key: str
    user_agent: str
    address: str
    models: tuple[str, ...]
    per_minute: float
    prompt_tokens: int
    words: int


_CLI = "claude-cli/2.4.1 (external, cli)"
_PYTHON = "Anthropic/Python 0.121.0"
_JS = "Anthropic/JS 0.94.0"
# Addresses are from the blocks for documentation (RFC 5737, RFC 3849).
PROGRAMS: Final = (
    Program("Developers", _CLI, "192.0.2.14", (SONNET, SONNET, OPUS), 16, 2600, 240),
    Program("Developers", _CLI, "192.0.2.31", (OPUS, SONNET), 14, 2600, 280),
    Program("Developers", "claude-cli/2.3.0 (external, cli)", "2001:db8:7::9", (SONNET,), 12, 2600, 220),
    Program("Developers", "claude-vscode/2.4.0", "192.0.2.58", (SONNET, HAIKU), 10, 1800, 150),
    Program("Code review", _JS, "198.51.100.7", (OPUS, SONNET), 16, 3200, 200),
    Program("Code review", _JS, "198.51.100.9", (OPUS, SONNET), 12, 3200, 200),
    Program("Support assistant", _PYTHON, "203.0.113.20", (HAIKU, HAIKU, SONNET), 26, 900, 90),
    Program("Support assistant", _JS, "203.0.113.21", (HAIKU,), 18, 900, 80),
    Program("Notebooks", "Anthropic/Python 0.118.2", "198.51.100.44", (SONNET, OPUS), 6, 1500, 400),
    Program("Notebooks", "curl/8.17.0", "2001:db8:21::4", (HAIKU,), 4, 150, 60),
)
