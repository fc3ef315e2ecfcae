"""The simulator itself: its server, and what a test may tell it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from weakref import WeakKeyDictionary

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
)
from tornado.netutil import bind_sockets

from proxy.clock import Clock, SystemClock

from . import limits, models
from .agents import agents
from .api import TOKEN_PATH, Api
from .auth import Credential, Keyring, Kind, presented
from .batches import Batches
from .chat import Chat
from .containers import Containers
from .exchange import Exchange
from .faults import Error, Fault
from .files import Files
from .grants import DEFAULT_SCOPE, Grant, Grants, Rotation
from .ids import Ids
from .ledger import Entry, Ledger
from .limits import Meter
from .messages import Messages
from .oauth import MANUAL_PATH, OAuthServer
from .perform import Performer
from .prompt_cache import PromptCache
from .replies import ApiError, Headers
from .requests import Request
from .routes import Resource
from .script import Script
from .sessions import Sessions
from .skills import Skills

_MAX_BODY_BYTES = 1 << 30
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Simulator(HTTPServerConnectionDelegate):
    """A stand-in for the Claude API and its OAuth server on one port of the running event loop.

    `event_interval_s` paces streams (0: all at once), `ledger_limit` bounds the ledger for a long life,
    `expires_in` is the life of access tokens in seconds, `organizations` are those that its login page
    offers at first, `public_url` is the origin of batches' `results_url` (its own by default). `Rotation`, `Messages`
    and `PromptCache` explain `refresh_rotation`, `eager_tools` and `real_cache_minimum`.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        event_interval_s: float = 0,
        ledger_limit: int | None = None,
        eager_tools: bool = True,
        real_cache_minimum: bool = False,
        refresh_rotation: str = "strict",
        expires_in: int = 28800,
        client_id: str = "simulated-client",
        organizations: Sequence[str] = ("Acme",),
        public_url: str | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.ledger = Ledger(ledger_limit)
        self._ids = Ids(rng or random.Random())
        self._interval_s = event_interval_s
        self._begin()
        self.client_id = client_id
        self.keyring = Keyring(organizations)
        self._grants = Grants(
            self.keyring,
            clock=self.clock,
            ids=self._ids,
            rotation=Rotation(refresh_rotation),
            expires_in=expires_in,
        )
        self._oauth = OAuthServer(
            self.keyring,
            self._grants,
            client_id=client_id,
            clock=self.clock,
            ids=self._ids,
            origin=lambda: self.base_url,
        )
        self._files = Files(clock=self.clock, ids=self._ids)
        self.api = self._make_api(PromptCache(real_minimum=real_cache_minimum), eager_tools, public_url)

    def _begin(self) -> None:
        """Nothing is connected, and nothing scripted."""
        self.spool_folder: Path | None = None  # takes large bodies; None: the system's temporary folder does
        self._script = Script()
        self._exchanges: set[Exchange] = set()
        self._connections: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._connected = 0
        self._received = 0
        self._server: HTTPServer | None = None

    def _make_api(self, cache: PromptCache, eager_tools: bool, public_url: str | None) -> Api:
        clock, ids, files = self.clock, self._ids, self._files
        skills = Skills(clock=clock, ids=ids)
        containers = Containers(skills, clock=clock, ids=ids)
        messages = Messages(cache, files, containers, clock=clock, ids=ids, eager_tools=eager_tools)
        batches = Batches(messages, clock=clock, ids=ids, origin=lambda: public_url or self.base_url)
        own_agents, others = agents(clock=clock, ids=ids, skills=skills)
        sessions = Sessions(own_agents, others, files, clock=clock, ids=ids)
        inference = (messages, Chat(messages, clock=clock), batches)
        resources: tuple[Resource, ...] = (*inference, files, skills, own_agents, *others, sessions)
        routes = [*models.ROUTES, *(route for resource in resources for route in resource.routes)]
        return Api(self.keyring, self._grants, clock=clock, oauth=self._oauth, routes=routes)

    # Life

    async def start(self, port: int = 0, address: str = "127.0.0.1") -> None:
        sockets = bind_sockets(port, address)
        self._server = HTTPServer(self, max_body_size=_MAX_BODY_BYTES)
        self._server.add_sockets(sockets)
        self.base_url = f"http://{address}:{sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close every connection, at once."""
        if self._server is None:
            return
        self._server.stop()
        for exchange in tuple(self._exchanges):
            await exchange.stop()
        await self._server.close_all_connections()
        self._server = None
        self._files.close()

    @property
    def authorize_url(self) -> str:
        return self.base_url + "/oauth/authorize"

    @property
    def manual_redirect_uri(self) -> str:
        """The page that shows `code#state` to be pasted."""
        return self.base_url + MANUAL_PATH

    @property
    def token_url(self) -> str:
        return self.base_url + TOKEN_PATH

    @property
    def open_requests(self) -> int:
        """Requests whose answer is neither whole nor broken off."""
        return len(self._exchanges)

    @property
    def open_connections(self) -> int:
        """Connections that are being served."""
        return 0 if self._server is None else len(self._server._connections)

    # What it knows

    def add_api_key(self, key: str, *, organization: str = "Acme") -> None:
        credential = Credential(key, Kind.API_KEY, self.keyring.organization(organization), key, Meter())
        self.keyring.add(credential)

    def add_oauth(
        self, *, organization: str = "Acme", email: str = "ada@example.com", scope: str = DEFAULT_SCOPE
    ) -> Grant:
        """A login as if made through the browser."""
        return self._grants.add(self.keyring.organization(organization), email, scope)

    def tokens(self) -> list[str]:
        """All OAuth tokens that were issued and not yet forgotten, revoked ones too."""
        return self._grants.tokens()

    def revoke(self, credential: str | Grant) -> None:
        """Refuse that key or token from now on; of a grant, all its tokens."""
        if isinstance(credential, Grant):
            self._grants.revoke(credential)
        elif known := self.keyring.find(credential):
            known.revoked = True

    def expire(self, access_token: str) -> None:
        """Let that access token expire now."""
        if known := self.keyring.find(access_token):
            known.expires_at = self.clock.now()

    def authorize(self, url: str, *, organization: str, email: str | None = None) -> str:
        """Log in at `url` as a user of `organization`; the URL that the browser is sent back to."""
        return self._oauth.authorize(url, organization, email)

    # What it answers

    def script(self, credential: str | Grant | None, *answers: Fault, path: str | None = None) -> None:
        """Queue `answers` for the next requests with `credential` (None: with any, or none).

        A token stands for its grant, so the answers stay due after a refresh. `path` is a prefix; without one
        they are about every path but those of OAuth.
        """
        self._script.queue(self._owner(credential), path, answers)

    def always(self, credential: str | Grant | None, answer: Fault, *, path: str | None = None) -> None:
        """Answer that until `calm`, where nothing is queued."""
        self._script.always(self._owner(credential), path, answer)

    def calm(self, credential: str | Grant | None = None) -> None:
        """Forget what was scripted for `credential`; None: for everyone."""
        self._script.calm(self._owner(credential))

    def _owner(self, credential: str | Grant | None) -> str | None:
        if credential is None or isinstance(credential, Grant):
            return credential.id if credential else None
        known = self.keyring.find(credential)
        return known.owner if known else credential

    # exchange.Host

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        if server_conn not in self._connections:
            self._connected += 1
            self._connections[server_conn] = self._connected
        return Exchange(self, cast(HTTP1Connection, request_conn), self._connections[server_conn])

    def arrived(self, exchange: Exchange, connection: int) -> tuple[Entry, Fault | None]:
        request = exchange.request
        found = presented(request.headers)
        value = found[0][1] if found else None
        known = self.keyring.find(value) if value else None
        organization = known.organization.name if known else None
        self._received += 1
        entry = Entry(
            self._received,
            self.clock.monotonic(),
            connection,
            self._ids.new("req"),
            request.method,
            request.target,
            list(request.headers.get_all()),
            value,
            tuple(name for name, _ in found),
            organization,
        )
        self._exchanges.add(exchange)
        self.ledger.add(entry)
        if request.path == TOKEN_PATH:
            return entry, None  # its credential is in the body
        return entry, self._fault(request, self._owner(value), organization)

    async def respond(self, exchange: Exchange) -> None:
        request, entry = exchange.request, exchange.entry
        if request.path == TOKEN_PATH:
            entry.credential = self._oauth.presented(request)
            known = self.keyring.find(entry.credential) if entry.credential else None
            entry.organization = known.organization.name if known else None
            exchange.fault = self._fault(request, self._owner(entry.credential), entry.organization)
        performer = Performer(
            exchange,
            lambda: self.api.answer(request),
            clock=self.clock,
            interval_s=self._interval_s,
            headers=self._headers(entry),
            limits=lambda now: self._limits(entry, now),
        )
        await performer.perform(exchange.fault)

    def left(self, exchange: Exchange) -> None:
        self._exchanges.discard(exchange)

    def _fault(self, request: Request, owner: str | None, organization: str | None) -> Fault | None:
        wish = request.headers.get("x-simulate")
        if wish is not None:
            try:
                return self._script.wished(wish, organization, request.path)
            except ApiError as error:
                return Error(error.status, error.type, error.message)
        return self._script.take(owner, request.path)

    def _headers(self, entry: Entry) -> Headers:
        """What every answer carries."""
        headers: Headers = (("request-id", entry.request_id), ("server", "simulator"))
        if entry.organization is None:
            return headers
        return (*headers, *self.keyring.organization(entry.organization).headers)

    def _limits(self, entry: Entry, now: float) -> Headers:
        """The credential's rate limit headers, on answers about messages."""
        known = self.keyring.find(entry.credential) if entry.credential else None
        if known is None or not entry.path.startswith("/v1/messages"):
            return ()
        family = limits.api_key_headers if known.kind is Kind.API_KEY else limits.unified_headers
        return family(known.meter, now)
