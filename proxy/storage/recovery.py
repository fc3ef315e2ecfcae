"""Recovery of a data folder when it is opened: first everything is read, then damage is repaired.

A damaged file (unreadable, torn, not our JSON, wrong checksum) is moved into quarantine, and its backup, which has the
same content, serves. That includes a file edited by hand, whose checksum is wrong too; to keep the edit, take its
`crc32` member out. A file that is older than its backup was swapped with it or restored: the newer one serves. If
neither a durable file nor its backup can be read, if a record is malformed or a newer version wrote it, opening is
refused and nothing is changed. All damage is noted as a finding before it is repaired.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from proxy.clock import Clock, rfc3339
from proxy.errors import StorageError
from proxy.failpoints import failstep
from proxy.storage import files
from proxy.storage.codec import Document, from_text, to_text
from proxy.storage.envelope import Keyring
from proxy.storage.findings import Finding
from proxy.storage.folder import refuse_unfinished
from proxy.storage.inventory import Inventory
from proxy.storage.journal import Change, Journal, Key
from proxy.storage.layout import (
    BACKUP,
    ID,
    INVENTORY,
    JOURNAL,
    KEPT,
    LAYOUTS,
    QUARANTINE,
    ROOT_LOGS,
    SUBFOLDERS,
    Layout,
    backup,
)
from proxy.storage.log_survey import LogSurvey, survey_logs
from proxy.storage.logs import Seen
from proxy.storage.protocols import Kind, Reader

T = TypeVar("T")

NAME: Final = re.compile(rf"({ID.pattern})\.json({re.escape(BACKUP)})?")


@dataclass(frozen=True, slots=True)
class Found:
    """One file as it was found: the documents in it and in its backup, and how either of the two is damaged."""

    kind: Kind
    path: Path
    own: Document | None
    spare: Document | None
    damaged: dict[Path, str]

    @property
    def is_stale(self) -> bool:
        """Whether the backup is newer: it is never written first, so the two were swapped, or the file restored."""
        return (
            self.own is not None
            and self.spare is not None
            and not self.own.by_hand
            and self.spare.generation > self.own.generation
        )

    @property
    def from_backup(self) -> bool:
        return self.spare is not None and (self.own is None or self.is_stale)

    @property
    def document(self) -> Document | None:
        """The one that serves."""
        return self.spare if self.from_backup else self.own


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was read. `findings`: what is damaged or missing, each for people."""

    found: list[Found]
    waiting: dict[Key, Change]
    logs: LogSurvey
    findings: list[str]


@dataclass(slots=True)
class State:
    """The state after opening. `waiting`: changes from the journal that are not in their files yet.

    `logs`: those in the root of the folder, by the name of the file.
    """

    records: dict[Kind, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in LAYOUTS})
    generations: dict[Path, int] = field(default_factory=dict)
    waiting: dict[Key, Change] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    logs: dict[str, Seen] = field(default_factory=dict)


def recover(
    folder: Path,
    journal: Journal,
    inventory: Inventory,
    keyring: Keyring,
    readers: Mapping[Kind, Reader],
    clock: Clock,
) -> State:
    """Read the folder and repair it. Raises StorageError, OSError."""
    survey = _survey(
        folder, journal, inventory, keyring, readers, survey_logs(folder, dict.fromkeys(ROOT_LOGS, len))
    )
    places = (folder, *(folder / name for name in SUBFOLDERS))
    for place in places:
        files.remove_temporaries(place)
    state = State(notices=[*_strangers(folder), *survey.findings], logs=survey.logs.seen)
    stamp = rfc3339(clock.now())
    for each in survey.found:
        _mend(folder, each, stamp)
        _take(folder, each, state)
        if each.kind == "findings":  # the first
            _remember(folder, keyring, survey, state, clock.now())
    for path in survey.logs.unreadable:
        set_aside(folder, path, stamp)
    _take_from_journal(folder, state, survey.waiting)
    if journal.damaged:
        set_aside(folder, journal.path, stamp, keep=True)
    if journal.damaged or files.identity(journal.path) is None:
        journal.create(state.waiting)
    if inventory.damaged:
        set_aside(folder, inventory.path, stamp)
    # Makes the repairs durable, and renames that a crash left unsynced.
    for place in places:
        files.sync_folder(place)
    return state


