"""Every URL on one page, each with who may call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.routing import URLSpec
from tornado.web import Application

from handlers.accounts import Accounts, OneAccount, Refresh
from handlers.auth import Login, Logout, Me
from handlers.base import Unknown
from handlers.gate import AdminGate
from handlers.health import Alive, Hello, Ready
from handlers.keys import OneToken, TokenList
from handlers.live import MOST_MESSAGE_BYTES, Dashboards
from handlers.live import Feed as LiveFeed
from handlers.oauth import Authorize, Callback, Exchange, Reauthorize
from handlers.origin import Origins
from handlers.pages import Assets, File, Page
from handlers.sessions import OneSession, SessionList
from handlers.statistics import Statistics, Usage
from handlers.v1 import V1
from proxy.accounts.login import Logins
from proxy.accounts.pool import Pool
from proxy.accounts.probe import Probe
from proxy.accounts.refresh import Refresher
from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKeys
from proxy.clients.sessions import Sessions
from proxy.clock import Clock
from proxy.dashboard.health import Health
from proxy.dashboard.summary import Summary
from proxy.http.addresses import Network
from proxy.usage.series import Series

MAX_ADMIN_BODY_BYTES = 1024 * 1024
PING_S = 20


def application(
    *,
    pool: Pool,
    keys: ClientKeys,
    probe: Probe,
    refresher: Refresher,
    logins: Logins,
    sessions: Sessions,
    budgets: Budgets,
    series: Series,
    health: Health,
    summary: Summary,
    dashboards: Dashboards,
    gate: AdminGate,
    clock: Clock,
    trusted_proxies: Sequence[Network],
    origins: Origins,
    redirect_uri: str | None,
    assets: Assets,
) -> Application:
    """All routes but `/v1`, which clients call with their own keys."""
    anyone: dict[str, Any] = {"clock": clock, "trusted_proxies": trusted_proxies}
    files = anyone | {"assets": assets, "origins": origins}
    admin = anyone | {"gate": gate}
    login = {"pool": pool, "flows": logins}
    key_parts = {"tokens": keys, "sessions": sessions, "budgets": budgets, "series": series}
    account = {"pool": pool, "probe": probe, "refresher": refresher}
    return Application(
        [
            URLSpec(r"/", Page, files),
            URLSpec(r"/static/([^/]+)/(.+)", File, files),
            URLSpec(r"/health", Alive, anyone | {"health": health}),
            URLSpec(r"/health/ready", Ready, anyone | {"health": health}),
            URLSpec(r"/api/hello", Hello, anyone | {"health": health}),
            URLSpec(r"/api/auth/login", Login, admin),
            URLSpec(r"/api/auth/logout", Logout, admin),
            URLSpec(r"/api/auth/me", Me, admin),
            URLSpec(
                r"/oauth/authorize",
                Authorize,
                admin | login | {"redirect_uri": redirect_uri, "origins": origins},
            ),
            URLSpec(r"/oauth/callback", Callback, anyone | login),
            URLSpec(r"/oauth/exchange", Exchange, admin | login),
            URLSpec(r"/api/accounts", Accounts, admin | login),
            URLSpec(r"/api/accounts/([^/]+)", OneAccount, admin | account),
            URLSpec(r"/api/accounts/([^/]+)/refresh", Refresh, admin | account),
            URLSpec(r"/api/accounts/([^/]+)/reauthorize", Reauthorize, admin | login),
            URLSpec(
                r"/api/admin/statistics",
                Statistics,
                admin | {"health": health, "overview": summary},
            ),
            URLSpec(r"/api/admin/usage", Usage, admin | account | key_parts),
            URLSpec(r"/api/admin/sessions", SessionList, admin | {"sessions": sessions}),
            URLSpec(r"/api/sessions/([^/]+)", OneSession, admin | {"sessions": sessions}),
            URLSpec(r"/api/live", LiveFeed, admin | {"dashboards": dashboards}),
            URLSpec(r"/api/tokens", TokenList, admin | key_parts),
            URLSpec(r"/api/tokens/([^/]+)", OneToken, admin | key_parts),
        ],
        default_handler_class=Unknown,
        default_handler_args=anyone,
        websocket_max_message_size=MOST_MESSAGE_BYTES,
        websocket_ping_interval=PING_S,
        websocket_ping_timeout=PING_S,
    )


class Front(HTTPServerConnectionDelegate):
    """Sends each request to `/v1` or to the application, by its target alone."""

    def __init__(self, v1: V1, rest: Application) -> None:
        self._v1 = v1
        self._rest = rest

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return _Choice(self._v1, self._rest, server_conn, request_conn)


class _Choice(HTTPMessageDelegate):
    """Stands in for the delegate until the request line is known."""

    def __init__(self, v1: V1, rest: Application, server_conn: object, connection: HTTPConnection) -> None:
        self._v1 = v1
        self._rest = rest
        self._server_conn = server_conn
        self._connection = connection
        self._chosen: HTTPMessageDelegate | None = None

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Any:
        assert isinstance(start_line, RequestStartLine)
        path = start_line.path.partition("?")[0]
        if path == "/v1" or path.startswith("/v1/") or not path.startswith("/"):
            self._chosen = self._v1.start_request(self._server_conn, self._connection)
        else:
            self._connection.set_max_body_size(MAX_ADMIN_BODY_BYTES)  # type: ignore[attr-defined]
            self._chosen = self._rest.start_request(self._server_conn, self._connection)
        return self._chosen.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        assert self._chosen is not None
        return self._chosen.data_received(chunk)

    def finish(self) -> None:
        assert self._chosen is not None
        self._chosen.finish()

    def on_connection_close(self) -> None:
        if self._chosen is not None:
            self._chosen.on_connection_close()
