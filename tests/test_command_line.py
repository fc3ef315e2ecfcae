"""What an operator sees who starts and stops the program."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import __version__
from proxy.accounts.account import Account, ApiKey
from proxy.storage.codec import Document, encode, to_text
from tests.canaries import holders, leaked
from tests.process import (
    LEADS,
    ROOT,
    RUN,
    environ,
    forked,
    program,
    refusal,
    refused,
    run,
    run_fork,
    running,
    write_config,
)
from tests.service import ADMIN_KEY

ACCOUNT_KEY = "sk-ant-api03-canary-Wq8Zr2Lp6Tn4Vb1Xc9Yd7Mf5Kg3Hj0Sa"
ENCRYPTION_KEY = "q83vEjRWeJASNFZ4kKvN7wEjRWeJq83vASNFZ4mrze8="
CLIENT_KEY = "cp-canary-Ue5Ri8To2Pa7Sd4Fg9Hj1Kl3Zx6Cv0BnQw3"


def test_an_audit_log_that_is_nowhere_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    line = refusal(tmp_path, "--config", str(config), "--verify-audit")
    assert line == f"data folder {tmp_path / 'data'} is not there: set storage.data_folder to the right one"


@pytest.mark.parametrize(
    "flags", ["--verify-audit", "--migrate storage.data_folder elsewhere", "--check", ""]
)
def test_a_folder_that_cannot_be_looked_for_is_one_line(tmp_path: Path, flags: str) -> None:
    """As where its parent may not be read, which root may."""
    folder = tmp_path / ("x" * 300)
    config = ("--config", str(write_config(tmp_path)))
    line = refusal(tmp_path, *config, *flags.split(), STORAGE__DATA_FOLDER=str(folder))
    assert line.startswith(f"data folder {folder} cannot be used (") and "File name too long" in line


# ---- flags


def test_help_names_every_flag(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(flag in done.stdout for flag in ("--config FILE", "--demo", "--check", "--version"))


def test_version_prints_the_version(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"claude-proxy {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "--config FILE or --demo is needed"),
        ("--cofig a", "unrecognized arguments: --cofig a"),
        ("--demo --nope", "--nope"),
        ("--config", "--config"),
        ("--config a --demo", "--demo"),
        ("--check", "--config"),
        ("--demo --check", "--check"),
        ("--config a --backup b --check", "--check: not allowed with argument --backup"),
        ("--config a --check --import b", "--import: not allowed with argument --check"),
        ("--config a --backup b --migrate c d", "--migrate: not allowed with argument --backup"),
        ("--config a --dry-run", "--dry-run and --import-from go with --import"),
        ("--config a --import b --import-from c", "--import-from"),
    ],
)
def test_a_bad_flag_is_one_line_that_names_it(tmp_path: Path, arguments: str, said: str) -> None:
    assert said in refusal(tmp_path, *arguments.split())


@pytest.mark.parametrize("flag", ["--version", "--help", "--print-schema", "--print-config", "--check"])
def test_what_cannot_be_printed_is_one_line(tmp_path: Path, flag: str) -> None:
    command = [*RUN, "--config", str(write_config(tmp_path)), flag]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(  # noqa: S603 - our own program
            command, env=environ(tmp_path, {}), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == "claude-proxy: stdout takes no more (No space left on device)\n"


@pytest.mark.parametrize("arguments", [[], ["--demo"], ["--config", "conf/config.yaml", "--check"]], ids=str)
def test_without_its_dependencies_it_says_in_a_line_how_to_get_them(arguments: list[str]) -> None:
    bare = [sys.executable, "-S", str(ROOT / "run.py")]  # without site-packages
    done = subprocess.run([*bare, *arguments], capture_output=True, text=True, timeout=60)  # noqa: S603
    line = refused(done)
    assert "make run" in line and "No module named" in line


# ---- Ctrl-C

INTERRUPTED = "claude-proxy: interrupted\n"

CTRL_C_AT_AN_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "handlers.life":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""

CTRL_C_AT_WORK = """
import asyncio, os, signal, sys
from proxy.commands.command_line import exit_status
async def work():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)
sys.exit(exit_status(lambda: asyncio.run(work())))
"""


def test_while_it_is_loaded_it_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CTRL_C_AT_AN_IMPORT)
    done = run(tmp_path, "--config", str(write_config(tmp_path)), PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_while_a_command_works_it_is_one_line(tmp_path: Path) -> None:
    done = program(tmp_path, CTRL_C_AT_WORK)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", INTERRUPTED)


@pytest.mark.parametrize("flag", ["--backup", "--restore"])
@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        (b"\x03", 130, INTERRUPTED),
        (b"\x04", 2, "claude-proxy: no passphrase: the terminal gave none\n"),
    ],
    ids=["^C", "^D"],
)
def test_where_a_passphrase_is_asked_for_it_is_one_line(
    tmp_path: Path, flag: str, typed: bytes, status: int, said: str
) -> None:
    terminal, line = os.openpty()
    file = tmp_path / "backup"
    file.write_text("{}")
    leader = [sys.executable, "-c", LEADS, os.ttyname(line), *RUN]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*leader, "--config", str(write_config(tmp_path)), flag, str(file)],
        env=environ(tmp_path, {}),
        stdin=line,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        prompt = b""
        while b"Passphrase of the file: " not in prompt:
            prompt += os.read(terminal, 99)
        os.write(terminal, typed)
        _, stderr = process.communicate(timeout=10)
        assert (process.returncode, stderr) == (status, said)
    finally:
        process.kill()
        process.communicate()
        os.close(line)
        os.close(terminal)


# ---- the configuration


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    line = refusal(tmp_path, "--config", str(path))
    assert line.startswith(f"{path} is not there") and "conf/config.example.yaml" in line


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert refusal(tmp_path, "--config", str(tmp_path)).startswith(f"{tmp_path} is a folder")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auth: [", "line 1"),
        ("auth:\n\tapi_key: x", "line 2"),
        ("auth:\n  api_kee: x", "auth.api_kee is not a known key; the nearest one is auth.api_key"),
        ("sever:\n  port: 1", "sever is not a known key; the nearest one is server"),
        ("auth:\n  api_key: short-one", "auth.api_key: it has fewer than 16 characters"),
        ("auth:\n  api_key: change-me-change-me", "auth.api_key: it is a sample"),
        ("server:\n  port: 4000", "auth.api_key is not set"),
        (f"auth:\n  api_key: {ADMIN_KEY}\nserver:\n  port: 70000", "server.port: '70000' will not do"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_file_key_and_fix(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    line = refusal(tmp_path, "--config", str(path))
    assert line.startswith(str(path)) and said in line
    assert "short-one" not in line and "change-me" not in line


def test_an_unknown_variable_of_a_known_section_names_the_nearest(tmp_path: Path) -> None:
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), SERVER__PROT="1")
    assert line == "SERVER__PROT is not a known variable; the nearest one is SERVER__PORT"


def test_a_wrong_variable_is_named_as_the_variable(tmp_path: Path) -> None:
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), LOGGER__LEVEL="loud")
    assert line.startswith("LOGGER__LEVEL: 'loud' will not do")


def test_the_demo_refuses_a_wrong_variable_too(tmp_path: Path) -> None:
    assert refusal(tmp_path, "--demo", AUTH__API_KEY="short").startswith("AUTH__API_KEY: ")


# ---- the check


def test_a_check_that_finds_nothing_says_what_would_be_done(tmp_path: Path) -> None:
    done = run(tmp_path, "--config", str(write_config(tmp_path)), "--check", SERVER__PORT="4321")
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "http://127.0.0.1:4321",
        "https://api.anthropic.com",
        f"{tmp_path / 'data'}: 0 accounts, 0 client keys; it is not there yet\n",
    ):
        assert part in done.stdout
    assert not leaked(done.stdout, [ADMIN_KEY])


@pytest.mark.parametrize("flags", [(), ("--check",)], ids=["start", "check"])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CLAUDE__CA_FILE", "/no/such.pem", "/no/such.pem cannot be read: No such file or directory"),
        ("SSL_CERT_FILE", "/no/such.pem", "/no/such.pem, which cannot be read: No such file or directory"),
        ("SSL_CERT_DIR", "/no/such", "/no/such, which is no folder"),
        ("CLAUDE__BASE_URL", "https://api.anthropic.com/v1", "leave /v1 out"),
        ("CLAUDE__PROXY", "socks4://proxy.lan:1", "socks5h://"),
    ],
)
def test_a_wrong_way_to_the_upstream_is_one_line_that_names_it(
    tmp_path: Path, flags: tuple[str, ...], name: str, value: str, said: str
) -> None:
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), *flags, **{name: value})
    assert line.startswith(name) and said in line


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_an_outbound_proxy_of_the_environment_is_said_to_be_unused(tmp_path: Path, name: str) -> None:
    config = ("--config", str(write_config(tmp_path)), "--check")
    there = {name: "http://user:pass-word@proxy.lan:3128"}
    done = run_fork(tmp_path, *config, **there)
    assert f"{name} is set and not used" in done.stdout and "pass-word" not in done.stdout
    done = run_fork(tmp_path, *config, **there, CLAUDE__PROXY="http://me:pass-word@other.lan:3128")
    assert "http://***@other.lan:3128" in done.stdout and "not used" not in done.stdout
    assert "pass-word" not in done.stdout
    assert "would forward to  https://api.anthropic.com\n" in run_fork(tmp_path, *config).stdout


async def test_a_start_says_which_outbound_proxy_is_used(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with forked(tmp_path, "--config", str(config), HTTPS_PROXY="http://proxy.lan:3128") as process:
        assert "HTTPS_PROXY is set and not used" in process.printed


def test_a_check_finds_what_a_start_would(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), "--check")
    assert str(tmp_path / "data") in line
    assert line == refusal(tmp_path, "--config", str(write_config(tmp_path)))


@pytest.mark.parametrize("log", ["resources", "conversations"])
def test_a_check_refuses_a_log_of_a_newer_program_as_a_start_does(tmp_path: Path, log: str) -> None:
    config = str(write_config(tmp_path))
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / f"data/{log}.jsonl").write_text('{"version": 99}\n')
    (tmp_path / f"data/{log}.jsonl").chmod(0o600)
    line = refusal(tmp_path, "--config", config, "--check")
    assert f"{log}.jsonl is of version 99: start the newer program that wrote it" in line
    assert line == refusal(tmp_path, "--config", config)


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    done = run_fork(tmp_path, "--config", str(config), "--check", STORAGE__ENCRYPTION_KEY=ENCRYPTION_KEY)
    assert done.returncode == 0 and not (tmp_path / "data").exists()
    path = account_file(tmp_path)
    path.with_name("acc_1.json.bak").write_bytes(path.read_bytes())
    path.write_bytes(b"damaged")
    before = state(tmp_path / "data")
    done = run_fork(tmp_path, "--config", str(config), "--check")
    assert done.returncode == 0 and "accounts/acc_1.json was damaged" in done.stdout
    assert state(tmp_path / "data") == before


def test_a_check_says_what_the_logs_hold(tmp_path: Path) -> None:
    log = account_file(tmp_path).parents[1] / "resources.jsonl"
    log.write_text('{"id": "file_1"}\n{"id"; "file_2"}\n')
    done = run_fork(tmp_path, "--config", str(write_config(tmp_path)), "--check")
    assert done.returncode == 0
    assert "resources.jsonl has damaged lines: 1, which are left out\n" in done.stdout
    assert " resources.jsonl: 1 line\n" in done.stdout


def state(folder: Path) -> dict[Path, tuple[int, int, int, bytes]]:
    """Of everything in the folder: inode, mode, time of the last change, content."""
    return {
        path: (s.st_ino, s.st_mode, s.st_ctime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in (folder, *folder.rglob("*"))
        if (s := path.lstat())
    }


def test_a_check_leaves_the_folder_free_for_a_start(tmp_path: Path) -> None:
    for _ in range(2):
        assert run_fork(tmp_path, "--config", str(write_config(tmp_path)), "--check").returncode == 0


# ---- the data folder


def account_file(home: Path, *, version: int = 1, **changes: object) -> Path:
    """An account on disk, with these changes to its record or its file's version."""
    account = Account("acc_1", "team", ApiKey(ACCOUNT_KEY), created_at=1.0, updated_at=1.0)
    document = encode(Document(1, {"acc_1": to_text(account.record() | changes)}))
    path = home / "data" / "accounts" / "acc_1.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(document.replace(b'"version": 1', b'"version": %d' % version))
    for each in (home / "data", path.parent, path):
        each.chmod(0o600 if each == path else 0o700)
    return path


