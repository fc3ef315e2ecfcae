"""Encryption at rest: the envelope around the content of a file that holds credentials, AES-256-GCM.

The file's name, its generation and the key's id are authenticated with the content, so that no file can stand in for
another. Each write has a fresh random nonce of 96 bits: one key is good for 2^32 writes (NIST SP 800-38D §8.3), which
is one every five seconds for 680 years.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import StorageError
from proxy.storage import codec
from proxy.storage.codec import SEALED_VERSION, Document

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER: Final = "AES-256-GCM"
NONCE_BYTES: Final = 12
HEAD_BYTES: Final = 128
"""So many bytes of a file say whether it is encrypted, and with which key."""
SEALED: Final = re.compile(rb'\{"version": %d\b' % SEALED_VERSION)
HEAD: Final = {"version": int, "cipher": str, "key": str, "name": str, "generation": int}
MEMBERS: Final = HEAD | {"nonce": str, "content": str, "crc32": int}


@dataclass(frozen=True, slots=True)
class Opened:
    """The content of an envelope, and the file that it was written for, relative to the data folder."""

    name: str
    generation: int
    content: bytes = field(repr=False)


class Keyring:
    """Writes and reads the content of files: with a key encrypted, without one plain.

    `key` and the `old` ones have 32 bytes each. Files that are plain or encrypted with an old key can be read too.
    """

    def __init__(self, key: bytes | None = None, old: Sequence[bytes] = ()) -> None:
        self._key = key
        self.id = None if key is None else key_id(key)
        self.old = [key_id(each) for each in old]
        self._ciphers = {key_id(each): _cipher(each) for each in (*old, *([key] if key else []))}

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def encode(self, document: Document, name: str) -> bytes:
        """The bytes of the file `name`, which is relative to the data folder; a backup has its file's name."""
        return self.seal(codec.encode(document), name, document.generation)

    def encode_lines(self, generation: int, records: Iterable[bytes], name: str) -> Iterator[bytes]:
        """`encode` for records that are lines already, as `codec.to_line` makes them; in pieces."""
        pieces = codec.encode_lines(generation, records)
        return iter(pieces if self._key is None else self._sealed(self._key, pieces, name, generation))

    def decode(self, data: bytes, name: str, shown: str) -> Document:
        """The document in the file `name`, which errors call `shown`.

        Raises ValueError if it is not exactly what was written for this file, StorageError if no key opens it or a
        newer version wrote it.
        """
        if not is_sealed(data):
            return codec.decode(data, shown)
        opened = self.open(data, shown)
        if opened.name != name:
            raise ValueError(f"it is the content of {opened.name}")
        document = codec.decode(opened.content, shown)
        if document.generation != opened.generation:
            raise ValueError("its generation is not that of its content")
        return document

    def seal(self, content: bytes, name: str, generation: int) -> bytes:
        """The content in an envelope; as it is if there is no key."""
        return (
            content if self._key is None else b"".join(self._sealed(self._key, [content], name, generation))
        )

    def _sealed(self, key: bytes, content: Iterable[bytes], name: str, generation: int) -> list[bytes]:
        """An envelope in pieces. To encrypt or write 20 MB in one call would hold all threads until it is done."""
        head = {
            "version": SEALED_VERSION,
            "cipher": CIPHER,
            "key": self.id,
            "name": name,
            "generation": generation,
        }
        nonce = os.urandom(NONCE_BYTES)
        pieces = list(_encrypted(key, nonce, _associated(head), content))
        head["nonce"] = _base64(nonce)
        start = json.dumps(head | {"crc32": _crc32(head, pieces)})
        return [f'{start[:-1]}, "content": "'.encode(), *pieces, b'"}\n']

    def open(self, data: bytes, shown: str) -> Opened:
        """The content of an envelope. Raises as `decode`."""
        envelope = _parse(data)
        key = envelope["key"]
        if key not in self._ciphers:
            raise StorageError(self._unknown(key, shown))
        from cryptography.exceptions import InvalidTag

        nonce, sealed = base64.b64decode(envelope["nonce"]), base64.b64decode(envelope["content"])
        try:
            content = self._ciphers[key].decrypt(nonce, sealed, _associated(envelope))
        except (InvalidTag, ValueError):
            raise ValueError("it was changed since it was encrypted") from None
        return Opened(envelope["name"], envelope["generation"], content)

    def writes_as(self, head: bytes) -> bool:
        """Whether a file that begins so is encrypted with the present key, or plain if there is none."""
        if self.id is None:
            return not is_sealed(head)
        return head.startswith(
            f'{{"version": {SEALED_VERSION}, "cipher": "{CIPHER}", "key": "{self.id}", '.encode()
        )

    def _unknown(self, key: str, shown: str) -> str:
        known = f"what is set is that of id {' and '.join(self._ciphers)}" if self else "no key is set"
        return (
            f"{shown} is encrypted with the key of id {key}, and {known}: set that key as storage.encryption_key to go "
            "on with it, or as storage.encryption_key_old to replace it; if it is lost, start with an empty "
            "storage.data_folder"
        )


def key_id(key: bytes) -> str:
    """What a key is called in files and messages: 16 hex digits that say nothing of it."""
    return hashlib.sha256(b"claude-proxy storage key id\0" + key).hexdigest()[:16]


def is_sealed(data: bytes) -> bool:
    """Whether the data, or data that begins so, is an envelope, be it whole or damaged."""
    return SEALED.match(data) is not None


def _cipher(key: bytes) -> AESGCM:
    # Imported if there is a key: it takes 24 ms and 9 MB.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _encrypted(key: bytes, nonce: bytes, associated: bytes, content: Iterable[bytes]) -> Iterator[bytes]:
    """What AESGCM makes of the content, in base64."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(associated)
    rest = b""
    for piece in content:
        data = rest + encryptor.update(piece)
        whole = len(data) - len(data) % 3
        yield base64.b64encode(data[:whole])
        rest = data[whole:]
    yield base64.b64encode(rest + encryptor.finalize() + encryptor.tag)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _associated(envelope: dict[str, Any]) -> bytes:
    """What is authenticated with the content."""
    return json.dumps([envelope[name] for name in HEAD]).encode()


def _parse(data: bytes) -> dict[str, Any]:
    """The members of an envelope. Raises ValueError unless all of them are as they were written."""
    try:
        envelope = codec.from_text(data.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(envelope, dict) or {name: type(value) for name, value in envelope.items()} != MEMBERS:
        raise ValueError("it has not the members that an encrypted file has")
    # The checksum tells damage, for which a backup serves, from a wrong key, for which it would not.
    if envelope["crc32"] != _crc32(envelope, [envelope["content"].encode()]):
        raise ValueError("its checksum is wrong, and an encrypted file cannot be edited by hand")
    return envelope


def _crc32(envelope: dict[str, Any], content: Iterable[bytes]) -> int:
    crc = zlib.crc32(json.dumps([envelope[name] for name in (*HEAD, "nonce")]).encode())
    for piece in content:
        crc = zlib.crc32(piece, crc)
    return crc
