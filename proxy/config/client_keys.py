"""Client keys in the configuration: how they are written there, and what is wrong with them."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

from proxy.clients.budgets import NO_LIMITS, KeyLimits
from proxy.clients.keys import Role
from proxy.clients.models import MEANING, PATTERN, is_pattern
from proxy.clients.secret import MAX_KEY, MIN_KEY
from proxy.config.types import read_json
from proxy.errors import Unprocessable
from proxy.storage.names import MAX_NAME, MOST_TAGS, clean_name, clean_tags

_KEY = re.compile(rf"[!-~]{{{MIN_KEY},{MAX_KEY}}}")
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_ROLES = tuple(Role)
_MEMBERS = ("name", "key", "role", "models", "limits", "group", "tags")


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """One of `auth.client_keys`."""

    name: str
    key: str = field(repr=False)
    role: str = "user"
    models: tuple[str, ...] = ()
    limits: KeyLimits = NO_LIMITS
    group: str | None = None
    tags: tuple[str, ...] = ()


def _client_keys(value: object) -> tuple[DeclaredKey, ...]:
    items = read_json(value)
    if not isinstance(items, list):
        raise ValueError(
            "it has to be a list, in a variable as JSON, each with a name and a key, and role, models, limits, group "
            "and tags if wanted"
        )
    keys: list[DeclaredKey] = []
    for number, item in enumerate(items, 1):
        try:
            new = _one(item)
        except ValueError as error:
            # By number: name and key may stand in each other's place.
            raise ValueError(f"number {number} {error}") from None
        for other, key in enumerate(keys, 1):
            if key.key == new.key:
                raise ValueError(f"number {number} has the key of number {other}: give each one of its own")
        keys.append(new)
    return tuple(keys)


def _one(item: object) -> DeclaredKey:
    if not isinstance(item, dict):
        raise ValueError(f"has to hold keys of its own: {', '.join(_MEMBERS)}")
    _check_members(item, _MEMBERS, "it")
    key, role = item.get("key"), item.get("role") or "user"
    try:
        name = clean_name(item["name"] if isinstance(item.get("name"), str) else "")
    except Unprocessable:
        raise ValueError(f"needs a name of 1 to {MAX_NAME} printable characters") from None
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"needs a key of {MIN_KEY} to {MAX_KEY} ASCII characters without spaces")
    if role not in _ROLES:
        raise ValueError(f"has a role other than {' or '.join(_ROLES)}")
    models = item.get("models") or []
    if not isinstance(models, list) or not all(isinstance(each, str) and is_pattern(each) for each in models):
        raise ValueError(
            f"needs as models a list of names or patterns, such as [claude-haiku-*]: of {MEANING}"
        )
    limits, group, tags = (
        _limits(item.get("limits") or {}),
        _group(item.get("group")),
        _tags(item.get("tags")),
    )
    return DeclaredKey(name, key, role, tuple(models), limits, group, tags)


def _group(value: object) -> str | None:
    try:
        return None if value is None else clean_name(value if isinstance(value, str) else "")
    except Unprocessable:
        raise ValueError(f"needs as group 1 to {MAX_NAME} printable characters") from None


def _tags(value: object) -> tuple[str, ...]:
    tags = value or []
    if isinstance(tags, list):
        with contextlib.suppress(Unprocessable):
            return clean_tags(tag if isinstance(tag, str) else "" for tag in tags)
    raise ValueError(f"needs as tags a list of up to {MOST_TAGS} names of tags, each without a comma")


def _limits(value: object) -> KeyLimits:
    known = [each.name for each in fields(KeyLimits)]
    if not isinstance(value, Mapping):
        raise ValueError(f"needs as limits some of {', '.join(known)}")
    _check_members(value, known, "limits")
    numbers: dict[str, int | float] = {}
    for member, text in value.items():
        money = "usd" in member
        if not isinstance(text, str) or not _AMOUNT.fullmatch(text) or float(text) <= 0:
            raise ValueError(f"needs as {member} a number above zero")
        if not money and "." in text:
            raise ValueError(f"needs as {member} a whole number")
        numbers[member] = float(text) if money else int(text)
    return KeyLimits(**numbers)  # type: ignore[arg-type]


def _check_members(value: Mapping[str, object], known: list[str] | tuple[str, ...], where: str) -> None:
    """Raise ValueError for a strange one; not with its name, which may be a key that stands in the wrong place."""
    for member in value:
        if member not in known:
            nearest = difflib.get_close_matches(member, known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"has in {where} what is none of {', '.join(known)}; the nearest one is {nearest}"
            )


def _schema() -> dict[str, object]:
    """What an editor may know of it."""
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    limits = {
        each.name: {"type": "number" if "usd" in each.name else "integer", "exclusiveMinimum": 0}
        for each in fields(KeyLimits)
    }
    members: dict[str, object] = {
        "key": text | {"minLength": MIN_KEY, "maxLength": MAX_KEY},
        "role": {"enum": list(_ROLES)},
        "models": texts | {"items": text | {"pattern": f"^{PATTERN}$"}},
        "tags": texts,
        "limits": {"type": "object", "additionalProperties": False, "properties": limits},
    }
    item = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "key"],
        "properties": {name: members.get(name, text) for name in _MEMBERS},
    }
    return {"type": "array", "items": item}


ClientKeys = Annotated[tuple[DeclaredKey, ...], PlainValidator(_client_keys), WithJsonSchema(_schema())]
