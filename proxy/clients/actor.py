"""The authenticated caller of the admin API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from proxy.clients.signins import SignIn


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller of the admin API, and the address that the request comes from.

    `id` is that of the client key or of the sign-in; None for the admin key. `sign_in` is None for both keys.
    """

    kind: Literal["admin_key", "key", "sign_in"]
    id: str | None
    address: str
    sign_in: SignIn | None = None
