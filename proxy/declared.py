"""Client keys in the configuration: how they are written there, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated

from pydantic import PlainValidator

from proxy.budgets import KeyLimits

MIN_KEY = 16
_ROLES = ("user", "admin")
_MEMBERS = ("name", "key", "role", "models", "limits")


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """One of `auth.client_keys`."""

    name: str
    key: str = field(repr=False)
    role: str = "user"
    models: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()  # noqa: RUF009 - it is frozen


def _client_keys(value: object) -> tuple[DeclaredKey, ...]:
    if not isinstance(value, list):
        raise ValueError(
            "it has to be a list, each with a name and a key, and role, models and limits if wanted"
        )
    keys = tuple(_one(item, number) for number, item in enumerate(value, 1))
    if len({key.key for key in keys}) < len(keys):
        raise ValueError("two of them have the same key")
    return keys


def _one(item: object, number: int) -> DeclaredKey:
    if not isinstance(item, dict):
        raise ValueError(f"number {number} has to hold keys of its own: name, key, role, models, limits")
    for member in item:
        if member not in _MEMBERS:
            raise ValueError(f"number {number} has a member {member}, which is none of {', '.join(_MEMBERS)}")
    name, key, role = item.get("name"), item.get("key"), item.get("role") or "user"
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"number {number} needs a name")
    if not isinstance(key, str) or not re.fullmatch(rf"[!-~]{{{MIN_KEY},256}}", key):
        raise ValueError(f"the key of {name} needs {MIN_KEY} to 256 visible ASCII characters")
    if role not in _ROLES:
        raise ValueError(f"the role of {name} has to be {' or '.join(_ROLES)}")
    models = item.get("models") or []
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ValueError(
            f"the models of {name} have to be a list of names or patterns, such as [claude-haiku-*]"
        )
    return DeclaredKey(name.strip(), key, role, tuple(models), _limits(item.get("limits") or {}, name))


def _limits(value: object, name: str) -> KeyLimits:
    known = [each.name for each in fields(KeyLimits)]
    if not isinstance(value, Mapping) or not all(member in known for member in value):
        raise ValueError(f"the limits of {name} may be {', '.join(known)}")
    numbers: dict[str, int | float] = {}
    for member, text in value.items():
        if (
            not isinstance(text, str)
            or not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text)
            or float(text) <= 0
        ):
            raise ValueError(f"{member} of {name} has to be a number above zero")
        if "usd" not in member and "." in text:
            raise ValueError(f"{member} of {name} has to be a whole number")
        numbers[member] = float(text) if "usd" in member else int(text)
    return KeyLimits(**numbers)  # type: ignore[arg-type]


ClientKeys = Annotated[tuple[DeclaredKey, ...], PlainValidator(_client_keys)]
