"""The admin's view of sessions: who is connected; ending one ends its requests."""

from __future__ import annotations

from typing import Any

from handlers.base import AdminHandler
from proxy.clients.sessions import Sessions


class SessionList(AdminHandler):
    """`/api/admin/sessions`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.sessions: Sessions = parts["sessions"]

    def get(self) -> None:
        shown = [self.sessions.view(session) for session in self.sessions]
        self.answer({"sessions": shown, "total": len(shown)})


class OneSession(AdminHandler):
    """`/api/sessions/{id}`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.sessions: Sessions = parts["sessions"]

    def delete(self, session_id: str) -> None:
        view = self.sessions.view(self.sessions.end(session_id))
        self.answer({"session": view})
