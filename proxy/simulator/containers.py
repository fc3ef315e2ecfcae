"""Containers: where the code of one organization's conversations runs, with the skills that it may use."""

from __future__ import annotations

from proxy.clock import Clock, rfc3339

from .auth import Organization
from .ids import Ids
from .replies import ApiError, Json
from .skills import Skills
from .store import Store

_LIFE_S = 30 * 86_400
_IDLE_S = 300  # what `expires_at` shows: after so long a container is put away, though its id still works


class Containers:
    """The containers of each organization, made where a request runs code and names none."""

    def __init__(self, skills: Skills, *, clock: Clock, ids: Ids) -> None:
        self._skills = skills
        self._clock = clock
        self._ids = ids
        self._made_at = Store[float]("Container not found: {}")

    def of(self, organization: Organization, body: Json) -> Json | None:
        """The answer's `container`; None if the request runs no code. ApiError if it names what is not there."""
        named = body.get("container")
        wanted: Json = named if isinstance(named, dict) else {"id": named}
        skills = [{"version": "latest", **skill} for skill in wanted.get("skills") or []]
        for skill in skills:
            if not self._skills.has(organization, skill):
                raise ApiError(404, f"Skill not found: {skill.get('skill_id')}")
        runs_code = any(
            str(tool.get("type")).startswith("code_execution") for tool in body.get("tools") or []
        )
        now = self._clock.now()
        container_id = wanted.get("id")
        if container_id is not None:
            self._require(organization, str(container_id), now)
        elif runs_code or skills:
            container_id = self._ids.new("container")
            self._made_at.add(organization, container_id, now)
        else:
            return None
        return {"id": container_id, "expires_at": rfc3339(now + _IDLE_S), "skills": skills or None}

    def _require(self, organization: Organization, container_id: str, now: float) -> None:
        if self._made_at.require(organization, container_id) + _LIFE_S <= now:
            raise ApiError(404, f"Container not found: {container_id}")
