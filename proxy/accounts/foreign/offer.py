"""An account as a file of another program offers it, and how members of its JSON are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote

from proxy.accounts.account import ApiKey, OAuthTokens
from proxy.redaction import redact
from proxy.storage.fields import LAST_TIME
from proxy.storage.names import MAX_NAME

Json = Mapping[str, object]

NONE: Final[Json] = {}


@dataclass(frozen=True, slots=True)
class Offer:
    """An account, its credential not looked at yet.

    `client_id` is that of the OAuth registration which the login was made with, `base_url` where the API key is for;
    None if the file does not say. `proxy` is the URL of its outbound proxy, which may be one that is not usable here.
    """

    name: str
    credential: ApiKey | OAuthTokens
    organization_uuid: str | None = None
    active: bool = True
    proxy: str | None = field(default=None, repr=False)
    client_id: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is not taken, and why, for people."""

    name: str
    why: str


Found = Offer | Refusal


def inside(value: object, name: str) -> Json:
    """The object at `name`; an empty one if there is none."""
    member = value.get(name) if isinstance(value, Mapping) else None
    return member if isinstance(member, Mapping) else NONE


def entries(value: object, name: str) -> list[Json]:
    """The objects in the list at `name`; what is no object counts as an empty one."""
    member = value.get(name) if isinstance(value, Mapping) else None
    return (
        [each if isinstance(each, Mapping) else NONE for each in member] if isinstance(member, list) else []
    )


def text(value: Json, name: str) -> str:
    """The text at `name`; "" if there is none."""
    member = value.get(name)
    return member.strip() if isinstance(member, str) else ""


def shown(value: str) -> str:
    """A name from a file, as it may be printed: without what looks like a credential, and in one line."""
    printable = "".join(c for c in redact(value) if c.isprintable()).strip()
    return printable[:MAX_NAME] or "account"


def rfc3339_s(value: Json, name: str) -> float | None:
    """The time at `name`, in seconds since the epoch; None if it is absent or empty. Raises ValueError."""
    written = text(value, name)
    if not written:
        return None if value.get(name) in (None, "") else _wrong(name)
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        return _wrong(name)
    return _within(at.timestamp(), name) if at.tzinfo else _wrong(name)


def epoch_s(value: Json, name: str, unit_s: float = 1.0) -> float | None:
    """The number at `name`, which may be written as a text, times `unit_s`; None if it is absent or empty.

    Raises ValueError.
    """
    member = value.get(name)
    if member in (None, ""):
        return None
    if isinstance(member, bool) or not isinstance(member, int | float | str):
        return _wrong(name)
    try:
        return _within(float(member) * unit_s, name)
    except (ValueError, OverflowError):
        return _wrong(name)


def url_of_proxy(proxy: Json, scheme: str) -> str | None:
    """The URL of an outbound proxy that is kept in parts; None if there is none. What it is worth is judged later."""
    host, port = text(proxy, "host"), proxy.get("port")
    if not host:
        return None
    user, password = (quote(text(proxy, name), safe="") for name in ("username", "password"))
    who = f"{user}:{password}@" if user else ""
    # `socks5` would look names up here; the proxy does it as well.
    return f"{'socks5h' if scheme == 'socks5' else scheme}://{who}{host}:{port}"


def _within(at: float, name: str) -> float:
    return at if 0 <= at <= LAST_TIME else _wrong(name)


def _wrong(name: str) -> float:
    raise ValueError(f"{name} is no time")
