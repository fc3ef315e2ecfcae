"""One record of what two instances made of it: each keeps the fields that it has changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from proxy.storage.protocols import Record

WHEN: Final = "updated_at"
"""Tells when a record was changed, and is no change of its own."""

_MISSING: Final = object()


def merged(
    base: Record,
    mine: Record,
    theirs: Record,
    *,
    together: Sequence[Sequence[str]] = (),
    yields: bool = False,
    leased: Collection[str] = (),
) -> Record:
    """`theirs`, with the fields that differ between `base` and `mine` as they are in `mine`.

    The fields of each sequence in `together` mean something only together. If both have set the first of them to the
    same, they are taken from `theirs`: two instances have come to one conclusion. `yields`: what both have changed is
    taken from `theirs` as well. So are always those fields that only the holder of a lease changes, `leased`: whoever
    has written them since had it later.
    """

    def changed(by: Record, name: str) -> bool:
        return bool(by.get(name, _MISSING) != base.get(name, _MISSING))

    fields = [*base, *(name for name in mine if name not in base)]
    grouped = {name for group in together for name in group}
    result = dict(theirs)
    for names in (*together, *([name] for name in fields if name not in grouped and name != WHEN)):
        if not any(changed(mine, name) for name in names):
            continue
        contested = any(changed(theirs, name) for name in names)
        agreed = len(names) > 1 and mine.get(names[0]) == theirs.get(names[0])
        if contested and (yields or agreed or names[0] in leased):
            continue
        for name in names:
            if name in mine:
                result[name] = mine[name]
            else:
                result.pop(name, None)
    if result != theirs and WHEN in mine:
        result[WHEN] = mine[WHEN]
    return result
