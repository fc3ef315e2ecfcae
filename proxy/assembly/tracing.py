"""Traces, if the settings ask for them: nothing of what they need is imported otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from proxy.clock import Clock
from proxy.config.settings import Settings
from proxy.errors import StartError

if TYPE_CHECKING:
    from proxy.usage.tracing import Tracing


def tracing_of(settings: Settings) -> type[Tracing] | None:
    """What makes them; None if none are asked for. Raises StartError if what it needs is not installed."""
    if settings.tracing.endpoint is None:
        return None
    try:
        from proxy.usage.tracing import Tracing
    except ImportError as error:
        raise StartError(
            f"{settings.place('tracing.endpoint')}: tracing.endpoint: {error}: "
            "install what traces need with: pip install '.[tracing]'"
        ) from error
    return Tracing


@contextlib.asynccontextmanager
async def open_tracing(settings: Settings, clock: Clock) -> AsyncIterator[Tracing | None]:
    """The sink, if traces are asked for; leaving it sends what is left. Raises StartError."""
    made_by = tracing_of(settings)
    if made_by is None:
        yield None
        return
    asked = settings.tracing
    assert asked.endpoint is not None
    tracing = made_by(asked.endpoint, asked.sample, upstream=settings.claude.base_url, clock=clock)
    try:
        yield tracing
    finally:
        await tracing.close()