def look(
    folder: Path,
    journal: Journal,
    inventory: Inventory,
    keyring: Keyring,
    readers: Mapping[Kind, Reader],
    logs: LogSurvey,
) -> State:
    """What `recover` would find, without a repair; the notices say what it would repair. Raises as it does."""
    survey = _survey(folder, journal, inventory, keyring, readers, logs)
    would = [text.replace(KEPT, f"a start moves it to {QUARANTINE}/") for text in survey.findings]
    state = State(notices=[*_strangers(folder), *would], logs=survey.logs.seen)
    state.notices += [
        f"{name} has damaged lines: {seen.damaged}, which are left out"
        for name, seen in state.logs.items()
        if seen.damaged
    ]
    for each in survey.found:
        _take(folder, each, state)
    _take_from_journal(folder, state, survey.waiting)
    return state


def set_record(records: dict[str, T], id: str, record: T | None) -> None:
    """Set the record, or remove it if it is None."""
    if record is None:
        records.pop(id, None)
    else:
        records[id] = record


def set_aside(folder: Path, path: Path, stamp: str, *, keep: bool = False) -> str:
    """Move a file into quarantine, or with `keep` only link it there. Returns its name there, for messages."""
    name = f"{stamp.replace(':', '')}-{str(path.relative_to(folder)).replace('/', '-')}"
    aside = files.link_aside(path, folder / QUARANTINE, name)
    if not keep:
        path.unlink()
    return str(aside.relative_to(folder))


def _survey(
    folder: Path,
    journal: Journal,
    inventory: Inventory,
    keyring: Keyring,
    readers: Mapping[Kind, Reader],
    logs: LogSurvey,
) -> Survey:
    refuse_unfinished(folder)
    waiting, listed = journal.read(), inventory.read()
    found = [_look(folder, kind, path, keyring, readers) for kind, path in stored(folder)]
    _refuse_unreadable(found, waiting)
    _refuse_malformed(found, readers)
    here = {str(each.path.relative_to(folder)) for each in found if each.document or each.damaged} | logs.here
    awaited = {str(LAYOUTS[kind].file(folder, id).relative_to(folder)) for kind, id in waiting}
    findings = [text for each in found for text in _findings(folder, each)]
    findings += logs.findings()
    findings += [f"{name} is gone: it starts without" for name in sorted(listed - here - awaited)]
    if journal.damaged:
        findings.append(f"{JOURNAL} was damaged, and may have lost its last write: {KEPT}")
    elif listed and files.identity(journal.path) is None:
        findings.append(f"{JOURNAL} is gone: what was only in it is lost")
    if inventory.damaged:
        findings.append(f"{INVENTORY} was damaged: a file that is gone would not be noticed")
    return Survey(found, waiting, logs, findings)


def _findings(folder: Path, found: Found) -> Iterator[str]:
    """What is wrong with one file, and what comes of it."""
    name = found.path.relative_to(folder)
    for path, reason in found.damaged.items():
        yield f"{path.relative_to(folder)} was damaged ({reason}): {KEPT}"
    if found.is_stale:
        yield f"{name} was older than its backup, as if swapped with it or restored: {KEPT}"
    elif found.from_backup and found.path not in found.damaged:
        yield f"{name} was gone"
    if found.from_backup:
        yield f"{name}: its backup serves; it may lack the last change"
    elif found.damaged and found.document is None and not LAYOUTS[found.kind].durable:
        yield f"{name} starts empty"


def stored(folder: Path) -> Iterator[tuple[Kind, Path]]:
    """Every file that holds records, or whose backup does; that of the findings comes first."""
    for kind, layout in LAYOUTS.items():
        if layout.one_each:
            ids = {match[1] for path in _beside(folder, layout) if (match := NAME.fullmatch(path.name))}
            yield from ((kind, layout.file(folder, id)) for id in sorted(ids))
        else:
            yield kind, layout.file(folder)


