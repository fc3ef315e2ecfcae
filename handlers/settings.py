"""What runs here, its notifications, and the export and import of accounts, for admins."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from handlers.base import AdminHandler, Admins, RequestBody
from handlers.request import RequestConnection
from proxy.accounts.account import OAuthTokens
from proxy.accounts.moving import ROTATES
from proxy.clock import rfc3339
from proxy.dashboard.about import About
from proxy.dashboard.notify.notifier import Notifier
from proxy.dashboard.transfer import Transfer
from proxy.errors import Unprocessable

IMPORT_BODY_BYTES = 8 * 1024 * 1024
"""Thousands of accounts: one takes 1 to 2 KB in a file."""


class Configuration(AdminHandler):
    """`GET /api/admin/config`"""

    def initialize(self, *, who: Admins, about: About) -> None:
        self.only_for(who)
        self.about = about

    async def get(self) -> None:
        self.answer(await self.about.view())


class ReadAgain(AdminHandler):
    """`POST /api/admin/reload`"""

    def initialize(self, *, who: Admins, about: About) -> None:
        self.only_for(who)
        self.about = about

    async def post(self) -> None:
        await self.answer_changed({"changed": await self.about.reload()})


class TestNotification(AdminHandler):
    """`POST /api/admin/notifications/test`"""

    def initialize(self, *, who: Admins, notifier: Notifier) -> None:
        self.only_for(who)
        self.notifier = notifier

    async def post(self) -> None:
        if not self.notifier:
            raise Unprocessable("notifications.targets is not set: set it, and read the configuration again")
        targets = [each.view() for each in await self.notifier.test()]
        self.answer({"ok": all(each["ok"] for each in targets), "targets": targets})


class ExportRequest(RequestBody):
    passphrase: SecretStr
    client_keys: bool = False


class Export(AdminHandler):
    """`POST /api/admin/export`"""

    def initialize(self, *, who: Admins, transfer: Transfer) -> None:
        self.only_for(who)
        self.transfer = transfer

    async def post(self) -> None:
        asked = self.body(ExportRequest)
        file = await self.transfer.export(asked.passphrase.get_secret_value(), client_keys=asked.client_keys)
        await self.archive.saved()  # nobody gets credentials without a line in the audit log
        day = rfc3339(self.clock.now())[:10]
        self.set_header("Content-Disposition", f'attachment; filename="claude-proxy-{day}.json"')
        self.answer(file)


class ImportRequest(RequestBody):
    passphrase: SecretStr
    file: dict[str, Any]
    dry_run: bool = False


class Import(AdminHandler):
    """`POST /api/admin/import`"""

    def initialize(self, *, who: Admins, transfer: Transfer) -> None:
        self.only_for(who)
        self.transfer = transfer

    def authorize(self, connection: RequestConnection) -> None:
        super().authorize(connection)
        connection.set_max_body_size(IMPORT_BODY_BYTES)

    async def post(self) -> None:
        asked = self.body(ImportRequest)
        passphrase = asked.passphrase.get_secret_value()
        found = await self.transfer.take_in(asked.file, passphrase, dry_run=asked.dry_run)
        rotates = any(
            each.there is None and isinstance(each.account.credential, OAuthTokens) for each in found
        )
        await self.answer_changed(
            {
                "dry_run": asked.dry_run,
                "accounts": [each.view() for each in found],
                "warnings": [ROTATES] if rotates else [],
            }
        )
