"""The authenticated caller of the admin API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxy.clients.signins import SignIn
from proxy.feed import Who


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller of the admin API, and the address that the request comes from.

    `id` is that of the client key or of the sign-in; None for the admin key. `name` is that of the key that was shown,
    now or at the sign-in. `sign_in` is None for both keys. `key_sha256` is of a client key that was shown now.
    """

    kind: Literal["admin_key", "key", "sign_in"]
    id: str | None
    address: str
    name: str
    sign_in: SignIn | None = None
    key_sha256: str = field(default="", repr=False)

    @property
    def who(self) -> Who:
        """The actor of what this caller does."""
        id = self.id if self.sign_in is None else self.sign_in.shown_id
        return Who("admin", id, self.name, self.address)
