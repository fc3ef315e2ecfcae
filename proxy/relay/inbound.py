"""A client's request, as the engine has it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from proxy.accounts.affinity import Asking
from proxy.clients.keys import ClientKey
from proxy.http import results_url
from proxy.http.beginnings import Beginnings
from proxy.http.body import Body
from proxy.http.headers import ClientHeaders, Credential
from proxy.http.peek import UNKNOWN, Peek, peek
from proxy.http.target import Target
from proxy.upstream.exchange import Request
from proxy.upstream.verdict import MESSAGES

MOST_BETAS = 32
"""Of the betas that a client names, so many are remembered with what refuses them."""


@dataclass(slots=True)
class Inbound:
    """A client's request; `origin` is as the client sees this proxy.

    `is_kept`: conversations are kept together, so that this one is to be known again; `beginnings` of some are known.
    """

    method: str
    target: Target
    headers: ClientHeaders
    body: Body | None
    origin: str
    is_kept: bool = True
    beginnings: Beginnings | None = None
    _peeked: Peek | None = None

    def peek(self) -> Peek | Awaitable[Peek]:
        """What the proxy has to know of the body; to be awaited if it is not known at once."""
        if self._peeked is not None:
            return self._peeked
        is_conversation = self.method == "POST" and self.target.segments[1] == "messages"
        wants_chain = self.is_kept and is_conversation
        found = peek(self.body, self.content_encoding, wants_chain=wants_chain, beginnings=self.beginnings)
        if not isinstance(found, Peek):
            return self._keep(found)
        self._peeked = found
        return found

    async def asking(self, key: ClientKey | None) -> Asking:
        """What says where the request belongs. Its body is looked at, whatever type the client says it has."""
        first = self.headers.first
        said = self._peeked
        if said is None and self.body is not None:
            found = self.peek()
            said = found if isinstance(found, Peek) else await found
        said = said or UNKNOWN
        picked = first.get("x-proxy-account") or None
        session = first.get("x-claude-code-session-id") or said.session
        group, tags = ("", ()) if key is None else (key.group_id, key.tags)
        profiles = self.headers.values("anthropic-user-profile-id")
        return Asking(self.method, self.target, group, said, picked, session, tags, profiles)

    async def _keep(self, found: Awaitable[Peek]) -> Peek:
        self._peeked = await found
        return self._peeked

    def request(self, credential: Credential, *, may_resend: bool, proxy: str | None) -> Request:
        """The request as it goes upstream. Raises InvalidRequest if a header could not be sent."""
        headers = self.headers.to_upstream(credential)
        if self.target.holds_results_url:
            headers = [
                (n, results_url.readable_encodings(v) if n.lower() == "accept-encoding" else v)
                for n, v in headers
            ]
        body, size = (None, 0) if self.body is None else (self.body.open(), self.body.size)
        return Request(self.method, self.target.raw, headers, body, size, may_resend, proxy)

    @property
    def route(self) -> str:
        """MESSAGES, or the family of the path, such as `files`, `batches` or `count_tokens`."""
        segments = self.target.segments
        if segments == ("v1", "messages"):
            return MESSAGES if self.method == "POST" else "messages"
        return (segments[2] if segments[1] == "messages" else segments[1])[:64]

    @property
    def betas(self) -> tuple[str, ...]:
        """What `anthropic-beta` names, in lower case."""
        named = ",".join(self.headers.values("anthropic-beta")).lower().split(",", MOST_BETAS)
        return tuple(beta for part in named[:MOST_BETAS] if (beta := part.strip()))

    @property
    def content_encoding(self) -> str:
        """Of the body, as the client names it."""
        return ", ".join(self.headers.values("content-encoding"))
