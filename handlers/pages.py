"""The files of the dashboard, read once at start: no request reaches the file system."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import brotli  # type: ignore[import-untyped]

from handlers.base import Anyone, BaseHandler
from handlers.origin import Origins
from proxy.errors import Forbidden, NotFound, StartError

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
NO_DOCUMENTS: Final = (TYPES[".css"], TYPES[".js"])
OF_DOCUMENTS: Final = (
    "Content-Security-Policy",
    "X-Frame-Options",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
)
"""Headers about what a document may do, and who may embed what is secret: 450 bytes of each of 70 other files."""

VERSION: Final = b"{{version}}"
"""The place in the page that is filled with the version of the files."""


@dataclass(slots=True)
class Asset:
    """One file, as it is, as gzip, and as brotli once a browser has asked for it: that takes 5 ms a file."""

    type: str
    plain: bytes
    gzipped: bytes
    brotli: bytes | None = None


class Assets:
    """The page and the files that it loads.

    `version` is a digest of all of them. It is part of their URLs, so that browsers may keep them for ever.
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
    """A route of a file."""

    def initialize(self, *, who: Anyone, assets: Assets, origins: Origins) -> None:
        self.open_to(who)
        self.assets = assets
        self.origins = origins

    async def send(self, asset: Asset) -> None:
        """Answer with the file, in the smallest coding that the browser takes."""
        self.set_header("Content-Type", asset.type)
        self.set_header("Vary", "Accept-Encoding")
        codings = _codings(self.request.headers.get("Accept-Encoding", ""))
        if "br" in codings:
            if asset.brotli is None:
                asset.brotli = await asyncio.to_thread(brotli.compress, asset.plain)
            self.set_header("Content-Encoding", "br")
            await self.finish(asset.brotli)
        elif "gzip" in codings:
            self.set_header("Content-Encoding", "gzip")
            await self.finish(asset.gzipped)
        else:
            await self.finish(asset.plain)

    def compute_etag(self) -> None:
        """Send no ETag: the page is `no-store`, and its files never change under their URLs."""


class Page(AssetHandler):
    """`/`"""

    async def get(self) -> None:
        try:
            self.origins.check_host(self.request.host)
        except Forbidden as refused:
            self.record.error = refused.type
            self.set_status(refused.status)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(refused.message)
        else:
            await self.send(self.assets.page)

    async def head(self) -> None:
        """Answer clients of the API, which probe the root under whatever name they know this proxy by."""
        await self.send(self.assets.page)


class File(AssetHandler):
    """`/static/{version}/{path}`"""

    async def get(self, version: str, path: str) -> None:
        self.origins.check_host(self.request.host)
        asset = self.assets.files.get(path)
        if asset is None or version != self.assets.version:
            raise NotFound("no such file")
        if asset.type in NO_DOCUMENTS:
            for name in OF_DOCUMENTS:
                self.clear_header(name)
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        await self.send(asset)

    head = get


@cache  # the files of one process do not change, however many proxies it makes of them
def _asset(kind: str, content: bytes) -> Asset:
    return Asset(kind, content, gzip.compress(content, mtime=0))


def _codings(accepted: str) -> set[str]:
    """What an `Accept-Encoding` allows (RFC 9110 §12.5.3). Of the weights only 0 counts, which refuses."""
    codings = (coding.partition(";") for coding in accepted.lower().replace(" ", "").split(","))
    return {name for name, _, weight in codings if weight.rstrip("0.") != "q="}
