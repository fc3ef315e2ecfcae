"""The pages of the documentation, taken apart: blocks of code, links, headings, what is set as code in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "SECURITY.md")), *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"(?m)^(?:<!-- not run: ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"(?m)^#+ (.+)$")


@dataclass(frozen=True)
class Block:
    """A block of code. `why_not_run` is what stands in a comment before it: `<!-- not run: … -->`."""

    language: str
    text: str
    why_not_run: str | None


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages."""
    found = (Block(kind, text, why or None) for why, kind, text in _BLOCK.findall(page.read_text()))
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _BLOCK.sub("", page.read_text())


def codes(page: Path) -> list[str]:
    """What is set as code within lines."""
    return _CODE.findall(prose(page))


def links(page: Path) -> Iterator[str]:
    """Where the page links to, and the pictures that it shows."""
    for link, picture in _LINK.findall(prose(page)):
        yield link or picture


def anchors(page: Path) -> set[str]:
    """The page's headings, as GitHub makes anchors of them."""
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in _HEADING.findall(prose(page))}
