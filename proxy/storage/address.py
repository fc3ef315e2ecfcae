"""Where a shared store is, read from the URL of `storage.url`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

FIX: Final = (
    "use redis://host:6379/0, rediss:// for TLS, unix:///path/to/socket, or "
    "redis+sentinel://host1,host2,host3/master; user:password@ goes before the host"
)

_PART = (
    r"(?:[A-Za-z0-9._~!$&'()+,;=*-]|%(?!00)[0-9A-Fa-f]{2})*"  # RFC 3986 §3.2.1, percent-encoded, without NUL
)
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]{0,4})?"
_LOGIN = rf"(?:(?P<user>{_PART})(?::(?P<password>{_PART}))?@)?"
_DB = r"(?P<db>[0-9]{1,4})"
_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        rf"(?P<scheme>rediss?)://{_LOGIN}(?P<hosts>{_HOST})(?:/{_DB}?)?",
        rf"(?P<scheme>unix)://{_LOGIN}(?P<path>/[^?#\s]+)(?:\?db={_DB})?",
        rf"(?P<scheme>rediss?\+sentinel)://{_LOGIN}(?P<hosts>{_HOST}(?:,{_HOST})*)/(?P<master>[A-Za-z0-9._-]+)(?:/{_DB})?",
    )
)
_PORT, _SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """One server by host or by the path of its socket; or, with `master`, the Sentinels that know where that is."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    master: str | None = None
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0

    @classmethod
    def read(cls, url: str) -> StoreAddress:
        """Raises ValueError, which does not repeat the URL: it may hold a password."""
        found = next((match for form in _FORMS if (match := form.fullmatch(url))), None)
        if found is None:
            raise ValueError(FIX)
        parts = found.groupdict()
        user, password = parts["user"], parts["password"]
        if user and password is None:  # redis://secret@host: who writes that means the password
            raise ValueError(
                "a password goes after a colon: redis://user:password@host or redis://:password@host"
            )
        master = parts.get("master")
        hosts = (parts.get("hosts") or "").split(",")
        return cls(
            hosts=tuple(_host(host, _SENTINEL_PORT if master else _PORT) for host in hosts if host),
            path=unquote(parts["path"]) if "path" in parts else None,
            master=master,
            tls=parts["scheme"].startswith("rediss"),
            user=unquote(user) if user else None,
            password=unquote(password) if password else None,
            db=int(parts["db"] or 0),
        )

    def __str__(self) -> str:
        """What people may see: no user and no password."""
        if self.path is not None:
            return f"unix://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = "rediss" if self.tls else "redis"
        return (
            f"{scheme}+sentinel://{hosts}/{self.master}" if self.master else f"{scheme}://{hosts}/{self.db}"
        )


def _host(text: str, port: int) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    found = re.fullmatch(r"(\[.+\]|[^:]+)(?::(\d+))?", text)
    assert found is not None
    number = int(found[2] or port)
    if number > 65535:
        raise ValueError(FIX)
    return found[1].strip("[]"), number
