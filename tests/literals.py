"""What the program can say: its string literals, with `…` in place of what is filled in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.pages import ROOT

_PLACEHOLDER = re.compile(r"%[-\d.]*[sdgfr]")
_FEWEST_LETTERS = 6  # that stand fast: a text with fewer would fit anything


def _text(node: ast.expr) -> str | None:
    """The literal's text; None if the node is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _PLACEHOLDER.sub("…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            "…" if isinstance(part, ast.FormattedValue) else str(_text(part)) for part in node.values
        )
    return None


def _literals() -> Iterator[str]:
    files = [ROOT / "run.py", *(ROOT / "proxy").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.expr) and (text := _text(node)) is not None:
                yield text


@cache
def _sayings() -> tuple[list[str], list[re.Pattern[str]]]:
    texts = [text for text in set(_literals()) if len(re.findall(r"[a-z]", text)) >= _FEWEST_LETTERS]
    return texts, [re.compile(".+?".join(map(re.escape, text.split("…"))), re.DOTALL) for text in texts]


def can_be_said(quoted: str) -> bool:
    """Whether the text is one of the program's, or a part of one, with `…` for any value that is left out."""
    texts, patterns = _sayings()
    return any(quoted in text for text in texts) or any(pattern.fullmatch(quoted) for pattern in patterns)
