"""The format of a file of records: JSON with version, generation and checksum, one record per line, strictly read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice, starmap
from json.encoder import encode_basestring_ascii
from typing import Any

from proxy.errors import StorageError
from proxy.storage.protocols import Record

VERSION = 1
SEALED_VERSION = 2
"""The version of an envelope, in which a document is encrypted: see `envelope`."""

PIECE = 1000
"""So many lines are put together at once."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file: each record as its JSON text, by id; a higher generation was written later."""

    generation: int
    records: Mapping[str, str] = field(repr=False)
    by_hand: bool = False  # it carried no checksum


def to_text(record: Record) -> str:
    """The record as one line of JSON. Raises TypeError or ValueError if it could not be read back."""
    text = to_text_unread(record)
    from_text(text)  # the keys 1 and "1" would both be written as "1"
    return text


def to_text_unread(record: Record) -> str:
    """`to_text` without reading it back, which takes most of the time: for what is written often and disposable."""
    if not isinstance(record, dict):
        raise TypeError("a record is a JSON object")
    text = _ENCODER.encode(record)
    text.encode()  # raises for a lone surrogate, which UTF-8 cannot encode
    return text


def from_text(text: str) -> Any:
    """Parse strict JSON. Raises ValueError for a duplicate key."""
    return json.loads(text, object_pairs_hook=_unique)


def encode(document: Document) -> bytes:
    """The bytes of the file: `{"version": 1, "generation": 7, "crc32": …, "records": {"<id>": {…}}}`."""
    return b"".join(encode_lines(document.generation, starmap(to_line, document.records.items())))


def to_line(id: str, text: str) -> bytes:
    """A record as it stands in a file: `"<id>": {…}`."""
    # The id as json.dumps writes it, which takes ten times as long: a file may have 100,000.
    return f"{encode_basestring_ascii(id)}: {text}".encode()


def encode_lines(generation: int, records: Iterable[bytes]) -> list[bytes]:
    """The bytes of a file of records that are lines already, as `to_line` makes them.

    In pieces, so that of 20 MB there are no copies, nor one call that holds all threads until it is done.
    """
    lines = _pieces(records)
    head = f'"version": {VERSION}, "generation": {generation}, "crc32": {_crc32(generation, lines)}'
    return [f'{{{head}, "records": {{\n'.encode(), *lines, b"\n}}\n"]


def decode(data: bytes, name: str) -> Document:
    """The document in `data`; `name` is the file's, for errors.

    Raises ValueError if it is not exactly what was written, StorageError if a newer version wrote it.
    A document without the member `crc32` is taken as edited by hand.
    """
    try:
        value = from_text(data.decode())
        records = _shaped(value, name)
        document = Document(
            value["generation"], {id: to_text(r) for id, r in records.items()}, by_hand="crc32" not in value
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        # A new error without a cause: JSONDecodeError carries the whole text, which may hold credentials.
        raise ValueError(str(error) if data else "it is empty") from None
    if not document.by_hand and value["crc32"] != _crc32(
        document.generation, _pieces(starmap(to_line, document.records.items()))
    ):
        raise ValueError('its checksum is wrong; after an edit by hand, take its "crc32" member out')
    return document


def _shaped(value: Any, name: str) -> dict[str, Record]:
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    version = value.get("version")
    if type(version) is int and version > SEALED_VERSION:
        raise StorageError(
            f"{name} has version {version}, and this program knows versions up to {SEALED_VERSION}: start the newer "
            "program that wrote it, or restore the data folder from before it"
        )
    records = value.get("records")
    if (
        value.keys() - {"crc32"} != {"version", "generation", "records"}
        or type(version) is not int
        or version != VERSION
        or type(value["generation"]) is not int
        or value["generation"] < 0
        or not isinstance(records, dict)
        or not all(isinstance(record, dict) for record in records.values())
    ):
        raise ValueError("it has not the members that such a file has")
    return records


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _pieces(records: Iterable[bytes]) -> list[bytes]:
    """The lines, with commas between them."""
    each, pieces = iter(records), list[bytes]()
    while some := tuple(islice(each, PIECE)):
        pieces += (b",\n", b",\n".join(some)) if pieces else (b",\n".join(some),)
    return pieces


def _crc32(generation: int, lines: Iterable[bytes]) -> int:
    # Computed over the parsed records, serialised again: whitespace does not matter, and every value does.
    crc = zlib.crc32(f"{VERSION} {generation}\n".encode())
    for piece in lines:
        crc = zlib.crc32(piece, crc)
    return crc
