"""The admin's view of sessions: who is connected. When a session is ended, so are its requests."""

from __future__ import annotations

from handlers.base import AdminHandler, Admins
from proxy.dashboard.all_sessions import AllSessions


class SessionList(AdminHandler):
    """`/api/admin/sessions`"""

    def initialize(self, *, who: Admins, sessions: AllSessions) -> None:
        self.only_for(who)
        self.sessions = sessions

    def get(self) -> None:
        shown = [self.sessions.view(id) for id in self.sessions.ids()]
        self.answer({"sessions": shown, "total": len(shown)})


class OneSession(AdminHandler):
    """`/api/sessions/{id}`"""

    def initialize(self, *, who: Admins, sessions: AllSessions) -> None:
        self.only_for(who)
        self.sessions = sessions

    async def delete(self, session_id: str) -> None:
        await self.answer_changed({"session": await self.sessions.end(session_id)})
