"""How many tokens a request has, and which of them the prompt cache knows."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from .auth import Organization
from .replies import Json

_KEPT = 10_000
_TTL_S = {"5m": 300, "1h": 3600}


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
    """Prefixes by organization, as the API isolates them.

    Unlike the API it caches prompts of any length, so that a test can be short.
    """

    def __init__(self) -> None:
        self._expiry: OrderedDict[tuple[str, str], float] = OrderedDict()

    def count(self, request: Json) -> int:
        """All input tokens, without touching the cache."""
        return _parts(request)[-1].tokens

    def use(self, organization: Organization, request: Json, now: float) -> InputTokens:
        """Read the longest prefix that is known, and write those at `cache_control`."""
        parts = _parts(request)
        total = parts[-1].tokens
        marks = [index for index, part in enumerate(parts) if part.ttl]
        if not marks:
            return InputTokens(total)
        read = next((p for p in reversed(parts[: marks[-1] + 1]) if self._knows(organization, p, now)), None)
        reached = read.tokens if read else 0
        hit = reached
        created = {"5m": 0, "1h": 0}
        for part in (parts[index] for index in marks):
            ttl = part.ttl or "5m"
            if part.tokens > reached:
                created[ttl] += part.tokens - reached
                reached = part.tokens
            self._keep((organization.uuid, part.prefix), now + _TTL_S[ttl])
        return InputTokens(total - reached, hit, created["5m"], created["1h"])

    def _knows(self, organization: Organization, part: _Part, now: float) -> bool:
        return self._expiry.get((organization.uuid, part.prefix), 0) > now

    def _keep(self, key: tuple[str, str], until: float) -> None:
        self._expiry[key] = max(until, self._expiry.pop(key, 0))
        while len(self._expiry) > _KEPT:
            self._expiry.popitem(last=False)


def _parts(request: Json) -> list[_Part]:
    digest = hashlib.sha256(str(request.get("model")).encode())
    tokens = 3
    parts = []
    for block in _blocks(request):
        ttl = None
        if isinstance(block, dict):
            mark = block.get("cache_control")
            ttl = str(mark.get("ttl", "5m")) if isinstance(mark, dict) else None
            block = {key: value for key, value in block.items() if key != "cache_control"}
        text = json.dumps(block, sort_keys=True)
        digest.update(text.encode())
        tokens += max(1, len(text) // 4)
        parts.append(_Part(digest.copy().hexdigest(), tokens, ttl if ttl in _TTL_S else None))
    return parts or [_Part(digest.hexdigest(), tokens, None)]


def _blocks(request: Json) -> Iterator[object]:
    """Tools, system and messages in the order of the prompt, block by block.

    A `cache_control` at the top of the request marks the last block.
    """
    blocks: list[object] = list(request.get("tools") or [])
    blocks += _content(request.get("system"))
    for message in request.get("messages") or []:
        blocks.append(message.get("role"))
        blocks += _content(message.get("content"))
        blocks += [block for part in _content(message.get("content")) for block in _nested(part)]
    mark = request.get("cache_control")
    if blocks and isinstance(mark, dict):
        last = blocks[-1]
        blocks[-1] = last | {"cache_control": mark} if isinstance(last, dict) else last
    yield from blocks


def _content(content: object) -> list[object]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content) if isinstance(content, list) else []


def _nested(block: object) -> list[object]:
    """Blocks inside a tool_result that carry a mark of their own."""
    if isinstance(block, dict) and block.get("type") == "tool_result":
        return [
            {"cache_control": part["cache_control"]}
            for part in _content(block.get("content"))
            if isinstance(part, dict) and part.get("cache_control")
        ]
    return []