def test_an_account_as_it_is_stored_is_accepted(tmp_path: Path) -> None:
    account_file(tmp_path)
    done = run_fork(tmp_path, "--config", str(write_config(tmp_path)), "--check")
    assert done.returncode == 0 and "1 account, 0 client keys" in done.stdout


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 100, b'{"version": 1}', b"[]"])
def test_a_corrupt_account_without_backup_stops_the_start_untouched(tmp_path: Path, content: bytes) -> None:
    path = account_file(tmp_path)
    path.write_bytes(content)
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)))
    assert str(path) in line and "restore it from a backup" in line
    assert path.read_bytes() == content


def test_a_newer_version_stops_the_start_untouched(tmp_path: Path) -> None:
    path = account_file(tmp_path, version=3)
    before = path.read_bytes()
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)))
    assert f"{path} has version 3" in line and "start the newer program" in line
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [(), ("--check",)])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"status": "tired"}, "status"),
        ({"rate_limited_until": "soon"}, "rate_limited_until"),
        ({"credential": {}}, "credential.api_key"),
        ({"created_at": 1e308}, "created_at"),
    ],
)
def test_an_account_that_is_not_complete_stops_the_start(
    tmp_path: Path, change: dict[str, object], field: str, arguments: tuple[str, ...]
) -> None:
    path = account_file(tmp_path, **change)
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), *arguments)
    assert f"{path} cannot be used ('acc_1': {field} is " in line
    assert not leaked(line, [ACCOUNT_KEY])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    account_file(tmp_path)
    os.chown(tmp_path / "data", 12345, 12345)
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)))
    assert f"{tmp_path / 'data'} belongs to user 12345" in line


