"""Resources that are JSON in and JSON out: made, changed, archived and listed alike, by a description of their kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.clock import Clock, rfc3339

from .auth import Credential, Organization
from .ids import Ids
from .pages import by_cursor
from .replies import Answer, ApiError, Json, json_answer
from .requests import Request
from .routes import Route, Routes
from .store import Store

MAX_BYTES = 32 << 20


def _same(view: Json) -> Json:
    return view


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs from one kind to the next.

    `missing` is the 404's message and `defaults` the members that a request may leave out. `filters` says what a
    query argument is compared with. `shape` brings a view into the API's form. An item of a `typed` kind has the
    type that its body gives it.
    """

    path: str
    type: str
    prefix: str
    missing: str
    required: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    filters: Mapping[str, Callable[[Json], object]] = field(default_factory=dict)
    shape: Callable[[Json], Json] = _same
    typed: bool = False
    creatable: bool = True
    changeable: bool = True
    archivable: bool = True
    removable: bool = True
    both_ways: bool = False


class Collection:
    """What each organization has of a kind, or of one below a `parent`, whose id is then the first in the path.

    `check` refuses a body with an ApiError, as one that names what the organization does not have.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        clock: Clock,
        ids: Ids,
        parent: Collection | None = None,
        check: Callable[[Organization, Json], None] | None = None,
    ) -> None:
        self.kind = kind
        self._clock = clock
        self._ids = ids
        self._parent = parent
        self._check = check
        self.items = Store[Json](kind.missing)

    @property
    def routes(self) -> Routes:
        kind, one = self.kind, self.kind.path + "/{}"
        routes: list[Route] = [("GET", kind.path, self.index), ("GET", one, self.retrieve)]
        if kind.creatable:
            routes.append(("POST", kind.path, self.create))
        if kind.changeable:
            routes.append(("POST", one, self.change))
        if kind.archivable:
            routes.append(("POST", f"{one}/archive", self.archive))
        if kind.removable:
            routes.append(("DELETE", one, self.remove))
        return routes

    async def create(self, caller: Credential, request: Request, *ids: str) -> Answer:
        scope = self._scope(caller, ids)
        view = self.add(caller.organization, request.json(MAX_BYTES), scope)
        return json_answer(self.show(caller.organization, view))

    def show(self, organization: Organization, view: Json) -> Json:
        """An item as answers have it."""
        return view

    def add(self, organization: Organization, body: Json, scope: Json | None = None) -> Json:
        """The new item; ApiError if `body` lacks something or names what is not there."""
        for name in self.kind.required:
            if body.get(name) in (None, ""):
                raise ApiError(400, f"{name}: Field required")
        if self._check is not None:
            self._check(organization, body)
        now = rfc3339(self._clock.now())
        type_ = body.get("type") if self.kind.typed else self.kind.type
        own = {"id": self._ids.new(self.kind.prefix), "type": type_, **(scope or {})}
        times: Json = {"created_at": now, "updated_at": now}
        if self.kind.archivable:
            times["archived_at"] = None
        view = self.kind.shape({**self.kind.defaults, **body, **own, **times})
        self.items.add(organization, view["id"], view)
        return view

    async def index(self, caller: Credential, request: Request, *ids: str) -> Answer:
        scope = self._scope(caller, ids)
        own = caller.organization
        views = [
            self.show(own, view)
            for view in self.items.newest_first(own)
            if self._listed(view, request, scope)
        ]
        if request.argument("order") == "asc":
            views.reverse()
        return json_answer(by_cursor(views, request, both_ways=self.kind.both_ways))

    def _listed(self, view: Json, request: Request, scope: Json) -> bool:
        if view.get("archived_at") and request.argument("include_archived") != "true":
            return False
        return belongs(view, scope) and all(
            of(view) in wanted
            for name, of in self.kind.filters.items()
            if (wanted := request.arguments(name))
        )

    async def retrieve(self, caller: Credential, request: Request, *ids: str) -> Answer:
        return json_answer(self.show(caller.organization, self.require(caller, ids)))

    async def change(self, caller: Credential, request: Request, *ids: str) -> Answer:
        view = self.require(caller, ids)
        changed = self._replace(caller.organization, view, request.json(MAX_BYTES))
        return json_answer(self.show(caller.organization, changed))

    def _replace(self, organization: Organization, view: Json, changes: Json) -> Json:
        """The item with `changes`; of its metadata only the members that they name, which None removes."""
        if self._check is not None:
            self._check(organization, view | changes)
        metadata = (view.get("metadata") or {}) | (changes.get("metadata") or {})
        kept = {"id": view["id"], "type": view["type"], "created_at": view["created_at"]}
        changed = self.kind.shape(view | changes | kept | {"updated_at": rfc3339(self._clock.now())})
        if "metadata" in changed:
            changed["metadata"] = {name: value for name, value in metadata.items() if value is not None}
        self.items.add(organization, changed["id"], changed)
        return changed

    async def archive(self, caller: Credential, request: Request, *ids: str) -> Answer:
        view = self.require(caller, ids)
        view["archived_at"] = view["archived_at"] or rfc3339(self._clock.now())
        return json_answer(self.show(caller.organization, view))

    async def remove(self, caller: Credential, request: Request, *ids: str) -> Answer:
        view = self.require(caller, ids)
        self.items.remove(caller.organization, view["id"])
        return json_answer({"type": f"{self.kind.type}_deleted", "id": view["id"]})

    def require(self, caller: Credential, ids: tuple[str, ...]) -> Json:
        """The item at the path's `ids`; ApiError 404 if it, or what it is below, is not there."""
        scope = self._scope(caller, ids[:-1])
        view = self.items.require(caller.organization, ids[-1])
        if not belongs(view, scope):
            raise ApiError(404, self.kind.missing.format(ids[-1]))
        return view

    def _scope(self, caller: Credential, ids: tuple[str, ...]) -> Json:
        """The members by which an item belongs to the parent in the path."""
        if self._parent is None:
            return {}
        above = self._parent.kind.type
        parent = self._parent.items.require(
            caller.organization, ids[0], above.replace("_", " ") + " {} not found"
        )
        return {f"{above}_id": parent["id"]}


def belongs(view: Json, scope: Json) -> bool:
    """Whether an item is below the parent that `scope` names."""
    return all(view.get(name) == value for name, value in scope.items())
