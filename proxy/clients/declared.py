"""Puts the client keys of a configuration that was read again in the place of those before."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from proxy.clients.budgets import Budgets
from proxy.clients.keys import ClientKey, ClientKeys
from proxy.clients.sessions import Sessions

log = logging.getLogger(__name__)


class Declared:
    """Declares client keys. What runs with a key that is gone is ended, as if an admin had deleted it."""

    def __init__(self, keys: ClientKeys, sessions: Sessions, budgets: Budgets) -> None:
        self._keys = keys
        self._sessions = sessions
        self._budgets = budgets

    def declare(self, declared: Iterable[ClientKey]) -> None:
        """Have these keys from now on, and tell what changed. Sign-ins with one that is gone end with the next tick."""
        new = {client_key.id: client_key for client_key in declared}
        old = self._keys.set_declared(new.values())
        for key_id in [*old, *(key_id for key_id in new if key_id not in old)]:
            self._tell(old.get(key_id), new.get(key_id))
        for key_id in old.keys() - new.keys():
            self._budgets.forget(key_id)
            self._sessions.end_of(key_id)

    def _tell(self, old: ClientKey | None, new: ClientKey | None) -> None:
        client_key = new or old
        if client_key is None or old == new:
            return
        what = "added" if old is None else "deleted" if new is None else "changed"
        text = f"client key {client_key.name} was {what} in the configuration"
        self._keys.tell(what, text, old, new)
        log.info("token %s in the configuration token=%s name=%s", what, client_key.id, client_key.name)
