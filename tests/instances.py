"""Several proxies on one store, in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.redis_server import RedisServer
from tests.service import Service, SteppedClock, serve, until


@asynccontextmanager
async def instances(
    folder: Path,
    server: RedisServer,
    count: int = 3,
    clock: SteppedClock | None = None,
    *,
    urls: Sequence[str] = (),
    **options: str,
) -> AsyncIterator[list[Service]]:
    """So many proxies on one store, all before the simulator of the first; each by its own one of `urls`, if given."""
    clock = clock or SteppedClock()
    async with AsyncExitStack() as running:
        services: list[Service] = []
        for n in range(count):
            shared = (
                {
                    "upstream": services[0].simulator.base_url,
                    "oauth__client_id": services[0].simulator.client_id,
                    "oauth__token_url": services[0].simulator.token_url,
                }
                if services
                else {}
            )
            service = serve(
                folder / str(n),
                accounts=(),
                clock=clock,
                **{"storage__url": urls[n] if urls else server.url, "storage__timeout": "5s"}
                | shared
                | options,
            )
            services.append(await running.enter_async_context(service))
        yield services


async def everywhere(services: list[Service], account_id: str) -> None:
    """Return once every instance has the account."""
    for service in services:
        await until(lambda service=service: account_id in service.parts.pool)
