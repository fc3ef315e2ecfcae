"""Backups: `--backup` and `--restore`."""

from __future__ import annotations

import getpass
import os
import signal
import sys
from pathlib import Path
from typing import Final

from proxy.assembly.audit import audited
from proxy.assembly.given import READERS
from proxy.commands.places import (
    Records,
    counted,
    live_records,
    numbered,
    opened,
    own,
    place,
    records,
    unfinished,
)
from proxy.config.settings import Settings
from proxy.errors import StartError, Unprocessable
from proxy.feed import Happened
from proxy.storage import backup
from proxy.storage.filling import begin_anew
from proxy.storage.folder import filled_by, usable
from proxy.storage.layout import LAYOUTS
from proxy.storage.passphrase import check_passphrase

VARIABLE: Final = "BACKUP_PASSPHRASE"
RESTORE: Final = "--restore"


async def write(settings: Settings, file: Path) -> list[str]:
    """Write accounts and client keys to a new file; proxies may be using where they are. Raises StartError."""
    passphrase = _passphrase(twice=True)
    found = await live_records(settings)
    if not any(found.get(kind) for kind in backup.KINDS):
        raise StartError(f"{place(settings)} has nothing to back up: is it the right one?")
    backup.write(file, found, passphrase)
    return [
        f"written to {file}: {counted(found)}, encrypted; usage, events and requests are not in it",
        "all that was saved before it began is in it; of what changed meanwhile, some may be",
    ]


async def restore(settings: Settings, file: Path) -> list[str]:
    """Fill an empty data folder or shared store from a backup or an export. Raises StartError."""
    again = _is_interrupted(settings)
    if not again:
        _refuse_full(settings, await records(settings))
    found = backup.read(file, _passphrase(twice=False), READERS)
    if again:
        begin_anew(settings.storage.data_folder, RESTORE)
    async with opened(settings, own(settings)) as storage:
        _refuse_full(settings, {kind: await storage.load(kind) for kind in LAYOUTS})  # now that it is locked
        async with unfinished(storage, settings, own(settings), RESTORE), audited(storage, settings) as feed:
            await backup.fill(storage, found)
            feed.tell(_restored(len(found["accounts"]), len(found["tokens"])))
    return [
        f"restored to {place(settings, short=True)}: {counted(await records(settings))}",
        "a refresh token works once: where else these OAuth logins are in use, stop that",
    ]


def _is_interrupted(settings: Settings) -> bool:
    """Whether the data folder holds a part of an earlier restore. Raises StorageError."""
    if settings.storage.address is not None:
        return False
    with usable(settings.storage.data_folder):
        return filled_by(settings.storage.data_folder) == RESTORE


def _refuse_full(settings: Settings, records: Records) -> None:
    if any(records.values()):
        fix = (
            "set storage.data_folder to another one"
            if settings.storage.address is None
            else "set storage.name"
        )
        raise StartError(f"{place(settings)} is not empty: {fix}")


def _restored(accounts: int, keys: int) -> Happened:
    text = f"{numbered(accounts, 'account')} and {numbered(keys, 'client key')} were restored from a backup"
    after = {"accounts": accounts, "client_keys": keys}
    return Happened("server.restored", text, "warning", after=after)


def _passphrase(*, twice: bool) -> str:
    """From the environment, or asked for. Raises StartError."""
    text = os.environ.get(VARIABLE)
    if text is None and not sys.stdin.isatty():
        raise StartError(f"no passphrase: set it as {VARIABLE}, or run this in a terminal, which asks for it")
    if text is None:
        text = _asked("Passphrase of the file: ")
        if twice and _asked("Once more: ") != text:
            raise StartError("the two passphrases differ: try again")
    try:
        return check_passphrase(text)
    except Unprocessable as error:
        raise StartError(str(error)) from None


def _asked(prompt: str) -> str:
    """What is typed. Raises KeyboardInterrupt at the first Ctrl-C, of which asyncio would only take note meanwhile."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise StartError("no passphrase: the terminal gave none") from None
    finally:
        signal.signal(signal.SIGINT, before)
