"""Everything moves between files and a shared store, both ways, and nothing is written over."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from proxy.clock import Clock
from proxy.errors import StorageError
from proxy.storage.audit import verify
from proxy.storage.chain import START, chained
from proxy.storage.day_files import DayFiles
from proxy.storage.envelope import Keyring
from proxy.storage.json_files import JsonFiles
from proxy.storage.layout import LAYOUTS, event_log
from proxy.storage.migrate import copy_requests, migrate
from proxy.storage.protocols import Storage
from proxy.storage.redis_store import RedisStore
from tests.process import refusal, run, run_fork, write_config
from tests.redis_server import RedisServer
from tests.service import serve

KEY = bytes(range(32))


async def filled(storage: Storage) -> None:
    """Some of everything."""
    rng = random.Random(3)
    for kind, layout in LAYOUTS.items():
        records = {
            f"{kind}-{n}": {
                "id": f"{kind}-{n}",
                "n": rng.random() * 10 ** rng.randint(-9, 9),
                "text": "é\u2028😀",
            }
            for n in range(3)
        }
        if layout.durable:
            for id, record in records.items():
                await storage.put(kind, id, record)
        else:
            await storage.update(kind, records)
    await storage.append("resources", [{"id": f"file_{n}"} for n in range(1201)], durable=True)
    await storage.append("conversations", [{"group": "g", "of": [2**63 - 1, "s"], "until": 1800000000.5}])
    await storage.append("2026-11-28", [{"t": n} for n in range(3)])
    lines, _ = chained(({"id": n, "text": "é"} for n in range(1, 4)), START)
    await storage.append(event_log("2026-11-28"), lines, durable=True)


async def used(folder: Path, clock: Clock) -> Path:
    """A data folder that is not empty."""
    storage = JsonFiles.open(folder, clock=clock)
    await storage.append("2026-11-28", [{"t": 1}])
    await storage.close()
    return folder


@pytest.mark.parametrize("keys", [(None, None), (KEY, None), (None, KEY)])
async def test_what_was_moved_there_and_back_is_the_same(
    tmp_path: Path,
    open_shared: Callable[..., RedisStore],
    clock: Clock,
    keys: tuple[bytes | None, bytes | None],
) -> None:
    old = JsonFiles.open(tmp_path / "old", clock=clock, keyring=Keyring(keys[0]))
    await filled(old)
    shared = open_shared(keys[1])
    counts = await migrate(old, shared, nullcontext())
    assert counts == dict.fromkeys(LAYOUTS, 3) | {
        "resources": 1201,
        "conversations": 1,
        "2026-11-28": 3,
        "events-2026-11-28": 3,
    }
    new = JsonFiles.open(tmp_path / "new", clock=clock, keyring=Keyring(keys[0]))
    assert await migrate(shared, new, nullcontext()) == counts
    for kind in LAYOUTS:
        assert await new.load(kind) == await old.load(kind)
    for log in ("resources", "conversations", "2026-11-28", event_log("2026-11-28")):
        assert await new.read_log(log) == await old.read_log(log)
    await old.close()
    await new.close()
    assert verify(tmp_path / "new").problems == []


async def test_what_holds_something_is_not_written_over(
    open_files: Callable[[], JsonFiles], open_shared: Callable[[], RedisStore]
) -> None:
    files, shared = open_files(), open_shared()
    await files.put("accounts", "a", {"n": 1})
    await shared.append("2026-11-28", [{"t": 1}])
    for source, target in ((files, shared), (shared, files)):
        with pytest.raises(StorageError, match="there is something already"):
            await migrate(source, target, nullcontext())
    assert await shared.load("accounts") == {}


async def test_what_arrives_otherwise_than_it_was_is_told(
    open_files: Callable[[], JsonFiles],
    open_shared: Callable[[], RedisStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files, shared = open_files(), open_shared()
    await files.append("resources", [{"id": "a"}])
    monkeypatch.setattr(shared, "append", files.append)
    with pytest.raises(StorageError, match="not what was read: resources"):
        await migrate(files, shared, nullcontext())


async def test_the_command_moves_a_pool_that_goes_on_serving(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    folder = tmp_path / "data"
    async with serve(folder, storage__url=None) as service:
        assert (await service.message()).status == 200
    config = str(write_config(tmp_path))
    store = {"STORAGE__URL": redis_server.url, "STORAGE__TIMEOUT": "5s"}
    move = ("--config", config, "--migrate", "storage.data_folder", "storage.url")
    done = run_fork(tmp_path, *move, **store)
    assert done.returncode == 0, done.stderr
    assert "accounts          1" in done.stdout and "is the same" in done.stdout
    assert "is something already" in refusal(tmp_path, *move, **store)
    checked = run_fork(tmp_path, "--config", config, "--check", **store)
    assert f"shared store      {redis_server.url}: 1 account, 1 client key" in checked.stdout
    async with serve(
        tmp_path / "other",
        accounts=(),
        upstream=service.simulator.base_url,
        storage__url=redis_server.url,
        storage__timeout="5s",
    ) as moved:
        assert [account.name for account in moved.parts.pool] == ["a"]
        assert moved.parts.keys.accept(["cp-a-client-key-of-tests-4fXw"]) is not None


@pytest.mark.parametrize("to_store", [False, True], ids=["to a folder", "to a store"])
async def test_the_request_log_is_moved_to_a_folder_and_told_of_where_it_stays(
    tmp_path: Path, clock: Clock, redis_server: RedisServer, to_store: bool
) -> None:
    old, new = await used(tmp_path / "old", clock), tmp_path / "new"
    days = DayFiles(old / "requests")
    days.append("2026-11-27", [{"id": 1}, {"id": 2}])
    days.append("2026-11-28", [{"id": 3}])
    config, target = str(write_config(tmp_path)), redis_server.url if to_store else str(new)
    done = run_fork(tmp_path, "--config", config, "--migrate", str(old), target)
    assert done.returncode == 0, done.stderr
    if to_store:
        stays = f"not moved: {old / 'requests'} (2 days): "
        assert stays in done.stdout and done.stdout.index(stays) > done.stdout.index("is the same")
    else:
        assert "request log, days 2\n" in done.stdout
        assert DayFiles(new / "requests").newest(9) == days.newest(9) and len(days.newest(9)) == 3


async def test_a_request_log_that_is_there_is_not_written_over(tmp_path: Path, clock: Clock) -> None:
    """An instance of a store has one in its data folder, where no record is."""
    old, new = await used(tmp_path / "old", clock), tmp_path / "new"
    DayFiles(old / "requests").append("2026-11-28", [{"id": 1}])
    DayFiles(new / "requests").append("2026-11-28", [{"id": 2}])
    config = str(write_config(tmp_path))
    told = refusal(tmp_path, "--config", config, "--migrate", str(old), str(new))
    assert told == f"there is something already ({new / 'requests'}): name an empty folder or store"
    assert DayFiles(new / "requests").newest(9) == [b'{"id": 2}']
    assert not (new / "unfinished").exists() and not any((new / "usage").iterdir())


async def test_a_request_log_that_arrives_otherwise_than_it_was_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "old", tmp_path / "new"
    DayFiles(source).append("2026-11-28", [{"id": 1}])
    monkeypatch.setattr("proxy.storage.files.replace", lambda path, data, durable: path.write_bytes(b"x"))
    with pytest.raises(StorageError, match=r"not what was read: requests/2026-11-28\.jsonl"):
        copy_requests(source, target)


async def test_an_instance_of_a_store_is_told_that_its_request_log_stays(
    tmp_path: Path, clock: Clock, redis_server: RedisServer
) -> None:
    old = await used(tmp_path / "old", clock)
    config, store = str(write_config(tmp_path)), {"STORAGE__URL": redis_server.url, "STORAGE__TIMEOUT": "5s"}
    move = ("--config", config, "--migrate")
    assert run_fork(tmp_path, *move, str(old), "storage.url", **store).returncode == 0
    DayFiles(tmp_path / "data" / "requests").append("2026-11-28", [{"id": 1}])
    away = run_fork(tmp_path, *move, "storage.url", str(tmp_path / "new"), **store)
    assert f"not moved: {tmp_path / 'data' / 'requests'} (1 day): " in away.stdout, away.stderr
    back = run_fork(tmp_path, *move, "storage.url", "storage.data_folder", **store)
    assert back.returncode == 0 and "not moved" not in back.stdout, back.stderr
    assert DayFiles(tmp_path / "data" / "requests").newest(9) == [b'{"id": 1}']


@pytest.mark.parametrize("to_store", [False, True], ids=["to a folder", "to a store"])
async def test_what_a_move_has_filled_in_part_is_not_served(
    tmp_path: Path, clock: Clock, redis_server: RedisServer, to_store: bool
) -> None:
    """It is interrupted as it removes its mark, which is the last of it."""
    old, new = await used(tmp_path / "old", clock), tmp_path / "new"
    DayFiles(old / "requests").append("2026-11-28", [{"id": 1}])
    config, target = str(write_config(tmp_path)), redis_server.url if to_store else str(new)
    there = {"STORAGE__URL": redis_server.url, "STORAGE__TIMEOUT": "5s"} if to_store else {}
    there |= {"STORAGE__DATA_FOLDER": str(new)}
    move = ("--config", config, "--migrate", str(old))
    point = "storage.finish.before:kill"
    assert run(tmp_path, *move, target, CP_FAILPOINT=point, **there).returncode == -signal.SIGKILL
    assert DayFiles(new / "requests").days() == ([] if to_store else ["2026-11-28"])
    for asked in ((), ("--check",), ("--restore", "backup.json"), ("--migrate", target, str(tmp_path / "x"))):
        told = refusal(tmp_path, "--config", config, *asked, **there)
        assert "is not whole: --migrate has not ended. If that was interrupted, " in told
    assert "is not whole" in refusal(tmp_path, *move, target, **there)


async def test_what_a_move_has_mended_of_the_old_one_is_told(tmp_path: Path, clock: Clock) -> None:
    old = await used(tmp_path / "old", clock)
    move = ("--config", str(write_config(tmp_path)), "--migrate", str(old))
    whole = run_fork(tmp_path, *move, str(tmp_path / "whole"))
    assert "the old one is as it was: serve" in whole.stdout, whole.stderr
    (old / "counters.json").write_text("{")
    mended = run_fork(tmp_path, *move, str(tmp_path / "mended"))
    told = mended.stdout.splitlines()
    [damage] = [line for line in told if line.startswith("counters.json was damaged")]
    assert damage.endswith("it is kept in quarantine/") and told[-1] != damage
    assert "the old one is as it was but for what is said above: serve" in told[-1], mended.stderr


async def test_a_move_that_is_refused_leaves_no_mark(tmp_path: Path, clock: Clock) -> None:
    config, places = str(write_config(tmp_path)), [str(tmp_path / name) for name in ("old", "new")]
    for each in places:
        await used(Path(each), clock)
    assert "is something already" in refusal(tmp_path, "--config", config, "--migrate", *places)
    assert not (tmp_path / "new" / "unfinished").exists()


def test_a_url_that_will_not_do_is_not_repeated(tmp_path: Path) -> None:
    told = refusal(
        tmp_path, "--config", str(write_config(tmp_path)), "--migrate", "x://me:secret@store", "storage.url"
    )
    assert "secret" not in told
    told = refusal(
        tmp_path, "--config", str(write_config(tmp_path)), "--migrate", "storage.url", "storage.data_folder"
    )
    assert told == "storage.url is not set"


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("storage.data_folder DATA", "data folder DATA"),
        ("DATA HERE/link", "data folder DATA"),
        ("storage.url redis://me:secret@127.0.0.1:1/0", "shared store redis://127.0.0.1:1/0"),
    ],
)
def test_what_is_moved_to_itself_is_refused_as_that(tmp_path: Path, places: str, said: str) -> None:
    """It said that the folder was in use, by the very process that said so."""
    config, data = str(write_config(tmp_path)), tmp_path / "data"
    (data / "accounts").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    source, target = places.replace("DATA", str(data)).replace("HERE", str(tmp_path)).split()
    url = {"STORAGE__URL": "redis://me:secret@127.0.0.1:1/0"}
    told = refusal(tmp_path, "--config", config, "--migrate", source, target, **url)
    assert told == f"--migrate: both are {said.replace('DATA', str(data))}: name two places"


def test_nothing_is_moved_from_a_folder_that_is_not_there_or_is_empty(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    nowhere, empty, target = (tmp_path / name for name in ("nowhere", "empty", "new"))
    empty.mkdir(mode=0o700)
    for source in (nowhere, empty):
        told = refusal(tmp_path, "--config", str(config), "--migrate", str(source), str(target))
        assert f"data folder {source} has nothing to move: is it the right one?" in told
    assert not nowhere.exists() and not target.exists() and not any(empty.iterdir())


@pytest.mark.parametrize("asked", ["--check", "--verify-audit", "--migrate store data"], ids=str)
def test_a_store_that_is_away_is_named_with_its_key_and_the_fix(tmp_path: Path, asked: str) -> None:
    store = "redis://me:secret@127.0.0.1:1/0"
    where = [
        {"store": "storage.url", "data": str(tmp_path / "data")}.get(word, word) for word in asked.split()
    ]
    told = refusal(tmp_path, "--config", str(write_config(tmp_path)), *where, STORAGE__URL=store)
    assert (
        "shared store redis://" in told and "127.0.0.1:1/0 cannot be reached" in told and "secret" not in told
    )
    assert told.endswith("is it running, and is storage.url right?")


async def test_a_backup_of_a_shared_store_fills_an_empty_one(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    shared = {"storage__url": redis_server.url, "storage__timeout": "5s"}
    async with serve(tmp_path / "a", **shared):
        pass
    variables = {name.upper(): value for name, value in shared.items()}
    variables["BACKUP_PASSPHRASE"] = "a-passphrase-of-tests"
    config = str(write_config(tmp_path))
    file = str(tmp_path / "backup.json")
    done = run_fork(tmp_path, "--config", config, "--backup", file, **variables)
    assert "1 account, 1 client key" in done.stdout, done.stderr
    assert "is not empty: set storage.name" in refusal(
        tmp_path, "--config", config, "--restore", file, **variables
    )
    done = run_fork(tmp_path, "--config", config, "--restore", file, STORAGE__NAME="other", **variables)
    assert "1 account, 1 client key" in done.stdout, done.stderr
