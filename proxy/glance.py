"""What the proxy has to know of a request's body, which otherwise passes unread: what it may cost."""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from proxy.body import Body

IN_A_THREAD_ABOVE_BYTES = 256 * 1024
"""Below, `json.loads` takes less than a thread's detour and about a millisecond of the loop."""

MAX_DECODED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Glance:
    """Members of a JSON body; None where there is none, or where it cannot be read."""

    model: str | None = None
    max_tokens: int | None = None
    fast: bool = False


async def glance(body: Body | None, content_encoding: str = "") -> Glance:
    """Look into a body, of which a large one is read in a thread."""
    if body is None or not body.size:
        return Glance()
    encoding = content_encoding.strip().lower()
    if body.size <= IN_A_THREAD_ABOVE_BYTES and encoding in ("", "identity"):
        return _read(body.open(), encoding)
    return await asyncio.get_running_loop().run_in_executor(None, _read, body.open(), encoding)


def _read(source: BinaryIO, encoding: str) -> Glance:
    try:
        value = json.loads(_decoded(source.read(), encoding))
    except (ValueError, RecursionError, zlib.error):
        return Glance()  # what is wrong with it is for the upstream to say
    if not isinstance(value, dict):
        return Glance()
    model, most = value.get("model"), value.get("max_tokens")
    return Glance(
        model if isinstance(model, str) else None,
        most if isinstance(most, int) and not isinstance(most, bool) and most >= 0 else None,
        value.get("speed") == "fast",
    )


def _decoded(data: bytes, encoding: str) -> bytes:
    match encoding:
        case "" | "identity":
            return data
        case "gzip" | "x-gzip" | "deflate":
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # finds out which of the two it is
            return unpacker.decompress(data, MAX_DECODED_BYTES)
    raise ValueError("an encoding that cannot be read here")
