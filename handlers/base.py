"""What every route but `/v1` shares: access, JSON in and out, errors as JSON, security headers, the access line."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import responses
from typing import Any, TypeVar

import ujson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from handlers.gate import ADMINS, AdminGate
from handlers.query import Query
from handlers.request import RequestConnection
from proxy.clients.keys import Role
from proxy.clock import Clock
from proxy.dashboard.event_archive import EventArchive
from proxy.errors import (
    Conflict,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RequestError,
    StorageError,
    Unavailable,
    Unprocessable,
)
from proxy.feed import act_as
from proxy.http.addresses import Network, client_address
from proxy.storage.names import MAX_NAME
from proxy.usage import access_log
from proxy.usage.request import RequestRecord

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

OPEN_BODY_BYTES = 4096
"""The largest body of who is not known yet: a login's, with a key of 256 characters at most."""

ADMIN_BODY_BYTES = 256 * 1024
"""Far more than a key with all its models; to say what is wrong with 1 MB of small fields takes 200 ms."""

MOST_PROBLEMS = 20
"""Of a request's body, that its sender is told."""

log = logging.getLogger(__name__)


class RequestBody(BaseModel):
    """The JSON body of an admin request: a field that is unknown or of another type is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


B = TypeVar("B", bound=RequestBody)


@dataclass(frozen=True, slots=True)
class Anyone:
    """Who may call an open route, and what every route needs."""

    clock: Clock
    trusted_proxies: Sequence[Network]


@dataclass(frozen=True, slots=True)
class Admins(Anyone):
    """Who may call an admin route: callers that the gate lets in."""

    gate: AdminGate
    archive: EventArchive


@stream_request_body
class BaseHandler(RequestHandler):
    """An open route; AdminHandler is one for admins.

    Each route's own `initialize` names what it needs and calls `open_to` or `only_for` first. Who may not call it is
    told so before the body is read: that is what Tornado calls to stream it.
    """

    def open_to(self, who: Anyone) -> None:
        """Begin a request that anyone may send."""
        self.trusted_proxies = who.trusted_proxies
        self.clock = who.clock
        self._body = bytearray()
        self.record = RequestRecord(self.clock.monotonic())
        # Here, since Tornado refuses a method that it does not know before it calls `prepare`.
        self.record.method = self.request.method or "-"
        self.record.path = access_log.logged_path(self.request.uri or "-")
        self.record.address = self.address()

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        connection = self.request.connection
        assert isinstance(connection, RequestConnection)
        connection.set_max_body_size(OPEN_BODY_BYTES)
        self.authorize(connection)

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk

    def on_connection_close(self) -> None:
        super().on_connection_close()  # of a WebSocket, if it is one
        RequestHandler.on_connection_close(self)

    def authorize(self, connection: RequestConnection) -> None:
        """Raise RequestError if the caller may not call this route."""

    def address(self) -> str:
        """The client's address: behind a trusted proxy the one that it forwards."""
        forwarded = self.request.headers.get_list("X-Forwarded-For")
        return client_address(self.request.remote_ip or "", forwarded, self.trusted_proxies)

    @property
    def query(self) -> Query:
        """The arguments in the request's query."""
        return Query(self)

    @property
    def has_body(self) -> bool:
        """Whether the request has a body; some do without."""
        return bool(self._body)

    def body(self, model: type[B]) -> B:
        """The request's body as `model`.

        Raises InvalidRequest if it is not a JSON object, Unprocessable if a field is unknown or wrong.
        """
        try:
            return model.model_validate(self.json())
        except ValidationError as error:
            raise Unprocessable(_describe(error)) from None

    def json(self) -> dict[str, Any]:
        """The request's body as it is. Raises InvalidRequest if it is not a JSON object."""
        try:
            # Unlike others it takes no lone surrogate, which could not be written as UTF-8 again.
            value = from_json(self._body, allow_inf_nan=False)
        except ValueError:
            raise InvalidRequest("the body has to be JSON") from None
        if not isinstance(value, dict):
            raise InvalidRequest("the body has to be a JSON object")
        return value

    def answer(self, value: dict[str, Any], status: int = 200) -> None:
        """Send `value` as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(ujson.dumps(value, escape_forward_slashes=False))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, StorageError):
            error = Unavailable(str(error))
        elif isinstance(error, HTTPError):
            error = _from_http_error(error)
        elif not isinstance(error, RequestError):
            error = RequestError("internal error: see this proxy's log")
        if error.status == 405:
            self.set_header("Allow", ", ".join(self._allowed()))
        if error.retry_after_s is not None:
            self.set_header("Retry-After", str(math.ceil(error.retry_after_s)))
        self.record.error = error.type
        self.answer({"error": {"type": error.type, "message": error.message, **error.details}}, error.status)

    def _allowed(self) -> list[str]:
        """The methods that this route knows (RFC 9110 §15.5.6)."""
        unknown = RequestHandler._unimplemented_method
        return [m for m in self.SUPPORTED_METHODS if getattr(type(self), m.lower()) is not unknown]

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        # The last: a client that left, as a dashboard may do during its handshake.
        if not isinstance(value, RequestError | StorageError | HTTPError | StreamClosedError):
            log.error("request failed request=%s", self.record.id, exc_info=(typ, value, tb))

    def on_finish(self) -> None:
        self.record.status = self.get_status()
        self.record.answer_bytes = int(self._headers.get("Content-Length", 0))
        self.record.first_byte_at = self.record.ended_at = self.clock.monotonic()
        access_log.write(self.record, self.log_level())

    def log_level(self) -> int:
        """The level at which the access log shows a request to this route."""
        return logging.INFO


class AdminHandler(BaseHandler):
    """A route for admins; `actor` is the one who calls it. `roles` are those of client keys that open it."""

    roles: Sequence[Role] = ADMINS

    def only_for(self, who: Admins) -> None:
        """Begin a request that only admins may send."""
        self.open_to(who)
        self.gate = who.gate
        self.archive = who.archive

    def authorize(self, connection: RequestConnection) -> None:
        self.actor = self.gate.check(self.request, self.address(), self.roles)
        act_as(self.actor.who)
        connection.vouch()
        connection.set_max_body_size(ADMIN_BODY_BYTES)

    async def answer_changed(self, value: dict[str, Any], status: int = 200) -> None:
        """Answer a request that has changed something, once its events are in the audit log.

        If they cannot be written, the change stands all the same, since a key must be revocable on a full disk; the
        answer then has a `warning`, and they are tried again.
        """
        self.answer(value | await recorded(self.archive), status)

    def check_unedited(self, etag: str, current: dict[str, Any]) -> None:
        """Raise Conflict if the request's `If-Match` names another state than `etag` (RFC 9110 §13.1.1)."""
        wanted = self.request.headers.get("If-Match", "*")
        if wanted not in ("*", f'"{etag}"'):
            raise Conflict(
                "changed meanwhile by another admin", type="edit_conflict", details={"current": current}
            )


