"""Moves what is stored, and takes accounts of other programs: `--migrate` and `--import`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from proxy.accounts.account import load_accounts
from proxy.accounts.foreign.judge import Here, Judged, judge
from proxy.accounts.foreign.source import read_source
from proxy.accounts.foreign.summary import offered, told
from proxy.assembly.audit import audited
from proxy.clock import SystemClock
from proxy.commands.places import address_at, folder_at, live_records, numbered, opened, own, unfinished
from proxy.config.settings import Settings
from proxy.errors import NotDone, StartError
from proxy.feed import Changed
from proxy.storage import backup
from proxy.storage.day_files import DayFiles
from proxy.storage.folder import usable
from proxy.storage.layout import REQUESTS
from proxy.storage.migrate import migrate
from proxy.storage.protocols import Record


async def migrate_all(settings: Settings, source: str, target: str) -> list[str]:
    """Copy everything from one storage to another, empty one. Raises StartError."""
    _refuse_same(settings, source, target)
    folder = folder_at(settings, source)
    if folder is not None:
        with usable(folder):
            is_empty = not (folder.is_dir() and any(folder.iterdir()))
        if is_empty:
            raise StartError(f"data folder {folder} has nothing to move: is it the right one?")
    there = folder_at(settings, target)
    log = (folder or settings.storage.data_folder) / REQUESTS
    requests = None if folder is None or there is None else (log, there / REQUESTS)
    async with opened(settings, source) as old, opened(settings, target) as new:
        days = DayFiles(log).days()
        counts = await migrate(old, new, unfinished(new, settings, target, "--migrate"), requests)
        mended = list(old.notices)
    lines = [*mended, *(f"{name:17} {count}" for name, count in counts.items() if count)]
    as_it_was = f"as it was{' but for what is said above' if mended else ''}"
    lines.append(
        f"all of it was read again and is the same; the old one is {as_it_was}: serve only one of them"
    )
    if requests is None and days and not (there and there.samefile(log.parent)):
        lines.append(
            f"not moved: {log} ({numbered(len(days), 'day')}): a store has no request log on disk, each instance has "
            "its own in storage.data_folder"
        )
    return lines


def _refuse_same(settings: Settings, source: str, target: str) -> None:
    """Raise StartError if both are one place."""
    places = [address_at(settings, each) or folder_at(settings, each) for each in (source, target)]
    if len({os.path.realpath(each) if isinstance(each, Path) else each for each in places}) == 1:
        kind = "data folder" if isinstance(places[0], Path) else "shared store"
        raise StartError(f"--migrate: both are {kind} {places[0]}: name two places")


async def take_in(settings: Settings, file: Path, format: str | None, *, dry_run: bool) -> list[str]:
    """Add accounts of another program; a `dry_run` only tells which. Raises StartError, NotDone."""
    source = read_source(file)
    if source.documents and all(map(backup.is_one, source.documents.values())):
        raise StartError(
            f"{file} is a backup or an export of this program: --restore fills an empty data folder from it, and the "
            "dashboard imports it to one that is in use"
        )
    offers = [*offered(source, format, file), *source.refused]
    needed = {"oauth.client_id": settings.oauth.client_id, "oauth.token_url": settings.oauth.token_url}
    missing = tuple(name for name, value in needed.items() if value is None)
    here = Here(settings.claude.base_url, settings.oauth.client_id, missing)

    def judged(stored: Mapping[str, Record]) -> Judged:
        pool = [account for _, account in load_accounts(stored)]
        return judge(offers, pool, here, SystemClock().now(), lambda kind: f"{kind}_{secrets.token_hex(8)}")

    found = judged((await live_records(settings))["accounts"])
    if dry_run:
        return told(found, done=False)
    if not found.taken:
        raise _none_added(file, found)
    async with opened(settings, own(settings)) as storage, audited(storage, settings) as feed:
        found = judged(await storage.load("accounts"))  # others may have added some
        if not found.taken:
            raise _none_added(file, found)
        for account, _ in found.taken:
            await backup.fill(storage, {"accounts": [account.record()]})
            feed.publish(Changed(None, account))
    return told(found, done=True)


def _none_added(file: Path, found: Judged) -> NotDone:
    return NotDone(f"no account of {file} was added", told(found, done=False))
