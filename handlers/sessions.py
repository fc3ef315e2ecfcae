"""The admin's view of sessions: who is connected. When a session is ended, so are its requests."""

from __future__ import annotations

from handlers.base import AdminHandler, Admins
from proxy.clients.sessions import Sessions


class SessionList(AdminHandler):
    """`/api/admin/sessions`"""

    def initialize(self, *, who: Admins, sessions: Sessions) -> None:
        self.only_for(who)
        self.sessions = sessions

    def get(self) -> None:
        shown = [self.sessions.view(session) for session in self.sessions]
        self.answer({"sessions": shown, "total": len(shown)})


class OneSession(AdminHandler):
    """`/api/sessions/{id}`"""

    def initialize(self, *, who: Admins, sessions: Sessions) -> None:
        self.only_for(who)
        self.sessions = sessions

    async def delete(self, session_id: str) -> None:
        view = self.sessions.view(self.sessions.end(session_id))
        await self.answer_changed({"session": view})
