"""The content encodings that an answer can be sent in."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def _brotli(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=5))


ENCODERS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"gzip": lambda data: gzip.compress(data, 1, mtime=0), "br": _brotli, "zstd": zstd.compress}
)