# ---- encryption at rest


async def test_with_a_key_no_credential_is_on_disk_and_nothing_starts_without_it(tmp_path: Path) -> None:
    start = ("--config", str(write_config(tmp_path)))
    account_file(tmp_path)  # plain
    async with forked(tmp_path, *start, STORAGE__ENCRYPTION_KEY=ENCRYPTION_KEY) as process:
        made = {"name": "key", "key": CLIENT_KEY}
        assert (await process.admin("POST", "/api/tokens", made)).status == 201
        assert (await process.admin("PUT", "/api/accounts/acc_1", {"name": "renamed"})).status == 200
        assert "all credentials on disk are encrypted with key" in process.stderr
        told = process.printed + process.stderr
    data = tmp_path / "data"
    assert holders(data, [ACCOUNT_KEY, CLIENT_KEY, ENCRYPTION_KEY]) == []
    before = state(data)
    none = refusal(tmp_path, *start)
    assert none.startswith(f"{data}/journal.bin is encrypted with the key of id ") and "no key is set" in none
    other = ENCRYPTION_KEY.swapcase()
    refused = refusal(tmp_path, *start, STORAGE__ENCRYPTION_KEY=other)
    assert refused.startswith(f"{data}/journal.bin is encrypted with the key of id ")
    assert refusal(tmp_path, *start, "--check", STORAGE__ENCRYPTION_KEY=other) == refused
    checked = run_fork(tmp_path, *start, "--check", STORAGE__ENCRYPTION_KEY=ENCRYPTION_KEY)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "1 account, 1 client key" in checked.stdout
    assert "encryption        key " in checked.stdout and "; files to be encrypted: 0" in checked.stdout
    assert state(data) | {data / ".lock": before[data / ".lock"]} == before  # it has the last start's number
    assert not leaked(
        told + none + refused + checked.stdout, [ACCOUNT_KEY, CLIENT_KEY, ENCRYPTION_KEY, other]
    )


