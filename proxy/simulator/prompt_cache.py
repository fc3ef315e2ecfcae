"""How many tokens a request has, and which of them the prompt cache knows."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from .auth import Organization
from .models import least_cached_tokens
from .replies import ApiError, Json

_KEPT = 10_000
_TTL_S = {"5m": 300, "1h": 3600}
_MOST_MARKS = 4
_LOOK_BACK = (
    20  # blocks before a breakpoint in which an earlier one is found (build-with-claude/prompt-caching)
)


@dataclass(frozen=True, slots=True)
class InputTokens:
    """`input` is what is neither written to nor read from the cache."""

    input: int
    read: int = 0
    created_5m: int = 0
    created_1h: int = 0

    @property
    def total(self) -> int:
        return self.input + self.read + self.created_5m + self.created_1h


@dataclass(frozen=True, slots=True)
class _Part:
    """One block of the prompt: what the prompt up to its end hashes to and holds in tokens."""

    prefix: str
    tokens: int
    ttl: str | None


class PromptCache:
    """Prefixes by organization and model, as the API isolates them, each known until its TTL after it was last used.

    Unlike the API it caches prompts of any length, so that a test can be short, unless `real_minimum` is set.
    """

    def __init__(self, *, real_minimum: bool = False) -> None:
        self._real_minimum = real_minimum
        self._expiry: OrderedDict[tuple[str, str], float] = OrderedDict()

    def count(self, request: Json) -> int:
        """All input tokens, without touching the cache."""
        return _parts(request)[-1].tokens

    def use(self, organization: Organization, request: Json, now: float) -> InputTokens:
        """Read the longest prefix that is known, and write those at `cache_control`."""
        parts = _parts(request)
        total = parts[-1].tokens
        marks = [index for index, part in enumerate(parts) if part.ttl]
        _check([parts[index].ttl for index in marks])
        least = least_cached_tokens(str(request.get("model"))) if self._real_minimum else 0
        marks = [index for index in marks if parts[index].tokens >= least]
        if not marks:
            return InputTokens(total)
        near = {back for mark in marks for back in range(max(0, mark - _LOOK_BACK), mark + 1)}
        known = [index for index in near if self._knows(organization, parts[index], now)]
        hit = reached = parts[max(known)].tokens if known else 0
        created = {"5m": 0, "1h": 0}
        for part in (parts[index] for index in marks):
            ttl = part.ttl or "5m"
            if part.tokens > reached:
                created[ttl] += part.tokens - reached
                reached = part.tokens
            self._keep((organization.uuid, part.prefix), now + _TTL_S[ttl])
        if known and max(known) not in marks:  # a prefix that is read lives on
            self._keep((organization.uuid, parts[max(known)].prefix), now + _TTL_S["5m"])
        return InputTokens(total - reached, hit, created["5m"], created["1h"])

    def _knows(self, organization: Organization, part: _Part, now: float) -> bool:
        return self._expiry.get((organization.uuid, part.prefix), 0) > now

    def _keep(self, key: tuple[str, str], until: float) -> None:
        self._expiry[key] = max(until, self._expiry.pop(key, 0))
        while len(self._expiry) > _KEPT:
            self._expiry.popitem(last=False)


def _check(ttls: list[str | None]) -> None:
    """ApiError 400 for breakpoints that the API does not take, in its own words."""
    if len(ttls) > _MOST_MARKS:
        raise ApiError(
            400, f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {len(ttls)}."
        )
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        order = "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
        raise ApiError(
            400, f"a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. {order}"
        )


def _parts(request: Json) -> list[_Part]:
    digest = hashlib.sha256(str(request.get("model")).encode())
    tokens = 3
    parts = []
    for block in _blocks(request):
        text = json.dumps(without_marks(block), sort_keys=True)
        digest.update(text.encode())
        tokens += max(1, len(text) // 4)
        if isinstance(block, dict):  # a role is no block of its own
            parts.append(_Part(digest.copy().hexdigest(), tokens, _ttl(block)))
    return parts or [_Part(digest.hexdigest(), tokens, None)]


def _blocks(request: Json) -> Iterator[object]:
    """Tools, system and messages in the order of the prompt, block by block, each message's after its role.

    A `cache_control` at the top of the request marks the last block.
    """
    blocks: list[object] = list(request.get("tools") or [])
    blocks += _content(request.get("system"))
    for message in request.get("messages") or []:
        blocks.append(message.get("role"))
        blocks += _content(message.get("content"))
    mark = request.get("cache_control")
    if blocks and isinstance(mark, dict):
        last = blocks[-1]
        blocks[-1] = last | {"cache_control": mark} if isinstance(last, dict) else last
    yield from blocks


def _ttl(block: Json) -> str | None:
    """How long the prompt up to the end of `block` is to be kept: as it says, or a block inside a tool's result."""
    inside = _content(block.get("content")) if block.get("type") == "tool_result" else []
    for marked in (block, *reversed(inside)):
        mark = marked.get("cache_control") if isinstance(marked, dict) else None
        if isinstance(mark, dict):
            ttl = str(mark.get("ttl", "5m"))
            return ttl if ttl in _TTL_S else None
    return None


def _content(content: object) -> list[object]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content) if isinstance(content, list) else []


def without_marks(value: object) -> object:
    """`value` without any `cache_control`, which is no part of a prompt."""
    if isinstance(value, dict):
        return {name: without_marks(member) for name, member in value.items() if name != "cache_control"}
    return [without_marks(item) for item in value] if isinstance(value, list) else value
