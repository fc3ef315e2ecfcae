"""Content encodings undone: whole, cut, broken and too large."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd

from proxy.http.decoding import MOST_MEMBERS, TooLarge, Undecodable, decoded, decoded_pieces

TEXT = b'{"a": "' + b"some words, " * 100 + b'"}'

Encode = Callable[[bytes], bytes]


def bare_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


ENCODED: list[tuple[str, Encode]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    ("deflate", zlib.compress),
    ("deflate", bare_deflate),
    ("deflate", gzip.compress),
    ("br", brotli.compress),
    ("zstd", zstd.compress),
]


@pytest.mark.parametrize(("encoding", "encode"), [("", bytes), ("identity", bytes), *ENCODED])
def test_each_encoding_is_undone(encoding: str, encode: Encode) -> None:
    assert decoded(encode(TEXT), encoding, len(TEXT), whole=True) == TEXT


@pytest.mark.parametrize(("encoding", "encode"), [("", bytes), *ENCODED])
def test_more_than_was_asked_for_is_an_error(encoding: str, encode: Encode) -> None:
    with pytest.raises(TooLarge):
        decoded(encode(TEXT), encoding, len(TEXT) - 1)


@pytest.mark.parametrize(("encoding", "encode"), ENCODED)
def test_a_cut_end_is_an_error_only_to_who_needs_the_whole(encoding: str, encode: Encode) -> None:
    cut = encode(TEXT)[:-1]
    assert TEXT.startswith(decoded(cut, encoding, len(TEXT)))
    with pytest.raises(Undecodable):
        decoded(cut, encoding, len(TEXT), whole=True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_bytes_that_are_not_in_the_encoding_are_an_error(encoding: str) -> None:
    with pytest.raises(Undecodable):
        decoded(b"\xff no such thing \xff" * 9, encoding, 1 << 20)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "compress", "GZIP"])
def test_an_unknown_encoding_is_an_error(encoding: str) -> None:
    with pytest.raises(Undecodable):
        decoded(TEXT, encoding, 1 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_nothing_decodes_to_nothing(encoding: str) -> None:
    assert decoded(b"", encoding, 0) == b""


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zstd, skippable"])
def test_a_body_of_more_members_than_anybody_writes_is_not_read(kind: str) -> None:
    encoding = kind.partition(",")[0]
    skippable = b"\x50\x2a\x4d\x18" + bytes(4)
    empty = {"gzip": gzip.compress(b""), "zstd": zstd.compress(b""), "zstd, skippable": skippable}[kind]
    assert decoded(empty * MOST_MEMBERS, encoding, 1) == b""
    with pytest.raises(Undecodable):
        decoded(empty * (MOST_MEMBERS + 1), encoding, 1)
    with pytest.raises(Undecodable):
        for _ in decoded_pieces([empty] * (MOST_MEMBERS + 1), encoding):
            pass