async def test_turned_off_with_the_old_key_it_serves_the_same_and_is_plain(tmp_path: Path) -> None:
    start = ("--config", str(write_config(tmp_path)))
    account_file(tmp_path)
    async with forked(tmp_path, *start, STORAGE__ENCRYPTION_KEY=ENCRYPTION_KEY):
        pass
    async with forked(tmp_path, *start, STORAGE__ENCRYPTION_KEY_OLD=ENCRYPTION_KEY) as process:
        assert "storage.encryption_key_old is not needed any more" in process.stderr
        assert (await process.admin("GET", "/api/accounts/acc_1")).status == 200
    assert {path.name for path in holders(tmp_path / "data", [ACCOUNT_KEY])} == {
        "acc_1.json",
        "acc_1.json.bak",
    }


def test_without_a_key_the_library_is_not_even_loaded() -> None:
    script = "import sys, run, proxy.storage.envelope as e; e.Keyring(); print('cryptography' in sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


async def test_what_it_writes_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with running(tmp_path, "--config", str(write_config(tmp_path))):
            pass
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "data", *(tmp_path / "data").rglob("*"))
    }
    assert len(modes) > 3
    assert {path: mode for path, mode in modes.items() if mode & 0o077} == {}


# ---- the effective configuration


def test_the_configuration_is_printed_with_its_places_and_without_secrets(tmp_path: Path) -> None:
    config = write_config(tmp_path, f"notifications:\n  secret: {CLIENT_KEY}\n")
    done = run_fork(tmp_path, "--config", str(config), "--print-config", LOGGER__LEVEL="debug")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split("  ", 1)[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["logger.level"] == ["debug", "LOGGER__LEVEL"]
    assert rows["auth.api_key"] == ["***", f"{config},", "line", "2"]
    assert rows["server.host"] == ["127.0.0.1", "default"]
    assert not leaked(done.stdout, [ADMIN_KEY, CLIENT_KEY]) and not (tmp_path / "data").exists()
    assert refusal(tmp_path, "--demo", "--print-config").startswith("--print-config goes with --config")


# ---- backups

WORDS = "five words of the tests"


async def test_a_configuration_is_checked_while_a_proxy_uses_its_data_folder(tmp_path: Path) -> None:
    """As one does before an upgrade of it."""
    config = write_config(tmp_path)
    account_file(tmp_path)
    async with running(tmp_path, "--config", str(config)):
        done = run_fork(tmp_path, "--config", str(config), "--check")
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 account, 0 client keys; a proxy is using it" in done.stdout
        config.write_text("auth: [")
        assert "line 1" in refusal(tmp_path, "--config", str(config), "--check")


async def test_a_backup_fills_an_empty_data_folder_with_the_same(tmp_path: Path) -> None:
    config, file = write_config(tmp_path), tmp_path / "backup.json"
    account_file(tmp_path)
    async with forked(tmp_path, "--config", str(config)) as process:
        made = {"name": "key", "key": CLIENT_KEY}
        assert (await process.admin("POST", "/api/tokens", made)).status == 201
        done = run_fork(tmp_path, "--config", str(config), "--backup", str(file), BACKUP_PASSPHRASE=WORDS)
        assert (done.returncode, done.stderr) == (0, "") and "1 account, 1 client key" in done.stdout
        other = ("--config", str(config), "--restore", str(file))
        busy = refusal(tmp_path, *other, BACKUP_PASSPHRASE=WORDS)
        assert "is in use by process" in busy
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    stopped = ("--config", str(config), "--backup", str(tmp_path / "stopped.json"))
    assert run_fork(tmp_path, *stopped, BACKUP_PASSPHRASE=WORDS).stdout.count("1 account, 1 client key") == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not leaked(file.read_bytes() + done.stdout.encode(), [ACCOUNT_KEY, CLIENT_KEY, WORDS, ADMIN_KEY])
    again = refusal(tmp_path, "--config", str(config), "--backup", str(file), BACKUP_PASSPHRASE=WORDS)
    assert again == f"{file} is there already: name a new file"
    full = refusal(tmp_path, "--config", str(config), "--restore", str(file), BACKUP_PASSPHRASE=WORDS)
    assert "is not empty" in full
    there = {"STORAGE__DATA_FOLDER": str(tmp_path / "new"), "STORAGE__ENCRYPTION_KEY": ENCRYPTION_KEY}
    restore = ("--config", str(config), "--restore", str(file))
    done = run_fork(tmp_path, *restore, BACKUP_PASSPHRASE=WORDS, **there)
    assert (done.returncode, done.stderr) == (0, "") and "1 account, 1 client key" in done.stdout
    assert holders(tmp_path / "new", [ACCOUNT_KEY]) == []
    async with forked(tmp_path, "--config", str(config), **there) as process:
        [account] = (await process.admin("GET", "/api/accounts")).json()["accounts"]
        assert (account["id"], account["name"]) == ("acc_1", "team")
        [event] = (await process.admin("GET", "/api/admin/events?kind=server.restored")).json()["events"]
        assert event["text"] == "1 account and 1 client key were restored from a backup"
        assert event["after"] == {"accounts": 1, "client_keys": 1}
        assert event["actor"] == {"kind": "admin", "id": None, "name": "command line", "address": None}
        answer = await process.send("GET", "/v1/nothing", [("x-api-key", CLIENT_KEY)])
        assert answer.status != 401


def test_an_interrupted_restore_is_not_served_and_can_begin_anew(tmp_path: Path) -> None:
    """What there was by then was served as if it were all, and a second restore was refused: it was not empty."""
    config, file, new = write_config(tmp_path), tmp_path / "backup.json", tmp_path / "new"
    account_file(tmp_path)
    set_up = {"BACKUP_PASSPHRASE": WORDS, "STORAGE__DATA_FOLDER": str(new)}
    assert run_fork(
        tmp_path, "--config", str(config), "--backup", str(file), BACKUP_PASSPHRASE=WORDS
    ).stdout.startswith("written")
    restore = ("--config", str(config), "--restore", str(file))
    for point in ("storage.backup.before:kill", "storage.finish.before:kill"):
        assert run(tmp_path, *restore, CP_FAILPOINT=point, **set_up).returncode == -signal.SIGKILL
        for asked in ((), ("--check",), ("--verify-audit",), ("--backup", str(tmp_path / "other.json"))):
            told = refusal(tmp_path, "--config", str(config), *asked, **set_up)
            assert told.startswith(f"data folder {new} is not whole: --restore has not ended. ")
    assert "cannot be read" in refusal(
        tmp_path, "--config", str(config), "--restore", str(tmp_path / "nothing.json"), **set_up
    )
    assert "is not whole" in refusal(tmp_path, "--config", str(config), "--check", **set_up)
    done = run_fork(tmp_path, *restore, **set_up)
    assert (done.returncode, done.stderr) == (0, "") and "1 account, 0 client keys" in done.stdout
    checked = run_fork(tmp_path, "--config", str(config), "--check", **set_up)
    assert "1 account, 0 client keys" in checked.stdout and " gone" not in checked.stdout
    assert "is not empty" in refusal(tmp_path, *restore, **set_up)


def test_a_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    backup = ("--config", str(write_config(tmp_path)), "--backup", str(tmp_path / "backup.json"))
    line = refusal(tmp_path, *backup, BACKUP_PASSPHRASE=WORDS)
    assert line.startswith(f"data folder {tmp_path / 'data'} has nothing to back up")
    assert not (tmp_path / "backup.json").exists()


def test_a_backup_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    account_file(tmp_path)
    file = tmp_path / "nowhere" / "backup.json"
    backup = ("--config", str(write_config(tmp_path)), "--backup", str(file))
    assert refusal(tmp_path, *backup, BACKUP_PASSPHRASE=WORDS).startswith(f"{file} cannot be written: ")


@pytest.mark.parametrize(
    ("content", "variables", "said"),
    [
        (b"{}", {}, "no passphrase: set it as BACKUP_PASSPHRASE"),
        (b"{}", {"BACKUP_PASSPHRASE": "eleven char"}, "passphrase: 12 to 1024 characters"),
        (b"{}", {"BACKUP_PASSPHRASE": WORDS}, "it is no export of accounts, nor a backup"),
        (b"[", {"BACKUP_PASSPHRASE": WORDS}, "it is not JSON"),
        (None, {"BACKUP_PASSPHRASE": WORDS}, "cannot be read: No such file"),
    ],
)
def test_a_restore_that_cannot_be_is_one_line_and_writes_nothing(
    tmp_path: Path, content: bytes | None, variables: dict[str, str], said: str
) -> None:
    file = tmp_path / "backup.json"
    if content is not None:
        file.write_bytes(content)
    line = refusal(tmp_path, "--config", str(write_config(tmp_path)), "--restore", str(file), **variables)
    assert said in line and not (tmp_path / "data").exists()
