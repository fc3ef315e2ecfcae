"""Looks at what is set and stored, and writes nothing: `--check` and `--verify-audit`."""

from __future__ import annotations

from proxy.assembly.told import url, way_out
from proxy.assembly.tracing import tracing_of
from proxy.commands.places import (
    STORE,
    counted,
    inspected,
    live_records,
    numbered,
    opened,
    place,
    shared_records,
)
from proxy.config.settings import Settings
from proxy.errors import StartError
from proxy.storage.audit import verified, verified_in
from proxy.storage.folder import FolderInUse, usable
from proxy.upstream.trust import check_certificates


async def verify(settings: Settings) -> str:
    """What is said of an audit log that is as it was written. Raises StartError, which says what does not fit."""
    folder = settings.storage.data_folder
    if settings.storage.address is None:
        with usable(folder):
            is_there = folder.exists()
        if not is_there:
            raise StartError(f"data folder {folder} is not there: set storage.data_folder to the right one")
        return verified(folder)
    async with opened(settings, STORE) as storage:
        return await verified_in(storage, place(settings))


async def check(settings: Settings) -> list[str]:
    """What these settings would serve, line by line, after a look at the data folder. Raises StartError."""
    if settings.claude.base_url.startswith("https:"):
        check_certificates()
    tracing_of(settings)
    folder = f"data folder       {settings.storage.data_folder}"
    places = [
        f"would listen on   {url(settings, settings.server.port)}",
        f"would forward to  {settings.claude.base_url}{way_out(settings)}",
    ]
    if settings.storage.address is not None:
        records = await shared_records(settings)
        return [*places, f"shared store      {settings.storage.address}: {counted(records)}"]
    try:
        found = inspected(settings)
    except FolderInUse:  # as before an upgrade
        held = counted(await live_records(settings))
        return [*places, f"{folder}: {held}; a proxy is using it, so no more of it was checked"]
    absent = "" if settings.storage.data_folder.exists() else "; it is not there yet"
    return [
        *found.notices,
        *places,
        f"{folder}: {counted(found.records)}{absent}",
        *(f"                  {name}: {numbered(lines, 'line')}" for name, lines in found.logs.items()),
        f"encryption        {found.encryption}",
    ]
