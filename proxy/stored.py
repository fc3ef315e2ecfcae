"""What a start finds in storage: read whole, or refused; never a start with less than was stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from pydantic import TypeAdapter, ValidationError

from proxy.accounts import Account
from proxy.errors import StorageError
from proxy.storage import Record
from proxy.tokens import Token


def load_accounts(records: Mapping[str, Record]) -> list[tuple[str, Account]]:
    """Accounts as stored by id, oldest first. Raises StorageError where one is not an account."""
    accounts = []
    for id, record in records.items():
        try:
            account = Account.from_record(record)
            _ = account.sent
            if account.id != id:
                raise ValueError("its id is another account's")
            accounts.append(account)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"account {id!r} in the data folder is not complete ({error}): restore its file "
                "from a backup, or move it away to start without it"
            ) from error
    return [(a.id, a) for a in sorted(accounts, key=lambda a: (a.created_at, a.id))]


def load_tokens(records: Iterable[Record]) -> list[tuple[str, Token]]:
    """Tokens as stored, oldest first. Raises StorageError where one is not a token."""
    reader = TypeAdapter(Token)
    tokens = []
    for record in records:
        try:
            tokens.append(reader.validate_json(json.dumps(record), strict=True))
        except ValidationError as error:
            fields = ", ".join(str(problem["loc"][0]) for problem in error.errors() if problem["loc"])
            raise StorageError(
                f"token {record.get('id')!r} in the data folder is not complete ({fields}): restore tokens.json "
                "from a backup, or move it away to start without client keys"
            ) from None  # the error holds the record
    return [(t.id, t) for t in sorted(tokens, key=lambda t: (t.created_at, t.id))]
