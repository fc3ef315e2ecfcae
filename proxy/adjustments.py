"""What can change while the proxy runs: for each such key of the configuration, who takes its new value.

What is not here was handed to a part for good when it was made: it needs a restart. As `assembly`, it hands settings
out as plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

from proxy import logs
from proxy.accounts.affinity import Affinity
from proxy.accounts.lessons import Teacher
from proxy.accounts.pool import Pool
from proxy.accounts.quota_alerts import QuotaAlerts
from proxy.accounts.upkeep import Upkeep
from proxy.clients.admin_key import AdminKey
from proxy.clients.declared import Declared
from proxy.clients.keys import ClientKey, Role, declared_key
from proxy.clients.sessions import Sessions
from proxy.config.settings import Settings
from proxy.config.targets import DeclaredTarget
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.notify.notice import ALARMS
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.notify.target import Mailbox, QuietHours, Target
from proxy.dashboard.summary import Summary
from proxy.http.options import HttpOptions
from proxy.redaction import Redaction
from proxy.relay.attempts import Retry
from proxy.relay.relay import Relay
from proxy.storage.layout import SPOOL
from proxy.upstream.driver import CurlClient, timeouts
from proxy.usage.request_log import RequestLog

Taker = Callable[[Settings], None]

SECRETS: Final = (
    "auth.api_key",
    "auth.api_key_file",
    "auth.client_keys",
    "notifications.webhook_url",
    "notifications.secret",
    "notifications.targets",
)
"""Live keys that hold what no log may show."""


@dataclass(frozen=True, slots=True)
class Adjustable:
    """The parts that take new values. `secrets` are all that were ever set: the old ones stay out of the log too."""

    pool: Pool
    affinity: Affinity
    teacher: Teacher
    alerts: QuotaAlerts
    upkeep: Upkeep
    relay: Relay
    client: CurlClient
    sessions: Sessions
    declared: Declared
    admin_key: AdminKey
    notifier: Notifier
    archive: EventArchive
    request_log: RequestLog
    summary: Summary
    on_http: list[Callable[[HttpOptions], None]] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def takers(self) -> dict[str, list[Taker]]:
        """By key, who takes it. They are called in the order of the table, each once for all keys that changed."""
        found: dict[str, list[Taker]] = {}
        for keys, take in self._table():
            taker = partial(take, self)
            for key in keys:
                found.setdefault(key, []).append(taker)
        return found

    @classmethod
    def live(cls) -> frozenset[str]:
        """The keys that can change."""
        return frozenset(key for keys, _ in cls._table() for key in keys)

    @classmethod
    def _table(cls) -> Iterator[tuple[Iterable[str], Callable[[Adjustable, Settings], None]]]:
        # First, since it alone can fail: nothing else has to be taken back then.
        yield _named("notifications", "webhook_url", "secret", "targets", "repeat_after"), cls._take_targets
        yield (*SECRETS, "logger.format"), cls._hide
        yield ["logger.level"], lambda _, settings: logs.write_from(settings.logger.level)
        yield _named("auth", "api_key", "api_key_file"), cls._take_admin_key
        yield ["auth.client_keys"], lambda self, settings: self.declared.declare(declared_keys(settings))
        yield (
            _named(
                "retry", "max_attempts", "base_delay", "max_delay", "jitter_max", "resend_posts", "budget"
            ),
            lambda self, settings: self.relay.retry_as(retry(settings)),
        )
        yield (
            _named("session", "enabled", "max_concurrent", "queue_timeout", "session_ttl", "cleanup_enabled"),
            cls._take_session,
        )
        yield (
            _named("accounts", "idle_threshold", "auto_deactivate", "rate_limit_default", "quota_alert"),
            cls._take_accounts,
        )
        yield ["balancer.strategy"], cls._take_strategy
        yield _named("balancer", "affinity", "affinity_ttl", "isolation"), cls._take_affinity
        yield ["storage.keep_events"], cls._take_storage
        yield _named("server", "request_timeout", "answer_timeout"), cls._take_timeouts
        yield (
            [
                *_named("server", "drain_timeout", "max_body_size", "trusted_proxies"),
                *_named("server", "public_origins", "cors_origins"),
                "claude.allow_admin_paths",
            ],
            cls._take_http,
        )

    def _hide(self, settings: Settings) -> None:
        self.secrets.update(settings.secrets())
        logs.write_as(settings.logger.format, self.secrets)
        self.request_log.redact_by(Redaction(self.secrets))

    def _take_admin_key(self, settings: Settings) -> None:
        self.admin_key.replace(settings.auth.key)

    def _take_session(self, settings: Settings) -> None:
        session, mine = settings.session, self.sessions
        mine.enabled, mine.cleans = session.enabled, session.cleanup_enabled
        mine.queue_timeout_s, mine.ttl_s = session.queue_timeout, session.session_ttl
        mine.max_concurrent = session.max_concurrent

    def _take_accounts(self, settings: Settings) -> None:
        accounts = settings.accounts
        self.pool.idle_threshold_s = accounts.idle_threshold
        self.upkeep.deactivates = accounts.auto_deactivate
        self.teacher.rate_limit_default_s = accounts.rate_limit_default
        self.alerts.threshold = accounts.quota_alert

    def _take_strategy(self, settings: Settings) -> None:
        self.pool.quotas.count_room(settings.balancer.strategy == "most_remaining")

    def _take_affinity(self, settings: Settings) -> None:
        balancer = settings.balancer
        self.affinity.on, self.affinity.shared = balancer.affinity, balancer.isolation == "none"
        self.affinity.conversations.ttl_s = balancer.affinity_ttl

    def _take_targets(self, settings: Settings) -> None:
        self.notifier.aim(targets(settings), settings.notifications.repeat_after)

    def _take_storage(self, settings: Settings) -> None:
        self.archive.keep_s = settings.storage.keep_events

    def _take_timeouts(self, settings: Settings) -> None:
        self.client.timeouts_s = timeouts(settings.server.request_timeout, settings.server.answer_timeout)

    def _take_http(self, settings: Settings) -> None:
        self.summary.insecure = is_insecure(settings)
        for take in self.on_http:
            take(http_options(settings))


def _named(section: str, *names: str) -> list[str]:
    return [f"{section}.{name}" for name in names]


# settings as plain values, at the start and afterwards


def declared_keys(settings: Settings) -> list[ClientKey]:
    """The client keys of the configuration."""
    return [
        declared_key(
            each.name, each.key, Role(each.role), each.limits, each.models, group=each.group, tags=each.tags
        )
        for each in settings.auth.client_keys
    ]


def retry(settings: Settings) -> Retry:
    """How often and how soon a request is tried again."""
    asked = settings.retry
    return Retry(
        max_attempts=asked.max_attempts,
        base_delay_s=asked.base_delay,
        max_delay_s=asked.max_delay,
        jitter_max_s=asked.jitter_max,
        resend_posts=asked.resend_posts,
        budget=asked.budget,
    )


def targets(settings: Settings) -> list[Target]:
    """Who is notified."""
    return [_target(each) for each in settings.notifications.all_targets]


def _target(declared: DeclaredTarget) -> Target:
    quiet = None if declared.quiet is None else QuietHours(*declared.quiet, declared.timezone)
    return Target(
        declared.name,
        declared.kind,
        url=declared.url,
        secret=declared.secret,
        token=declared.token,
        mailbox=None if declared.mailbox is None else Mailbox(**asdict(declared.mailbox)),
        events=declared.events or ALARMS,
        quiet=quiet,
        quiet_errors=declared.quiet_errors,
    )


def http_options(settings: Settings) -> HttpOptions:
    """What the settings say of HTTP."""
    return HttpOptions(
        max_body_bytes=settings.server.max_body_size,
        spool_folder=settings.storage.data_folder / SPOOL,
        allow_admin_paths=settings.claude.allow_admin_paths,
        drain_timeout_s=settings.server.drain_timeout,
        trusted_proxies=list(settings.server.trusted_proxies),
        public_origins=settings.server.public_origins,
        cors_origins=settings.server.cors_origins,
        redirect_uri=settings.oauth.redirect_uri,
    )


def is_insecure(settings: Settings) -> bool:
    """Whether others can reach the dashboard without TLS, as far as can be told from here."""
    host, origins = settings.server.host, settings.server.public_origins
    here = host == "localhost" or host.startswith("127.") or host == "::1"
    return not here and not any(origin.startswith("https:") for origin in origins)
