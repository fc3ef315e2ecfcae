"""The effective configuration, for people: each key with its value, as a file could hold it, and where it was set.

No secret is shown: a kind of value that nobody has named here is masked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints
from urllib.parse import urlsplit

from proxy.config.client_keys import ClientKeys, DeclaredKey
from proxy.config.settings import Settings
from proxy.config.targets import DeclaredTarget, Targets
from proxy.config.types import DURATIONS, SIZES, Duration, OutboundProxy, Size, StoreUrl, Wait, WebhookUrl
from proxy.http.outbound import shown
from proxy.storage.address import StoreAddress

MASK: Final = "***"

Shown = str | int | float | bool | list[str] | None


@dataclass(frozen=True, slots=True)
class Effective:
    """One key; `place` is the file with its line, or the variable, that sets it; None if it has its default."""

    key: str
    value: Shown
    place: str | None


def effective(settings: Settings) -> Iterator[Effective]:
    """Every key, in the order of the documentation."""
    for section in Settings.model_fields:
        values = getattr(settings, section)
        for name, hint in get_type_hints(type(values), include_extras=True).items():
            if name in type(values).model_fields:
                key = f"{section}.{name}"
                yield Effective(key, shown_as(_in_effect(settings, section, name), hint), settings.place(key))


def _in_effect(settings: Settings, section: str, name: str) -> object:
    server = settings.server
    if (section, name) == ("server", "answer_timeout") and server.answer_timeout is None:
        return 2 * server.request_timeout
    return getattr(getattr(settings, section), name)


def differing(old: Settings, new: Settings) -> list[Effective]:
    """The keys whose values differ, secrets among them, as they are in `new`."""
    return [each for each in effective(new) if _value(old, each.key) != _value(new, each.key)]


def _value(settings: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def lines(settings: Settings) -> list[str]:
    """The configuration as aligned columns: key, value, place."""
    rows = [
        (each.key, _text(each.value), "default" if each.place is None else each.place)
        for each in effective(settings)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{key:{widths[0]}}  {value:{widths[1]}}  {place}" for key, value, place in rows]


def shown_as(value: object, hint: object) -> Shown:
    """What is shown of a value of the kind that `hint` says."""
    if value is None or value == ():
        return None if value is None else []
    for kind, show in _KINDS:
        if hint == kind or kind in get_args(hint):
            return show(value)
    match value:
        case bool() | int() | float() | str():
            return value
        case Path():
            return str(value)
        case tuple() if all(isinstance(item, str | IPv4Network | IPv6Network) for item in value):
            return [str(item) for item in value]
    return MASK


def _duration(seconds: float) -> str:
    """`90s`, `5m`: in the largest unit of which it is a whole number."""
    return _in_units(seconds, [(unit, size) for unit, size in DURATIONS.items() if unit], "s")


def _size(count: int) -> str:
    return _in_units(count, [(unit, size) for unit, size in SIZES.items() if unit], "")


def _in_units(amount: float, units: list[tuple[str, float]], smallest: str) -> str:
    for unit, size in sorted(units, key=lambda each: -each[1]):
        count = round(amount / size, 6)
        if amount and count.is_integer():
            return f"{count:.0f}{unit}"
    return f"{amount:.9f}".rstrip("0").rstrip(".") + smallest


def _url_without_path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{MASK}" if parts.path.strip("/") or parts.query else url


def _targets(targets: tuple[DeclaredTarget, ...]) -> list[str]:
    return [
        f"{each.name}: {each.kind} {_url_without_path(each.url) if each.mailbox is None else each.mailbox.host}"
        for each in targets
    ]


def _names(keys: tuple[DeclaredKey, ...]) -> list[str]:
    return [key.name for key in keys]


_KINDS: Final[tuple[tuple[object, Callable[[Any], Shown]], ...]] = (
    (ClientKeys, _names),
    (Targets, _targets),
    (Duration, _duration),
    (Wait, _duration),
    (Size, _size),
    (OutboundProxy, lambda proxy: shown(proxy.get_secret_value())),
    (StoreUrl, lambda url: str(StoreAddress.read(url.get_secret_value()))),
    (WebhookUrl, _url_without_path),
)


def _text(value: Shown) -> str:
    """The value as YAML has it."""
    match value:
        case None:
            return "–"
        case str():
            return value
        case list():
            return f"[{', '.join(value)}]"
    return json.dumps(value)
