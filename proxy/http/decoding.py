"""Streaming decoders for content encodings (RFC 9110 §8.4.1), which give pieces of a bounded size."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

PIECE_BYTES = 64 << 10

FREE_BYTES = 1 << 20
MAX_RATIO = 100
"""The largest ratio of compression beyond the first `FREE_BYTES`. A higher one is a decompression bomb: events that are
sent one by one reach about 10, text in JSON about 4."""

MOST_MEMBERS = 1000
"""The most members of a gzip body, or frames of a zstd one: compressors that work in parallel make 500 of 32 MB. One
takes 10 µs, however small it is, and can have 8 bytes: 64 KB of them took 0.1 s."""

ERRORS = (zlib.error, brotli.error, ZstdError)
"""What `decode` raises if the bytes are not in that encoding."""


class Undecodable(ValueError):
    """The encoding is not known here, or the bytes are not in it."""


class TooLarge(Undecodable):
    """The decoded data is larger than allowed."""


_BY_HEADER = 32 + zlib.MAX_WBITS  # gzip or zlib's format, as its header says
_ZSTD_WINDOW_LOG = 23  # RFC 9659 §3: at most 8 MB


class Decoder(Protocol):
    """Decodes one body."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """The decoded form of the next bytes; a few kB may be held back until more come."""

    @property
    def ended(self) -> bool:
        """Whether the encoded data is complete."""


def decoded(data: bytes, encoding: str, most_bytes: int, *, whole: bool = False) -> bytes:
    """`data` without its content encoding. With `whole`, data that is cut at its end is refused.

    Raises TooLarge if there are more than `most_bytes`, else Undecodable.
    """
    unpacker = decoder(encoding)
    if unpacker is None:
        raise Undecodable("an encoding that cannot be read here")
    if type(unpacker) is Identity and len(data) <= most_bytes:
        return data
    found = bytearray()
    try:
        for piece in unpacker.decode(data):
            if len(found) + len(piece) > most_bytes:
                raise TooLarge(f"more than {most_bytes} bytes")
            found += piece
    except ERRORS as error:
        raise Undecodable(f"not {encoding}") from error
    if whole and not unpacker.ended:
        raise Undecodable("its end is missing")
    return bytes(found)


def decoded_pieces(encoded: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The pieces of some data without their content encoding, each of a bounded size if its own is.

    Raises TooLarge if the data expands beyond `MAX_RATIO`, else Undecodable.
    """
    unpacker = decoder(encoding)
    if unpacker is None:
        raise Undecodable("an encoding that cannot be read here")
    room = FREE_BYTES
    try:
        for data in encoded:
            room += MAX_RATIO * len(data)
            for piece in unpacker.decode(data):
                room -= len(piece)
                if room < 0:
                    raise TooLarge(f"{MAX_RATIO} times as large as it was sent")
                yield piece
    except ERRORS as error:
        raise Undecodable(f"not {encoding}") from error


def decoder(encoding: str) -> Decoder | None:
    """The decoder for a content coding in lower case; None if it is unknown, or if there are several."""
    match encoding:
        case "" | "identity":
            return Identity()
        case "gzip" | "x-gzip":
            return Zlib(_BY_HEADER)
        case "deflate":
            return Zlib(None)
        case "br":
            return Brotli()
        case "zstd":
            return Zstd()
    return None


class Identity:
    """No encoding."""

    ended = True

    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data


class Zlib:
    """gzip with all its members (RFC 1952 §2.2), or deflate if `wbits` is None."""

    def __init__(self, wbits: int | None) -> None:
        self._wbits = wbits
        self._stream: zlib._Decompress | None = None
        self._members = 0

    @property
    def ended(self) -> bool:
        return self._stream is not None and self._stream.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._wbits is None:
                # RFC 9110 §8.4.1.2 wants the zlib format, whose first byte ends with the method, 8. Some servers
                # send raw deflate instead; others gzip, whose first byte no raw deflate begins with.
                self._wbits = _BY_HEADER if data[0] & 0x0F == 8 or data[0] == 0x1F else -zlib.MAX_WBITS
            if self._stream is None or self._stream.eof:
                self._members += 1
                if self._members > MOST_MEMBERS:
                    raise zlib.error("too many members")
                self._stream = zlib.decompressobj(self._wbits)
            piece = self._stream.decompress(data, PIECE_BYTES)
            yield piece
            while len(piece) == PIECE_BYTES:
                piece = self._stream.decompress(self._stream.unconsumed_tail, PIECE_BYTES)
                yield piece
            data = self._stream.unused_data


class Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._stream.is_finished())

    def decode(self, data: bytes) -> Iterator[bytes]:
        piece = self._stream.process(data, output_buffer_limit=PIECE_BYTES)
        # It may accept more while it still holds output back.
        while piece or not self._stream.can_accept_more_data():
            yield piece
            piece = self._stream.process(b"", output_buffer_limit=PIECE_BYTES)


class Zstd:
    """RFC 8878, with all its frames."""

    def __init__(self) -> None:
        self._stream = self._frame()
        self._frames = 1

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def _frame(self) -> ZstdDecompressor:
        return ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                self._frames += 1
                if self._frames > MOST_MEMBERS:
                    raise ZstdError("too many frames")
                self._stream = self._frame()
            yield self._stream.decompress(data, PIECE_BYTES)
            while not (self._stream.needs_input or self._stream.eof):
                yield self._stream.decompress(b"", PIECE_BYTES)
            data = self._stream.unused_data if self._stream.eof else b""
