"""The sessions that dashboards show: those of this instance, and those of the others if there are any."""

from __future__ import annotations

from typing import Any

from proxy.clients.sessions import Sessions
from proxy.dashboard.instances import Instances


class AllSessions:
    """Those of one instance that is alone."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def ids(self) -> list[str]:
        return [session.id for session in self._sessions]

    def view(self, session_id: str) -> dict[str, Any]:
        """What an admin may see. Raises NotFound."""
        return self._sessions.view(self._sessions[session_id])

    def in_flight(self) -> int:
        """Requests that have not ended."""
        return sum(session.in_flight for session in self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    async def end(self, session_id: str) -> dict[str, Any]:
        """End a session, with its requests. Returns what it was. Raises NotFound."""
        return self._sessions.view(self._sessions.end(session_id))


class SharedSessions(AllSessions):
    """Those of all instances on one store."""

    def __init__(self, sessions: Sessions, instances: Instances) -> None:
        super().__init__(sessions)
        self._instances = instances

    def ids(self) -> list[str]:
        return [*super().ids(), *self._instances.sessions()]

    def view(self, session_id: str) -> dict[str, Any]:
        if session_id in self._sessions:
            return self._instances.own_session(session_id)
        return self._instances.session(session_id)

    def in_flight(self) -> int:
        return super().in_flight() + self._instances.in_flight()

    def __len__(self) -> int:
        return len(self.ids())

    async def end(self, session_id: str) -> dict[str, Any]:
        """Raises Unavailable too, and StorageError: see Instances.end."""
        if session_id not in self._sessions:
            return await self._instances.end(session_id)
        view = self._instances.own_session(session_id)
        self._sessions.end(session_id)
        return view
