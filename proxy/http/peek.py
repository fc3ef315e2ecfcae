"""Reads from a request's body what decides its cost: models, max_tokens, speed. The body itself passes unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from proxy.http.body import Body
from proxy.http.decoding import decoded

AT_ONCE_BYTES = 256 * 1024
"""Up to this size a body is parsed on the event loop: that takes about 1 ms, less than to use a thread."""

MOST_BYTES = 32 * 1024 * 1024
"""The largest body that is parsed, after decoding; the API accepts no larger one."""

MAX_MODEL = 256
"""The longest name of a model that is read; clients may send anything."""

MOST_TOKENS = 1_000_000
"""Assumed for a `max_tokens` that is larger or no integer, since the upstream may accept it. No model writes more."""

_PLAIN = ("", "identity")


@dataclass(frozen=True, slots=True)
class Peek:
    """Members of a JSON body; None if missing, or if the body cannot be read.

    `others`: further models that may do a part of the work (server-side fallbacks, an advisor). `max_tokens`: the
    highest one that is named. `fast`: whether any of the models may run fast. `size`: bytes of the decoded body; None
    if it cannot be read.
    """

    model: str | None = None
    others: tuple[str, ...] = ()
    max_tokens: int | None = None
    fast: bool = False
    size: int | None = None


async def peek(body: Body | None, content_encoding: str = "") -> Peek:
    """Parse a body; a large or compressed one in a thread."""
    if body is None or not 0 < body.size <= MOST_BYTES:
        return Peek()
    encoding = content_encoding.strip().lower()
    if body.size <= AT_ONCE_BYTES and encoding in _PLAIN:
        return _read(body.open(), encoding)
    return await body.read_in_thread(partial(_read, encoding=encoding))


def _read(source: bytes | BinaryIO, encoding: str) -> Peek:
    try:
        data = decoded(source if isinstance(source, bytes) else source.read(), encoding, MOST_BYTES)
        value = json.loads(data)
    except (ValueError, RecursionError):
        return Peek()  # the upstream answers what is wrong with it
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
    """The request, and each of its parts that names its own model.

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
