"""The files of the web page, read once at start: no request reaches the file system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handlers.base import BaseHandler


class Page(BaseHandler):
    """`/`"""

    def initialize(self, **parts: Any) -> None:
        super().initialize(**parts)
        self.page: bytes = parts["page"]

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(self.page)

    head = get


def load_page(folder: Path) -> bytes:
    """The start page."""
    return (folder / "index.html").read_bytes()
