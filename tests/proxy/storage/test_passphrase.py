"""The file that a passphrase opens: others can read it by its description, and nothing in it is taken on trust."""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import Unprocessable
from proxy.storage import passphrase as sealed
from proxy.storage.passphrase import seal, unseal
from proxy.storage.protocols import Record

PASSPHRASE = "schöne fünf Wörter"
ACCOUNT: Record = {"id": "acc_1", "credential": {"api_key": "sk-ant-api03-canary"}, "note": "ünï"}


def test_the_file_is_opened_by_its_description_alone() -> None:
    file = seal({"accounts": [ACCOUNT]}, PASSPHRASE)
    assert {name: file[name] for name in sealed.HEAD} == {
        "format": "claude-proxy backup", "version": 1, "kdf": "scrypt", "n": 65536, "r": 8, "p": 2,
        "cipher": "AES-256-GCM",
    }  # fmt: skip
    salt, nonce, content = (base64.b64decode(file[name]) for name in ("salt", "nonce", "content"))
    key = hashlib.scrypt(PASSPHRASE.encode(), salt=salt, n=65536, r=8, p=2, maxmem=2**27, dklen=32)
    associated = json.dumps([*sealed.HEAD.values(), salt.hex()]).encode()
    assert json.loads(AESGCM(key).decrypt(nonce, content, associated)) == {"accounts": [ACCOUNT]}


def test_the_same_words_of_another_keyboard_open_it() -> None:
    file = seal({"accounts": [ACCOUNT]}, unicodedata.normalize("NFD", PASSPHRASE))
    assert unseal(file, PASSPHRASE) == {"accounts": [ACCOUNT]}


def test_two_files_of_the_same_have_nothing_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "HEAD", sealed.HEAD | {"n": 1024})
    one, other = (seal({"accounts": [ACCOUNT]}, PASSPHRASE) for _ in range(2))
    assert all(one[name] != other[name] for name in ("salt", "nonce", "content"))


@pytest.mark.parametrize(
    "content", [b"[]", b'{"accounts": 5}', b"x", b"\xff", b'{"accounts": ["\\ud800"]}', b"[" * 9999]
)
def test_content_that_is_none_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "HEAD", sealed.HEAD | {"n": 1024})
    with pytest.raises(Unprocessable, match="its content is none"):
        unseal(sealed.encrypt(content, PASSPHRASE), PASSPHRASE)


def test_a_file_that_asks_for_more_memory_is_refused_before_it_gets_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = seal({"accounts": []}, PASSPHRASE)
    monkeypatch.delattr("hashlib.scrypt")
    for name in ("n", "r", "p"):
        with pytest.raises(Unprocessable, match="not the members"):
            unseal(file | {name: 2**30}, PASSPHRASE)
