"""Targets of notifications in the configuration: how they are written there, and what is wrong with them.

No error repeats a value, since most of them are secrets or hold one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import PlainValidator, WithJsonSchema

from proxy.config.types import HOSTNAME, is_local, read_json, webhook_url
from proxy.errors import Unprocessable
from proxy.event_kinds import KINDS
from proxy.storage.names import MAX_NAME, clean_name

MOST_TARGETS = 20
_COMMON: Final = ("kind", "name", "events", "quiet", "timezone", "quiet_errors")
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "slack": ("url",),
    "discord": ("url",),
    "teams": ("url",),
    "ntfy": ("url", "token"),
    "webhook": ("url", "secret"),
    "email": ("host", "port", "tls", "user", "password", "from", "to"),
}
_TLS: Final = {"starttls": 587, "tls": 465, "none": 25}
_PATTERN = re.compile(r"[a-z_.*?]{1,64}")
_QUIET = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{HOSTNAME}")


@dataclass(frozen=True, slots=True)
class DeclaredMailbox:
    """The mail server of a target of kind `email`."""

    host: str
    port: int
    tls: str
    sender: str
    to: tuple[str, ...]
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeclaredTarget:
    """One of `notifications.targets`. `quiet` is in minutes after midnight; no `events`: those that are alarms."""

    kind: str
    name: str
    url: str = field(default="", repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    mailbox: DeclaredMailbox | None = None
    events: tuple[str, ...] = ()
    quiet: tuple[int, int] | None = None
    timezone: str = "UTC"
    quiet_errors: bool = False

    def secrets(self) -> list[str]:
        """What no log may show."""
        held = [self.secret, self.token, self.mailbox and self.mailbox.password]
        return [secret for secret in held if secret] + secrets_of(self.url)


def secrets_of(url: str) -> list[str]:
    """What of a URL lets those who know it post: all of it, its path and query, and what is long in them."""
    if not url:
        return []
    target = "/" + url.partition("://")[2].partition("/")[2]
    return [url, *(part for part in (target, *re.split(r"[/?&=]", target)) if len(part) >= 16)]


def _targets(value: object) -> tuple[DeclaredTarget, ...]:
    items = read_json(value)
    if not isinstance(items, list) or len(items) > MOST_TARGETS:
        raise ValueError(
            f"it has to be a list of up to {MOST_TARGETS}, in a variable as JSON, each with a kind, such as slack, "
            "and a url"
        )
    found: list[DeclaredTarget] = []
    for number, item in enumerate(items, 1):
        try:
            new = _one(item, number)
            if new.name in [each.name for each in found]:
                raise ValueError("has the name of another one: give each a name of its own")
        except ValueError as error:
            raise ValueError(f"number {number} {error}") from None
        found.append(new)
    return tuple(found)


def _one(item: object, number: int) -> DeclaredTarget:
    if not isinstance(item, dict):
        raise ValueError(f"has to hold keys of its own: {', '.join(_COMMON)}, url")
    kind = item.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"needs a kind: {', '.join(_KINDS)}")
    known = (*_COMMON, *_KINDS[kind])
    for member in item:
        if member not in known:
            nearest = difflib.get_close_matches(member, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"has what {kind} does not know; the nearest key is {nearest}")
    try:
        name = clean_name(_text(item, "name") or f"{kind} {number}")
    except Unprocessable:
        raise ValueError(f"needs as name 1 to {MAX_NAME} printable characters") from None
    return DeclaredTarget(
        kind,
        name,
        url="" if kind == "email" else _url(item),
        secret=_secret(item),
        token=_token(item),
        mailbox=_mailbox(item) if kind == "email" else None,
        events=_events(item.get("events") or []),
        quiet=_quiet(item),
        timezone=_zone(item),
        quiet_errors=_flag(item, "quiet_errors"),
    )


def _text(item: Mapping[str, object], member: str) -> str | None:
    value = item.get(member)
    if value is not None and (not isinstance(value, str) or not value.isprintable() or not value.strip()):
        raise ValueError(f"needs as {member} one line of text")
    return value


def _needed(item: Mapping[str, object], member: str) -> str:
    text = _text(item, member)
    if text is None:
        raise ValueError(f"needs {member}")
    return text


def _flag(item: Mapping[str, object], member: str) -> bool:
    word = (_text(item, member) or "false").lower()
    if word not in ("true", "false"):
        raise ValueError(f"needs as {member} true or false")
    return word == "true"


def _url(item: Mapping[str, object]) -> str:
    try:
        return webhook_url(_needed(item, "url"))
    except ValueError as error:
        raise ValueError(f"needs url: {error}") from None


def _secret(item: Mapping[str, object]) -> str | None:
    secret = _text(item, "secret")
    if secret is not None and len(secret) < 16:
        raise ValueError("needs as secret 16 characters or more")
    return secret


def _token(item: Mapping[str, object]) -> str | None:
    token = _text(item, "token")
    if token is not None and not re.fullmatch("[!-~]+", token):
        raise ValueError("needs as token ASCII characters without spaces")
    return token


def _events(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(each, str) and _PATTERN.fullmatch(each) for each in value
    ):
        raise ValueError("needs as events a list of kinds or patterns, such as [account.invalid, pool.*]")
    for pattern in value:
        if not any(fnmatchcase(kind, pattern) for kind in KINDS):
            nearest = difflib.get_close_matches(pattern, KINDS, n=1, cutoff=0.0)[0]
            raise ValueError(f"has in events what is no kind of event; the nearest one is {nearest}")
    return tuple(value)


def _quiet(item: Mapping[str, object]) -> tuple[int, int] | None:
    text = _text(item, "quiet")
    if text is None:
        return None
    found = _QUIET.fullmatch(text)
    if found is None or found.group(1, 2) == found.group(3, 4):
        raise ValueError('needs as quiet two times of day in quotes, such as "22:00-07:00"')
    hours = [int(each) for each in found.groups()]
    return hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]


def _zone(item: Mapping[str, object]) -> str:
    name = _text(item, "timezone") or "UTC"
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "needs as timezone a name that this machine knows, such as Europe/Berlin (Debian: apt install tzdata)"
        ) from None
    return name


def _mailbox(item: Mapping[str, object]) -> DeclaredMailbox:
    host, tls = _needed(item, "host"), _text(item, "tls") or "starttls"
    if not re.fullmatch(rf"{HOSTNAME}|[0-9A-Fa-f:.]+", host):
        raise ValueError("needs as host the name or address of a mail server")
    if tls not in _TLS:
        raise ValueError(f"needs as tls {', '.join(_TLS)}")
    user, password = _text(item, "user"), _text(item, "password")
    if (user is None) != (password is None):
        raise ValueError("needs user and password, or neither")
    if password is not None and tls == "none" and not is_local(host):
        raise ValueError("needs tls other than none, since it has a password")
    to = item.get("to")
    to = [each.strip() for each in to.split(",")] if isinstance(to, str) else to
    if not isinstance(to, list) or not 1 <= len(to) <= 50 or not all(map(_is_address, to)):
        raise ValueError("needs as to an address, or a list of up to 50")
    sender = _needed(item, "from")
    if not _is_address(sender):
        raise ValueError("needs as from an address, such as claude-proxy@example.com")
    return DeclaredMailbox(host, _port(item, _TLS[tls]), tls, sender, tuple(to), user, password)


def _is_address(value: object) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def _port(item: Mapping[str, object], usual: int) -> int:
    text = _text(item, "port") or str(usual)
    if not re.fullmatch("[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise ValueError("needs as port a whole number from 1 to 65535")
    return int(text)


def _schema() -> dict[str, object]:
    """What an editor may know of it."""
    text = {"type": "string"}
    special: dict[str, object] = {
        "events": {"type": "array", "items": {"type": "string", "pattern": f"^{_PATTERN.pattern}$"}},
        "quiet": {"type": "string", "pattern": f"^{_QUIET.pattern}$"},
        "quiet_errors": {"type": "boolean"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "tls": {"enum": list(_TLS)},
        "to": {"type": ["string", "array"], "items": text},
    }
    needed = {"email": ["host", "from", "to"]}
    kinds = [
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["kind", *needed.get(kind, ["url"])],
            "properties": {name: special.get(name, text) for name in (*_COMMON, *members)}
            | {"kind": {"const": kind}},
        }
        for kind, members in _KINDS.items()
    ]
    return {"type": "array", "maxItems": MOST_TARGETS, "items": {"oneOf": kinds}}


Targets = Annotated[tuple[DeclaredTarget, ...], PlainValidator(_targets), WithJsonSchema(_schema())]
