"""The rules for names: of accounts and client keys, of groups, and of tags."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.errors import Unprocessable

MAX_NAME = 64
MOST_TAGS = 32


def clean_name(name: str, what: str = "name") -> str:
    """`name` without surrounding space. Raises Unprocessable, which calls it `what`."""
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Unprocessable(f"{what}: 1 to {MAX_NAME} printable characters are needed")
    return name


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in their order, each once and without surrounding space. Raises Unprocessable.

    A comma separates tags where people type them, so it is no part of one.
    """
    clean = tuple(dict.fromkeys(clean_name(tag, "tags") for tag in tags))
    if len(clean) > MOST_TAGS:
        raise Unprocessable(f"tags: no more than {MOST_TAGS} are possible")
    if any("," in tag for tag in clean):
        raise Unprocessable("tags: a name without a comma is needed")
    return clean
