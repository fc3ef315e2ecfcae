"""A file of records that a passphrase opens: scrypt (RFC 7914) makes the key, AES-256-GCM encrypts.

`{"format": "claude-proxy backup", "version": 1, "kdf": "scrypt", "n": 65536, "r": 8, "p": 2, "cipher": "AES-256-GCM",
"salt": …, "nonce": …, "content": …}`, the last three as base64. The content is JSON: records by their kind. Version 1
has just these parameters: a file that asks for others, which could take any memory, is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic_core import from_json

from proxy.errors import Unprocessable
from proxy.storage.protocols import Kind, Record

LEAST_PASSPHRASE: Final = 12
MOST_PASSPHRASE: Final = 1024

HEAD: Final[dict[str, str | int]] = {
    "format": "claude-proxy backup",
    "version": 1,
    "kdf": "scrypt",
    "n": 65536,
    "r": 8,
    "p": 2,
    "cipher": "AES-256-GCM",
}
"""One guess costs 64 MiB and some 0.5 s (OWASP Password Storage Cheat Sheet, "scrypt")."""

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
MEMORY_BYTES: Final = 128 * 1024 * 1024
"""What scrypt may take at most: its 128 * n * r, and room for what OpenSSL adds."""

Records = Mapping[Kind, Sequence[Record]]


def check_passphrase(text: str) -> str:
    """The passphrase. Raises Unprocessable, which does not repeat it, if it is too short to protect anything."""
    if not LEAST_PASSPHRASE <= len(text) <= MOST_PASSPHRASE:
        raise Unprocessable(
            f"passphrase: {LEAST_PASSPHRASE} to {MOST_PASSPHRASE} characters are needed, such as five words"
        )
    return text


def seal(records: Records, passphrase: str) -> dict[str, Any]:
    """The file with these records. Raises Unprocessable. As costly as `encrypt`."""
    return encrypt(json.dumps(records, ensure_ascii=False, allow_nan=False).encode(), passphrase)


def unseal(file: Mapping[str, Any], passphrase: str) -> Records:
    """The records in the file, also those of an unknown kind. Raises as `decrypt` does, and is as costly."""
    try:
        # It takes no lone surrogate, which could not be stored.
        records = from_json(decrypt(file, passphrase), allow_inf_nan=False)
    except ValueError:
        records = None
    if not isinstance(records, dict) or not all(isinstance(each, list) for each in records.values()):
        raise Unprocessable("file: its content is none that this program writes")
    return records


def encrypt(content: bytes, passphrase: str) -> dict[str, Any]:
    """The file with this content. It takes half a second and 64 MiB: call it in another thread."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # it takes 24 ms and 9 MB

    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    key = _key(check_passphrase(passphrase), salt)
    parts = {"salt": salt, "nonce": nonce, "content": AESGCM(key).encrypt(nonce, content, _associated(salt))}
    return HEAD | {name: base64.b64encode(part).decode() for name, part in parts.items()}


def decrypt(file: Mapping[str, Any], passphrase: str) -> bytes:
    """The content of the file. As costly as `encrypt`.

    Raises Unprocessable if it is no such file, or the passphrase does not open it; no error repeats any of it.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce, sealed = _parts(file)
    key = _key(check_passphrase(passphrase), salt)
    try:
        return AESGCM(key).decrypt(nonce, sealed, _associated(salt))
    except InvalidTag:
        raise Unprocessable("the passphrase is not the file's, or the file was changed") from None


def _parts(file: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    version = file.get("version")
    if file.get("format") != HEAD["format"]:
        raise Unprocessable("file: it is no export of accounts, nor a backup")
    if type(version) is int and version > 1:
        raise Unprocessable(f"file: it has version {version}, which a newer program wrote")
    parts = [file.get(name) for name in ("salt", "nonce", "content")]
    head = {name: value for name, value in file.items() if name in HEAD}
    if head != HEAD or not all(isinstance(part, str) for part in parts):
        raise Unprocessable("file: it has not the members that an export has")
    try:
        salt, nonce, sealed = (base64.b64decode(str(part), validate=True) for part in parts)
    except ValueError:
        raise Unprocessable("file: a part of it is no base64") from None
    if (len(salt), len(nonce)) != (SALT_BYTES, NONCE_BYTES):
        raise Unprocessable("file: its salt or its nonce has another length")
    return salt, nonce, sealed


def _key(passphrase: str, salt: bytes) -> bytes:
    # Composed, so that the same word of another keyboard is the same (RFC 8265 §4.2). OpenSSL lets other threads run.
    composed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    n, r, p = (int(HEAD[name]) for name in ("n", "r", "p"))
    return hashlib.scrypt(composed, salt=salt, n=n, r=r, p=p, maxmem=MEMORY_BYTES, dklen=32)


def _associated(salt: bytes) -> bytes:
    """What is authenticated with the content."""
    return json.dumps([*HEAD.values(), salt.hex()]).encode()
