"""The files of the dashboard, read once at start: no request reaches the file system."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from handlers.base import BaseHandler
from handlers.origin import Origins
from proxy.errors import Forbidden, NotFound, StartError

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
VERSION: Final = b"{{version}}"
"""Stands in the page for the version of the files."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is and as gzip."""

    type: str
    plain: bytes
    gzipped: bytes


class Assets:
    """The page and the files that it loads.

    `version` is another one whenever one of them changed; as part of their address it lets browsers keep them.
    """

    def __init__(self, folder: Path) -> None:
        """Raises StartError."""
        try:
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
            page = files.pop("index.html")
        except (OSError, KeyError) as error:
            raise StartError(f"{folder} cannot be read ({error}): get the program's files anew") from error
        digest = hashlib.sha256(page)
        self.files: dict[str, Asset] = {}
        for name, content in files.items():
            kind = TYPES.get(Path(name).suffix)
            if kind is None:
                raise StartError(f"{folder / name} is none of {', '.join(TYPES)}: move it away")
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
            self.files[name] = _asset(kind, content)
        self.version = digest.hexdigest()[:12]
        self.page = _asset("text/html; charset=utf-8", page.replace(VERSION, self.version.encode()))


class AssetHandler(BaseHandler):
    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.assets: Assets = parts["assets"]
        self.origins: Origins = parts["origins"]

    def send(self, asset: Asset) -> None:
        self.set_header("Content-Type", asset.type)
        self.set_header("Vary", "Accept-Encoding")
        if _takes_gzip(self.request.headers.get("Accept-Encoding", "")):
            self.set_header("Content-Encoding", "gzip")
            self.finish(asset.gzipped)
        else:
            self.finish(asset.plain)

    def compute_etag(self) -> None:
        """None: the page is not kept, and its files never change under their address."""


class Page(AssetHandler):
    """`/`"""

    def get(self) -> None:
        try:
            self.origins.check_host(self.request.host)
        except Forbidden as refused:
            self.record.error = refused.type
            self.set_status(refused.status)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(refused.message)
        else:
            self.send(self.assets.page)

    def head(self) -> None:
        """Clients of the API probe it, under whatever name they know this proxy by."""
        self.send(self.assets.page)


class File(AssetHandler):
    """`/static/{version}/{path}`"""

    def get(self, version: str, path: str) -> None:
        self.origins.check_host(self.request.host)
        asset = self.assets.files.get(path)
        if asset is None or version != self.assets.version:
            raise NotFound("no such file")
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.send(asset)

    head = get


def _asset(kind: str, content: bytes) -> Asset:
    return Asset(kind, content, gzip.compress(content, mtime=0))


def _takes_gzip(accepted: str) -> bool:
    """RFC 9110 12.5.3, without its weights: but for zero, which refuses."""
    codings = (coding.partition(";") for coding in accepted.lower().replace(" ", "").split(","))
    return any(name == "gzip" and weight.rstrip("0.") != "q=" for name, _, weight in codings)
