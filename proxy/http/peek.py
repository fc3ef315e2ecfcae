"""What the proxy has to know of a request's body, which otherwise passes unread: what it may cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from proxy.http.body import Body
from proxy.http.decoding import decoded

AT_ONCE_BYTES = 256 * 1024
"""Below, `json.loads` takes less than a thread's detour and about a millisecond of the loop."""

MOST_BYTES = 32 * 1024 * 1024
"""Of a body, decoded, that is read; the API takes no larger one."""

MAX_MODEL = 256
"""A longer name is no model's, and clients may send anything."""

MOST_TOKENS = 1_000_000
"""For a `max_tokens` that is larger, or no whole number, which the upstream may yet take for one: no model writes
more."""

_PLAIN = ("", "identity")


@dataclass(frozen=True, slots=True)
class Peek:
    """Members of a JSON body; None where there is none, or where it cannot be read.

    `others` are models that may do a part of it: server-side fallbacks, and an advisor's. `max_tokens` is the highest
    that is named, and `fast` whether any of them may be fast. `size` is the body's in bytes, decoded; None where it
    cannot be read.
    """

    model: str | None = None
    others: tuple[str, ...] = ()
    max_tokens: int | None = None
    fast: bool = False
    size: int | None = None


async def peek(body: Body | None, content_encoding: str = "") -> Peek:
    """Look into a body, of which a large one is read in a thread."""
    if body is None or not 0 < body.size <= MOST_BYTES:
        return Peek()
    encoding = content_encoding.strip().lower()
    if body.size <= AT_ONCE_BYTES and encoding in _PLAIN:
        return _read(body.open(), encoding)
    return await asyncio.get_running_loop().run_in_executor(None, _read, body.open(), encoding)


def _read(source: bytes | BinaryIO, encoding: str) -> Peek:
    try:
        data = decoded(source if isinstance(source, bytes) else source.read(), encoding, MOST_BYTES)
        value = json.loads(data)
    except (ValueError, RecursionError):
        return Peek()  # what is wrong with it is for the upstream to say
    if not isinstance(value, dict):
        return Peek()
    parts = list(_parts(value))
    most = [_tokens(part["max_tokens"]) for part in parts if part.get("max_tokens") is not None]
    others = [_model(part.get("model")) or "" for part in parts[1:]]
    return Peek(
        model=_model(value.get("model")),
        others=(*others, "default") if value.get("fallbacks") == "default" else tuple(others),
        max_tokens=max(most, default=None),
        fast=any(part.get("speed") == "fast" for part in parts),
        size=len(data),
    )


def _parts(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The request, and what in it names a model of its own.

    platform.claude.com/docs/en/build-with-claude/refusals-and-fallback, …/agents-and-tools/tool-use/advisor-tool
    """
    yield value
    for name in ("fallbacks", "tools"):
        found = value.get(name)
        for part in found if isinstance(found, list) else ():
            if isinstance(part, dict) and "model" in part:
                yield part


def _model(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_MODEL else None


def _tokens(value: object) -> int:
    return min(max(value, 0), MOST_TOKENS) if type(value) is int else MOST_TOKENS
