"""What the command line can do instead of serving: look at the configuration and the data folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from proxy.accounts.account import load_accounts
from proxy.assembly import READERS, keyring, url, way_out
from proxy.clients.keys import load_keys
from proxy.config import effective
from proxy.config.settings import Settings
from proxy.storage.audit import verified
from proxy.storage.inspection import inspect
from proxy.upstream.trust import check_certificates


def check(settings: Settings) -> list[str]:
    """What these settings would serve, line by line, after a look at the data folder. Raises StartError."""
    folder = settings.storage.data_folder
    if settings.claude.base_url.startswith("https:"):
        check_certificates()
    found = inspect(folder, keyring(settings), READERS)
    accounts = load_accounts(found.records["accounts"])
    keys = load_keys(found.records["tokens"].values())
    return [
        *found.notices,
        f"would listen on   {url(settings, settings.server.port)}",
        f"would forward to  {settings.claude.base_url}{way_out(settings)}",
        f"data folder       {folder}: {len(accounts)} accounts, {len(keys)} client keys",
        *(
            f"                  {name}: {lines} line{'s' * (lines != 1)}"
            for name, lines in found.logs.items()
        ),
        f"encryption        {found.encryption}",
    ]


def verify_audit(settings: Settings) -> list[str]:
    """What is said of an audit log that is as it was written. Raises StorageError, which says what does not fit."""
    return [verified(settings.storage.data_folder)]


LOOKS: Mapping[str, tuple[str, Callable[[Settings], list[str]]]] = MappingProxyType(
    {
        "--check": ("check --config and the data folder", check),
        "--print-config": (
            "print each key with its value and where it is set, secrets masked",
            effective.lines,
        ),
        "--verify-audit": ("check that the audit log is as it was written", verify_audit),
    }
)
"""What can be looked at instead of serving: what it does, and what makes the lines that it prints."""
