"""A file that is not exactly what was written is never read as something else, taken for empty or overwritten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.json_files import JsonFiles
from proxy.storage.protocols import Kind, Record

OLD = {"id": "a", "token": "old-1"}
NEW = {"id": "a", "token": "new-é"}

# Byte for byte what version 1 wrote; it has to be readable for ever.
VERSION_1 = b"""\
{"version": 1, "generation": 2, "crc32": 2648445626, "records": {
"a": {"id": "a", "token": "new-\xc3\xa9"}
}}
"""


def by_hand(record: str, *, head: str = '"version": 1, "generation": 2', tail: str = "") -> bytes:
    """A file without a checksum, so that only what it says can be wrong with it."""
    return f'{{{head}, "records": {{"a": {record}}}{tail}}}'.encode("utf-8", "surrogatepass")


UNREADABLE = {
    "empty": b"",
    "zeros": bytes(200),
    "byte order mark": b"\xef\xbb\xbf" + VERSION_1,
    "UTF-16": VERSION_1.decode().encode("utf-16"),
    "not UTF-8": by_hand('{"text": "?"}').replace(b"?", b"\xff"),
    "NaN": by_hand('{"n": NaN}'),
    "Infinity": by_hand('{"n": -Infinity}'),
    "a number that overflows": by_hand('{"n": 1e999}'),
    "a whole number of 5000 digits": by_hand('{"n": ' + "9" * 5000 + "}"),
    "100000 levels": by_hand('{"n": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a lone surrogate": by_hand('{"text": "\\ud800"}'),
    "a key that stands twice": by_hand('{"token": "x", "token": "y"}'),
    "a record that stands twice": by_hand('{}, "a": {}'),
    "a list": b"[]",
    "null": b"null",
    "a text": b'"accounts"',
    "no object as record": by_hand("[]"),
    "another record": by_hand("{}").replace(b'"a"', b'"b"'),
    "one record more": by_hand('{}, "b": {}'),
    "no version": by_hand("{}", head='"generation": 2'),
    "no whole version": by_hand("{}", head='"version": true, "generation": 2'),
    "no generation": by_hand("{}", head='"version": 1'),
    "generation below zero": by_hand("{}", head='"version": 1, "generation": -2'),
    "an unknown member": by_hand("{}", tail=', "crc33": 1'),
    "wrong checksum": VERSION_1.replace(b"new", b"now"),
    "wrong checksum of the generation": VERSION_1.replace(b'n": 2', b'n": 9'),
    "checksum null": VERSION_1.replace(b"2648445626", b"null"),
    "something after the end": VERSION_1 + b"{}",
}
every_unreadable = pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)


@pytest.fixture
def accounts(open_files: Callable[[], JsonFiles], folder: Path, io_loop: object) -> Path:
    """A closed data folder, made by opening it once: its accounts."""
    asyncio.run(open_files().close())
    return folder / "accounts"


def stored(path: Path) -> dict[str, bytes]:
    """Every file below `path` but the lock, with its content."""
    return {
        str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }


def write(accounts: Path, main: bytes | None, backup: bytes | None) -> None:
    for path, data in ((accounts / "a.json", main), (accounts / "a.json.bak", backup)):
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
            path.chmod(0o600)


def old_file(record: bytes = b'{"id": "a", "token": "old-1"}') -> bytes:
    return b'{"version": 1, "generation": 1, "records": {"a": ' + record + b"}}"


async def load(storage: JsonFiles) -> dict[str, Record]:
    try:
        return await storage.load("accounts")
    finally:
        await storage.close()


async def test_what_version_1_wrote_is_read(open_files: Callable[[], JsonFiles], accounts: Path) -> None:
    write(accounts, VERSION_1, None)
    storage = open_files()
    assert await storage.load("accounts") == {"a": NEW}
    assert not storage.notices


@every_unreadable
async def test_the_backup_of_a_damaged_file_serves(
    open_files: Callable[[], JsonFiles], accounts: Path, data: bytes
) -> None:
    write(accounts, data, old_file())
    storage = open_files()
    assert await storage.load("accounts") == {"a": OLD}
    assert any(notice.startswith("accounts/a.json was damaged") for notice in storage.notices)
    assert "accounts/a.json: its backup serves; it may lack the last change" in storage.notices


@every_unreadable
async def test_a_damaged_file_is_kept_in_quarantine(
    open_files: Callable[[], JsonFiles], accounts: Path, data: bytes
) -> None:
    write(accounts, data, old_file())
    open_files()
    name = "2026-11-22T100000.000Z-accounts-a.json"
    assert stored(accounts.parent / "quarantine") == {name: data}


@every_unreadable
async def test_without_a_backup_a_damaged_file_refuses_the_start(
    open_files: Callable[[], JsonFiles], accounts: Path, data: bytes
) -> None:
    write(accounts, data, None)
    before = stored(accounts.parent)
    with pytest.raises(
        StorageError, match=r"accounts/a\.json cannot be used \(.*\): restore it from a backup"
    ):
        open_files()
    assert stored(accounts.parent) == before


async def test_with_a_damaged_backup_too_both_are_named(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    write(accounts, b"x", b"y")
    with pytest.raises(StorageError, match=r"a\.json cannot .*; .*a\.json\.bak cannot .*: restore them"):
        open_files()


async def test_no_error_or_notice_repeats_a_secret(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    write(accounts, VERSION_1.replace(b"new", b"sk-ant-secret"), None)
    with pytest.raises(StorageError) as refused:
        open_files()
    error: BaseException | None = refused.value
    while error is not None:
        assert "sk-ant" not in str(error) and "sk-ant" not in repr(vars(error))
        error = error.__context__
    write(accounts, VERSION_1.replace(b"new", b"sk-ant-secret"), old_file())
    assert "sk-ant" not in str(open_files().notices)


async def test_the_backup_of_a_missing_file_serves(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    write(accounts, None, old_file())
    storage = open_files()
    assert await storage.load("accounts") == {"a": OLD}
    assert storage.notices == (
        "accounts/a.json was gone",
        "accounts/a.json: its backup serves; it may lack the last change",
    )


async def test_quarantine_overwrites_nothing(open_files: Callable[[], JsonFiles], accounts: Path) -> None:
    for data in (b"first", b"second", b"third"):  # all at the same time
        write(accounts, data, old_file())
        await open_files().close()
    assert sorted(stored(accounts.parent / "quarantine").values()) == [b"first", b"second", b"third"]


async def test_a_file_without_checksum_is_taken_as_edited_by_hand(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    write(accounts, by_hand('{"name": "by hand"}'), old_file())
    storage = open_files()
    assert await storage.load("accounts") == {"a": {"name": "by hand"}}
    assert storage.notices == ("accounts/a.json has no checksum: it is taken as edited by hand",)


async def test_an_indented_file_is_the_same_file(open_files: Callable[[], JsonFiles], accounts: Path) -> None:
    write(accounts, VERSION_1.replace(b", ", b",\n    ").replace(b"\n", b"\r\n"), None)
    storage = open_files()
    assert await storage.load("accounts") == {"a": NEW}
    assert not storage.notices


@pytest.mark.parametrize("name", ["accounts/a.json", "tokens.json", "counters.json", "journal.bin"])
async def test_a_newer_version_refuses_the_start_and_touches_nothing(
    open_files: Callable[[], JsonFiles], accounts: Path, name: str
) -> None:
    write(accounts, b"damaged too", old_file())
    newer = accounts.parent / name
    newer.write_bytes(b'{"version": 3, "accounts": "somehow"}')
    newer.chmod(0o600)
    (accounts / ".a.json.tmp").write_bytes(b"left over")
    (accounts / ".a.json.tmp").chmod(0o600)
    before = stored(accounts.parent)
    with pytest.raises(StorageError, match=rf"{name} has version 3, and this program knows versions up to 2"):
        open_files()
    assert stored(accounts.parent) == before


async def test_the_other_accounts_of_a_damaged_one_are_untouched(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    storage = open_files()
    await storage.put("accounts", "b", {"id": "b"})
    await storage.close()
    before = (accounts / "b.json").read_bytes()
    write(accounts, b"damaged", old_file())
    assert await load(open_files()) == {"a": OLD, "b": {"id": "b"}}
    assert (accounts / "b.json").read_bytes() == before


async def test_a_backup_has_all_that_its_file_had(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    storage = open_files()
    await storage.put("tokens", "a", {"n": 1})
    await storage.put("tokens", "b", {"n": 2})
    await storage.close()
    (accounts.parent / "tokens.json").write_bytes(b"")
    assert await open_files().load("tokens") == {"a": {"n": 1}, "b": {"n": 2}}


async def test_a_deleted_token_does_not_come_back_with_the_backup(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    storage = open_files()
    await storage.put("tokens", "a", {"n": 1})
    await storage.put("tokens", "b", {"n": 2})
    await storage.delete("tokens", "a")
    await storage.close()
    (accounts.parent / "tokens.json").write_bytes(b"")
    assert await open_files().load("tokens") == {"b": {"n": 2}}


@pytest.mark.parametrize("why", ["empty", "zeros", "not UTF-8", "NaN", "wrong checksum", "a list"])
@pytest.mark.parametrize("kind", ["counters", "sessions", "quota"])
async def test_damaged_counters_and_sessions_start_empty_and_are_kept(
    open_files: Callable[[], JsonFiles], accounts: Path, kind: Kind, why: str
) -> None:
    file = accounts.parent / f"{kind}.json"
    file.write_bytes(UNREADABLE[why])
    file.chmod(0o600)
    storage = open_files()
    assert await storage.load(kind) == {}
    assert list(stored(accounts.parent / "quarantine").values()) == [UNREADABLE[why]]
    assert f"{kind}.json starts empty" in storage.notices


async def test_a_name_that_is_no_record_is_left_alone(
    open_files: Callable[[], JsonFiles], accounts: Path
) -> None:
    (accounts / "a.json~").write_bytes(b"an editor's")
    (accounts / "a.json~").chmod(0o600)
    storage = open_files()
    assert await storage.load("accounts") == {}
    assert storage.notices == ("accounts/a.json~ is no name that this program gives: not read, left alone",)


def mutations(data: bytes, *, every_bit: bool) -> Iterator[bytes]:
    for n in range(len(data)):
        yield data[:n]
        for bit in range(8) if every_bit else (n % 8,):
            yield data[:n] + bytes([data[n] ^ 1 << bit]) + data[n + 1 :]


def check_mutation(folder: Path, clock: Clock, mutated: bytes, *, with_backup: bool) -> None:
    accounts = folder / "accounts"
    write(accounts, mutated, old_file() if with_backup else None)
    for path in (folder / "quarantine").iterdir():
        path.unlink()
    with contextlib.suppress(StorageError):
        records = asyncio.run(load(JsonFiles.open(folder, clock=clock)))
        assert records in ({"a": NEW}, {"a": OLD})
        assert records == {"a": NEW} or with_backup
    assert mutated in stored(folder).values()


@pytest.mark.parametrize("with_backup", [True, False])
def test_no_flipped_bit_or_cut_changes_a_record_or_is_overwritten(
    accounts: Path, clock: Clock, with_backup: bool
) -> None:
    for mutated in mutations(VERSION_1, every_bit=not with_backup):
        check_mutation(accounts.parent, clock, mutated, with_backup=with_backup)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(
    start=st.integers(0, len(VERSION_1)),
    length=st.integers(0, 40),
    inserted=st.binary(max_size=20),
    with_backup=st.booleans(),
)
def test_no_spliced_bytes_change_a_record_or_are_overwritten(
    accounts: Path, clock: Clock, start: int, length: int, inserted: bytes, with_backup: bool
) -> None:
    mutated = VERSION_1[:start] + inserted + VERSION_1[start + length :]
    check_mutation(accounts.parent, clock, mutated, with_backup=with_backup)


async def test_writing_goes_on_after_mending(open_files: Callable[[], JsonFiles], accounts: Path) -> None:
    write(accounts, b"damaged", old_file())
    storage = open_files()
    await storage.put("accounts", "a", {"n": 3})
    await storage.close()
    again = open_files()
    assert await again.load("accounts") == {"a": {"n": 3}}
    assert not again.notices