def _beside(folder: Path, layout: Layout) -> list[Path]:
    place = layout.file(folder).parent
    return list(place.iterdir()) if layout.one_each and place.exists() else []


def _look(folder: Path, kind: Kind, path: Path, keyring: Keyring, readers: Mapping[Kind, Reader]) -> Found:
    layout = LAYOUTS[kind]
    damaged: dict[Path, str] = {}
    whole: dict[Path, Document | None] = {}
    for candidate in (path, backup(path)) if layout.durable else (path,):
        try:
            document = whole[candidate] = _read(layout, path, candidate, keyring)
            if document is not None and (candidate != path or not layout.durable):
                _check(document, readers.get(kind))
        except ValueError as error:
            damaged[candidate] = str(error)
            whole[candidate] = None
    return Found(kind, path, whole[path], whole.get(backup(path)), damaged)


def _check(document: Document, reader: Reader | None) -> None:
    """Raise ValueError if a record is malformed."""
    if reader is None:
        return
    for id, text in document.records.items():
        try:
            reader(id, from_text(text))
        except ValueError as error:
            raise ValueError(f"{id[:64]!r}: {error}") from None


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


def _refuse_malformed(found: list[Found], readers: Mapping[Kind, Reader]) -> None:
    """Refuse files that are as they were written or edited, but hold what no record may have."""
    for each in found:
        if each.document is None or not LAYOUTS[each.kind].durable:
            continue
        try:
            _check(each.document, readers.get(each.kind))
        except ValueError as error:
            path = backup(each.path) if each.from_backup else each.path
            raise StorageError(
                f"{path} cannot be used ({error}): correct it there, restore it from a backup, or move it away to "
                "start without"
            ) from None


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


def _mend(folder: Path, found: Found, stamp: str) -> None:
    """Move what does not serve into quarantine, and what serves into both places."""
    for path in (*found.damaged, *([found.path] if found.is_stale else [])):
        set_aside(folder, path, stamp)
    if found.from_backup:
        with failstep("storage.mend"):
            os.rename(backup(found.path), found.path)
    if found.document is not None and found.own != found.spare and LAYOUTS[found.kind].durable:
        _renew_backup(folder, found, stamp)


def _renew_backup(folder: Path, found: Found, stamp: str) -> None:
    spare = backup(found.path)
    if found.own is not None and found.own.by_hand and found.spare is not None:
        set_aside(folder, spare, stamp, keep=True)  # what it was before the edit
    try:
        files.replace(spare, files.read(found.path) or b"", durable=True)
    except OSError:
        # On a full disk none is better than one that gives back what was taken away.
        spare.unlink(missing_ok=True)


def _take(folder: Path, found: Found, state: State) -> None:
    if found.document is None:
        return
    state.records[found.kind].update(found.document.records)
    state.generations[found.path] = found.document.generation
    if found.document.by_hand and not found.from_backup:
        name = found.path.relative_to(folder)
        state.notices.append(f"{name} has no checksum: it is taken as edited by hand")


def _remember(folder: Path, keyring: Keyring, survey: Survey, state: State, now: float) -> None:
    """Note the findings on disk, before anything but the file of findings itself is repaired."""
    new = [Finding.of(text, now) for text in survey.findings]
    if not new:
        return
    records, path = state.records["findings"], LAYOUTS["findings"].file(folder)
    records.update({each.id: to_text(each.record()) for each in new if each.id not in records})
    written = (each.document.generation for each in survey.found if each.document is not None)
    waiting = (change.generation for change in survey.waiting.values())
    generation = max((*written, *waiting), default=0) + 1
    try:
        files.replace_both(path, keyring.encode(Document(generation, records), path.name))
    except OSError as error:
        state.notices.append(
            f"{path.name} cannot be written ({files.told(error)}): told until the next start"
        )
    state.generations[path] = generation


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
