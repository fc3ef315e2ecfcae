"""Every URL on one page, each with who may call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ParamSpec, Protocol

from tornado.httputil import (
    HTTPConnection,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
)
from tornado.routing import URLSpec
from tornado.web import Application

from handlers.accounts import Accounts, OneAccount, QuotaPoints, Refresh, Test
from handlers.api import Description, Docs
from handlers.auth import Login, Logout, Me
from handlers.base import Admins, Anyone, Unknown
from handlers.dashboards import Dashboards
from handlers.events import EventList
from handlers.explain import Explain
from handlers.findings import FindingList
from handlers.gate import AdminGate
from handlers.health import Alive, Hello, Ready, Usable
from handlers.instances import InstanceList
from handlers.keys import FormerKeys, KeyParts, OneToken, Rotate, TokenList
from handlers.live import MOST_MESSAGE_BYTES
from handlers.live import Feed as LiveFeed
from handlers.metrics import Scrape
from handlers.oauth import Authorize, Callback, Exchange, Reauthorize
from handlers.openapi import described
from handlers.origin import Origins
from handlers.pages import Assets, File, Page
from handlers.request import RequestConnection
from handlers.requests import OneRequest, RequestList
from handlers.sessions import OneSession, SessionList
from handlers.settings import Configuration, Export, Import, ReadAgain, TestNotification
from handlers.statistics import Statistics, Usage
from handlers.usage_chart import UsageChart
from handlers.v1 import V1
from proxy.accounts.credentials import Credentials
from proxy.accounts.logins import Logins
from proxy.accounts.pool import Pool
from proxy.accounts.quota_history import QuotaHistory
from proxy.accounts.refresh import Refresher
from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKeys
from proxy.clients.rotation import Rotation
from proxy.clients.sessions import Sessions
from proxy.clock import Clock
from proxy.dashboard.about import About
from proxy.dashboard.all_sessions import AllSessions
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.figures import Figures
from proxy.dashboard.health import Health
from proxy.dashboard.instances import Instances
from proxy.dashboard.metrics import Metrics
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.summary import Summary
from proxy.dashboard.transfer import Transfer
from proxy.http.addresses import Network
from proxy.http.target import NEVER_SENT, is_of_api
from proxy.relay.explain import Explainer
from proxy.storage.findings import Findings
from proxy.usage.breakdown import Breakdown
from proxy.usage.failed_tries import FailedTries
from proxy.usage.request_log import RequestLog
from proxy.usage.series import Series

PING_S = 20

Parts = ParamSpec("Parts")


class Route(Protocol[Parts]):
    """A handler whose `initialize` takes `Parts`."""

    def initialize(self, *args: Parts.args, **parts: Parts.kwargs) -> None: ...


def route(pattern: str, handler: type[Route[Parts]], *args: Parts.args, **parts: Parts.kwargs) -> URLSpec:
    """A row of the table. `parts` are what `handler.initialize` takes: mypy checks that they fit."""
    return URLSpec(pattern, handler, parts)


def application(
    *,
    pool: Pool,
    quota_history: QuotaHistory,
    keys: ClientKeys,
    rotation: Rotation,
    credentials: Credentials,
    refresher: Refresher,
    logins: Logins,
    sessions: Sessions,
    all_sessions: AllSessions,
    instances: Instances | None,
    budgets: Budgets,
    series: Series,
    failed_tries: FailedTries,
    breakdown: Breakdown,
    request_log: RequestLog,
    health: Health,
    findings: Findings,
    summary: Summary,
    figures: Figures,
    explainer: Explainer,
    metrics: Metrics,
    dashboards: Dashboards,
    gate: AdminGate,
    archive: EventArchive,
    about: About,
    transfer: Transfer,
    notifier: Notifier,
    clock: Clock,
    trusted_proxies: Sequence[Network],
    origins: Origins,
    redirect_uri: str | None,
    assets: Assets,
) -> Application:
    """All routes but `/v1`, which clients call with their own keys."""
    client_keys = KeyParts(keys, rotation, sessions, budgets)
    anyone, admins = Anyone(clock, trusted_proxies), Admins(clock, trusted_proxies, gate, archive)
    return Application(
        [
            route(r"/", Page, who=anyone, assets=assets, origins=origins),
            route(r"/static/([^/]+)/(.+)", File, who=anyone, assets=assets, origins=origins),
            route(r"/health", Alive, who=anyone, health=health),
            route(r"/health/ready", Ready, who=anyone, health=health),
            route(r"/health/pool", Usable, who=anyone, health=health),
            route(r"/metrics", Scrape, who=admins, metrics=metrics),
            route(r"/api/hello", Hello, who=anyone, health=health),
            route(r"/api/auth/login", Login, who=anyone, admins=admins),
            route(r"/api/auth/logout", Logout, who=admins),
            route(r"/api/auth/me", Me, who=admins),
            route(
                r"/oauth/authorize",
                Authorize,
                who=admins,
                logins=logins,
                redirect_uri=redirect_uri,
                origins=origins,
            ),
            route(r"/oauth/callback", Callback, who=anyone, logins=logins, archive=archive),
            route(r"/oauth/exchange", Exchange, who=admins, logins=logins, pool=pool, figures=figures),
            route(
                r"/api/accounts",
                Accounts,
                who=admins,
                pool=pool,
                credentials=credentials,
                logins=logins,
                figures=figures,
            ),
            route(
                r"/api/accounts/([^/]+)",
                OneAccount,
                who=admins,
                pool=pool,
                credentials=credentials,
                figures=figures,
            ),
            route(r"/api/accounts/([^/]+)/test", Test, who=admins, pool=pool, credentials=credentials),
            route(
                r"/api/accounts/([^/]+)/quota",
                QuotaPoints,
                who=admins,
                pool=pool,
                quota_history=quota_history,
            ),
            route(
                r"/api/accounts/([^/]+)/refresh",
                Refresh,
                who=admins,
                pool=pool,
                refresher=refresher,
                figures=figures,
            ),
            route(
                r"/api/accounts/([^/]+)/reauthorize",
                Reauthorize,
                who=admins,
                logins=logins,
                pool=pool,
                figures=figures,
            ),
            route(
                r"/api/admin/statistics",
                Statistics,
                who=admins,
                health=health,
                summary=summary,
            ),
            route(
                r"/api/admin/usage",
                Usage,
                who=admins,
                clock=clock,
                pool=pool,
                keys=keys,
                series=series,
                breakdown=breakdown,
            ),
            route(
                r"/api/admin/usage/chart",
                UsageChart,
                who=admins,
                clock=clock,
                pool=pool,
                keys=keys,
                series=series,
                failed_tries=failed_tries,
            ),
            route(r"/api/admin/explain", Explain, who=admins, explainer=explainer, keys=keys),
            route(r"/api/admin/requests", RequestList, who=admins, request_log=request_log),
            route(r"/api/admin/requests/([^/]+)", OneRequest, who=admins, request_log=request_log),
            route(r"/api/admin/findings", FindingList, who=admins, findings=findings),
            route(r"/api/admin/config", Configuration, who=admins, about=about),
            route(r"/api/admin/reload", ReadAgain, who=admins, about=about),
            route(r"/api/admin/notifications/test", TestNotification, who=admins, notifier=notifier),
            route(r"/api/admin/export", Export, who=admins, transfer=transfer),
            route(r"/api/admin/import", Import, who=admins, transfer=transfer),
            route(r"/api/admin/events", EventList, who=admins),
            route(r"/api/admin/instances", InstanceList, who=admins, instances=instances),
            route(r"/api/admin/sessions", SessionList, who=admins, sessions=all_sessions),
            route(r"/api/sessions/([^/]+)", OneSession, who=admins, sessions=all_sessions),
            route(r"/api/openapi\.json", Description, who=admins, describe=described),
            route(r"/api/docs", Docs, who=admins, describe=described, assets=assets),
            route(r"/api/live", LiveFeed, who=admins, dashboards=dashboards),
            route(r"/api/tokens", TokenList, who=admins, parts=client_keys),
            route(r"/api/tokens/([^/]+)", OneToken, who=admins, parts=client_keys),
            route(r"/api/tokens/([^/]+)/rotate", Rotate, who=admins, parts=client_keys),
            route(r"/api/tokens/([^/]+)/former_keys", FormerKeys, who=admins, parts=client_keys),
        ],
        default_handler_class=Unknown,
        default_handler_args={"who": anyone},
        websocket_max_message_size=MOST_MESSAGE_BYTES,
        websocket_ping_interval=PING_S,
        websocket_ping_timeout=PING_S,
    )


class Front(HTTPServerConnectionDelegate):
    """Sends each request to `/v1` or to the application, by its target.

    `/v1` also refuses what has a method that is never served, or the target of a client with a wrong base URL.
    """

    def __init__(self, v1: V1, rest: Application) -> None:
        self._v1 = v1
        self._rest = rest

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(request_conn, RequestConnection)
        start_line = request_conn.head.start_line
        path = start_line.path.partition("?")[0]
        if path == "/v1" or path.startswith("/v1/") or not path.startswith("/"):
            return self._v1.start_request(server_conn, request_conn)
        if start_line.method.upper() in NEVER_SENT or is_of_api(path):
            return self._v1.start_request(server_conn, request_conn)
        return self._rest.start_request(server_conn, request_conn)
