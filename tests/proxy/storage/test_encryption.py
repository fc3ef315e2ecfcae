"""With a key, no file tells a credential, no damage or exchange goes unnoticed, and no start without the key harms."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.codec import Document, to_line
from proxy.storage.codec import encode as encode_plain
from proxy.storage.envelope import Keyring, key_id
from proxy.storage.inspection import inspect
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind
from tests.canaries import holders

KEY, NEW_KEY, STRANGE_KEY = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
SECRETS = [f"sk-ant-api03-canary-{n}-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa" for n in range(9)]
DOCUMENT = Document(7, {"a": json.dumps({"key": SECRETS[0]})})
NAME = "accounts/a.json"

FORMER = (
    b'{"version": 2, "cipher": "AES-256-GCM", "key": "187e9263043121ab", "name": "accounts/a.json", "g'
    b'eneration": 7, "crc32": 4251665735, "nonce": "EkwkSWtqvtsS56xv", "content": "1wExalg+DmH9IwAI/9g'
    b"NGp3KXHOeG2ZO08zcxxolm2vFjzERnZpls6z+qw+2CKjrxU8ljMbj1pLCuhq+h7fgZqA64fG+Dmyg9Mbd322Q/JoqDZJUesu"
    b'Vmp0vNPyv2AXmzLc9NIN8/nDImFTcouZNh2cJOlv4DxEqpecOE5cwIX2ls+3c+mX59FembOo0UCvkd+q64G3AxTQnTL8L"}'
    b"\n"
)
"""As it was written before, by AESGCM in one call."""

Open = Callable[..., JsonFiles]


def sealed(document: Document = DOCUMENT, *, key: bytes = KEY, name: str = NAME) -> bytes:
    return Keyring(key).encode(document, name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in the folder but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def kept(folder: Path) -> list[bytes]:
    """The content of every file, and of those in quarantine also what was encrypted."""
    found = list(contents(folder).values())
    for path in (folder / "quarantine").iterdir():
        with contextlib.suppress(ValueError):
            found.append(Keyring(KEY).open(path.read_bytes(), path.name).content)
    return found


def state(folder: Path) -> dict[Path, tuple[int, int, int, bytes]]:
    """Of everything in the folder: inode, mode, time of the last change, content."""
    return {
        path: (s.st_ino, s.st_mode, s.st_ctime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in (folder, *folder.rglob("*"))
        if (s := path.lstat())
    }


def unlocked(folder: Path) -> set[str]:
    """The files that are not encrypted with KEY or NEW_KEY; of the journal, each written half counts."""
    heads = tuple(
        f'{{"version": 2, "cipher": "AES-256-GCM", "key": "{key_id(key)}"'.encode() for key in (KEY, NEW_KEY)
    )
    halves = {
        f"{name}+{start}": data[start : start + 32_768]
        for name, data in contents(folder).items()
        for start in ((0, 32_768) if name == "journal.bin" else (0,))
    }
    return {name for name, half in halves.items() if half.strip(b"\0") and not half.startswith(heads)}


async def fill(storage: JsonFiles) -> None:
    """Two writes of everything, so that there are backups."""
    for n in (0, 1):
        for id in ("a", "b"):
            await storage.put("accounts", id, {"id": id, "key": SECRETS[n]})
        await storage.put("tokens", "t", {"key": SECRETS[2 + n]})
        await storage.put("signins", "s", {"key": SECRETS[4 + n]})
        await storage.update("counters", {"a": {"key": SECRETS[6]}})
        await storage.update("sessions", {"a": {"key": SECRETS[7]}})


async def check(storage: JsonFiles) -> None:
    """All of `fill` is there."""
    kinds: dict[Kind, dict[str, str]] = {
        "accounts": {"a": SECRETS[1], "b": SECRETS[1]},
        "tokens": {"t": SECRETS[3]},
        "signins": {"s": SECRETS[5]},
        "counters": {"a": SECRETS[6]},
        "sessions": {"a": SECRETS[7]},
    }
    for kind, keys in kinds.items():
        assert {id: record["key"] for id, record in (await storage.load(kind)).items()} == keys


@pytest.fixture
def filled(open_files: Open, folder: Path, io_loop: object) -> Path:
    """A closed plain data folder with a secret in each file, also in the journal and in quarantine."""

    async def make() -> None:
        storage = open_files()
        await fill(storage)
        (folder / "tokens.json").rename(folder / "aside")
        (folder / "tokens.json").mkdir()  # cannot be replaced
        await storage.put("tokens", "t", {"key": SECRETS[3]})
        assert storage.degraded
        await storage.close()
        (folder / "tokens.json").rmdir()
        (folder / "aside").rename(folder / "tokens.json")
        damaged = folder / "quarantine" / "damaged.json"
        damaged.write_bytes(f"half of {SECRETS[8]}".encode())
        damaged.chmod(0o600)

    asyncio.run(make())
    assert {path.name for path in holders(folder, SECRETS)} == {
        "a.json", "a.json.bak", "b.json", "b.json.bak", "tokens.json", "tokens.json.bak", "signins.json",
        "signins.json.bak", "counters.json", "sessions.json", "journal.bin", "damaged.json",
    }  # fmt: skip
    return folder


async def opened_once(open_files: Open, *keys: bytes | None) -> JsonFiles:
    """A storage that found everything, closed again."""
    storage = open_files(*keys)
    await check(storage)
    await storage.close()
    return storage


# ---- one file


def test_an_envelope_opens_to_what_was_put_in() -> None:
    assert Keyring(KEY).decode(sealed(), NAME, NAME) == DOCUMENT
    assert Keyring(NEW_KEY, [KEY]).decode(sealed(), NAME, NAME) == DOCUMENT


def test_large_content_is_encrypted_and_written_in_pieces() -> None:
    lines = [to_line(f"tok_{n}", json.dumps({"requests": n, "name": "x" * (n % 7)})) for n in range(20_000)]
    pieces = list(Keyring(KEY).encode_lines(7, lines, NAME))
    assert max(map(len, pieces)) < sum(map(len, pieces)) / 10
    document = Keyring(KEY).decode(b"".join(pieces), NAME, NAME)
    assert [to_line(*item) for item in document.records.items()] == lines


def test_what_the_version_before_has_encrypted_opens() -> None:
    assert Keyring(KEY).decode(FORMER, NAME, NAME) == DOCUMENT


def test_the_same_content_is_never_encrypted_alike() -> None:
    written = {sealed() for _ in range(100)}
    assert len({json.loads(data)["nonce"] for data in written}) == 100


def test_without_a_key_a_file_is_plain_to_the_byte() -> None:
    assert Keyring().encode(DOCUMENT, NAME) == encode_plain(DOCUMENT)
    assert Keyring(None, [KEY]).encode(DOCUMENT, NAME) == encode_plain(DOCUMENT)


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    keyring, data = Keyring(KEY), sealed().rstrip(b"\n")
    cut = [data[:n] for n in range(len(data))]
    flipped = [
        data[:n] + bytes([data[n] ^ 1 << bit]) + data[n + 1 :] for n in range(len(data)) for bit in range(8)
    ]
    for mutated in (*cut, *flipped):
        with pytest.raises((ValueError, StorageError)):
            keyring.decode(mutated, NAME, NAME)


@pytest.mark.parametrize(
    "change",
    [{"generation": 8}, {"name": "accounts/b.json"}, {"nonce": "AAAAAAAAAAAAAAAA"}, {"key": key_id(NEW_KEY)}],
    ids=str,
)
def test_what_is_changed_and_its_checksum_too_is_noticed(change: dict[str, Any]) -> None:
    envelope = json.loads(sealed()) | change
    head = [envelope[name] for name in ("version", "cipher", "key", "name", "generation", "nonce")]
    envelope["crc32"] = crc32(json.dumps(head).encode() + envelope["content"].encode())
    with pytest.raises(ValueError, match="it was changed since it was encrypted"):
        Keyring(NEW_KEY, [KEY]).decode(json.dumps(envelope).encode(), envelope["name"], NAME)


@pytest.mark.parametrize(
    "data",
    [
        b'{"version": 2',
        b'{"version": 2, "cipher": ' + b"[" * 100_000,
        b'{"version": 2}',
        sealed().replace(b"AES-256-GCM", b"ROT13"),
        sealed().replace(b'"generation": 7', b'"generation": true'),
        sealed()[:-2] + b', "more": 1}',
    ],
    ids=range(6),
)
def test_what_is_no_whole_envelope_is_damaged_rather_than_newer(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it has not the members|checksum|deep|delimiter"):
        Keyring(KEY).decode(data, NAME, NAME)


def test_a_file_cannot_stand_in_for_another() -> None:
    with pytest.raises(ValueError, match=r"it is the content of accounts/b\.json"):
        Keyring(KEY).decode(sealed(name="accounts/b.json"), NAME, NAME)


# ---- a folder


async def test_accounts_that_were_exchanged_are_damaged_and_their_backups_serve(
    open_files: Open, folder: Path
) -> None:
    storage = open_files(KEY)
    await fill(storage)
    await storage.close()
    a, b = folder / "accounts/a.json", folder / "accounts/b.json"
    was = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(was)
    storage = open_files(KEY)
    assert {r["id"]: r["key"] for r in (await storage.load("accounts")).values()} == {
        "a": SECRETS[1],
        "b": SECRETS[1],
    }
    assert "accounts/a.json was damaged (it is the content of accounts/b.json)" in str(storage.notices)


async def test_an_older_write_of_a_file_cannot_be_passed_off_as_its_newest(
    open_files: Open, folder: Path
) -> None:
    storage = open_files(KEY)
    path = folder / "accounts/a.json"
    await storage.put("accounts", "a", {"n": 1})
    old = path.read_bytes()
    for n in (2, 3):
        await storage.put("accounts", "a", {"n": n})
    await storage.close()
    newest = json.loads(path.read_bytes())
    path.write_bytes(json.dumps(json.loads(old) | {"generation": newest["generation"] + 1}).encode())
    storage = open_files(KEY)
    assert (await storage.load("accounts"))["a"] == {"n": 3}  # the backup's
    assert "accounts/a.json was damaged" in storage.notices[0]


@pytest.mark.parametrize(
    "keys", [(), (STRANGE_KEY,), (None, STRANGE_KEY)], ids=["none", "other", "old other"]
)
@pytest.mark.parametrize(
    "kept",
    [
        "accounts/a.json",
        "accounts/a.json.bak",
        "tokens.json",
        "counters.json",
        "sessions.json",
        "journal.bin",
    ],
)
async def test_a_start_without_the_key_names_file_key_and_fix_and_changes_nothing(
    open_files: Open, filled: Path, keys: tuple[bytes | None, ...], kept: str
) -> None:
    await opened_once(open_files, KEY)
    for name in contents(filled).keys() - {kept}:
        (filled / name).unlink()
    before = contents(filled)
    with pytest.raises(StorageError) as refused:
        open_files(*keys)
    with pytest.raises(StorageError) as inspected:
        inspect(filled, Keyring(keys[0] if keys else None, keys[1:]))  # type: ignore[arg-type]
    assert str(inspected.value) == str(refused.value)
    told = str(refused.value)
    assert told.startswith(f"{filled / kept} is encrypted with the key of id {key_id(KEY)}, and ")
    assert ("no key is set" if not keys else f"what is set is that of id {key_id(STRANGE_KEY)}") in told
    assert "set that key as storage.encryption_key to go on" in told
    assert all(form not in told for key in (KEY, STRANGE_KEY) for form in (key.hex(), repr(key)))
    assert contents(filled) == before


async def test_a_damaged_file_without_the_key_is_not_taken_for_empty(open_files: Open, filled: Path) -> None:
    await opened_once(open_files, KEY)
    for name in ("accounts/a.json", "counters.json"):
        (filled / name).write_bytes((filled / name).read_bytes()[:-9])
    before = contents(filled)
    with pytest.raises(
        StorageError, match=r"a\.json\.bak is encrypted with the key|journal\.bin is encrypted"
    ):
        open_files()
    assert contents(filled) == before


async def test_turning_it_on_leaves_no_secret_in_any_file(open_files: Open, filled: Path) -> None:
    storage = await opened_once(open_files, KEY)
    assert holders(filled, SECRETS) == []
    assert unlocked(filled) == set()
    assert (
        f"all credentials on disk are encrypted with key {key_id(KEY)} now: files rewritten 12"
        in storage.notices
    )


async def test_while_it_is_on_no_write_leaves_a_secret(open_files: Open, filled: Path) -> None:
    storage = open_files(KEY)
    await fill(storage)
    await storage.delete("accounts", "b")
    (filled / "accounts").rename(filled / "elsewhere")  # so that the next change goes to the journal
    await storage.put("accounts", "a", {"id": "a", "key": SECRETS[1]})
    assert storage.degraded
    (filled / "elsewhere").rename(filled / "accounts")
    assert holders(filled, SECRETS) == [] and unlocked(filled) == set()
    for _ in range(2):  # also after a write that failed
        (filled / "accounts/a.json").write_bytes(encode_plain(DOCUMENT))  # by hand
        await storage.put("accounts", "a", {"id": "a", "key": SECRETS[1]})
        assert holders(filled, SECRETS) == [] and unlocked(filled) == set()
    await storage.close()
    assert holders(filled, SECRETS) == [] and unlocked(filled) == set()


async def test_once_everything_is_encrypted_a_start_rewrites_nothing(open_files: Open, filled: Path) -> None:
    await opened_once(open_files, KEY)
    await opened_once(open_files, KEY)  # the journal's change is in its file now
    before = contents(filled)
    storage = await opened_once(open_files, KEY)
    assert contents(filled) == before
    assert not storage.notices


async def test_after_a_rotation_the_old_key_is_not_needed(open_files: Open, filled: Path) -> None:
    await opened_once(open_files, KEY)
    storage = await opened_once(open_files, NEW_KEY, KEY)
    assert (
        f"all credentials on disk are encrypted with key {key_id(NEW_KEY)} now: files rewritten 12"
        in storage.notices
    )
    assert "storage.encryption_key_old is not needed any more: take it out" in storage.notices
    assert not [name for name, data in contents(filled).items() if key_id(KEY).encode() in data]
    storage = await opened_once(open_files, NEW_KEY)
    assert not storage.notices


async def test_turning_it_off_makes_everything_plain_again(open_files: Open, filled: Path) -> None:
    damaged = filled / "quarantine/damaged.json"
    before = damaged.read_bytes()
    await opened_once(open_files, KEY)
    account = (filled / "accounts/a.json").read_bytes()
    assert damaged.read_bytes() != before
    storage = await opened_once(open_files, None, KEY)
    assert any("on disk are plain now" in notice for notice in storage.notices)
    assert not [name for name, data in contents(filled).items() if data.startswith(b'{"version": 2')]
    assert damaged.read_bytes() == before
    plain = Keyring(KEY).open(account, "a").content
    assert (filled / "accounts/a.json").read_bytes() == plain
    assert not (await opened_once(open_files)).notices


async def test_a_damaged_backup_is_set_aside_and_encrypted_too(open_files: Open, filled: Path) -> None:
    (filled / "accounts/a.json.bak").write_bytes(f"half of {SECRETS[0]}".encode())
    await opened_once(open_files, KEY)
    assert holders(filled, SECRETS) == [] and unlocked(filled) == set()
    assert (filled / "accounts/a.json.bak").exists()  # made anew


@pytest.mark.parametrize("name", ["accounts/a.json.bak", "quarantine/damaged.json"])
async def test_a_spare_file_that_the_disk_cannot_read_does_not_hinder_the_start(
    open_files: Open, filled: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await opened_once(open_files, KEY)
    as_before = os.open

    def failing(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path) == str(filled / name):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return as_before(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", failing)
    await opened_once(open_files, NEW_KEY, KEY)


async def test_what_was_plain_is_overwritten_on_disk(open_files: Open, filled: Path) -> None:
    with (filled / "accounts/a.json").open("rb") as before, (filled / "journal.bin").open("rb") as journal:
        await opened_once(open_files, KEY)
        for old in (before, journal):
            assert (data := old.read()) == bytes(len(data)) and data


async def test_what_was_plain_is_left_if_somebody_has_another_link_to_it(
    open_files: Open, filled: Path, tmp_path: Path
) -> None:
    os.link(filled / "accounts/a.json", tmp_path / "a-backup-of-hard-links")
    before = (tmp_path / "a-backup-of-hard-links").read_bytes()
    await opened_once(open_files, KEY)
    assert (tmp_path / "a-backup-of-hard-links").read_bytes() == before


async def test_a_plain_file_that_is_put_into_an_encrypted_folder_is_told(
    open_files: Open, filled: Path
) -> None:
    await opened_once(open_files, KEY)
    (filled / "accounts/b.json").write_bytes(
        b'{"version": 1, "generation": 90, "records": {"b": {"key": "%s"}}}' % SECRETS[1].encode()
    )
    storage = await opened_once(open_files, KEY)
    assert "accounts/b.json has no checksum: it is taken as edited by hand" in storage.notices
    assert (
        f"all credentials on disk are encrypted with key {key_id(KEY)} now: files rewritten 2"
        in storage.notices
    )
    assert unlocked(filled) == set()


@pytest.mark.parametrize("with_backup", [True, False])
def test_no_flipped_bit_or_cut_on_disk_changes_a_record_or_is_overwritten(
    folder: Path, clock: Clock, with_backup: bool
) -> None:
    keyring = Keyring(KEY)
    asyncio.run(JsonFiles.open(folder, clock=clock, keyring=keyring).close())
    path, backup = folder / NAME, folder / f"{NAME}.bak"
    old = Document(6, {"a": json.dumps({"key": SECRETS[1]})})

    async def found() -> list[str]:
        storage = JsonFiles.open(folder, clock=clock, keyring=keyring)
        try:
            return [record["key"] for record in (await storage.load("accounts")).values()]
        finally:
            await storage.close()

    data = sealed()
    for n in range(0, len(data) - 1, 5):
        mutated = data[:n] if n % 2 else data[:n] + bytes([data[n] ^ 1 << n % 8]) + data[n + 1 :]
        path.write_bytes(mutated)
        if with_backup:
            backup.write_bytes(sealed(old))
        path.chmod(0o600)
        with contextlib.suppress(StorageError):
            assert asyncio.run(found()) == [SECRETS[1]] and with_backup
        assert mutated in kept(folder)


# ---- a crash


@pytest.mark.parametrize("action", ["kill", "28"])
@pytest.mark.parametrize("step", ["tmp.after", "rename.after"])
@pytest.mark.parametrize("nth", [1, 6, 12])
@pytest.mark.parametrize("old", [(), (KEY,)], ids=["plain", "encrypted"])
async def test_a_crash_in_the_midst_of_a_rotation_loses_nothing(
    open_files: Open,
    filled: Path,
    child: Callable[..., Any],
    old: tuple[bytes, ...],
    nth: int,
    step: str,
    action: str,
) -> None:
    if old:
        await opened_once(open_files, *old)
    armed = filled.parent / "failpoints"
    armed.write_text(f"storage.{step}@{nth}:{action}")
    ended = child(
        CHILD_KEYS=",".join(key.hex() for key in (NEW_KEY, *old)),
        CP_FAILPOINT_FILE=str(armed),
    )
    assert (ended.status == -signal.SIGKILL) if action == "kill" else "cannot be used" in ended.answers[0]
    mixed = {name for name, data in contents(filled).items() if key_id(NEW_KEY).encode() in data}
    assert len(mixed) in (nth - 1, nth)
    await opened_once(open_files, NEW_KEY, *old)
    assert holders(filled, SECRETS) == [] and unlocked(filled) == set()
    assert not [name for name in contents(filled) if name.endswith(".tmp")]
    await opened_once(open_files, NEW_KEY)


# ---- the look before a start


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["plain", "with a key"])
async def test_an_inspection_changes_nothing(open_files: Open, filled: Path, keys: tuple[bytes, ...]) -> None:
    (filled / "accounts/a.json").write_bytes(b"damaged")
    (filled / "accounts/.a.json.tmp").write_bytes(b"left over")
    (filled / "accounts").chmod(0o755)
    before = state(filled)
    found = inspect(filled, Keyring(*keys))
    assert state(filled) == before
    assert found.records["accounts"]["a"]["key"] == SECRETS[1]  # the backup's
    (told,) = [notice for notice in found.notices if "accounts/a.json was damaged" in notice]
    assert told.endswith("a start moves it to quarantine/")
    assert found.encryption == (f"key {key_id(KEY)}; files to be encrypted: 11" if keys else "none")


def test_an_inspection_creates_no_folder(tmp_path: Path) -> None:
    assert inspect(tmp_path / "not/there", Keyring(KEY)).records["accounts"] == {}
    assert not (tmp_path / "not").exists()


async def test_an_inspection_is_refused_while_a_process_has_the_folder(
    open_files: Open, filled: Path
) -> None:
    open_files()
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
        inspect(filled, Keyring())


async def test_an_inspection_of_an_encrypted_folder_says_what_a_rotation_would_do(
    open_files: Open, filled: Path
) -> None:
    await opened_once(open_files, KEY)
    assert inspect(filled, Keyring(KEY)).encryption == f"key {key_id(KEY)}; files to be encrypted: 0"
    assert (
        inspect(filled, Keyring(NEW_KEY, [KEY])).encryption
        == f"key {key_id(NEW_KEY)}; files to be encrypted: 11"
    )
    assert inspect(filled, Keyring(None, [KEY])).encryption == "none; files to be decrypted: 11"
