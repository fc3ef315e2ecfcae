"""Agents and what they work with: environments, vaults, memory stores, user profiles.

The messages of the 404s are those that the API gives on each route.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.clock import Clock

from .auth import Credential, Organization
from .collection import MAX_BYTES, Collection, Kind
from .ids import Ids
from .pages import by_cursor
from .replies import Answer, ApiError, Json, json_answer
from .requests import Request
from .routes import Routes
from .skills import Skills


def _agent(view: Json) -> Json:
    """A model's bare name is its id."""
    model = view["model"]
    skills = [{"version": "latest", **skill} for skill in view["skills"]]
    return view | {"model": {"id": model} if isinstance(model, str) else model, "skills": skills}


def _environment(view: Json) -> Json:
    packages: Json = {name: [] for name in ("apt", "cargo", "gem", "go", "npm", "pip")}
    config = {"type": "cloud", "networking": {"type": "unrestricted"}, "packages": packages}
    return view | {"config": config | (view.get("config") or {})}


AGENT = Kind(
    "/v1/agents", "agent", "agent", "agent {} not found",
    required=("name", "model"),
    defaults={
        "description": None, "execution_identity": {"type": "service_account"}, "mcp_servers": [], "metadata": {},
        "multiagent": None, "skills": [], "system": None, "tools": [], "version": 1,
    },
    shape=_agent,
    removable=False,
)  # fmt: skip
ENVIRONMENT = Kind(
    "/v1/environments", "environment", "env", "Environment {} not found.",
    required=("name",),
    defaults={"description": None, "metadata": {}, "scope": "organization"},
    shape=_environment,
)  # fmt: skip
VAULT = Kind(
    "/v1/vaults", "vault", "vlt", "vault {} not found", required=("display_name",), defaults={"metadata": {}}
)
CREDENTIAL = Kind(
    "/v1/vaults/{}/credentials", "vault_credential", "vcrd", "Credential not found.",
    required=("auth",),
    defaults={"display_name": None, "metadata": {}},
    # What is secret is never told again.
    shape=lambda view: view | {"auth": {name: view["auth"].get(name) for name in ("type", "mcp_server_url")}},
)  # fmt: skip
MEMORY_STORE = Kind(
    "/v1/memory_stores", "memory_store", "memstore", "memory store not found: {}",
    required=("name",),
    defaults={"description": None, "metadata": {}},
)  # fmt: skip
MEMORY = Kind(
    "/v1/memory_stores/{}/memories", "memory", "mem", "memory `{}` not found",
    required=("path",),
    defaults={"content": ""},
    shape=lambda view: view | {"content_size_bytes": len(str(view["content"]).encode())},
    archivable=False,
)  # fmt: skip
USER_PROFILE = Kind(
    "/v1/user_profiles", "user_profile", "uprof", "user profile {} not found",
    defaults={"metadata": {}, "name": None, "external_id": None, "trust_grants": {}},
    archivable=False,
    removable=False,
)  # fmt: skip


class Agents(Collection):
    """Agents with all their versions; a change makes a new one."""

    def __init__(self, *, clock: Clock, ids: Ids, check: Callable[[Organization, Json], None]) -> None:
        super().__init__(AGENT, clock=clock, ids=ids, check=check)
        self._versions: dict[str, list[Json]] = {}

    @property
    def routes(self) -> Routes:
        return (*super().routes, ("GET", "/v1/agents/{}/versions", self.versions))

    def add(self, organization: Organization, body: Json, scope: Json | None = None) -> Json:
        view = super().add(organization, body, scope)
        self._versions[view["id"]] = [view]
        return view

    def version(self, organization: Organization, agent_id: str, version: int | None) -> Json:
        """That version of an agent, or the newest; ApiError 404 if there is none."""
        newest = self.items.require(organization, agent_id)
        if version is None:
            return newest
        for view in self._versions[agent_id]:
            if view["version"] == version:
                return view
        raise ApiError(404, f"agent {agent_id} version {version} not found")

    async def retrieve(self, caller: Credential, request: Request, *ids: str) -> Answer:
        asked = request.argument("version")
        version = int(asked) if asked and asked.isdigit() else None
        return json_answer(self.version(caller.organization, ids[0], version))

    async def change(self, caller: Credential, request: Request, *ids: str) -> Answer:
        view, changes = self.require(caller, ids), request.json(MAX_BYTES)
        if changes.pop("version", view["version"]) != view["version"]:
            raise ApiError(409, f"agent {view['id']} was changed by another request")
        changed = self._replace(caller.organization, view, changes | {"version": view["version"] + 1})
        self._versions[view["id"]].append(changed)
        return json_answer(changed)

    async def versions(self, caller: Credential, request: Request, agent_id: str) -> Answer:
        self.items.require(caller.organization, agent_id)
        # A cursor names an item by its id, which all versions share.
        views = [view | {"id": str(view["version"])} for view in reversed(self._versions[agent_id])]
        page = by_cursor(views, request)
        return json_answer(page | {"data": [view | {"id": agent_id} for view in page["data"]]})


def agents(*, clock: Clock, ids: Ids, skills: Skills) -> tuple[Agents, list[Collection]]:
    """The agents, and the other collections: environments, vaults, memory stores first."""

    def check(organization: Organization, body: Json) -> None:
        for skill in body.get("skills") or []:
            if not skills.has(organization, skill):
                text = f"`skill_id` `{skill.get('skill_id')}` version `{skill.get('version', 'latest')}` not found"
                raise ApiError(400, f"Agent has invalid configuration: {text}")

    def make(kind: Kind, parent: Collection | None = None) -> Collection:
        return Collection(kind, clock=clock, ids=ids, parent=parent)

    environments, vaults, stores = make(ENVIRONMENT), make(VAULT), make(MEMORY_STORE)
    others = [
        environments,
        vaults,
        stores,
        make(CREDENTIAL, vaults),
        make(MEMORY, stores),
        make(USER_PROFILE),
    ]
    return Agents(clock=clock, ids=ids, check=check), others
