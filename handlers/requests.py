"""The last requests, for admins: which account answered each, after which tries, and what it came to."""

from __future__ import annotations

import re

from handlers.base import AdminHandler, Admins
from proxy.errors import NotFound, Unprocessable
from proxy.usage.failed_tries import FAILURES
from proxy.usage.request_log import ANY, FAILED, OUTCOME_NAMES, RequestLog, Wanted

DEFAULT_LIMIT = 100
MOST_LIMIT = 1000
MOST_NUMBER = 999_999_999
LONGEST_MS = 86_400_000

STATUS = re.compile(r"[1-5](?:[0-9][0-9]|xx)", re.ASCII)
NAMES = (*OUTCOME_NAMES, FAILED)


class RequestList(AdminHandler):
    """`/api/admin/requests?key=&account=&session=&model=&status=&slow=&retried=&failure=&search=&from=&to=&…`"""

    def initialize(self, *, who: Admins, request_log: RequestLog) -> None:
        self.only_for(who)
        self.request_log = request_log

    async def get(self) -> None:
        before = self.query.number("before", 0, MOST_NUMBER) or None
        most = self.query.number("limit", DEFAULT_LIMIT, MOST_LIMIT)
        await self.request_log.told()
        found = self.request_log.find(self._wanted(), before=before, most=most)
        self.answer({"requests": [kept.view() for kept in found]})

    def _wanted(self) -> Wanted:
        query = self.query
        return Wanted(
            key=query.text("key"),
            account=query.text("account"),
            session=query.text("session"),
            model=query.text("model", strip=False),
            status=self._status(),
            slow_ms=query.number("slow", 0, LONGEST_MS),
            retried=query.one_of("retried", ("true", "false")) == "true",
            failure=query.one_of("failure", (*FAILURES, ANY)) or "",
            search=query.text("search"),
            start=query.time("from", 0) or None,
            end=query.time("to", 0) or None,
        )

    def _status(self) -> str:
        status = self.query.text("status")
        if status and status not in NAMES and not STATUS.fullmatch(status):
            raise Unprocessable(
                f"status: a number, a class such as 4xx, or one of {', '.join(NAMES)} is needed"
            )
        return status


class OneRequest(AdminHandler):
    """`/api/admin/requests/{id}`; the id is the request's own, or the upstream's of one of its tries."""

    def initialize(self, *, who: Admins, request_log: RequestLog) -> None:
        self.only_for(who)
        self.request_log = request_log

    async def get(self, request_id: str) -> None:
        await self.request_log.told()
        kept = self.request_log.one(request_id)
        if kept is None:
            raise NotFound("no such request among the last ones")
        self.answer({"request": kept.view()})
