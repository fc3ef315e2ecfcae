"""Backups: accounts and client keys of a data folder in one file that a passphrase opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proxy.errors import StartError, StorageError, Unprocessable
from proxy.storage import files
from proxy.storage.layout import checked
from proxy.storage.passphrase import HEAD, Records, seal, unseal
from proxy.storage.protocols import Kind, Reader, Record, Storage

KINDS: Final[tuple[Kind, ...]] = ("accounts", "tokens")
MOST_BYTES: Final = 512 * 1024 * 1024
"""Of a file: 700,000 client keys. To write or to read one takes some five times as much memory."""


def write(file: Path, records: Mapping[Kind, Mapping[str, Record]], passphrase: str) -> None:
    """Write the file, durably; one that is there already is not replaced. Raises StartError."""
    if file.exists() or file.is_symlink():
        raise StartError(f"{file} is there already: name a new file")
    sealed = seal({kind: list(records.get(kind, {}).values()) for kind in KINDS}, passphrase)
    data = json.dumps(sealed).encode()
    if len(data) > MOST_BYTES:
        raise StartError(
            f"{file} would be larger than {MOST_BYTES} bytes, and not be read again: stop the proxy and copy its data "
            "folder instead"
        )
    try:
        files.replace(file.absolute(), data, durable=True)
    except OSError as error:
        raise StartError(f"{file} cannot be written: {files.told(error)}") from None


def read(file: Path, passphrase: str, readers: Mapping[Kind, Reader]) -> Records:
    """The records in a file, each of them checked. Raises StartError, which names the file."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise StartError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise StartError(f"{file} is larger than {MOST_BYTES} bytes: it is no backup")
    try:
        records = unseal(_object(data), passphrase)
        found: Records = {kind: records.get(kind, []) for kind in KINDS}
        for kind, each in found.items():
            for record in each:
                readers[kind](checked(_id(record)), record)
    except Unprocessable as error:
        raise StartError(f"{file}: {error}") from None
    except ValueError as error:
        raise StartError(f"{file} holds a record that cannot be read: {error}") from None
    return found


def is_one(document: object) -> bool:
    """Whether this is the JSON of a backup or an export."""
    return isinstance(document, Mapping) and document.get("format") == HEAD["format"]


async def fill(storage: Storage, records: Records) -> None:
    """Put the records into a storage that has none of these ids. Raises StorageError."""
    for kind, each in records.items():
        await storage.put_new(kind, {_id(record): record for record in each})
    if storage.degraded:
        raise StorageError("the data folder does not take everything: see its disk, and try again")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Unprocessable("it is not JSON") from None
    if not isinstance(value, dict):
        raise Unprocessable("it is no JSON object")
    return value


def _id(record: object) -> str:
    id = record.get("id") if isinstance(record, dict) else None
    return id if isinstance(id, str) else ""
