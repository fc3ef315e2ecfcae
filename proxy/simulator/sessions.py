"""/v1/sessions: an agent at work in an environment, with its resources, threads and events."""

from __future__ import annotations

from proxy.clock import Clock

from .agents import Agents
from .auth import Credential, Organization
from .collection import MAX_BYTES, Collection, Kind
from .files import Files
from .ids import Ids
from .replies import Answer, ApiError, Json, LiveStream, json_answer
from .requests import Request
from .routes import Routes
from .session_events import SessionEvents

_USAGE = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}
_STATS = {"active_seconds": 0.0, "duration_seconds": 0.0}

SESSION = Kind(
    "/v1/sessions", "session", "sesn", "Session not found: {}",
    required=("agent", "environment_id"),
    defaults={
        "budget": None, "deployment_id": None, "metadata": {}, "outcome_evaluations": [], "stats": _STATS,
        "status": "idle", "title": None, "usage": _USAGE, "vault_ids": [],
    },
    filters={
        "agent_id": lambda view: view["agent"]["id"],
        "agent_version": lambda view: str(view["agent"]["version"]),
        "statuses": lambda view: view["status"],
    },
    both_ways=True,
)  # fmt: skip
RESOURCE = Kind(
    "/v1/sessions/{}/resources", "session_resource", "sesrsc", "resource {} not found",
    required=("type",),
    shape=lambda view: {"mount_path": f"/mnt/session/uploads/{view['file_id']}", **view} if "file_id" in view else view,
    typed=True,
    archivable=False,
)  # fmt: skip
THREAD = Kind(
    "/v1/sessions/{}/threads", "session_thread", "sthr", "thread {} not found",
    defaults={"parent_thread_id": None, "status": "idle", "usage": _USAGE, "stats": _STATS},
    filters={"statuses": lambda view: view["status"]},
    creatable=False,
    changeable=False,
    removable=False,
)  # fmt: skip


class Sessions(Collection):
    """The sessions of each organization; each has one thread, its agent's.

    What a session names must be the organization's own: agent, environment, vaults, files, memory stores.
    """

    def __init__(
        self, agents: Agents, others: list[Collection], files: Files, *, clock: Clock, ids: Ids
    ) -> None:
        super().__init__(SESSION, clock=clock, ids=ids, check=self._require_named)
        self._agents = agents
        self._environments, self._vaults, self._memory_stores = others[:3]
        self._files = files
        self._events = SessionEvents(clock=clock, ids=ids)
        self._resources = Collection(
            RESOURCE, clock=clock, ids=ids, parent=self, check=self._require_resource
        )
        self._threads = Collection(THREAD, clock=clock, ids=ids, parent=self)

    @property
    def routes(self) -> Routes:
        events, thread = "/v1/sessions/{}/events", "/v1/sessions/{}/threads/{}"
        return (
            *super().routes,
            ("POST", events, self.send),
            ("GET", events, self.events),
            ("GET", f"{events}/stream", self.stream),
            *self._resources.routes,
            *self._threads.routes,
            ("GET", f"{thread}/events", self.events),
            ("GET", f"{thread}/stream", self.stream),
        )

    def add(self, organization: Organization, body: Json, scope: Json | None = None) -> Json:
        for resource in body.get("resources") or []:
            self._require_resource(organization, resource)
        agent = self._agent_of(organization, body.get("agent"))
        own = {name: value for name, value in body.items() if name not in ("resources", "initial_events")}
        view = super().add(organization, own | {"agent": agent}, scope)
        below = {"session_id": view["id"]}
        for resource in body.get("resources") or []:
            self._resources.add(organization, resource, below)
        self._threads.add(organization, {"agent": agent}, below)
        self._events.begin(view["id"])
        self._events.send(view["id"], body.get("initial_events") or [])
        return view

    def _replace(self, organization: Organization, view: Json, changes: Json) -> Json:
        agent = view["agent"] | (changes.get("agent") or {})
        return super()._replace(organization, view, changes | {"agent": agent})

    def _agent_of(self, organization: Organization, named: object) -> Json | None:
        """The agent as the session keeps it; None if a body names none."""
        if isinstance(named, str):
            named = {"id": named}
        if not isinstance(named, dict):
            return None
        agent = self._agents.version(organization, str(named.get("id")), named.get("version"))
        left_out = ("metadata", "created_at", "updated_at", "archived_at")
        return {name: value for name, value in agent.items() if name not in left_out}

    def _require_resource(self, organization: Organization, resource: Json) -> None:
        if "file_id" in resource:
            self._files.require(organization, str(resource["file_id"]))
        if "memory_store_id" in resource:
            missing = "Memory store `{}` not found."
            self._memory_stores.items.require(organization, str(resource["memory_store_id"]), missing)

    def _require_named(self, organization: Organization, body: Json) -> None:
        self._environments.items.require(organization, str(body["environment_id"]))
        for vault_id in body.get("vault_ids") or []:
            if self._vaults.items.find(organization, vault_id) is None:
                raise ApiError(400, f"vault {vault_id} not found")

    def show(self, organization: Organization, view: Json) -> Json:
        resources = self._resources.items.newest_first(organization)[::-1]
        return view | {"resources": [each for each in resources if each["session_id"] == view["id"]]}

    async def archive(self, caller: Credential, request: Request, *ids: str) -> Answer:
        view = self.require(caller, ids)
        if view["archived_at"] is None:
            view["status"] = "terminated"
            self._events.happen(view["id"], "session.status_terminated")
        return await super().archive(caller, request, *ids)

    async def remove(self, caller: Credential, request: Request, *ids: str) -> Answer:
        answer = await super().remove(caller, request, *ids)
        self._events.happen(ids[0], "session.deleted")
        return answer

    async def send(self, caller: Credential, request: Request, session_id: str) -> Answer:
        view = self._existing(caller, session_id)
        if view["archived_at"] is not None:
            raise ApiError(400, f"session {session_id} is archived")
        return json_answer({"data": self._events.send(session_id, request.json(MAX_BYTES).get("events"))})

    async def events(self, caller: Credential, request: Request, session_id: str, *thread: str) -> Answer:
        self._existing(caller, session_id, *thread)
        return json_answer(self._events.page(session_id, request))

    async def stream(self, caller: Credential, request: Request, session_id: str, *thread: str) -> LiveStream:
        self._existing(caller, session_id, *thread)
        return self._events.listen(session_id)

    def _existing(self, caller: Credential, session_id: str, *thread: str) -> Json:
        """The session, if it and the thread in the path are there; its own routes say so in other words."""
        view = self.items.require(caller.organization, session_id, "session {} not found")
        if thread:
            self._threads.require(caller, (session_id, *thread))
        return view
