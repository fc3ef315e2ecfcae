"""What every room is given: settings, clock, feed, and the storage."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from proxy.accounts import conversations, resources
from proxy.accounts.account import read_account
from proxy.accounts.quota_history import read_quota_record
from proxy.assembly import periods
from proxy.assembly.tracing import open_tracing
from proxy.clients.admin_key import AdminKey
from proxy.clients.counters import read_counters
from proxy.clients.keys import read_key
from proxy.clients.sessions import read_session
from proxy.clients.signins import read_signin
from proxy.clock import Clock
from proxy.config.settings import Settings
from proxy.errors import StorageError, StoreAway
from proxy.feed import Feed
from proxy.lag import LoopLag
from proxy.storage.address import StoreAddress
from proxy.storage.envelope import Keyring
from proxy.storage.findings import read_finding
from proxy.storage.folder import FolderInUse, make_spool
from proxy.storage.handover import HandOver
from proxy.storage.json_files import JsonFiles
from proxy.storage.last_saves import LastSaves
from proxy.storage.live import read_live
from proxy.storage.protocols import Kind, Reader, Record, Storage
from proxy.storage.timed import Timed
from proxy.upstream.unclassified import Unclassified
from proxy.usage.late import Late

if TYPE_CHECKING:
    from proxy.storage.redis_store import RedisStore
    from proxy.usage.tracing import Tracing

READERS: Mapping[Kind, Reader] = MappingProxyType(
    {
        "accounts": read_account,
        "tokens": read_key,
        "signins": read_signin,
        "findings": read_finding,
        "counters": read_counters,
        "sessions": read_session,
        "quota": read_quota_record,
    }
)

LINES: Mapping[str, Callable[[bytes], object]] = MappingProxyType(
    {resources.LOG: resources.read_line, conversations.LOG: conversations.read_line}
)
"""How the lines of the logs in the data folder's root are read."""

log = logging.getLogger("proxy")


@dataclass(frozen=True)
class Former:
    """A process that gives up the data folder within a time, from when it is told that it is `waited_for`."""

    within_s: float
    waited_for: Callable[[], None]


@dataclass(frozen=True)
class Given:
    """What every room is given."""

    settings: Settings
    clock: Clock
    rng: random.Random
    feed: Feed
    storage: Timed
    shared: RedisStore | None
    """What runs the scripts of the store that several instances share, if they do."""

    last_saves: LastSaves
    late: Late
    counters: dict[str, Record]
    admin_key: AdminKey
    unclassified: Unclassified
    lag: LoopLag
    tracing: Tracing | None


@contextlib.asynccontextmanager
async def open_given(
    settings: Settings,
    clock: Clock,
    rng: random.Random,
    outlives: contextlib.AsyncExitStack,
    former: Former | None,
) -> AsyncIterator[Given]:
    """What every room is given. What the rooms have added to the last saves is saved after they were left.

    What `outlives` holds is left after the data folder was given up, and before the upstream's client is closed.
    """
    tracing = await outlives.enter_async_context(open_tracing(settings, clock))
    storage = Timed(inner := await _opened(settings, clock, former), clock)
    try:
        for notice in storage.notices:
            log.warning("%s", notice)
        last = LastSaves(clock)
        last.add("what somebody else has removed from the data folder", storage.write_anew)
        yield Given(
            settings,
            clock,
            rng,
            Feed(),
            storage,
            pool_of(inner),
            last,
            Late(storage, LastSaves(clock, last.hurried), outlives),
            await storage.load("counters"),
            AdminKey(settings.auth.key),
            Unclassified(),
            LoopLag(clock),
            tracing,
        )
        await last.run()
        if inner.is_shared:
            await _leave(inner)
    finally:
        if not inner.is_shared:
            inner = storage.replace(HandOver(settings.storage.data_folder, clock))
        await inner.close()


async def _opened(settings: Settings, clock: Clock, former: Former | None) -> Storage:
    """The shared store, or the data folder as soon as nobody else has it. Raises StorageError.

    A folder that cannot be read is refused before the process that has it is asked to give it up.
    """
    if settings.storage.address is not None:
        shared = await _storage(settings, clock)
        if former is not None:
            former.waited_for()  # though it is not: both may use the store
        return shared
    folder, began, waits = settings.storage.data_folder, clock.monotonic(), False
    while True:
        try:
            return files_in(folder, settings, clock)
        except FolderInUse:
            if former is None or clock.monotonic() - began >= former.within_s:
                raise
            if not waits:
                read_live(folder, keyring(settings), READERS)
                log.info("waiting until the process before this one gives up data folder %s", folder)
                former.waited_for()
            waits = True
        await clock.sleep(periods.LOCKED_S)


async def _leave(storage: Storage) -> None:
    """Have the others forget this instance at once: else they do when its lease has ended."""
    shared = pool_of(storage)
    assert shared is not None
    with contextlib.suppress(StorageError):
        await shared.peers.leave()


def pool_of(storage: Storage) -> RedisStore | None:
    """The store with its scripts, if several instances share it."""
    if not storage.is_shared:
        return None
    from proxy.storage.redis_store import RedisStore

    assert isinstance(storage, RedisStore)
    return storage


async def _storage(settings: Settings, clock: Clock) -> Storage:
    """JSON files, or the store that instances share. Raises StorageError."""
    address = settings.storage.address
    if address is None:
        return files_in(settings.storage.data_folder, settings, clock)
    make_spool(settings.storage.data_folder)
    return await shared_at(address, settings, clock)


def files_in(folder: Path, settings: Settings, clock: Clock) -> Storage:
    """JSON files in a folder. Raises StorageError."""
    return JsonFiles.open(folder, clock=clock, keyring=keyring(settings), readers=READERS)


async def shared_at(address: StoreAddress, settings: Settings, clock: Clock) -> Storage:
    """The store at an address, otherwise as it is set. Raises StorageError."""
    # Imported if it is used: it takes 0.1 s and 10 MB.
    from proxy.storage.redis_store import opened

    return await opened(
        address,
        instance=new_id("ins"),
        name=settings.storage.name,
        timeout_s=settings.storage.timeout,
        ca_file=settings.storage.ca_file,
        durability=settings.storage.durability,
        keyring=keyring(settings),
        clock=clock,
    )


async def store_away(settings: Settings, clock: Clock) -> str | None:
    """Why the shared store cannot be reached; None if it can. Raises StorageError if it can, and will not do."""
    if settings.storage.address is not None:
        try:
            await (await _storage(settings, clock)).close()
        except StoreAway as error:
            return str(error)
    return None


def keyring(settings: Settings) -> Keyring:
    """What files are encrypted with."""
    return Keyring(settings.storage.key, settings.storage.old_keys)


def new_id(kind: str) -> str:
    # An id opens nothing, so it need not ask the kernel for chance, as a secret does.
    return f"{kind}_{random.getrandbits(64):016x}"
