"""/v1/skills: each organization's own, with their versions, beside those that everybody has.

Two shapes, as recorded of the API: the present one, and with the beta header of old the former one, in which a version
is a number and a skill goes only after its versions.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass, field

from proxy.clock import Clock, rfc3339

from . import multipart
from .auth import Credential, Organization
from .ids import Ids
from .pages import by_cursor
from .replies import Answer, ApiError, Json, json_answer
from .requests import Request
from .routes import Routes
from .store import Store

_BETA = "skills-2025-10-02"
_MAX_BYTES = 30 << 20
_PREMADE_AT = 1_759_363_200.0  # 2025-10-02


@dataclass(frozen=True, slots=True)
class _Version:
    id: str
    number: str
    name: str
    description: str
    created_at: float
    files: dict[str, bytes] = field(repr=False, default_factory=dict)

    def view(self, skill_id: str, *, beta: bool) -> Json:
        shown: Json = {
            "type": "skill_version",
            "id": self.id.replace("skver_", "skill_version_") if beta else self.id,
            "skill_id": skill_id,
            "name": self.name,
            "description": self.description,
            "created_at": rfc3339(self.created_at),
        }
        return shown | {"version": self.number, "directory": self.name} if beta else shown

    def archive(self) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return packed.getvalue()


@dataclass(slots=True)
class _Skill:
    """`versions`: the newest last; there is at least one, but for the former shape."""

    id: str
    display_name: str
    versions: list[_Version]
    created_at: float
    updated_at: float
    source: str = "custom"

    def view(self, *, beta: bool) -> Json:
        newest = self.versions[-1] if self.versions else None
        shown: Json = {
            "type": "skill",
            "id": self.id,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
        }
        if beta:
            latest = newest.number if newest else None
            return shown | {
                "display_title": self.display_name,
                "latest_version": latest,
                "source": self.source,
            }
        latest = newest.id if newest else None
        return shown | {
            "display_name": self.display_name,
            "latest_version_id": latest,
            "source": {"type": self.source},
        }

    def version(self, named: str) -> _Version | None:
        """The version of that id or number; `latest` is the newest."""
        if named == "latest":
            return self.versions[-1] if self.versions else None
        return next((each for each in self.versions if named in (each.id, each.number)), None)


def _premade(name: str) -> _Skill:
    version = _Version(f"skver_01{name}", "20251002", name, f"Works with {name} files", _PREMADE_AT)
    return _Skill(name, name, [version], _PREMADE_AT, _PREMADE_AT, "anthropic")


class Skills:
    """The skills of each organization, and the four that belong to nobody."""

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._skills = Store[_Skill]("Skill not found: {}")
        self._number = 0  # of the version made last: a time, though never the same twice
        self._premade = {name: _premade(name) for name in ("xlsx", "pptx", "pdf", "docx")}

    @property
    def routes(self) -> Routes:
        one, versions, version = "/v1/skills/{}", "/v1/skills/{}/versions", "/v1/skills/{}/versions/{}"
        return (
            ("POST", "/v1/skills", self.create),
            ("GET", "/v1/skills", self.index),
            ("GET", one, self.retrieve),
            ("POST", one, self.rename),
            ("DELETE", one, self.remove),
            ("POST", versions, self.create_version),
            ("GET", versions, self.versions),
            ("GET", version, self.retrieve_version),
            ("DELETE", version, self.remove_version),
            ("GET", f"{version}/content", self.content),
        )

    def has(self, organization: Organization, named: Json) -> bool:
        """Whether `organization` may use the skill and version that an agent or a container names."""
        skill_id, version = str(named.get("skill_id")), str(named.get("version", "latest"))
        premade = named.get("type") == "anthropic"
        skill = self._premade.get(skill_id) if premade else self._skills.find(organization, skill_id)
        return skill is not None and skill.version(version) is not None

    def _require(self, caller: Credential, skill_id: str) -> _Skill:
        return self._premade.get(skill_id) or self._skills.require(caller.organization, skill_id)

    async def create(self, caller: Credential, request: Request) -> Answer:
        version, fields = self._read(request)
        now = self._clock.now()
        name = fields.get("display_title" if _BETA in request.betas() else "display_name") or version.name
        if len(name) > 255:
            raise ApiError(400, "display_name must be at most 255 characters long")
        skill = _Skill(self._ids.new("skill"), name, [version], now, now)
        self._skills.add(caller.organization, skill.id, skill)
        return json_answer(skill.view(beta=_BETA in request.betas()))

    def _read(self, request: Request) -> tuple[_Version, dict[str, str]]:
        """The version that an upload makes, and the other fields of its form."""
        if request.body.length > _MAX_BYTES:
            raise ApiError(413, "Request exceeds the maximum allowed number of bytes.")
        body = request.body.read()
        parts = multipart.parts(
            io.BytesIO(body), multipart.boundary_of(request.headers.get("content-type", ""))
        )
        contents = [(part, body[part.offset : part.offset + part.length]) for part in parts]
        files = {part.filename or "": data for part, data in contents if part.name == "files[]"}
        if not files:
            raise ApiError(400, "files[]: Field required")
        about = next((data for name, data in files.items() if name.rpartition("/")[2] == "SKILL.md"), None)
        if about is None:
            raise ApiError(400, "SKILL.md file must be exactly in the top-level folder.")
        front = dict(
            re.findall(r"(?m)^(name|description):[ \t]*(.*?)[ \t\r]*$", about.decode("utf-8", "replace"))
        )
        now = self._clock.now()
        fields = {
            part.name: data.decode("utf-8", "replace") for part, data in contents if part.filename is None
        }
        self._number = max(self._number + 1, round(now * 1_000_000))
        version_id = self._ids.new("skver")
        return _Version(
            version_id, str(self._number), front.get("name", ""), front.get("description", ""), now, files
        ), fields

    async def index(self, caller: Credential, request: Request) -> Answer:
        source = request.argument("source")
        if source not in (None, "custom", "anthropic"):
            raise ApiError(400, "source must be one of custom, anthropic")
        skills = [*self._skills.newest_first(caller.organization), *self._premade.values()]
        beta = _BETA in request.betas()
        views = [skill.view(beta=beta) for skill in skills if source in (None, skill.source)]
        return json_answer(_page(views, request))

    async def retrieve(self, caller: Credential, request: Request, skill_id: str) -> Answer:
        return json_answer(self._require(caller, skill_id).view(beta=_BETA in request.betas()))

    async def rename(self, caller: Credential, request: Request, skill_id: str) -> Answer:
        skill = self._skills.require(caller.organization, skill_id)
        skill.display_name = str(request.json(_MAX_BYTES).get("display_name") or skill.display_name)
        skill.updated_at = self._clock.now()
        return json_answer(skill.view(beta=_BETA in request.betas()))

    async def remove(self, caller: Credential, request: Request, skill_id: str) -> Answer:
        skill = self._skills.require(caller.organization, skill_id)
        if _BETA in request.betas() and skill.versions:
            raise ApiError(400, "Cannot delete skill with existing versions. Delete all versions first.")
        self._skills.remove(caller.organization, skill_id)
        return json_answer({"type": "skill_deleted", "id": skill_id})

    async def create_version(self, caller: Credential, request: Request, skill_id: str) -> Answer:
        skill = self._skills.require(caller.organization, skill_id)
        version, _ = self._read(request)
        skill.versions.append(version)
        skill.updated_at = version.created_at
        return json_answer(version.view(skill_id, beta=_BETA in request.betas()))

    async def versions(self, caller: Credential, request: Request, skill_id: str) -> Answer:
        skill = self._require(caller, skill_id)
        beta = _BETA in request.betas()
        return json_answer(
            _page([each.view(skill_id, beta=beta) for each in reversed(skill.versions)], request)
        )

    async def retrieve_version(
        self, caller: Credential, request: Request, skill_id: str, named: str
    ) -> Answer:
        version = self._require_version(caller, skill_id, named)
        return json_answer(version.view(skill_id, beta=_BETA in request.betas()))

    async def content(self, caller: Credential, request: Request, skill_id: str, named: str) -> Answer:
        version = self._require_version(caller, skill_id, named)
        name = f"attachment; filename*=utf-8''{version.name}.zip"
        return Answer(
            200, (("content-type", "application/zip"), ("content-disposition", name)), version.archive()
        )

    async def remove_version(self, caller: Credential, request: Request, skill_id: str, named: str) -> Answer:
        skill = self._skills.require(caller.organization, skill_id)
        version = self._require_version(caller, skill_id, named)
        beta = _BETA in request.betas()
        if len(skill.versions) == 1 and not beta:
            text = "cannot delete a Skill's only version. Delete the Skill, or create another version first"
            raise ApiError(400, text)
        skill.versions.remove(version)
        shown = version.view(skill_id, beta=beta)
        return json_answer({"type": "skill_version_deleted", "id": version.number if beta else shown["id"]})

    def _require_version(self, caller: Credential, skill_id: str, named: str) -> _Version:
        version = self._require(caller, skill_id).version(named)
        if version is None:
            raise ApiError(404, f"Skill version not found: {named}")
        return version


def _page(views: list[Json], request: Request) -> Json:
    """A page in which the former shape has `has_more` too."""
    page = by_cursor(views, request, invalid="page is not a valid page token.")
    return page | {"has_more": page["next_page"] is not None} if _BETA in request.betas() else page
