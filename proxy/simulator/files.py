"""/v1/files: uploaded and generated files, each of one organization, kept in temporary files."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import quote

from proxy.clock import Clock, rfc3339

from . import multipart
from .auth import Credential, Organization
from .ids import Ids
from .pages import after_before, by_cursor
from .replies import Answer, ApiError, Download, Json, json_answer
from .requests import Request
from .routes import Routes
from .store import Store

MAX_BYTES = 500 << 20
_BETA = "files-api-2025-04-14"
_EXPIRY_S = range(3600, 7_776_001)


@dataclass(frozen=True, slots=True)
class _File:
    id: str
    body: IO[bytes] = field(repr=False)
    part: multipart.Part
    created_at: float
    expires_at: float | None

    def view(self, *, beta: bool) -> Json:
        shown: Json = {
            "type": "file",
            "id": self.id,
            "filename": self.part.filename,
            "mime_type": self.part.content_type or "application/octet-stream",
            "size_bytes": self.part.length,
            "created_at": rfc3339(self.created_at),
            "downloadable": True,
        }
        if not beta:
            shown["expires_at"] = None if self.expires_at is None else rfc3339(self.expires_at)
        return shown


class Files:
    """The files of each organization.

    Unlike at the API every file can be downloaded, the uploaded ones too.
    """

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._files = Store[_File]("File `{}` not found.")

    @property
    def routes(self) -> Routes:
        return (
            ("POST", "/v1/files", self.upload),
            ("GET", "/v1/files", self.index),
            ("GET", "/v1/files/{}", self.retrieve),
            ("DELETE", "/v1/files/{}", self.delete),
            ("GET", "/v1/files/{}/content", self.content),
        )

    def close(self) -> None:
        for file in self._files.everything():
            file.body.close()
        self._files.clear()

    def require(self, organization: Organization, file_id: str, missing: str | None = None) -> _File:
        """ApiError 404 where `organization` has no such file."""
        file = self._files.require(organization, file_id, missing)
        if file.expires_at is not None and file.expires_at <= self._clock.now():
            raise ApiError(404, f"File expired: {file_id}", details={"error_code": "file_expired"})
        return file

    def generate(self, organization: Organization, filename: str, content: bytes) -> str:
        """The id of a file that a tool of the server has made."""
        body = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - closed by close() or delete()
        body.write(content)
        part = multipart.Part("file", filename, "text/csv", 0, len(content))
        file = _File(self._ids.new("file"), body, part, self._clock.now(), None)
        self._files.add(organization, file.id, file)
        return file.id

    async def upload(self, caller: Credential, request: Request) -> Answer:
        boundary = multipart.boundary_of(request.headers.get("content-type", ""))
        body = request.body.take()
        try:
            parts = await asyncio.to_thread(multipart.parts, body, boundary)
            file = self._accept(body, parts)
        except BaseException:
            body.close()
            raise
        self._files.add(caller.organization, file.id, file)
        return json_answer(file.view(beta=_BETA in request.betas()))

    def _accept(self, body: IO[bytes], parts: list[multipart.Part]) -> _File:
        part = next((part for part in parts if part.name == "file" and part.filename is not None), None)
        if part is None:
            raise ApiError(400, "file: Field required")
        if part.length > MAX_BYTES:
            raise ApiError(413, "File exceeds the maximum size of 500 MB.")
        now = self._clock.now()
        expiry = None
        for field_part in parts:
            if field_part.name == "expires_in_seconds":
                body.seek(field_part.offset)
                text = body.read(field_part.length).decode("ascii", "replace")
                if not text.isdigit() or int(text) not in _EXPIRY_S:
                    raise ApiError(400, "expires_in_seconds: Input should be between 3600 and 7776000")
                expiry = now + int(text)
        return _File(self._ids.new("file"), body, part, now, expiry)

    async def index(self, caller: Credential, request: Request) -> Answer:
        beta = _BETA in request.betas()
        now = self._clock.now()
        views = [
            file.view(beta=beta)
            for file in self._files.newest_first(caller.organization)
            if file.expires_at is None or file.expires_at > now
        ]
        if beta:
            return json_answer(after_before(views, request, default=20))
        if wanted := request.arguments("ids"):
            return json_answer({"data": [view for view in views if view["id"] in wanted], "next_page": None})
        return json_answer(by_cursor(views, request, invalid="page: Invalid page cursor"))

    async def retrieve(self, caller: Credential, request: Request, file_id: str) -> Answer:
        file = self.require(caller.organization, file_id)
        return json_answer(file.view(beta=_BETA in request.betas()))

    async def content(self, caller: Credential, request: Request, file_id: str) -> Download:
        file = self.require(caller.organization, file_id)
        headers = (
            ("content-type", file.part.content_type or "application/octet-stream"),
            ("content-disposition", f"attachment; filename*=UTF-8''{quote(file.part.filename or 'file')}"),
        )
        return Download(file.body, file.part.offset, file.part.length, headers)

    async def delete(self, caller: Credential, request: Request, file_id: str) -> Answer:
        self.require(caller.organization, file_id)
        self._files.remove(caller.organization, file_id).body.close()
        return json_answer({"type": "file_deleted", "id": file_id})
