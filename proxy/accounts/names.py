"""Account names: unique, ignoring case."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable

from proxy.accounts.account import Account
from proxy.errors import Conflict
from proxy.storage.names import MAX_NAME, clean_name


def free_name(accounts: Iterable[Account], name: str, *, but: str | None = None) -> str:
    """The name without surrounding space. Raises Unprocessable, or Conflict if an account other than `but` has it."""
    name = clean_name(name)
    for other in accounts:
        if other.id != but and other.name.casefold() == name.casefold():
            raise Conflict(f"An account called '{name}' exists. Choose another name.", type="name_taken")
    return name


def name_like(accounts: Iterable[Account], wanted: str) -> str:
    """An unused name: `wanted` itself, or with a number appended."""
    return unused_name({account.name.casefold() for account in accounts}, wanted)


def unused_name(taken: Container[str], wanted: str) -> str:
    """As `name_like`; `taken` are the names in use, casefolded."""
    plain = "".join(c for c in wanted if c.isprintable()).strip()[: MAX_NAME - 4] or "account"
    names = (plain if n == 1 else f"{plain} {n}" for n in itertools.count(1))
    return next(name for name in names if name.casefold() not in taken)
