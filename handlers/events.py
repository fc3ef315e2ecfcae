"""What happened and who did it: the newest events, and older ones from the audit log."""

from __future__ import annotations

from handlers.base import AdminHandler, Admins
from proxy.dashboard.event_history import Asked

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
LAST_ID = 10**15


class EventList(AdminHandler):
    """`/api/admin/events?kind=&actor=&subject=&before=&limit=`, newest first.

    `next_before` is the cursor of the next page; null if there is none. A page may hold fewer than `limit`: one request
    reads only so much of the log.
    """

    def initialize(self, *, who: Admins) -> None:
        self.only_for(who)

    async def get(self) -> None:
        asked = Asked(
            kind=self.query.text("kind"),
            actor=self.query.text("actor"),
            subject=self.query.text("subject"),
            before=self.query.number("before", LAST_ID, LAST_ID),
            limit=self.query.number("limit", DEFAULT_LIMIT, MAX_LIMIT),
        )
        events, next_before = await self.archive.find(asked)
        self.answer({"events": events, "next_before": next_before})
