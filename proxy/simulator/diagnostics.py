"""Why the prompt cache could not be used: a request compared with an earlier one that it names."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from .auth import Organization
from .prompt_cache import without_marks
from .replies import Json, dumps

_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    model: str
    system: str
    tools: str
    messages: tuple[str, ...]
    tokens: int


class Diagnostics:
    """The requests that asked for it, by organization and the id of their answer."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Fingerprint] = OrderedDict()

    def of(self, organization: Organization, body: Json) -> Json | None:
        """The answer's `diagnostics`; None if it has no more to say than that nothing has changed."""
        previous = (body.get("diagnostics") or {}).get("previous_message_id")
        if previous is None:
            return None
        before = self._kept.get((organization.uuid, str(previous)))
        if before is None:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        changed = _changed(before, _fingerprint(body, 0))
        if changed is None:
            return None
        return {"cache_miss_reason": {"type": changed, "cache_missed_input_tokens": before.tokens}}

    def keep(self, organization: Organization, body: Json, message_id: str, tokens: int) -> None:
        if body.get("diagnostics") is None:
            return
        self._kept[organization.uuid, message_id] = _fingerprint(body, tokens)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)


def _fingerprint(body: Json, tokens: int) -> _Fingerprint:
    messages = tuple(_hash(message) for message in body["messages"])
    model = f"{body['model']} {body.get('speed')}"
    return _Fingerprint(model, _hash(body.get("system")), _hash(body.get("tools")), messages, tokens)


def _hash(value: object) -> str:
    return hashlib.sha256(dumps(without_marks(value))).hexdigest()


def _changed(before: _Fingerprint, now: _Fingerprint) -> str | None:
    for name in ("model", "system", "tools"):
        if getattr(before, name) != getattr(now, name):
            return f"{name}_changed"
    return None if now.messages[: len(before.messages)] == before.messages else "messages_changed"
