"""Where what is stored is: the storages that a command opens, and the records in them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from proxy.accounts.account import load_accounts
from proxy.assembly.given import LINES, READERS, files_in, keyring, pool_of, shared_at
from proxy.clients.keys import load_keys
from proxy.clock import SystemClock
from proxy.config.settings import Settings
from proxy.errors import StartError, StoreAway
from proxy.storage import filling
from proxy.storage.address import StoreAddress
from proxy.storage.inspection import Inspection, inspect
from proxy.storage.layout import LAYOUTS
from proxy.storage.live import read_live
from proxy.storage.protocols import Kind, Record, Storage

FOLDER: Final = "storage.data_folder"
STORE: Final = "storage.url"

Records = Mapping[Kind, Mapping[str, Record]]


def own(settings: Settings) -> str:
    """The place of the proxy that is set up."""
    return FOLDER if settings.storage.address is None else STORE


@contextlib.asynccontextmanager
async def opened(settings: Settings, place: str) -> AsyncIterator[Storage]:
    """A folder, a store by its URL, or either as it is set. Raises StartError."""
    address = address_at(settings, place)
    if address is not None:
        storage = await _shared(address, settings, STORE if place == STORE else "--migrate")
    else:
        folder = folder_at(settings, place)
        assert folder is not None
        storage = files_in(folder, settings, SystemClock())
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def unfinished(storage: Storage, settings: Settings, place: str, by: str) -> AsyncIterator[None]:
    """Mark this opened, empty place until the block has ended without an error: no start takes a part for the whole.

    Raises StorageError.
    """
    shared, folder = pool_of(storage), folder_at(settings, place)
    if shared is not None:
        async with shared.unfinished(by):
            yield
    elif folder is not None:
        with filling.unfinished(folder, by):
            yield


async def _shared(address: StoreAddress, settings: Settings, named_by: str) -> Storage:
    """The store at the address that this key or flag names. Raises StartError."""
    try:
        return await shared_at(address, settings, SystemClock())
    except StoreAway as away:
        raise StartError(
            f"shared store {address} cannot be reached ({away.why}): is it running, and is {named_by} right?"
        ) from away


def address_at(settings: Settings, place: str) -> StoreAddress | None:
    """The address of the shared store that this place is; None if it is a folder. Raises StartError."""
    if place == STORE and settings.storage.address is None:
        raise StartError(f"{STORE} is not set")
    if place == STORE or "://" not in place:
        return settings.storage.address if place == STORE else None
    try:
        return StoreAddress.read(place)
    except ValueError as error:
        raise StartError(f"--migrate: a URL will not do: {error}") from None


def folder_at(settings: Settings, place: str) -> Path | None:
    """The data folder that this place is; None if it is a shared store."""
    if place == STORE or "://" in place:
        return None
    return settings.storage.data_folder if place == FOLDER else Path(place).expanduser()


async def records(settings: Settings) -> Records:
    """What is stored, without a write; of a data folder that no proxy is using. Raises StartError."""
    return inspected(settings).records if settings.storage.address is None else await shared_records(settings)


async def live_records(settings: Settings) -> Records:
    """As `records`, also of a data folder that a proxy is using."""
    if settings.storage.address is not None:
        return await shared_records(settings)
    return read_live(settings.storage.data_folder, keyring(settings), READERS)


async def shared_records(settings: Settings) -> Records:
    """What is stored in the shared store. Raises StartError."""
    async with opened(settings, STORE) as storage:
        return {kind: await storage.load(kind) for kind in LAYOUTS}


def place(settings: Settings, *, short: bool = False) -> str:
    """Where it is stored, for people."""
    folder = settings.storage.data_folder
    if settings.storage.address is not None:
        return f"{'' if short else 'shared store '}{settings.storage.address}"
    return f"{'' if short else 'data folder '}{folder}"


def inspected(settings: Settings) -> Inspection:
    """What a look at the data folder finds. Raises StartError."""
    return inspect(settings.storage.data_folder, keyring(settings), READERS, LINES)


def counted(records: Records) -> str:
    """How many accounts and keys these are, for people."""
    accounts = load_accounts(records["accounts"])
    keys = load_keys(records["tokens"].values())
    return f"{numbered(len(accounts), 'account')}, {numbered(len(keys), 'client key')}"


def numbered(count: int, noun: str) -> str:
    """So many of them, for people."""
    return f"{count} {noun}{'s' * (count != 1)}"
