"""Logging in an OAuth account: the link, the way back by redirect, the code pasted by hand."""

from __future__ import annotations

import html
import logging

from handlers.base import AdminHandler, Admins, Anyone, BaseHandler, RequestBody, recorded
from handlers.origin import Origins
from proxy.accounts.logins import Logins
from proxy.accounts.pool import Pool
from proxy.clock import rfc3339
from proxy.dashboard.event_archive import EventArchive
from proxy.dashboard.figures import Figures
from proxy.errors import Conflict, InvalidRequest, RequestError, StorageError

log = logging.getLogger(__name__)


class PastedCode(RequestBody):
    code: str
    name: str | None = None
    state: str | None = None
    org_id: str | None = None


class Authorize(AdminHandler):
    """`GET /oauth/authorize?name=…&org_id=…&account_id=…`"""

    def initialize(self, *, who: Admins, logins: Logins, redirect_uri: str | None, origins: Origins) -> None:
        self.only_for(who)
        self.logins = logins
        self.redirect_uri = redirect_uri
        self.origins = origins

    def get(self) -> None:
        told = self.origins.told(self.request.remote_ip or "", self.request.headers)
        here = f"{told or self.origins.of(self.request.host)}/oauth/callback"
        login, url = self.logins.begin(
            redirect_uri=self.redirect_uri or here,
            org_id=self.query.text("org_id") or None,
            account_id=self.query.text("account_id") or None,
            name=self.query.text("name") or None,
        )
        self.answer(
            {
                "authorization_url": url,
                "state": login.state,
                "flow_id": login.id,
                "expires_at": rfc3339(login.expires_at),
            }
        )


class Exchange(AdminHandler):
    """`POST /oauth/exchange`"""

    def initialize(self, *, who: Admins, logins: Logins, pool: Pool, figures: Figures) -> None:
        self.only_for(who)
        self.logins = logins
        self.pool = pool
        self.figures = figures

    async def post(self) -> None:
        given = self.body(PastedCode)
        account = await self.logins.finish(
            given.code, state=given.state, name=given.name, org_id=given.org_id
        )
        await self.answer_changed({"account": self.figures.account(account)}, 201)


class Reauthorize(Exchange):
    """`POST /api/accounts/{id}/reauthorize`"""

    async def post(self, account_id: str) -> None:  # type: ignore[override]
        given = self.body(PastedCode)
        account = await self.logins.finish(given.code, state=given.state, account_id=self.pool[account_id].id)
        await self.answer_changed({"account": self.figures.account(account)})


class Callback(BaseHandler):
    """`GET /oauth/callback`: its `state` authorises it, since a browser sends no SameSite cookie along a redirect."""

    def initialize(self, *, who: Anyone, logins: Logins, archive: EventArchive) -> None:
        self.open_to(who)
        self.logins = logins
        self.archive = archive

    async def get(self) -> None:
        state = self.query.text("state")
        try:
            if error_code := self.query.text("error"):
                raise await self.logins.refused(state, error_code)
            code = self.query.text("code")
            if not code:
                raise InvalidRequest(
                    "There is no code in this address. Begin the login once more.", type="code_missing"
                )
            await self.logins.finish(code, state=state or "-")
            await recorded(self.archive)
        except RequestError as error:
            self.record.error = error.type
            # The text of a conflict names other accounts, and whoever has the state can see this page.
            known = "This login cannot be used as it is: see the dashboard, or the log of this proxy."
            self._show(error.status, "Not added", known if isinstance(error, Conflict) else error.message)
        except StorageError as error:
            log.error("login not saved error=%s", error)
            self.record.error = "api_error"
            self._show(
                503,
                "Not added",
                "It could not be saved: see the log of this proxy, then open this page again.",
            )
        else:
            self._show(200, "Account added", "You can close this tab.")

    def _show(self, status: int, title: str, text: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><h1>{title}</h1><p>{html.escape(text)}</p></html>"
        )
