"""What an operator is told of the accounts of another program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxy.accounts.foreign.formats import FORMATS, told_apart
from proxy.accounts.foreign.judge import Judged
from proxy.accounts.foreign.offer import Found, shown
from proxy.accounts.foreign.source import Source
from proxy.errors import StartError


def offered(source: Source, format: str | None, path: Path) -> Iterable[Found]:
    """The accounts in the files, read as `format`; None to tell it by their content. Raises StartError."""
    known = format or told_apart(source.documents)
    if known is None:
        raise StartError(
            f"{path} is none of {', '.join(FORMATS)} as far as can be told: name the right one with --import-from"
        )
    offers = [*FORMATS[known](source.documents)]
    if not offers and not source.refused:
        raise StartError(f"{path} has no accounts of {known}")
    return offers


def told(judged: Judged, *, done: bool) -> list[str]:
    """Line by line; no credential, nor a part of one."""
    lines = []
    for account, name in judged.taken:
        new = "" if account.name == name else f", as {shown(account.name)!r}, since that name is not free"
        rest = "" if account.works else ", inactive as it was"
        lines.append(f"taken      {name!r} ({account.type}){new}{rest}")
    lines += [f"not taken  {each.name!r}: {each.why}" for each in judged.refused]
    lines += [f"warning    {text}" for text in judged.warnings]
    count = f"{len(judged.taken)} of {len(judged.taken) + len(judged.refused)} accounts"
    if done:
        return [*lines, f"{count} were added"]
    return [*lines, f"{count} can be taken, and nothing was written"]
