"""A route of the simulator's API, as the resources state theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .replies import Reply

Handler = Callable[..., Awaitable[Reply]]
"""Gets the caller's credential, the request, and the ids in the path."""

Route = tuple[str, str, Handler]
"""Method, path with `{}` for an id, handler."""

Routes = Sequence[Route]


class Resource(Protocol):
    """What organizations have of one kind, and how it is asked for."""

    @property
    def routes(self) -> Routes: ...
