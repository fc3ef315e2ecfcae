"""Recovery of a data folder when it is opened: first everything is read, then damage is repaired.

A damaged file (unreadable, torn, not our JSON, wrong checksum) is moved into quarantine, and replaced by its backup,
which is the state before its last write. That includes a file edited by hand, whose checksum is wrong too; to keep
the edit, take its `crc32` member out. If neither a durable file nor its backup can be read, or a newer version wrote
it, opening is refused and nothing is changed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.clock import Clock, rfc3339
from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.codec import Document
from proxy.storage.envelope import Keyring
from proxy.storage.journal import Change, Journal, Key
from proxy.storage.layout import BACKUP, ID, JOURNAL, LAYOUTS, QUARANTINE, SUBFOLDERS, Layout, backup
from proxy.storage.protocols import Kind

NAME: Final = re.compile(rf"({ID.pattern})\.json({re.escape(BACKUP)})?")


@dataclass(frozen=True, slots=True)
class Found:
    """One file as it was found: the document in it or in its backup, and how either of the two is damaged."""

    kind: Kind
    path: Path
    document: Document | None
    from_backup: bool
    damaged: dict[Path, str]


@dataclass(slots=True)
class State:
    """The state after opening. `waiting`: changes from the journal that are not in their files yet."""

    records: dict[Kind, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in LAYOUTS})
    generations: dict[Path, int] = field(default_factory=dict)
    waiting: dict[Key, Change] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def recover(folder: Path, journal: Journal, keyring: Keyring, clock: Clock) -> State:
    """Read the folder and repair it. Raises StorageError, OSError."""
    found, waiting = _read_all(folder, journal, keyring)
    places = (folder, *(folder / name for name in SUBFOLDERS))
    for place in places:
        files.remove_temporaries(place)
    state = State(notices=list(_strangers(folder)))
    stamp = rfc3339(clock.now())
    for each in found:
        state.notices += _mend(folder, each, stamp)
        if each.document is not None:
            state.records[each.kind].update(each.document.records)
            state.generations[each.path] = each.document.generation
    _take_from_journal(folder, state, waiting)
    if journal.damaged:
        aside = set_aside(folder, journal.path, stamp, keep=True)
        state.notices.append(f"{JOURNAL} was damaged, its last write is not used: it is in {aside}")
    if journal.damaged or files.identity(journal.path) is None:
        journal.create(state.waiting)
    # Makes the repairs durable, and renames that a crash left unsynced.
    for place in places:
        files.sync_folder(place)
    return state


def look(folder: Path, journal: Journal, keyring: Keyring) -> State:
    """What `recover` would find, without a repair; the notices say what it would repair. Raises as it does."""
    found, waiting = _read_all(folder, journal, keyring)
    state = State(notices=list(_strangers(folder)))
    for each in found:
        for path, reason in each.damaged.items():
            state.notices.append(f"{path.relative_to(folder)} is damaged ({reason}): a start sets it aside")
        if each.from_backup:
            name = each.path.relative_to(folder)
            state.notices.append(f"{name}: its backup would serve, the state before its last write")
        if each.document is not None:
            state.records[each.kind].update(each.document.records)
            state.generations[each.path] = each.document.generation
    _take_from_journal(folder, state, waiting)
    if journal.damaged:
        state.notices.append(f"{JOURNAL} is damaged: its last write would not be used")
    return state


def set_record(records: dict[str, str], id: str, text: str | None) -> None:
    """Set the record, or remove it if `text` is None."""
    if text is None:
        records.pop(id, None)
    else:
        records[id] = text


def set_aside(folder: Path, path: Path, stamp: str, *, keep: bool = False) -> str:
    """Move a file into quarantine, or with `keep` only link it there. Returns its name there, for messages."""
    name = f"{stamp.replace(':', '')}-{str(path.relative_to(folder)).replace('/', '-')}"
    aside = files.link_aside(path, folder / QUARANTINE, name)
    if not keep:
        path.unlink()
    return str(aside.relative_to(folder))


def _read_all(folder: Path, journal: Journal, keyring: Keyring) -> tuple[list[Found], dict[Key, Change]]:
    waiting = journal.read()
    found = [_look(folder, kind, path, keyring) for kind, path in stored(folder)]
    _refuse_unreadable(found, waiting)
    return found, waiting


def stored(folder: Path) -> Iterator[tuple[Kind, Path]]:
    """Every file that holds records, or whose backup does."""
    for kind, layout in LAYOUTS.items():
        if layout.one_each:
            ids = {match[1] for path in _beside(folder, layout) if (match := NAME.fullmatch(path.name))}
            yield from ((kind, layout.file(folder, id)) for id in sorted(ids))
        else:
            yield kind, layout.file(folder)


def _beside(folder: Path, layout: Layout) -> list[Path]:
    place = layout.file(folder).parent
    return list(place.iterdir()) if layout.one_each and place.exists() else []


def _look(folder: Path, kind: Kind, path: Path, keyring: Keyring) -> Found:
    layout = LAYOUTS[kind]
    damaged: dict[Path, str] = {}
    for candidate in (path, backup(path)) if layout.durable else (path,):
        try:
            document = _read(layout, path, candidate, keyring)
        except ValueError as error:
            damaged[candidate] = str(error)
            continue
        if document is not None:
            return Found(kind, path, document, candidate != path, damaged)
    return Found(kind, path, None, False, damaged)


def _read(layout: Layout, path: Path, candidate: Path, keyring: Keyring) -> Document | None:
    try:
        data = files.read(candidate)
    except OSError as error:
        if error.errno == errno.EIO:
            raise ValueError("the disk cannot read it") from error
        raise
    if data is None:
        return None
    document = keyring.decode(data, layout.name.format(id=path.stem), str(candidate))
    if layout.one_each and document.records.keys() != {path.stem}:
        raise ValueError("it holds another record than its name says")
    return document


def _refuse_unreadable(found: list[Found], waiting: dict[Key, Change]) -> None:
    lost = [
        f"{path} cannot be used ({reason})"
        for each in found
        if each.document is None and LAYOUTS[each.kind].durable and not _in_journal(each, waiting)
        for path, reason in each.damaged.items()
    ]
    if lost:
        raise StorageError(
            f"{'; '.join(lost)}: restore {'it' if len(lost) == 1 else 'them'} from a backup, or move "
            f"{'it' if len(lost) == 1 else 'them'} away to start without"
        )


def _in_journal(found: Found, waiting: dict[Key, Change]) -> bool:
    return LAYOUTS[found.kind].one_each and (found.kind, found.path.stem) in waiting


def _mend(folder: Path, found: Found, stamp: str) -> list[str]:
    """Move damaged files into quarantine and the backup into its place. Returns the notices."""
    notices = []
    name = found.path.relative_to(folder)
    for path, reason in found.damaged.items():
        aside = set_aside(folder, path, stamp)
        notices.append(f"{path.relative_to(folder)} was damaged ({reason}): it is in {aside}")
    if found.from_backup:
        with failstep("storage.mend"):
            os.rename(backup(found.path), found.path)
        notices.append(f"{name}: its backup serves, the state before its last write")
    elif found.damaged and not LAYOUTS[found.kind].durable:
        notices.append(f"{name} starts empty")
    if found.document is not None and found.document.by_hand:
        notices.append(f"{name} has no checksum: it is taken as edited by hand")
    return notices


def _take_from_journal(folder: Path, state: State, waiting: Mapping[Key, Change]) -> None:
    written = dict(state.generations)
    for change in sorted(waiting.values(), key=lambda change: change.generation):
        path = LAYOUTS[change.kind].file(folder, change.id)
        # With equal generations, only the last step of the write failed: the file is there, but may not be durable.
        if change.generation >= written.get(path, 0):
            state.waiting[change.key] = change
            state.generations.pop(path, None)
            set_record(state.records[change.kind], change.id, change.text)
            state.notices.append(f"{change.kind}/{change.id}: its last change comes from {JOURNAL}")


def _strangers(folder: Path) -> Iterator[str]:
    for layout in LAYOUTS.values():
        for path in sorted(_beside(folder, layout)):
            if not NAME.fullmatch(path.name):
                yield f"{path.relative_to(folder)} is no name that this program gives: not read, left alone"