async def recorded(archive: EventArchive) -> dict[str, Any]:
    """What an answer has to say beside its own: nothing, once all events so far are on disk."""
    try:
        await archive.saved()
    except StorageError as error:
        return {"warning": f"it is done, but not in the audit log yet: {error}"}
    return {}


class Unknown(BaseHandler):
    """Every path that is no route."""

    def initialize(self, *, who: Anyone) -> None:
        self.open_to(who)

    def prepare(self) -> None:
        super().prepare()
        raise NotFound("no such route")


def _from_http_error(error: HTTPError) -> RequestError:
    if error.status_code == 405:
        return MethodNotAllowed("this route does not know the method")
    if error.status_code == 404:
        return NotFound("no such route")
    wrong = InvalidRequest(responses.get(error.status_code, "bad request"))
    wrong.status = error.status_code
    return wrong


def _describe(error: ValidationError) -> str:
    """The first fields that are wrong, by name; never their values, which may be secrets."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    told = [
        f"{'.'.join(str(part)[:MAX_NAME] for part in problem['loc']) or 'body'}: {problem['msg']}"
        for problem in problems[:MOST_PROBLEMS]
    ]
    if len(problems) > MOST_PROBLEMS:
        told.append(f"and {len(problems) - MOST_PROBLEMS} more")
    return "; ".join(told)
